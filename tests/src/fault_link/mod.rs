//! A TCP relay between any two parties that breaks the connection as the test says: cut, reset, stall, slow, half-close.
//!
//! Faults come in two ways: a [`Plan`] for connections yet to come, and orders to those that live.

mod relay;

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::secure::{self, Known};
use crate::data::Chance;
use relay::Relay;

/// Which way bytes go. The client is the party that connected to the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// How a connection ends, towards both parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// FIN; what the parties still send is thrown away.
    Fin,
    /// RST; bytes passed just before may be lost with it.
    Reset,
}

/// What happens to one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    cut: Option<(Direction, u64, Cut)>,
    stall: Option<(Direction, u64)>,
    bytes_per_second: Option<u64>,
    refuse: bool,
}

impl Plan {
    pub fn pass() -> Self {
        Self::default()
    }

    /// Once exactly `bytes` have passed in `direction`. With 0: as soon as the connection stands.
    pub fn cut_after(mut self, direction: Direction, bytes: u64, cut: Cut) -> Self {
        self.cut = Some((direction, bytes, cut));
        self
    }

    /// Nothing more passes in `direction` after `bytes`; the connection stays open.
    pub fn stall_after(mut self, direction: Direction, bytes: u64) -> Self {
        self.stall = Some((direction, bytes));
        self
    }

    /// In each direction.
    pub fn slow(mut self, bytes_per_second: u64) -> Self {
        self.bytes_per_second = Some(bytes_per_second);
        self
    }

    /// Accepts and resets at once, without a connection to the server.
    pub fn refuse() -> Self {
        Self { refuse: true, ..Self::default() }
    }

    /// In `percent` of 100 cases a cut somewhere in the first `within` bytes, in either direction and of either kind.
    pub fn random_cut(chance: &mut Chance, percent: u64, within: u64) -> Self {
        // Drawn in any case, so that `percent` does not shift what follows.
        let hit = chance.percent(percent);
        let direction = *chance.pick(&[Direction::ToServer, Direction::ToClient]);
        // Little goes to the client, so a cut there must come early to come at all.
        let within = match direction {
            Direction::ToServer => within,
            Direction::ToClient => within.min(2_000),
        };
        let after = chance.between(0, within);
        let cut = *chance.pick(&[Cut::Fin, Cut::Reset]);
        match hit {
            true => Self::pass().cut_after(direction, after, cut),
            false => Self::pass(),
        }
    }
}

/// A relay on loopback; every connection through it ends when it is dropped.
pub struct FaultLink {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    /// Who speaks TLS to the target does so through the link as well.
    _known: Option<Known>,
}

#[derive(Default)]
struct Shared {
    control: Mutex<Control>,
    counters: relay::Counters,
    /// Relays hold it for reading while they carry bytes, and look for orders first: once an order has been given
    /// no byte moves that it forbids.
    stalled: RwLock<bool>,
}

struct Control {
    target: SocketAddr,
    plan: Arc<dyn Fn(usize) -> Plan + Send + Sync>,
    stopping: bool,
    accepted: usize,
    live: HashMap<usize, Line>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            target: SocketAddr::from(([127, 0, 0, 1], 0)),
            plan: Arc::new(|_| Plan::pass()),
            stopping: false,
            accepted: 0,
            live: HashMap::new(),
        }
    }
}

/// The way to a living connection's thread.
struct Line {
    orders: Sender<Order>,
    /// A byte wakes the thread from its poll.
    wake: UnixStream,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Cut(Cut),
    HalfClose(Direction),
    /// The stall flag was set.
    Stall,
    /// The stall flag was taken back; planned stalls end too.
    Resume,
    Slow(Option<u64>),
}

