//! The services of a plan, started: their runtimes, tasks and watches.

use std::mem::{self, ManuallyDrop};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pingora::server::Fds;
use pingora::services::ServiceReadyNotifier;
use pingora_runtime::{Runtime, RuntimeBuilder};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::RunError;
use super::bind::{Bound, Listening};
use super::group::{Group, Started};
use super::plan::{Plan, Services};
use crate::process::listening::Threads;

pub(super) struct Running {
    pub traffic: Group,
    /// Pingora's way to tell its services. The sender lives as long as they do: they take its loss
    /// for a shutdown.
    traffic_stop: watch::Sender<bool>,
    pub tasks: Group,
    pub sides: Group,
    starting: Vec<(Started, watch::Receiver<bool>)>,
    /// Side listeners accept once this is true.
    sides_open: watch::Sender<bool>,
    threads: Option<Threads>,
    other_runtimes: Vec<(String, Runtime)>,
}

/// A plan whose listeners and services fit together; nothing runs yet.
pub(super) struct Prepared {
    threads: Threads,
    services: Services,
    sockets: Vec<(Listening, TcpListener)>,
    sides: Vec<(Listening, TcpListener)>,
}

impl Prepared {
    /// Makes the services and checks that every socket is served, by one that listens on nothing
    /// else.
    ///
    /// A service finds no socket for an unknown address, and a socket that nobody takes would let
    /// clients in and never answer.
    pub fn new(mut bound: Bound, plan: &mut Plan) -> Result<Self, RunError> {
        let mut sides = Vec::new();
        for (name, _) in &plan.sides {
            sides.push(
                bound.take(name).ok_or_else(|| RunError::NoListener { listener: name.clone() })?,
            );
        }
        let sockets = bound.into_sockets();
        let listening: Vec<Listening> =
            sockets.iter().map(|(listening, _)| listening.clone()).collect();
        let make = mem::replace(&mut plan.traffic, Box::new(|_, _| Ok(Services::new())));
        let threads = Threads::start(plan.threads).map_err(RunError::Threads)?;
        let services = make(&listening, &threads).map_err(RunError::Services)?;
        check_addresses(&services, &listening)?;
        Ok(Self { threads, services, sockets, sides })
    }

    pub fn start(self, plan: &mut Plan) -> Running {
        let mut running = Running {
            traffic: Group::new(),
            traffic_stop: watch::Sender::new(false),
            tasks: Group::new(),
            sides: Group::new(),
            starting: Vec::new(),
            sides_open: watch::Sender::new(false),
            threads: None,
            other_runtimes: Vec::new(),
        };
        running.start_tasks(plan);
        running.start_sides(self.sides, plan);
        running.start_traffic(self.threads, self.services, self.sockets);
        running
    }
}

