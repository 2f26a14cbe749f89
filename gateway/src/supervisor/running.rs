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
use super::plan::{Plan, Services, told_to_stop as true_of};

pub(super) struct Running {
    pub traffic: Group,
    pub tasks: Group,
    pub sides: Group,
    starting: Vec<(Started, watch::Receiver<bool>)>,
    /// Side listeners accept once this is true.
    sides_open: watch::Sender<bool>,
    traffic_runtime: Option<Runtime>,
    other_runtimes: Vec<(String, Runtime)>,
}

/// A plan whose listeners and services fit together; nothing runs yet.
pub(super) struct Prepared {
    services: Services,
    sockets: Vec<(Listening, TcpListener)>,
    sides: Vec<(Listening, TcpListener)>,
}

impl Prepared {
    /// Makes the services and checks that every socket is served, by one that listens on nothing
    /// else.
    ///
    /// Pingora would bind an unknown address by itself, and panic in a task of its own when that
    /// fails; a socket that nobody takes would let clients in and never answer.
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
        let make = mem::replace(&mut plan.traffic, Box::new(|_| Ok(Services::new())));
        let services = make(&listening).map_err(RunError::Services)?;
        check_addresses(&services, &listening)?;
        Ok(Self { services, sockets, sides })
    }

    pub fn start(self, plan: &mut Plan) -> Running {
        let mut running = Running {
            traffic: Group::new(),
            tasks: Group::new(),
            sides: Group::new(),
            starting: Vec::new(),
            sides_open: watch::Sender::new(false),
            traffic_runtime: None,
            other_runtimes: Vec::new(),
        };
        running.start_tasks(plan);
        running.start_sides(self.sides, plan);
        running.start_traffic(self.services, self.sockets, plan);
        running
    }
}

impl Running {
    /// Returns when every task has come to its first wait: for Pingora's services that is after the
    /// accept loops of all their endpoints have been spawned, as building them awaits nothing.
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

    pub fn runtimes(&self) -> Vec<(String, Handle)> {
        let traffic = self.traffic_runtime.iter().map(|runtime| ("traffic", runtime));
        let others = self.other_runtimes.iter().map(|(name, runtime)| (name.as_str(), runtime));
        let handle =
            |(name, runtime): (&str, &Runtime)| (name.to_owned(), runtime.get_handle().clone());
        traffic.chain(others).map(handle).collect()
    }

    /// Waits for any task to end, which none may.
    pub async fn failed(&mut self) -> RunError {
        tokio::select! {
            error = self.traffic.ended() => error,
            error = self.tasks.ended() => error,
            error = self.sides.ended() => error,
        }
    }

    /// Ends the traffic runtime and with it every connection that is left.
    ///
    /// Dropping a connection closes its socket, and the kernel goes on sending what an answer left
    /// there: nothing that was written is lost, as long as no unread bytes of the client's lie in
    /// the socket (those make the kernel reset).
    pub async fn end_traffic(&mut self, limit: Duration) {
        if let Some(runtime) = self.traffic_runtime.take() {
            end(runtime, limit).await;
        }
    }

    pub async fn end_others(&mut self, limit: Duration) {
        for (_, runtime) in mem::take(&mut self.other_runtimes) {
            end(runtime, limit).await;
        }
    }

    /// Leaves what still runs to the exit of the process: to wait for a busy thread is the one
    /// thing not wanted now.
    pub fn abandon(mut self) {
        mem::forget(self.traffic_runtime.take());
        mem::forget(mem::take(&mut self.other_runtimes));
    }

    fn start_traffic(
        &mut self,
        services: Services,
        sockets: Vec<(Listening, TcpListener)>,
        plan: &Plan,
    ) {
        let mut fds = Fds::new();
        for (listening, socket) in sockets {
            // Pingora's listener owns the descriptor from here and closes it when the drain begins.
            fds.add(listening.address.to_string(), socket.into_raw_fd());
        }
        let fds = Arc::new(Mutex::new(fds));
        let runtime =
            RuntimeBuilder::new(plan.threads, "traffic").work_steal(plan.work_stealing).build();
        for mut service in services {
            let (ready, readiness) = watch::channel(false);
            let (name, fds, stop) =
                (service.name().to_owned(), Arc::clone(&fds), self.traffic.watch());
            let accept_tasks = plan.accept_tasks;
            let serve = async move {
                service
                    .start_service(Some(fds), stop, accept_tasks, ServiceReadyNotifier::new(ready))
                    .await;
                Ok(())
            };
            let started = self.traffic.spawn_on(&name, serve, runtime.get_handle());
            self.starting.push((started, readiness));
        }
        self.traffic_runtime = Some(runtime);
    }

    fn start_tasks(&mut self, plan: &mut Plan) {
        if plan.tasks.is_empty() {
            return;
        }
        let runtime = RuntimeBuilder::new(1, "tasks").build();
        for (name, make) in plan.tasks.drain(..) {
            let stop = self.tasks.watch();
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
            let stop = self.sides.watch();
            let mut open = self.sides_open.subscribe();
            let task = async move {
                let mut end = stop.clone();
                tokio::select! {
                    () = true_of(&mut open) => {}
                    () = true_of(&mut end) => return Ok(()),
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
/// and Pingora's kind without work stealing waits for busy threads without a limit.
async fn end(runtime: Runtime, limit: Duration) {
    // Without a thread to do it the runtime is left to the exit of the process.
    let runtime = ManuallyDrop::new(runtime);
    let (done, wait) = oneshot::channel();
    let ending = thread::Builder::new().name("ending".to_owned()).spawn(move || {
        ManuallyDrop::into_inner(runtime).shutdown_timeout(limit);
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
