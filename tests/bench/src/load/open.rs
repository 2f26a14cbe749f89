//! Open loop: packets are due at a fixed rate, whatever becomes of those before. A time counts from when its packet was
//! due, so a proxy that stops for a moment pays for all that was due meanwhile (no coordinated omission).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use e2e_tests::clock;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Client, Sent, Target, all};

#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// A second.
    pub rate: u32,
    pub count: usize,
    /// What is due while all of them wait for an Ack waits as well, and its time counts.
    pub connections: usize,
    pub due: Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The next 1 KiB of a session.
    Fragment,
    /// A Create-Session, and a Close-Session when its Ack is there.
    Session,
}

/// Times of packets that were due, and of those that followed.
#[derive(Debug, Default)]
pub struct Times {
    pub due: Sent,
    pub followed: Vec<Duration>,
}

/// Connected clients, with open sessions where Fragments are due.
pub async fn connect(load: Open, target: &Target) -> Result<Vec<Client>, String> {
    let mut tasks = JoinSet::new();
    for _ in 0..load.connections {
        let target = target.clone();
        tasks.spawn(async move {
            let mut client = Client::connect(&target).await?;
            client.create().await?;
            client.fragment(LENGTH, false).await?;
            if load.due == Due::Session {
                client.close().await?;
            }
            Ok(client)
        });
    }
    all(tasks).await
}

pub async fn open(load: Open, clients: Vec<Client>) -> Result<(Vec<Client>, Times), String> {
    let schedule = Arc::new(Schedule { due: Mutex::default(), ready: Semaphore::new(0) });
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let schedule = Arc::clone(&schedule);
        tasks.spawn(async move {
            let mut times = Times::default();
            while let Some(due) = schedule.next().await {
                times.send(load.due, &mut client, due).await?;
            }
            times.due.packets = client.take_sent();
            Ok((client, times))
        });
    }
    // A thread of its own: the timers of the runtime count in milliseconds.
    let pacer = std::thread::spawn(move || pace(load, &schedule));
    let ended = all(tasks).await;
    // After an error it goes on to the end of its schedule, which is seconds.
    pacer.join().map_err(|_| "the pacer has failed")?;
    let mut sum = Times::default();
    let mut clients = Vec::new();
    for (client, times) in ended? {
        sum.due.add(times.due);
        sum.followed.extend(times.followed);
        clients.push(client);
    }
    Ok((clients, sum))
}

const LENGTH: usize = 1024;

/// When packets are due; `None` is the end, once for each client.
struct Schedule {
    due: Mutex<VecDeque<Option<Instant>>>,
    ready: Semaphore,
}

impl Schedule {
    fn add(&self, due: Option<Instant>) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).push_back(due);
        self.ready.add_permits(1);
    }

    /// Those that wait get their turns in order, so every connection is used as often as any other.
    async fn next(&self) -> Option<Instant> {
        self.ready.acquire().await.ok()?.forget();
        self.due.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?
    }
}

impl Times {
    async fn send(&mut self, what: Due, client: &mut Client, due: Instant) -> Result<(), String> {
        match what {
            Due::Fragment => client.fragment(LENGTH, false).await?,
            Due::Session => client.create().await?,
        }
        self.due.latencies.push(due.elapsed());
        if what == Due::Session {
            let began = clock::now();
            client.close().await?;
            self.followed.push(began.elapsed());
        }
        Ok(())
    }
}

fn pace(load: Open, schedule: &Schedule) {
    // The kernel may add 50 us to each sleep otherwise.
    // SAFETY: this option takes a number and changes the calling thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let began = clock::now();
    for number in 0..load.count {
        let due = began + Duration::from_secs(1).mul_f64(number as f64 / f64::from(load.rate));
        std::thread::sleep(due.saturating_duration_since(clock::now()));
        schedule.add(Some(due));
    }
    (0..load.connections).for_each(|_| schedule.add(None));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_timed_from_when_it_was_due() {
        // One connection and ten packets that are due at once: each waits for all before it.
        let farm = crate::sink::Farm::start(1, 1).expect("a farm");
        let target = Target { address: farm.addresses()[0], tls: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let schedule = Schedule { due: Mutex::default(), ready: Semaphore::new(0) };
        let due = clock::now();
        (0..10).for_each(|_| schedule.add(Some(due)));
        schedule.add(None);
        let times = runtime.block_on(async {
            let mut client = Client::connect(&target).await?;
            client.create().await?;
            let mut times = Times::default();
            while let Some(due) = schedule.next().await {
                times.send(Due::Fragment, &mut client, due).await?;
            }
            Ok::<_, String>(times)
        });
        let latencies = times.expect("Acks").due.latencies;
        assert_eq!(latencies.len(), 10);
        assert!(latencies.is_sorted(), "{latencies:?}");
        assert_eq!(farm.arrived().fragments, 10);
        assert_eq!(farm.take_errors(), Vec::<String>::new());
    }
}
