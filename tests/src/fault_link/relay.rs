//! One relayed connection: a thread that polls both sockets and its orders.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Cut, Direction, Order, Plan};
use crate::clock;

const BUFFER: usize = 64 * 1024;

/// A slow connection gets its bytes in this many portions a second.
const PORTIONS: u64 = 20;

/// Bytes passed on, per direction.
#[derive(Debug, Default)]
pub(super) struct Counters {
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Counters {
    pub(super) fn get(&self, direction: Direction) -> u64 {
        self.of(direction).load(Ordering::Relaxed)
    }

    fn of(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}

/// The socket will end with RST when it is closed.
pub(super) fn reset_on_close(stream: &TcpStream) {
    // A socket that is already dead needs no RST.
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

pub(super) struct Relay {
    client: TcpStream,
    server: TcpStream,
    lanes: [Lane; 2],
    plan: Plan,
    /// As it was when the turn looked.
    stalled: bool,
    orders: Receiver<Order>,
    woken: UnixStream,
}

struct Lane {
    direction: Direction,
    buffer: Vec<u8>,
    passed: u64,
    /// Nothing more comes in.
    ended: bool,
    /// The end has been passed on.
    closed: bool,
    /// A slow lane sends nothing before.
    not_before: Option<Instant>,
}

/// What remains after a turn of the loop.
enum Fate {
    GoesOn,
    Over(Cut),
}

impl Relay {
    pub(super) fn new(
        client: TcpStream,
        server: TcpStream,
        plan: Plan,
        orders: Receiver<Order>,
        woken: UnixStream,
    ) -> Self {
        for stream in [&client, &server] {
            // Without these the relay is slower, or blocks in a write; both would show.
            let _ = stream.set_nodelay(true);
            let _ = stream.set_nonblocking(true);
        }
        let _ = woken.set_nonblocking(true);
        let lanes = [Direction::ToServer, Direction::ToClient].map(Lane::new);
        Self { client, server, lanes, plan, stalled: false, orders, woken }
    }

    pub(super) fn run(mut self, counters: &Counters, stalled: &RwLock<bool>) {
        loop {
            match self.turn(counters, stalled) {
                Fate::GoesOn if self.lanes.iter().all(|lane| lane.closed) => return,
                Fate::GoesOn => {}
                Fate::Over(Cut::Reset) => {
                    reset_on_close(&self.client);
                    reset_on_close(&self.server);
                    return;
                }
                Fate::Over(Cut::Fin) => return self.drain(),
            }
        }
    }

    fn turn(&mut self, counters: &Counters, stalled: &RwLock<bool>) -> Fate {
        if let Some((direction, after, cut)) = self.plan.cut
            && self.lanes[direction as usize].passed >= after
        {
            return Fate::Over(cut);
        }
        let look = || stalled.read().expect("no holder of this lock panics");
        self.stalled = *look();
        self.wait();
        let carrying = look();
        if let Some(cut) = self.obey() {
            return Fate::Over(cut);
        }
        self.stalled = *carrying;
        for index in 0..self.lanes.len() {
            // An error means that a party reset its side: the other learns it the same way.
            if self.carry(index, counters).is_err() {
                return Fate::Over(Cut::Reset);
            }
        }
        Fate::GoesOn
    }

    fn obey(&mut self) -> Option<Cut> {
        let mut bytes = [0; 64];
        while self.woken.read(&mut bytes).is_ok_and(|n| n > 0) {}
        let mut cut = None;
        for order in self.orders.try_iter() {
            match order {
                Order::Cut(how) => cut = Some(how),
                Order::HalfClose(direction) => self.lanes[direction as usize].ended = true,
                Order::Stall => {}
                Order::Resume => self.plan.stall = None,
                Order::Slow(speed) => {
                    self.plan.bytes_per_second = speed;
                    self.lanes.iter_mut().for_each(|lane| lane.not_before = None);
                }
            }
        }
        cut
    }

    /// Until something can be done, or an order arrives.
    fn wait(&self) {
        let now = clock::now();
        let mut interests = [PollFlags::empty(); 2];
        let mut timeout = None;
        for (index, lane) in self.lanes.iter().enumerate() {
            // Lane 0 reads from socket 0 (the client) and writes to socket 1, lane 1 the other way.
            if self.may_read(lane) {
                interests[index] |= PollFlags::IN;
            }
            if self.portion(lane) > 0 || (lane.ended && !lane.closed && lane.buffer.is_empty()) {
                match lane.not_before.and_then(|at| at.checked_duration_since(now)) {
                    Some(pause) => {
                        timeout = timeout.map_or(Some(pause), |t: Duration| Some(t.min(pause)))
                    }
                    None => interests[1 - index] |= PollFlags::OUT,
                }
            }
        }
        let mut polled = vec![PollFd::new(&self.woken, PollFlags::IN)];
        // A socket nobody waits for stays out: its hang-up would be reported again and again.
        for (stream, interest) in [&self.client, &self.server].into_iter().zip(interests) {
            if !interest.is_empty() {
                polled.push(PollFd::new(stream, interest));
            }
        }
        let timeout = timeout.map(|pause| Timespec {
            tv_sec: pause.as_secs() as i64,
            // Rounded up, so that the pause is over when poll returns.
            tv_nsec: i64::from(pause.subsec_nanos().min(998_999_999)) + 1_000_000,
        });
        // An interrupted wait is a short wait.
        let _ = poll(&mut polled, timeout.as_ref());
    }

    fn may_read(&self, lane: &Lane) -> bool {
        !self.stalled && !lane.ended && lane.buffer.is_empty()
    }

    /// How many bytes of its buffer a lane may send now.
    fn portion(&self, lane: &Lane) -> usize {
        if self.stalled {
            return 0;
        }
        let mut portion = lane.buffer.len() as u64;
        if let Some((direction, after, _)) = self.plan.cut
            && direction == lane.direction
        {
            portion = portion.min(after.saturating_sub(lane.passed));
        }
        if let Some((direction, after)) = self.plan.stall
            && direction == lane.direction
        {
            portion = portion.min(after.saturating_sub(lane.passed));
        }
        if let Some(speed) = self.plan.bytes_per_second {
            portion = portion.min((speed / PORTIONS).max(1));
        }
        portion as usize
    }

    fn carry(&mut self, index: usize, counters: &Counters) -> io::Result<()> {
        let (from, to) = match index {
            0 => (&self.client, &self.server),
            _ => (&self.server, &self.client),
        };
        if self.may_read(&self.lanes[index]) {
            let lane = &mut self.lanes[index];
            lane.buffer.resize(BUFFER, 0);
            let read = ready((&mut &*from).read(&mut lane.buffer));
            let n = read.as_ref().ok().copied().flatten();
            lane.buffer.truncate(n.unwrap_or(0));
            lane.ended |= n == Some(0);
            read?;
        }
        let portion = self.portion(&self.lanes[index]);
        let lane = &mut self.lanes[index];
        let now = clock::now();
        if portion > 0
            && lane.not_before.is_none_or(|at| at <= now)
            && let Some(n) = ready((&mut &*to).write(&lane.buffer[..portion]))?
        {
            lane.buffer.drain(..n);
            lane.passed += n as u64;
            counters.of(lane.direction).fetch_add(n as u64, Ordering::Relaxed);
            let pause = |speed: u64| Duration::from_secs_f64(n as f64 / speed.max(1) as f64);
            lane.not_before = self.plan.bytes_per_second.map(|speed| now + pause(speed));
        }
        if lane.ended && !lane.closed && lane.buffer.is_empty() && !self.stalled {
            lane.closed = true;
            to.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// After a cut with FIN: throws away what the parties still send. Closing at once would answer it with RST.
    fn drain(self) {
        for stream in [&self.client, &self.server] {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut sockets = vec![&self.client, &self.server];
        let mut rest = [0; BUFFER];
        loop {
            sockets.retain(|stream| drained(stream, &mut rest));
            if sockets.is_empty() {
                return;
            }
            let mut polled: Vec<_> =
                sockets.iter().map(|stream| PollFd::new(*stream, PollFlags::IN)).collect();
            polled.push(PollFd::new(&self.woken, PollFlags::IN));
            let _ = poll(&mut polled, None);
            let resets = |order| matches!(order, Order::Cut(Cut::Reset));
            if self.orders.try_iter().any(resets) {
                reset_on_close(&self.client);
                reset_on_close(&self.server);
                return;
            }
            let mut bytes = [0; 64];
            while (&self.woken).read(&mut bytes).is_ok_and(|n| n > 0) {}
        }
    }
}

impl Lane {
    fn new(direction: Direction) -> Self {
        Self {
            direction,
            buffer: Vec::new(),
            passed: 0,
            ended: false,
            closed: false,
            not_before: None,
        }
    }
}

/// Reads what is there; false at the end of the connection.
fn drained(mut stream: &TcpStream, rest: &mut [u8]) -> bool {
    loop {
        match ready(stream.read(rest)) {
            Ok(Some(0)) | Err(_) => return false,
            Ok(Some(_)) => {}
            Ok(None) => return true,
        }
    }
}

/// `None` when the socket is not ready.
fn ready(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(n) => Ok(Some(n)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        },
    }
}
