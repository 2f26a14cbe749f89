//! One request to a listener of a gateway on this machine, and its whole answer.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Far more than a page of sessions has.
const ANSWER_LIMIT: u64 = 64 << 20;

const CONNECT: Duration = Duration::from_secs(5);

/// Sends a request, and reads until the other end closes or is silent for `patience`.
pub fn exchange(target: &Target, request: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    // The kernel takes zero for "for ever".
    let patience = patience.max(Duration::from_millis(1));
    let connect = CONNECT.min(patience);
    match target {
        Target::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, connect)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(connect))?;
            speak(stream, request)
        }
        Target::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(connect))?;
            speak(stream, request)
        }
    }
}

/// Whether nobody listens there.
pub fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("the path is missing".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let numeric = match bare.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => bare.to_owned(),
        };
        let address: SocketAddr = numeric
            .parse()
            .map_err(|_| "neither an address such as 127.0.0.1:9081 nor unix:PATH".to_owned())?;
        // The token would cross the network in the clear.
        if !address.ip().to_canonical().is_loopback() {
            return Err("not an address of this machine; reach others through SSH".to_owned());
        }
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn speak(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    // A listener that refuses at once closes before it has read everything; its answer counts.
    let written = stream.write_all(request);
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_LIMIT).read_to_end(&mut answer);
    if answer.is_empty() {
        written?;
        read?;
    }
    Ok(answer)
}

/// Status and body of a whole answer. The listener closes after each, and says how long it is.
pub fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(answer).ok()? else { return None };
    let body = &answer[head..];
    let length = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
    (body.len() == length).then_some(())?;
    Some((response.code?, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_of_this_machine_or_a_socket() {
        let tcp = |text: &str| Target::Tcp(text.parse().unwrap());
        assert_eq!("127.0.0.1:9081".parse(), Ok(tcp("127.0.0.1:9081")));
        assert_eq!("[::1]:9081".parse(), Ok(tcp("[::1]:9081")));
        assert_eq!("localhost:9081".parse(), Ok(tcp("127.0.0.1:9081")));
        assert_eq!("http://127.0.0.1:9081/".parse(), Ok(tcp("127.0.0.1:9081")));
        assert_eq!("unix:/run/a.sock".parse(), Ok(Target::Unix("/run/a.sock".into())));
        for wrong in ["", "unix:", "9081", "127.0.0.1", "10.0.0.1:9081", "gw.test:9081"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_counts_if_it_is_whole() {
        let whole = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(whole), Some((404, &b"{}"[..])));
        assert_eq!(parse(&whole[..whole.len() - 1]), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n{}"), None);
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n"), None);
        assert_eq!(parse(b""), None);
    }
}