impl FaultLink {
    /// Passes everything on to `target` until told otherwise.
    pub fn to(target: SocketAddr) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), target)
    }

    /// [`to`](Self::to), at an address of the test's choice.
    pub fn at(address: SocketAddr, target: SocketAddr) -> Self {
        Self::try_at(address, target)
            .unwrap_or_else(|error| panic!("cannot listen at {address}: {error}"))
    }

    /// [`at`](Self::at), where another program may have the port.
    pub fn try_at(address: SocketAddr, target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        shared.control().target = target;
        let accepting = shared.clone();
        let acceptor = std::thread::spawn(move || accept(&listener, &accepting));
        let known = secure::lookup(target).map(|secure| Known::new(address, secure));
        Ok(Self { address, shared, acceptor: Some(acceptor), _known: known })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections lead from now on.
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.control().target = target;
    }

    /// What happens to new connections; they are counted from 0 over the link's life.
    pub fn plan(&self, plan: impl Fn(usize) -> Plan + Send + Sync + 'static) {
        self.shared.control().plan = Arc::new(plan);
    }

    /// The same for every new connection.
    pub fn plan_all(&self, plan: Plan) {
        self.plan(move |_| plan.clone());
    }

    /// [`Plan::random_cut`] for every new connection: the n-th one's fate depends on `seed` and n only.
    pub fn random_cuts(&self, seed: u64, percent: u64, within: u64) {
        let chance = Chance::new(seed);
        self.plan(move |n| Plan::random_cut(&mut chance.fork(n as u64), percent, within));
    }

    /// Ends every living connection.
    pub fn cut(&self, cut: Cut) {
        self.order(Order::Cut(cut));
    }

    /// FIN in one direction of every living connection, after what has been read; the other goes on.
    pub fn half_close(&self, direction: Direction) {
        self.order(Order::HalfClose(direction));
    }

    /// Nothing moves any more, on living and new connections, until [`resume`](Self::resume).
    pub fn stall(&self) {
        self.shared.set_stalled(true);
        self.order(Order::Stall);
    }

    /// Also ends a stall that a plan brought about.
    pub fn resume(&self) {
        self.shared.set_stalled(false);
        self.order(Order::Resume);
    }

    /// The speed of living connections, each direction; `None` is full speed.
    pub fn slow(&self, bytes_per_second: Option<u64>) {
        self.order(Order::Slow(bytes_per_second));
    }

    /// How many connections have been accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.control().accepted
    }

    /// How many connections live.
    pub fn live(&self) -> usize {
        self.shared.control().live.len()
    }

    /// Bytes passed on in `direction`, over all connections.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.counters.get(direction)
    }

    fn order(&self, order: Order) {
        let _nothing_moves = self.shared.stalled.write().expect("no holder of this lock panics");
        for line in self.shared.control().live.values_mut() {
            line.give(order);
        }
    }
}

impl Drop for FaultLink {
    fn drop(&mut self) {
        self.shared.control().stopping = true;
        self.order(Order::Cut(Cut::Reset));
        // Wakes the acceptor; nothing is lost when it has already gone.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, Control> {
        // A plan that panics must not hide behind a poisoned lock.
        self.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set_stalled(&self, stalled: bool) {
        *self.stalled.write().expect("no holder of this lock panics") = stalled;
    }
}

impl Line {
    fn give(&mut self, order: Order) {
        // A connection that has ended meanwhile needs no orders.
        let _ = self.orders.send(order);
        let _ = self.wake.write(&[0]);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        let mut control = shared.control();
        if control.stopping {
            return;
        }
        let number = control.accepted;
        control.accepted += 1;
        let plan = (control.plan)(number);
        if plan.refuse {
            relay::reset_on_close(&client);
            continue;
        }
        let (wake, woken) = UnixStream::pair().expect("a socket pair needs descriptors only");
        // A full pipe already wakes; waiting for room in it would stop the test.
        wake.set_nonblocking(true).expect("a socket takes flags");
        let (orders, received) = mpsc::channel();
        let target = control.target;
        control.live.insert(number, Line { orders, wake });
        drop(control);
        let shared = shared.clone();
        std::thread::spawn(move || {
            match TcpStream::connect_timeout(&target, Duration::from_secs(10)) {
                Ok(server) => Relay::new(client, server, plan, received, woken)
                    .run(&shared.counters, &shared.stalled),
                Err(_) => relay::reset_on_close(&client),
            }
            shared.control().live.remove(&number);
        });
    }
}

#[cfg(test)]
mod tests;
