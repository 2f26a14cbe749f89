use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::base::rig::nobody;

/// For what is to end by itself: longer than anything on loopback takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what never would.
const BRIEF: Duration = Duration::from_millis(100);

/// What a server does with the one connection it takes.
#[derive(Clone, Copy)]
enum Manner {
    /// Reads the request, then sends these bytes and waits for the other side to close.
    Says(&'static str),
    /// The same, and closes.
    SaysAndCloses(&'static str),
    /// A byte every few milliseconds, without end.
    Trickles,
    /// As much as goes out, without end.
    Floods,
    /// Reads, and says nothing.
    Hangs,
}

/// Serves one connection; what it was sent comes back.
async fn server(manner: Manner) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return request;
            }
        }
        match manner {
            Manner::Says(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                let _ = stream.read(&mut [0]).await;
            }
            Manner::SaysAndCloses(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
            }
            Manner::Trickles => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await;
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Manner::Floods => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await;
                while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            }
            Manner::Hangs => {
                let _ = stream.read(&mut [0]).await;
            }
        }
        request
    };
    (address, tokio::spawn(serve))
}

fn page() -> Ask {
    Ask::Page("GET /alive HTTP/1.1\r\nHost: up.test\r\n\r\n".into())
}

fn ping() -> Ask {
    Ask::Ping("BITS_POST / HTTP/1.1\r\nBITS-Packet-Type: Ping\r\nHost: up.test\r\n\r\n".into())
}

async fn outcome(ask: Ask, manner: Manner, timeout: Duration) -> Result<(), ProbeFailure> {
    let (address, serving) = server(manner).await;
    let outcome = probe(ask, None, address, timeout).await;
    serving.abort();
    outcome.map_err(|error| match error {
        ProbeError::Failed(failure) => failure,
        ProbeError::Local(error) => panic!("{error}"),
    })
}

#[track_caller]
fn check(ask: Ask, manner: Manner, expected: Result<(), ProbeFailure>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let endless = matches!(manner, Manner::Hangs | Manner::Trickles);
    let timeout = if endless { BRIEF } else { PATIENCE };
    assert_eq!(runtime.block_on(outcome(ask, manner, timeout)), expected);
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const ACK: &str = "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n";
const LOGIN: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\n\r\n";

#[test]
fn a_page_that_comes_passes() {
    check(page(), Manner::Says(OK), Ok(()));
    check(page(), Manner::Says("HTTP/1.0 204 No Content\r\n\r\n"), Ok(()));
    check(page(), Manner::Says("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n"), Ok(()));
    check(page(), Manner::Says(LOGIN), Ok(()));
    check(page(), Manner::Says(BUSY), Err(ProbeFailure::Status(503)));
    check(page(), Manner::Says("HTTP/1.1 404 Not Found\r\n\r\n"), Err(ProbeFailure::Status(404)));
}

#[test]
fn a_ping_wants_an_ack() {
    check(ping(), Manner::Says(ACK), Ok(()));
    check(ping(), Manner::SaysAndCloses(ACK), Ok(()));
    check(ping(), Manner::Says("HTTP/1.1 200 OK\r\nbits-packet-type: ACK\r\n\r\n"), Ok(()));
    // SimpleBITSServer sends an error code with every Ping it likes.
    let odd = "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nBITS-Error-Code: 1\r\n\r\n";
    check(ping(), Manner::Says(odd), Ok(()));
    check(ping(), Manner::Says(LOGIN), Ok(()));
    check(ping(), Manner::Says(OK), Err(ProbeFailure::NoAck(200)));
    check(ping(), Manner::Says(BUSY), Err(ProbeFailure::Status(503)));
    let disabled = "HTTP/1.1 501 Not Implemented\r\nBITS-Packet-Type: Ack\r\n\r\n";
    check(ping(), Manner::Says(disabled), Err(ProbeFailure::Status(501)));
    let continued = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n\r\n";
    check(ping(), Manner::Says(continued), Ok(()));
}

#[test]
fn what_is_no_answer_fails() {
    for ask in [page(), ping()] {
        check(ask.clone(), Manner::Says("SSH-2.0-OpenSSH_9.2\r\n"), Err(ProbeFailure::Garbage));
        check(ask.clone(), Manner::Says("\0\u{1}\u{2}"), Err(ProbeFailure::Garbage));
        check(ask.clone(), Manner::Floods, Err(ProbeFailure::Garbage));
        check(ask.clone(), Manner::SaysAndCloses(""), Err(ProbeFailure::Closed));
        check(
            ask.clone(),
            Manner::SaysAndCloses("HTTP/1.1 200 OK\r\nX:"),
            Err(ProbeFailure::Closed),
        );
        check(ask.clone(), Manner::Hangs, Err(ProbeFailure::Timeout));
        check(ask, Manner::Trickles, Err(ProbeFailure::Timeout));
    }
}

#[test]
fn a_connection_alone_is_content_with_any_listener() {
    check(Ask::Connection, Manner::Hangs, Ok(()));
    check(Ask::Nothing, Manner::Hangs, Ok(()));
}

#[tokio::test]
async fn a_closed_port_fails() {
    // Bound, so that no other process gets the port meanwhile.
    let (_socket, address) = nobody();
    for ask in [Ask::Connection, page(), ping()] {
        let outcome = probe(ask, None, address, PATIENCE).await;
        let refused = matches!(outcome, Err(ProbeError::Failed(ProbeFailure::Refused)));
        assert!(refused, "{outcome:?}");
    }
}

#[tokio::test]
async fn the_server_sees_the_request_and_nothing_else() {
    let (address, serving) = server(Manner::SaysAndCloses(ACK)).await;
    probe(ping(), None, address, PATIENCE).await.unwrap();
    let Ask::Ping(sent) = ping() else { unreachable!() };
    assert_eq!(serving.await.unwrap(), sent);
}

#[test]
fn what_is_lacking_here_is_not_the_backends_fault() {
    use ProbeFailure::{Refused, Timeout, Unreachable};
    let read = |errno: Errno| connect_error(io::Error::from_raw_os_error(errno.raw_os_error()));
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL] {
        assert!(matches!(read(errno), ProbeError::Local(_)), "{errno}");
    }
    for (errno, expected) in [
        (Errno::CONNREFUSED, Refused),
        (Errno::TIMEDOUT, Timeout),
        (Errno::HOSTUNREACH, Unreachable),
        (Errno::NETUNREACH, Unreachable),
        (Errno::CONNRESET, Unreachable),
    ] {
        match read(errno) {
            ProbeError::Failed(failure) => assert_eq!(failure, expected, "{errno}"),
            error => panic!("{error}"),
        }
    }
}
