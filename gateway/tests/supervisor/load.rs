//! Clients that never stop, and count what goes wrong.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::backend::{Client, DEADLINE};

/// Requests of one kind of client, by the process that answered.
type Counts = BTreeMap<&'static str, BTreeMap<String, usize>>;

pub struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<Counts>>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// Two clients that keep their connections as long as they may, two that take a new one for
    /// every request, and one that asks the side listener whether all is well.
    pub fn start(public: SocketAddr, ops: SocketAddr) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            counts: Arc::default(),
            failures: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..2 {
            let mut connection = None;
            load.spawn("kept", move || ask(public, &mut connection));
            load.spawn("new", move || ask(public, &mut None));
        }
        load.spawn("side", move || ask_side(ops));
        load
    }

    fn spawn(
        &mut self,
        kind: &'static str,
        mut once: impl FnMut() -> io::Result<String> + Send + 'static,
    ) {
        let (stop, counts, failures) =
            (Arc::clone(&self.stop), Arc::clone(&self.counts), Arc::clone(&self.failures));
        self.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match once() {
                    Ok(by) => {
                        let mut counts = counts.lock().expect("not poisoned");
                        *counts.entry(kind).or_default().entry(by).or_default() += 1;
                    }
                    Err(error) => {
                        failures.lock().expect("not poisoned").push(format!("{kind}: {error}"));
                    }
                }
            }
        }));
    }

    /// Requests of that kind which the process has answered.
    pub fn answered(&self, kind: &str, pid: u32) -> usize {
        let counts = self.counts.lock().expect("not poisoned");
        let by = counts.get(kind).and_then(|by| by.get(&pid.to_string()));
        by.copied().unwrap_or_default()
    }

    /// Requests of that kind, whoever has answered.
    pub fn answered_at_all(&self, kind: &str) -> usize {
        let counts = self.counts.lock().expect("not poisoned");
        counts.get(kind).map(|by| by.values().sum()).unwrap_or_default()
    }

    /// Whether the process has answered clients of both kinds.
    pub fn is_served_by(&self, pid: u32) -> bool {
        ["kept", "new"].iter().all(|kind| self.answered(kind, pid) > 20)
    }

    /// Ends the load and asserts that nothing went wrong.
    #[track_caller]
    pub fn expect_no_failure(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the client ended");
        }
        let failures = self.failures.lock().expect("not poisoned");
        let counts = self.counts.lock().expect("not poisoned");
        assert!(failures.is_empty(), "{failures:#?}\n{counts:?}");
    }
}

/// One request, on the connection that is kept if there is one. Returns who answered.
fn ask(address: SocketAddr, kept: &mut Option<TcpStream>) -> io::Result<String> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address)?,
    };
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /file HTTP/1.1\r\nHost: up.test\r\n\r\n")?;
    let answer = Client::over(stream.try_clone()?).try_answer();
    let answer = answer.ok_or_else(|| io::Error::other("no whole answer"))?;
    if !answer.head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(answer.head));
    }
    if answer.field("connection").is_none_or(|value| value != "close") {
        *kept = Some(stream);
    }
    answer.field("x-process").ok_or_else(|| io::Error::other("nobody has answered"))
}

fn ask_side(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut word = String::new();
    stream.read_to_string(&mut word)?;
    if word == "serving" { Ok(String::new()) } else { Err(io::Error::other(word)) }
}
