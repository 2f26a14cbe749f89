//! A service over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use pingora::server::Fds;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::*;

/// Longer than any test: a connection is taken by who has fewer, or by nobody.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Tells each client the thread that serves it, until the client ends the connection.
#[derive(Default)]
struct Teller {
    cleanups: AtomicUsize,
    /// The first connection blocks its thread until something comes from here.
    blocks: Mutex<Option<Receiver<()>>>,
}

impl Handler for Arc<Teller> {
    async fn serve(self: Arc<Self>, connection: Accepted, _: ShutdownWatch) {
        let Accepted { mut socket, peer, load: _load } = connection;
        assert_eq!(socket.peer_addr().unwrap(), peer);
        assert!(socket.nodelay().unwrap());
        let number = u8::try_from(thread_number()).unwrap();
        let blocks = self.blocks.lock().unwrap().take();
        socket.write_all(&[number]).await.unwrap();
        if let Some(released) = blocks {
            released.recv().unwrap();
        }
        // An error is the end of the connection.
        assert_ne!(socket.read_u8().await.ok(), Some(b'!'), "a client asked for it");
    }

    async fn cleanup(&self) {
        self.cleanups.fetch_add(1, Ordering::SeqCst);
    }
}

struct Rig {
    threads: Threads,
    teller: Arc<Teller>,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    ready: watch::Receiver<bool>,
    /// Says how the service has ended.
    ended: Receiver<()>,
}

/// A service that listens on two sockets.
fn rig(threads: usize, pause: Duration, teller: Teller) -> Rig {
    let threads = Threads::giving_way_for(threads, pause).unwrap();
    start(threads, teller)
}

fn start(threads: Threads, teller: Teller) -> Rig {
    use std::os::fd::IntoRawFd;
    let teller = Arc::new(teller);
    let mut service = Service::new("public".to_owned(), Arc::clone(&teller), &threads);
    let (mut fds, mut addresses) = (Fds::new(), Vec::new());
    for _ in 0..2 {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        service.listen(address);
        fds.add(address.to_string(), socket.into_raw_fd());
        addresses.push(address);
    }
    let (tell, ready) = watch::channel(false);
    let (stop, watch) = watch::channel(false);
    let (end, ended) = channel();
    threads.handles()[0].spawn(async move {
        let fds = Arc::new(parking_lot::Mutex::new(fds));
        service.start_service(Some(fds), watch, 1, ServiceReadyNotifier::new(tell)).await;
        end.send(()).unwrap();
    });
    Rig { threads, teller, addresses, stop, ready, ended }
}

/// Connects and waits to be served; returns the number of the thread.
fn connect(address: SocketAddr) -> (Client, usize) {
    let mut client = Client::connect(address).unwrap();
    let number = told(&mut client);
    (client, number)
}

fn told(client: &mut Client) -> usize {
    let mut number = [0];
    client.read_exact(&mut number).unwrap();
    usize::from(number[0])
}

impl Rig {
    fn loads(&self) -> Vec<usize> {
        (0..self.threads.handles().len()).map(|at| self.threads.loads().of(at)).collect()
    }

