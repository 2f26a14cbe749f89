//! Request heads, byte by byte, in the order and spelling of the Windows client (MC-BUP section 4).

use super::options::{Options, Spelling};

/// The only upload protocol there is ("BITS 1.5 upload").
pub const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketType {
    Ping,
    CreateSession,
    Fragment,
    CloseSession,
    CancelSession,
}

impl PacketType {
    /// As Windows spells it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ping => "Ping",
            Self::CreateSession => "Create-Session",
            Self::Fragment => "Fragment",
            Self::CloseSession => "Close-Session",
            Self::CancelSession => "Cancel-Session",
        }
    }

    fn spelled(self, spelling: Spelling) -> String {
        let title = self.title();
        match spelling {
            Spelling::Title => title.to_owned(),
            Spelling::Upper => title.to_ascii_uppercase(),
            Spelling::Lower => title.to_ascii_lowercase(),
            Spelling::Mixed => alternate_case(title),
        }
    }
}

fn alternate_case(text: &str) -> String {
    let flip = |(at, c): (usize, char)| match at % 2 {
        0 => c.to_ascii_lowercase(),
        _ => c.to_ascii_uppercase(),
    };
    text.chars().enumerate().map(flip).collect()
}

/// A request head under construction: nothing is added, checked or reordered.
///
/// Characters up to U+00FF go out as single bytes, so a test can send any byte in a value.
#[derive(Clone, Debug)]
pub struct Head {
    text: String,
}

impl Head {
    pub fn new(method: &str, target: &str) -> Self {
        Self { text: format!("{method} {target} HTTP/1.1\r\n") }
    }

    pub fn bits(target: &str) -> Self {
        Self::new("BITS_POST", target)
    }

    pub fn field(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.text += &format!("{name}: {value}\r\n");
        self
    }

    /// A line as it is, for what no honest client sends; the CRLF is added.
    pub fn line(mut self, line: &str) -> Self {
        self.text += line;
        self.text += "\r\n";
        self
    }

    /// The head with its final empty line.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = latin1(&self.text);
        bytes.extend(b"\r\n");
        bytes
    }

    /// Head and body as one piece.
    pub fn with_body(&self, body: &[u8]) -> Vec<u8> {
        let mut bytes = self.to_bytes();
        bytes.extend(body);
        bytes
    }
}

/// # Panics
/// On a character above U+00FF, which no single byte stands for.
pub fn latin1(text: &str) -> Vec<u8> {
    let byte = |c: char| u8::try_from(u32::from(c)).expect("a character above U+00FF has no byte");
    text.chars().map(byte).collect()
}

/// An upload's destination, in pieces that are kept as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Without port; an IPv6 literal keeps its brackets.
    pub host: String,
    pub port: Option<u16>,
    /// Path and query, at least `/`.
    pub target: String,
}

impl Url {
    /// # Panics
    /// When `text` is not `http://host[:port]/target`.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let rest =
            text.strip_prefix("http://").unwrap_or_else(|| panic!("not an http URL: {text:?}"));
        let (authority, target) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        let after_literal = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[after_literal..].rfind(':') {
            Some(at) => {
                let (host, port) = authority.split_at(after_literal + at);
                let port = port[1..].parse().unwrap_or_else(|_| panic!("bad port in {text:?}"));
                (host, Some(port))
            }
            None => (authority, None),
        };
        Self { host: host.to_owned(), port, target: target.to_owned() }
    }

    /// The value of Host when the host portion is `host`: BITS-Host-Id replaces the name, the port stays
    /// (MC-BUP 2.2.3.2).
    pub fn host_field(&self, host: &str) -> String {
        let host = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        match self.port {
            Some(port) if port != 80 => format!("{host}:{port}"),
            _ => host,
        }
    }

    /// The file name that Windows puts into Content-Name.
    pub fn file_name(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }
}

/// A fragment's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u64,
    pub length: u64,
    pub total: u64,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = self.first + self.length - 1;
        write!(f, "bytes {}-{last}/{}", self.first, self.total)
    }
}

/// The head of one packet of an upload, K1's order: Accept, BITS-*, Content-Name, Content-Range, User-Agent, Host,
/// Content-Length, Connection.
pub fn head(
    packet: PacketType,
    url: &Url,
    host: &str,
    session: Option<&str>,
    range: Option<Range>,
    authorization: Option<&str>,
    options: &Options,
) -> Head {
    let host_field = url.host_field(host);
    let target = match options.absolute_form {
        true => format!("http://{host_field}{}", url.target),
        false => url.target.clone(),
    };
    let mut head = Head::bits(&target)
        .field("Accept", "*/*")
        .field("BITS-Packet-Type", packet.spelled(options.spelling));
    if packet == PacketType::CreateSession {
        head = head.field("BITS-Supported-Protocols", PROTOCOL);
    }
    if let Some(id) = session.filter(|_| names_session(packet)) {
        head = head.field("BITS-Session-Id", id);
    }
    if packet == PacketType::Fragment && options.content_name {
        head = head.field("Content-Name", url.file_name());
    }
    if let Some(range) = range {
        head = head.field("Content-Range", range);
    }
    head = head
        .field("User-Agent", &options.user_agent)
        .field("Host", host_field)
        .field("Content-Length", range.map_or(0, |range| range.length));
    if let Some(value) = authorization {
        head = head.field("Authorization", value);
    }
    for (name, value) in &options.extra_fields {
        head = head.field(name, value);
    }
    head.field("Connection", "Keep-Alive")
}

/// A Ping names none: the wire dumps show it, whatever MC-BUP 2.2.1.2 says.
fn names_session(packet: PacketType) -> bool {
    matches!(packet, PacketType::Fragment | PacketType::CloseSession | PacketType::CancelSession)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: Option<u16>, target: &str) {
        let expected = Url { host: host.to_owned(), port, target: target.to_owned() };
        assert_eq!(Url::parse(text), expected);
    }

    #[test]
    fn urls_keep_their_pieces_as_written() {
        check("http://Up.test/in/A%20b?x=1", "Up.test", None, "/in/A%20b?x=1");
        check("http://up.test:81/", "up.test", Some(81), "/");
        check("http://[::1]:81", "[::1]", Some(81), "/");
        check("http://[::1]/a:b", "[::1]", None, "/a:b");
    }

    #[test]
    fn the_port_of_the_url_stays_when_the_host_changes() {
        let url = Url::parse("http://up.test:8080/in/a");
        assert_eq!(url.host_field("n3.up.test"), "n3.up.test:8080");
        assert_eq!(url.host_field("::1"), "[::1]:8080");
        let plain = Url::parse("http://up.test/in/a");
        assert_eq!(plain.host_field("n3.up.test"), "n3.up.test");
    }

    #[test]
    fn a_fragment_head_has_the_order_of_windows() {
        let range = Range { first: 0, length: 5120, total: 10_000 };
        let head = head(
            PacketType::Fragment,
            &Url::parse("http://up.test/in/pc.cab?s=1"),
            "n3.up.test",
            Some("{ID}"),
            Some(range),
            None,
            &Options::default(),
        );
        let expected = "BITS_POST /in/pc.cab?s=1 HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Fragment\r\n\
            BITS-Session-Id: {ID}\r\nContent-Name: pc.cab\r\nContent-Range: bytes 0-5119/10000\r\n\
            User-Agent: Microsoft BITS/7.8\r\nHost: n3.up.test\r\nContent-Length: 5120\r\n\
            Connection: Keep-Alive\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&head.to_bytes()), expected);
    }
}
