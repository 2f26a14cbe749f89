//! A gateway between a client and a server that both do as a test says.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

use gateway_core::fault::Fault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::upstream::rig::{End, read_to_end};
use super::*;
use crate::exchange::rig::{ID, Rig, UP01};
use crate::farm::pool::OpenConnections;
use crate::guard::rig;

/// A gateway whose only server is the test.
pub(super) struct Scene {
    pub(super) rig: Rig,
    pub(super) lines: Arc<Lines>,
    pub(super) servers: Arc<Servers>,
    pub(super) listener: TcpListener,
    pub(super) stop: watch::Sender<bool>,
}

/// What is left of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Another one may follow on its connection.
    pub(super) goes_on: bool,
    pub(super) fault: Option<Fault>,
    /// What its client was sent.
    pub(super) status: Option<u16>,
}

impl Left {
    pub(super) fn answered(status: u16) -> Self {
        Self { goes_on: true, fault: None, status: Some(status) }
    }

    pub(super) fn last(self) -> Self {
        Self { goes_on: false, ..self }
    }

    pub(super) fn fault(fault: Fault) -> Self {
        let status = Some(fault.row().status.as_u16());
        Self { goes_on: false, fault: Some(fault), status }
    }

    /// There was nobody to be answered.
    pub(super) fn nothing() -> Self {
        Self { goes_on: false, fault: None, status: None }
    }
}

/// The two peers of the gateway, and its end of the client's connection.
pub(super) struct Peers<'s> {
    pub(super) client: TcpStream,
    pub(super) conn: Arc<Conn>,
    pub(super) scene: &'s Scene,
}

impl Scene {
    pub(super) async fn new() -> Self {
        Self::configured("").await
    }

    /// With these sections of the configuration.
    pub(super) async fn configured(more: &str) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, more).await
    }

    async fn at(server: Ipv4Addr, more: &str) -> Self {
        let listener = TcpListener::bind((server, 0)).await.unwrap();
        let rig = Rig::of(listener.local_addr().unwrap(), more);
        let open: &'static OpenConnections = Box::leak(Box::default());
        let servers = Servers::new(open);
        let pool = Pool::new(&servers, Arc::clone(rig.gateway.farms()), 100);
        let stop = watch::channel(false).0;
        Self { rig, lines: Lines::new(pool), servers, listener, stop }
    }

    /// With a session of which the server has 100 bytes.
    pub(super) async fn with_session() -> Self {
        let scene = Self::new().await;
        scene.rig.pin(ID, UP01, 100).await;
        scene
    }

    /// With a session of which the server has nothing, and little room between the gateway and the
    /// server: some 50 KiB on Linux.
    ///
    /// The server has an address of its own: the kernel remembers how much it could send to one that
    /// others have used.
    pub(super) async fn narrow() -> Self {
        static USED: AtomicU8 = AtomicU8::new(1);
        let [.., high, low] = std::process::id().to_be_bytes();
        let server = Ipv4Addr::new(127, USED.fetch_add(1, Ordering::Relaxed), high, low);
        let scene = Self::at(server, "").await;
        scene.rig.pin(ID, UP01, 0).await;
        let listener = socket2::SockRef::from(&scene.listener);
        listener.set_recv_buffer_size(4 << 10).unwrap();
        listener.set_tcp_mss(536).unwrap();
        scene
    }

    /// Serves one request of a client that has sent these bytes, while the peers do as `script` says.
    pub(super) async fn play<T>(
        &self,
        sent: &[u8],
        script: impl AsyncFnOnce(Peers<'_>) -> T,
    ) -> (Left, T) {
        let (mut client, mut guard) = rig::tcp().await;
        client.write_all(sent).await.unwrap();
        assert!(rig::request(&mut guard).await);
        let head = guard.read_head().unwrap();
        let stop = self.stop.subscribe();
        let conn = Arc::clone(guard.conn());
        let serving = async {
            let gateway = &self.rig.gateway;
            let mut transfer = Transfer::new(gateway, &self.lines, &mut guard, head, &stop);
            let goes_on = transfer.run().await;
            let (findings, sent) = (&transfer.exchange.findings, transfer.exchange.sent);
            let left = Left { goes_on, fault: findings.fault, status: sent.status };
            drop(transfer);
            // Its connection ends, as far as nothing may follow.
            if !goes_on {
                drop(guard);
                return (left, None);
            }
            (left, Some(guard))
        };
        let both = async { tokio::join!(serving, script(Peers { client, conn, scene: self })) };
        let ((left, guard), told) =
            tokio::time::timeout(DEADLINE, both).await.expect("the packet hangs");
        drop(guard);
        (left, told)
    }

    /// How many requests were told of.
    pub(super) fn told(&self) -> u64 {
        let text = self.rig.metrics.encode();
        let lines = text.lines().filter_map(|l| l.strip_prefix("bitsgw_carried_requests_total{"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

impl Peers<'_> {
    /// The next connection to the server, and what has come over it to the end of a head.
    pub(super) async fn head(&self) -> (TcpStream, String) {
        let (mut server, _) = self.scene.listener.accept().await.unwrap();
        let text = read_until(&mut server, "\r\n\r\n").await;
        (server, text)
    }
}

/// Ample on a busy machine: what takes longer hangs.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// A newer request of the session calls this one off.
pub(super) fn supersede(conn: &Conn) {
    conn.kill(conn.current_request());
}

pub(super) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(end) {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "{bytes:?}");
    }
    String::from_utf8(bytes).unwrap()
}

/// Waits for the end, and says how it came, and what came before.
pub(super) async fn end(stream: &mut TcpStream) -> (String, End) {
    let (bytes, end) = read_to_end(stream).await;
    (String::from_utf8_lossy(&bytes).into_owned(), end)
}

pub(super) fn reset(stream: TcpStream) {
    let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
}

pub(super) const RESET: End = End::Broken(ErrorKind::ConnectionReset);

pub(super) fn ping() -> Vec<u8> {
    b"BITS_POST /in/a.bin HTTP/1.1\r\nHost: up.test\r\nBITS-Packet-Type: Ping\r\n\
      Content-Length: 0\r\n\r\n"
        .to_vec()
}

/// A Fragment of ten bytes of which so many are there.
pub(super) fn fragment(here: &str) -> Vec<u8> {
    format!(
        "BITS_POST /in/report.cab?site=7 HTTP/1.1\r\nHost: up.test\r\nBITS-Packet-Type: Fragment\r\n\
         BITS-Session-Id: {ID}\r\nContent-Range: bytes 100-109/10000\r\nContent-Length: 10\r\n\r\n{here}"
    )
    .into_bytes()
}

/// The head of a Fragment that is a whole file of so many bytes.
pub(super) fn whole_file(length: usize) -> Vec<u8> {
    format!(
        "BITS_POST /in/report.cab?site=7 HTTP/1.1\r\nHost: up.test\r\nBITS-Packet-Type: Fragment\r\n\
         BITS-Session-Id: {ID}\r\nContent-Range: bytes 0-{}/{length}\r\n\
         Content-Length: {length}\r\n\r\n",
        length - 1
    )
    .into_bytes()
}

pub(super) const ACK: &[u8] = b"HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n\
                     BITS-Received-Content-Range: 110\r\nContent-Length: 0\r\n\r\n";

/// An answer with a body of ten bytes of which five are there.
pub(super) const PAGE: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nhello";

pub(super) const WHOLE: &str = "0123456789";
