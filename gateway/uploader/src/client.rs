//! Packets out, answers in: heads as Windows writes them, one connection kept between packets.

use std::collections::HashSet;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_core::protocol::{ContentRange, PacketType, headers};
use http::response::Parts;

use crate::connect::Connector;
use crate::exchange::{Connection, ExchangeError, Nothing, Patience, Supply};
use crate::target::Target;

/// A name and a password for scheme Basic.
#[derive(Clone)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

/// One request of the protocol.
pub struct Packet<'p> {
    pub kind: PacketType,
    pub session: Option<&'p str>,
    pub content_name: Option<&'p str>,
    pub range: Option<ContentRange>,
}

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("cannot reach {authority}")]
    Connect {
        authority: String,
        #[source]
        error: io::Error,
    },
    #[error("{authority}")]
    Exchange {
        authority: String,
        #[source]
        error: ExchangeError,
        /// The connection had served before, so that it may just have been idle for too long.
        reused: bool,
    },
}

/// Speaks to the destination, under the name of the URL or that of a host id.
pub struct Client {
    target: Target,
    connector: Connector,
    extra: Vec<(String, String)>,
    credentials: Option<Credentials>,
    /// Hosts that have asked for a login. Nobody else gets the password.
    asked: HashSet<String>,
    patience: Patience,
    connection: Option<Connection>,
}

/// Header fields that a user may not set: they frame a request or belong to the protocol.
const OURS: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "content-range",
    "content-name",
    "content-encoding",
    "expect",
    "upgrade",
];

impl Client {
    pub fn new(
        target: Target,
        connector: Connector,
        extra: Vec<(String, String)>,
        credentials: Option<Credentials>,
        patience: Patience,
    ) -> Self {
        let asked = HashSet::new();
        Self { target, connector, extra, credentials, asked, patience, connection: None }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a packet to `host` and returns the head of the answer.
    pub async fn send(
        &mut self,
        host: &str,
        packet: &Packet<'_>,
        supply: &mut impl Supply,
    ) -> Result<Parts, SendError> {
        let head = self.head(host, packet);
        let length = packet.range.map_or(0, |range| range.len());
        let mut connection = self.connection_to(host).await?;
        let reused = connection.answered > 0;
        match connection.exchange(&head, length, supply, self.patience).await {
            Ok(parts) => {
                connection.finish(self.patience.send).await;
                self.connection = connection.is_reusable().then_some(connection);
                Ok(parts)
            }
            Err(error) => {
                let authority = connection.authority;
                Err(SendError::Exchange { authority, error, reused })
            }
        }
    }

    /// Asks for a reply (MC-BUP 3.4.5); its body is left on the connection.
    pub async fn get(&mut self, from: &Target) -> Result<(Parts, Connection), SendError> {
        let mut head = format!("GET {} HTTP/1.1\r\nAccept: */*\r\n", from.path);
        head.push_str("Accept-Encoding: identity\r\n");
        if from.host.eq_ignore_ascii_case(&self.target.host) {
            self.push_extra(&mut head, &from.host);
        }
        let host = from.host_field(&from.host);
        head.push_str(&format!("User-Agent: {USER_AGENT}\r\nHost: {host}\r\n"));
        head.push_str("Connection: close\r\n\r\n");
        let mut connection = self.connect(&from.host, from.effective_port()).await?;
        match connection.exchange(head.as_bytes(), 0, &mut Nothing, self.patience).await {
            Ok(parts) => Ok((parts, connection)),
            Err(error) => {
                let authority = connection.authority;
                Err(SendError::Exchange { authority, error, reused: false })
            }
        }
    }

    /// Takes note of a challenge of scheme Basic. False: there is no answer to it, or the answer
    /// was wrong.
    pub fn accept_challenge(&mut self, host: &str) -> bool {
        self.credentials.is_some() && self.asked.insert(host.to_ascii_lowercase())
    }

    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Order and spelling of the published Windows traces.
    fn head(&self, host: &str, packet: &Packet<'_>) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", headers::BITS_POST, self.target.path);
        let mut field = |name: &str, value: &str| {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        };
        field("Accept", "*/*");
        field(headers::PACKET_TYPE.wire, packet.kind.wire());
        if packet.kind == PacketType::CreateSession {
            field(headers::SUPPORTED_PROTOCOLS.wire, headers::UPLOAD_PROTOCOL);
        }
        if let Some(session) = packet.session {
            field(headers::SESSION_ID.wire, session);
        }
        if let Some(name) = packet.content_name {
            field(headers::CONTENT_NAME.wire, name);
        }
        if let Some(range) = packet.range {
            let last = range.end().saturating_sub(1);
            let value = format!("bytes {}-{last}/{}", range.first(), range.total());
            field(headers::CONTENT_RANGE.wire, &value);
        }
        let length = packet.range.map_or(0, |range| range.len());
        self.push_extra(&mut head, host);
        if !self.extra.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
            head.push_str(&format!("User-Agent: {USER_AGENT}\r\n"));
        }
        head.push_str(&format!("Host: {}\r\n", self.target.host_field(host)));
        head.push_str(&format!("Content-Length: {length}\r\nConnection: Keep-Alive\r\n\r\n"));
        head.into_bytes()
    }

    fn push_extra(&self, head: &mut String, host: &str) {
        if let Some(credentials) = &self.credentials
            && self.asked.contains(&host.to_ascii_lowercase())
        {
            let pair = STANDARD.encode(format!("{}:{}", credentials.user, credentials.password));
            head.push_str(&format!("Authorization: Basic {pair}\r\n"));
        }
        for (name, value) in &self.extra {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }

    async fn connection_to(&mut self, host: &str) -> Result<Connection, SendError> {
        let port = self.target.effective_port();
        let kept = self.connection.take().filter(|c| c.authority == format!("{host}:{port}"));
        match kept {
            Some(connection) => Ok(connection),
            None => self.connect(host, port).await,
        }
    }

    async fn connect(&self, host: &str, port: u16) -> Result<Connection, SendError> {
        let authority = format!("{host}:{port}");
        match self.connector.connect(host, port).await {
            Ok(stream) => Ok(Connection::new(stream, authority)),
            Err(error) => Err(SendError::Connect { authority, error }),
        }
    }
}

/// Not Windows' own name: operators tell clients apart by it.
const USER_AGENT: &str = concat!("bits-gateway-upload/", env!("CARGO_PKG_VERSION"));

/// Reads `NAME: VALUE` of `--header`.
pub fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME: VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("no header: {name:?}"))?;
    if value.chars().any(char::is_control) {
        return Err(format!("the value of {name} holds a control character"));
    }
    let lower = name.to_ascii_lowercase();
    if OURS.contains(&lower.as_str()) || lower.starts_with("bits-") {
        return Err(format!("{name} is set by the upload itself"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_protocol_cannot_be_set_by_hand() {
        assert_eq!(parse_header("X-Team: blue").unwrap(), ("X-Team".into(), "blue".into()));
        for text in ["Host: x", "content-length: 1", "BITS-Session-Id: x", "x", "a b: c", "x: \r"] {
            let parsed = parse_header(text);
            // A line end at the end is trimmed away, which is as good as a refusal.
            assert!(parsed.is_err() || parsed.unwrap().1.is_empty(), "{text:?}");
        }
        assert!(parse_header("x: a\r\nHost: y").is_err());
    }
}
