//! One request to a listener of a gateway on this machine, and its whole answer.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::protocol::host::Host;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::tls;

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Tls(Secure),
}

/// A listener with TLS, on whichever machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secure {
    /// The name that its certificate has to be for; an IPv6 address has its brackets.
    pub host: String,
    pub port: u16,
    /// Where it is, if that is known better than by its name.
    pub at: Option<SocketAddr>,
    /// Who may have signed its certificate, in place of those whom the system trusts.
    pub ca: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no answer of a gateway, each of which says how long it is.
    #[error("no answer of a gateway")]
    Stranger,
}

/// Far more than a page of sessions has.
const ANSWER_LIMIT: usize = 64 << 20;

const CONNECT: Duration = Duration::from_secs(5);

/// Sends a request, and reads its answer until it is whole, or nothing comes for `patience`.
pub fn exchange(
    target: &Target,
    request: Request<String>,
    patience: Duration,
) -> Result<(StatusCode, Vec<u8>), TransportError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match target {
            Target::Tcp(address) => {
                let connect = TcpStream::connect(address);
                let stream = timeout(CONNECT.min(patience), connect).await.map_err(late)??;
                speak(stream, request, patience).await
            }
            Target::Unix(path) => {
                // By a call that waits where many others do: one that does not wait would fail then.
                let stream = std::os::unix::net::UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                speak(UnixStream::from_std(stream)?, request, patience).await
            }
            Target::Tls(secure) => {
                let connect = secure.connect();
                let stream = timeout(CONNECT.min(patience), connect).await.map_err(late)??;
                speak(stream, request, patience).await
            }
        }
    })
}

impl Secure {
    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let bare = self.host.trim_matches(['[', ']']);
        let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
        let config = tls::trusting(self.ca.as_deref()).map_err(io::Error::other)?;
        let stream = match self.at {
            Some(at) => TcpStream::connect(at).await?,
            None => TcpStream::connect((bare, self.port)).await?,
        };
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut request: Request<String>,
    patience: Duration,
) -> Result<(StatusCode, Vec<u8>), TransportError> {
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let length = request.body().len();
    request.headers_mut().insert(CONTENT_LENGTH, length.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(read)?;
    let answer = async {
        let head = timeout(patience, sender.send_request(request)).await.map_err(late)?;
        let (head, mut body) = head.map_err(read)?.into_parts();
        if !head.headers.contains_key(CONTENT_LENGTH) {
            return Err(TransportError::Stranger);
        }
        let mut bytes = Vec::new();
        while let Some(piece) = timeout(patience, next(&mut body)).await.map_err(late)? {
            bytes.extend_from_slice(&piece.map_err(cut)?);
            if bytes.len() > ANSWER_LIMIT {
                return Err(TransportError::Stranger);
            }
        }
        Ok((head.status, bytes))
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It ends first where the listener closes at once behind what it has to say.
        _ = connection => answer.await,
    }
}

async fn next(body: &mut Incoming) -> Option<Result<bytes::Bytes, hyper::Error>> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

fn late(_: tokio::time::error::Elapsed) -> TransportError {
    io::Error::new(io::ErrorKind::TimedOut, "it took too long").into()
}

/// What has begun to answer and does not end is no gateway either.
fn cut(error: hyper::Error) -> TransportError {
    match read(error) {
        TransportError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            TransportError::Stranger
        }
        error => error,
    }
}

