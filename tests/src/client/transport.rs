//! How one packet gets to the server and its answer back: connections, challenges, and what a failure means.

use super::ack::Ack;
use super::machine::{Fallback, Next, Upload};
use super::options::{Connections, Credentials};
use super::packet::{self, PacketType, Range};
use super::report::Event;
use super::wire::{Answer, Connection, WireError};

/// Pieces in which a fragment is sent: a 1 GiB fragment never lies in memory.
const PIECE: usize = 64 * 1024;

/// Legs of an authentication handshake; NTLM needs three.
const HANDSHAKE_LIMIT: u32 = 6;

impl Upload {
    /// One packet and its answer, handshake included. `None`: the exchange failed, and what follows is arranged.
    pub(super) fn exchange(
        &mut self,
        packet: PacketType,
        range: Option<Range>,
        again: Next,
    ) -> Option<Answer> {
        self.fall_back_if_due();
        let mut one_time = None;
        for _ in 0..HANDSHAKE_LIMIT {
            let authorization = one_time.take().or_else(|| self.authorization.clone());
            let sent_basic = self.authorization.is_some();
            let answer = match self.transmit(packet, range, authorization.as_deref()) {
                Ok(answer) => answer,
                Err(error) => {
                    self.exchange_failed(packet, &error, again);
                    return None;
                }
            };
            self.note(packet, &answer);
            if !matches!(answer.status, 401 | 407) {
                return Some(answer);
            }
            self.report.events.push(Event::Challenged);
            match &self.options.credentials {
                Credentials::Basic { user, password } if !sent_basic && offers_basic(&answer) => {
                    let value =
                        format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
                    self.authorization = Some(value);
                }
                Credentials::Custom(respond) => match respond(packet, &answer) {
                    Some(value) => one_time = Some(value),
                    None => return Some(answer),
                },
                Credentials::Basic { .. } | Credentials::None => return Some(answer),
            }
        }
        self.fatal(packet, None, "endless authentication".to_owned());
        None
    }

    fn exchange_failed(&mut self, packet: PacketType, error: &WireError, again: Next) {
        self.report.events.push(Event::Lost { error: describe(error) });
        self.link = None;
        match error {
            WireError::Malformed { .. } => self.fatal(packet, None, describe(error)),
            _ => self.transient(again),
        }
    }

    fn fall_back_if_due(&mut self) {
        let Fallback { timeout: Some(timeout), started: Some(started) } = self.fallback else {
            return;
        };
        if self.host_id.is_some() && self.time.now() - started >= timeout {
            self.host_id = None;
            self.fallback.started = None;
            self.report.fallbacks += 1;
            self.report.events.push(Event::FellBack);
        }
    }

    fn transmit(
        &mut self,
        packet: PacketType,
        range: Option<Range>,
        authorization: Option<&str>,
    ) -> Result<Answer, WireError> {
        let host = self.host_id.as_ref().unwrap_or(&self.url.host).clone();
        let mut connection = self.connect(&host)?;
        let head = packet::head(
            packet,
            &self.url,
            &host,
            self.session.as_deref(),
            range,
            authorization,
            &self.options,
        );
        *self.report.packets.entry(packet).or_default() += 1;
        self.report.events.push(Event::Sent { packet, host: host.clone(), range });
        let sent = self.send(&mut connection, &head.to_bytes(), range);
        // A server may answer before it has read everything, and close; its answer then counts, not the broken pipe.
        let answer = match connection.read_answer() {
            Ok(answer) => answer,
            Err(error) => return sent.and(Err(error)),
        };
        let keep =
            self.options.connections == Connections::Reuse && sent.is_ok() && !answer.closes();
        self.link = keep.then_some((host, connection));
        Ok(answer)
    }

    fn send(
        &mut self,
        connection: &mut Connection,
        head: &[u8],
        range: Option<Range>,
    ) -> Result<(), WireError> {
        connection.send(head)?;
        let Some(range) = range else {
            return Ok(());
        };
        let end = range.first + range.length;
        let mut buffer = vec![0; PIECE.min(range.length as usize)];
        let mut offset = range.first;
        while offset < end {
            let n = ((end - offset) as usize).min(buffer.len());
            self.content.read_at(offset, &mut buffer[..n]);
            connection.send(&buffer[..n])?;
            offset += n as u64;
            self.report.bytes_sent += n as u64;
            self.highest_sent = self.highest_sent.max(offset);
        }
        Ok(())
    }

    fn connect(&mut self, host: &str) -> Result<Connection, WireError> {
        if let Some((connected, mut connection)) = self.link.take()
            && connected == host
        {
            if !connection.is_readable() {
                return Ok(connection);
            }
            self.report.events.push(Event::FoundClosed);
            if !connection.is_closed() {
                let broken = "bytes arrived on an idle connection, beyond the last answer";
                self.report.violations.push(broken.to_owned());
            }
        }
        let unresolved = || WireError::Unresolved { host: host.to_owned() };
        let address = self.resolver.resolve(host, &self.url).ok_or_else(unresolved)?;
        let connection = Connection::open_with(address, self.options.timeouts)?;
        self.report.connections += 1;
        self.report.events.push(Event::Connected { host: host.to_owned() });
        Ok(connection)
    }

    fn note(&mut self, packet: PacketType, answer: &Answer) {
        let ack = Ack::read(answer);
        self.report.events.push(Event::Answered {
            status: answer.status,
            hresult: ack.hresult,
            received: ack.received,
        });
        let broken = self.options.acks.check(packet, answer);
        self.report.violations.extend(broken);
    }
}

fn offers_basic(answer: &Answer) -> bool {
    ["WWW-Authenticate", "Proxy-Authenticate"]
        .iter()
        .flat_map(|name| answer.fields_named(name))
        .any(|value| value.to_ascii_lowercase().starts_with("basic"))
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let number = u32::from_be_bytes(group);
        for digit in 0..4 {
            let index = (number >> (18 - 6 * digit)) & 63;
            let padding = digit > chunk.len();
            text.push(if padding { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    text
}

/// The whole chain of causes in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_the_test_vectors_of_the_rfc() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