    /// Ends the service and checks that nobody accepts any more.
    fn ends(self) {
        self.stop.send_replace(true);
        self.ended.recv().unwrap();
        assert_eq!(self.teller.cleanups.load(Ordering::SeqCst), 1);
        for address in &self.addresses {
            let error = Client::connect(address).expect_err("the socket is closed");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        self.threads.end(Duration::ZERO);
    }
}

#[test]
fn threads_that_accept_on_the_same_sockets_have_as_many_connections() {
    let rig = rig(3, NEVER, Teller::default());
    let (mut open, mut served) = (Vec::new(), [0; 3]);
    for round in 0..60 {
        let (client, number) = connect(rig.addresses[round % 2]);
        served[number - 1] += 1;
        open.push(client);
    }
    // Many at once, which are accepted in any order.
    let mut crowd: Vec<_> =
        (0..60).map(|round| Client::connect(rig.addresses[round % 2]).unwrap()).collect();
    for client in &mut crowd {
        served[told(client) - 1] += 1;
    }
    assert_eq!(rig.loads(), served);
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    assert!(most - least <= least / 5 + 1, "{served:?}");
    rig.ends();
}

#[test]
fn a_thread_whose_connections_have_ended_gets_the_next_ones() {
    let rig = rig(2, NEVER, Teller::default());
    let mut open: Vec<_> = (0..20).map(|round| connect(rig.addresses[round % 2])).collect();
    open.retain(|(_, number)| *number == 1);
    // What was dropped is not noticed at once.
    while rig.loads()[1] > 0 {
        std::thread::yield_now();
    }
    let first = open.len();
    for _ in 0..first {
        let (client, number) = connect(rig.addresses[0]);
        open.push((client, number));
    }
    let second = open.iter().filter(|(_, number)| *number == 2).count();
    assert_eq!(rig.loads(), [open.len() - second, second]);
    assert!(second + 2 >= first * 5 / 6, "{second} of {first}");
    rig.ends();
}

#[test]
fn a_connection_does_not_wait_for_a_thread_that_is_busy() {
    let (release, blocks) = channel();
    let teller = Teller { blocks: Mutex::new(Some(blocks)), ..Teller::default() };
    let rig = rig(2, Duration::from_millis(1), teller);
    let (_first, busy) = connect(rig.addresses[0]);
    let open: Vec<_> = (0..10).map(|_| connect(rig.addresses[0])).collect();
    assert!(open.iter().all(|(_, number)| *number != busy));
    release.send(()).unwrap();
    rig.ends();
}

#[test]
fn the_service_is_ready_when_its_last_thread_accepts() {
    let threads = Threads::giving_way_for(2, Duration::from_millis(1)).unwrap();
    let (release, blocks) = channel::<()>();
    let (tell, blocked) = channel();
    threads.handles()[1].spawn(async move {
        tell.send(()).unwrap();
        blocks.recv().unwrap();
    });
    blocked.recv().unwrap();
    let mut rig = start(threads, Teller::default());
    // The first thread serves already.
    let (_client, number) = connect(rig.addresses[0]);
    assert_eq!(number, 1);
    assert!(!*rig.ready.borrow());
    release.send(()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(rig.ready.wait_for(|ready| *ready)).unwrap();
    rig.ends();
}

#[test]
fn a_connection_whose_task_panics_takes_no_other_with_it() {
    let rig = rig(1, NEVER, Teller::default());
    let (_other, _) = connect(rig.addresses[0]);
    let (mut bad, _) = connect(rig.addresses[0]);
    bad.write_all(b"!").unwrap();
    assert!(matches!(bad.read(&mut [0]), Ok(0) | Err(_)), "it is closed");
    let (_next, _) = connect(rig.addresses[1]);
    while rig.loads() != [2] {
        std::thread::yield_now();
    }
    rig.ends();
}

#[test]
fn a_service_without_its_socket_ends() {
    let threads = Threads::start(1).unwrap();
    let mut service = Service::new("public".to_owned(), Arc::new(Teller::default()), &threads);
    service.listen("127.0.0.1:1".parse().unwrap());
    let (end, ended) = channel();
    let (_stop, watch) = watch::channel(false);
    threads.handles()[0].spawn(async move {
        let ready = ServiceReadyNotifier::new(watch::channel(false).0);
        let fds = Arc::new(parking_lot::Mutex::new(Fds::new()));
        service.start_service(Some(fds), watch, 1, ready).await;
        end.send(service.handler.cleanups.load(Ordering::SeqCst)).unwrap();
    });
    assert_eq!(ended.recv().unwrap(), 0);
    threads.end(Duration::ZERO);
}