fn read(error: hyper::Error) -> TransportError {
    let inner = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match inner {
        Some(inner) => io::Error::new(inner.kind(), inner.to_string()).into(),
        None if error.is_incomplete_message() => {
            io::Error::from(io::ErrorKind::UnexpectedEof).into()
        }
        None => TransportError::Stranger,
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
        if let Some(bare) = text.strip_prefix("https://") {
            let bare = bare.trim_end_matches('/');
            let host = Host::parse(bare).ok_or("no host and port behind https://")?;
            let port = bare[host.as_str().len()..].strip_prefix(':');
            let port = port.map_or(Ok(443), |port| port.parse().map_err(|_| "this is no port"))?;
            let (host, at, ca) = (host.as_str().to_owned(), None, None);
            return Ok(Self::Tls(Secure { host, port, at, ca }));
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
            return Err(
                "not an address of this machine; reach others by https:// or SSH".to_owned()
            );
        }
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tls(Secure { host, port, .. }) => write!(f, "https://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener};

    use super::*;

    #[test]
    fn a_target_is_an_address_of_this_machine_or_a_socket() {
        let tcp = |text: &str| Target::Tcp(text.parse().unwrap());
        assert_eq!("127.0.0.1:9081".parse(), Ok(tcp("127.0.0.1:9081")));
        assert_eq!("[::1]:9081".parse(), Ok(tcp("[::1]:9081")));
        assert_eq!("localhost:9081".parse(), Ok(tcp("127.0.0.1:9081")));
        assert_eq!("http://127.0.0.1:9081/".parse(), Ok(tcp("127.0.0.1:9081")));
        assert_eq!("unix:/run/a.sock".parse(), Ok(Target::Unix("/run/a.sock".into())));
        let tls = |host: &str, port| {
            Target::Tls(Secure { host: host.to_owned(), port, at: None, ca: None })
        };
        assert_eq!("https://gw.test:9443/".parse(), Ok(tls("gw.test", 9443)));
        assert_eq!("https://gw.test".parse(), Ok(tls("gw.test", 443)));
        assert_eq!("https://[::1]:9443".parse(), Ok(tls("[::1]", 9443)));
        for wrong in [
            "https://",
            "https://a/b",
            "https://a:b",
            "https://u@a",
            "",
            "unix:",
            "9081",
            "127.0.0.1",
            "10.0.0.1:9081",
            "gw.test:9081",
        ] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    /// What comes of a listener that reads the head of a request, says this, and closes.
    fn asked(says: &'static [u8]) -> Result<(StatusCode, Vec<u8>), TransportError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let listening = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(says).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            String::from_utf8(head).unwrap()
        });
        let request = Request::get("/x").header("Host", "up.test").body(String::new()).unwrap();
        let answer = exchange(&target, request, Duration::from_secs(60));
        let head = listening.join().unwrap();
        assert!(head.starts_with("GET /x HTTP/1.1\r\n") && head.contains("up.test"), "{head}");
        answer
    }

    #[test]
    fn an_answer_counts_if_it_is_whole() {
        let whole = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(asked(whole).unwrap(), (StatusCode::NOT_FOUND, b"{}".to_vec()));
        for cut in [&whole[..20], b""] {
            let error = asked(cut).unwrap_err();
            let ended = matches!(&error, TransportError::Io(error)
                if error.kind() == io::ErrorKind::UnexpectedEof);
            assert!(ended, "{error:?}");
        }
        for strange in [
            &whole[..whole.len() - 1],
            &b"HTTP/1.1 200 OK\r\n\r\n{}"[..],
            b"SSH-2.0-OpenSSH\r\n",
            b"\x15\x03\x01\0",
        ] {
            let error = asked(strange).unwrap_err();
            assert!(matches!(error, TransportError::Stranger), "{error:?}");
        }
    }

    #[test]
    fn a_listener_that_says_nothing_is_waited_for_no_longer_than_that() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let request = Request::get("/x").body(String::new()).unwrap();
        let error = exchange(&target, request, Duration::from_millis(10)).unwrap_err();
        let late =
            matches!(&error, TransportError::Io(error) if error.kind() == io::ErrorKind::TimedOut);
        assert!(late, "{error:?}");
    }

    #[test]
    fn where_nobody_listens_nobody_is_found() {
        let (_socket, address) = crate::base::rig::nobody();
        for target in [Target::Tcp(address), Target::Unix("/nonexistent/admin.sock".into())] {
            let request = Request::get("/x").body(String::new()).unwrap();
            let error = exchange(&target, request, Duration::from_secs(60)).unwrap_err();
            assert!(matches!(&error, TransportError::Io(error) if is_nobody(error)), "{error:?}");
        }
    }
}