impl Running {
    /// Returns when every task has come to its first wait, and every service has said that it
    /// accepts.
    pub async fn started(&mut self) -> Result<(), RunError> {
        let starting = mem::take(&mut self.starting);
        let all_started = async {
            for (started, mut ready) in starting {
                if started.await.is_err() || ready.wait_for(|ready| *ready).await.is_err() {
                    // It ended instead; `failed` has the reason.
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            error = self.failed() => Err(error),
            () = all_started => Ok(()),
        }
    }

    /// Lets side listeners accept. Before that a successor leaves those who ask to its predecessor,
    /// which is ready while it is not.
    pub fn open_sides(&self) {
        self.sides_open.send_replace(true);
    }

    /// Has the services of the traffic accept no more.
    pub fn stop_traffic(&self) {
        self.traffic_stop.send_replace(true);
    }

    /// Each runtime with a name. Of those that carry traffic each thread is one.
    pub fn runtimes(&self) -> Vec<(String, Handle)> {
        let threads = self.threads.iter().flat_map(Threads::handles).cloned();
        let named = |(at, handle)| (format!("traffic {}", at + 1), handle);
        let traffic = threads.enumerate().map(named);
        let others = self.other_runtimes.iter();
        let others = others.map(|(name, runtime)| (name.clone(), runtime.get_handle().clone()));
        traffic.chain(others).collect()
    }

    /// Waits for any task to end, which none may.
    pub async fn failed(&mut self) -> RunError {
        tokio::select! {
            error = self.traffic.ended() => error,
            error = self.tasks.ended() => error,
            error = self.sides.ended() => error,
        }
    }

    /// Ends the threads of the traffic and with them every connection that is left.
    ///
    /// Dropping a connection closes its socket, and the kernel goes on sending what an answer left
    /// there: nothing that was written is lost, as long as no unread bytes of the client's lie in
    /// the socket (those make the kernel reset).
    pub async fn end_traffic(&mut self, limit: Duration) {
        if let Some(threads) = self.threads.take() {
            end(limit, move || threads.end(limit)).await;
        }
    }

    pub async fn end_others(&mut self, limit: Duration) {
        for (_, runtime) in mem::take(&mut self.other_runtimes) {
            // Without a thread to end it the runtime is left to the exit of the process.
            let runtime = ManuallyDrop::new(runtime);
            end(limit, move || ManuallyDrop::into_inner(runtime).shutdown_timeout(limit)).await;
        }
    }

    /// Leaves what still runs to the exit of the process: to wait for a busy thread is the one
    /// thing not wanted now.
    pub fn abandon(mut self) {
        mem::forget(self.threads.take());
        mem::forget(mem::take(&mut self.other_runtimes));
    }

    fn start_traffic(
        &mut self,
        threads: Threads,
        services: Services,
        sockets: Vec<(Listening, TcpListener)>,
    ) {
        let mut fds = Fds::new();
        for (listening, socket) in sockets {
            // The service owns the descriptor from here and closes it when the drain begins.
            fds.add(listening.address.to_string(), socket.into_raw_fd());
        }
        let fds = Arc::new(Mutex::new(fds));
        // The service itself only waits for its loops, which run on all threads.
        for (mut service, handle) in services.into_iter().zip(threads.handles().iter().cycle()) {
            let (ready, readiness) = watch::channel(false);
            let (name, fds, stop) =
                (service.name().to_owned(), Arc::clone(&fds), self.traffic_stop.subscribe());
            let serve = async move {
                let ready = ServiceReadyNotifier::new(ready);
                service.start_service(Some(fds), stop, 1, ready).await;
                Ok(())
            };
            let started = self.traffic.spawn_on(&name, serve, handle);
            self.starting.push((started, readiness));
        }
        self.threads = Some(threads);
    }

    fn start_tasks(&mut self, plan: &mut Plan) {
        if plan.tasks.is_empty() {
            return;
        }
        let runtime = RuntimeBuilder::new(1, "tasks").build();
        for (name, make) in plan.tasks.drain(..) {
            let stop = self.tasks.stop_token();
            let task = async move { make(stop).await };
            self.starting
                .push((self.tasks.spawn_on(&name, task, runtime.get_handle()), always_ready()));
        }
        self.other_runtimes.push(("tasks".to_owned(), runtime));
    }

    fn start_sides(&mut self, sockets: Vec<(Listening, TcpListener)>, plan: &mut Plan) {
        for ((listening, socket), (name, serve)) in sockets.into_iter().zip(plan.sides.drain(..)) {
            debug_assert_eq!(listening.name, name, "taken in the order of the plan");
            let runtime = RuntimeBuilder::new(1, &name).build();
            let stop = self.sides.stop_token();
            let mut open = self.sides_open.subscribe();
            let task = async move {
                tokio::select! {
                    _ = open.wait_for(|open| *open) => {}
                    () = stop.cancelled() => return Ok(()),
                }
                serve(socket, stop).await
            };
            self.starting
                .push((self.sides.spawn_on(&name, task, runtime.get_handle()), always_ready()));
            self.other_runtimes.push((name, runtime));
        }
    }
}

/// Ends a runtime from a thread of its own, because a runtime must not be dropped inside another
/// and busy threads are waited for without a limit.
async fn end(limit: Duration, ending: impl FnOnce() + Send + 'static) {
    let (done, wait) = oneshot::channel();
    let ending = thread::Builder::new().name("ending".to_owned()).spawn(move || {
        ending();
        let _ = done.send(());
    });
    if ending.is_err() || timeout(limit, wait).await.is_err() {
        tracing::warn!("threads are still busy, leaving them to the exit of the process");
    }
}

fn always_ready() -> watch::Receiver<bool> {
    watch::channel(true).1
}

fn check_addresses(services: &Services, listening: &[Listening]) -> Result<(), RunError> {
    let mut served = Vec::new();
    for service in services {
        // A service of another kind than Pingora's own does not tell; what it does is its maker's
        // affair.
        let Some(addresses) = service.listen_addresses() else { return Ok(()) };
        for address in addresses {
            let known = listening.iter().any(|listening| listening.address.to_string() == address);
            if !known || served.contains(&address) {
                return Err(RunError::NotBound { service: service.name().to_owned(), address });
            }
            served.push(address);
        }
    }
    match listening.iter().find(|listening| !served.contains(&listening.address.to_string())) {
        Some(idle) => {
            Err(RunError::NotServed { listener: idle.name.clone(), address: idle.address })
        }
        None => Ok(()),
    }
}
