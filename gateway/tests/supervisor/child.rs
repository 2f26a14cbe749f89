//! The process under test.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bits_gateway::config::Config;
use bits_gateway::config::reload::{self, Reloader, Trigger};
use bits_gateway::config::watch_config::watch_config;
use bits_gateway::process::listening::{self, Accepted, Handler, Threads};
use bits_gateway::process::notify_systemd::Notifier;
use bits_gateway::process::supervisor::{
    Bound, BoxError, Chain, DrainingService, Exit, Handover, Listening, Plan, Services, Shutdown,
    Supervisor, raise_open_files,
};
use bits_gateway::telemetry::events::Events;
use pingora::apps::ServerApp;
use pingora::http::ResponseHeader;
use pingora::prelude::{HttpPeer, Result};
use pingora::protocols::Stream;
use pingora::protocols::l4;
use pingora::proxy::{HttpProxy, ProxyHttp, Session, http_proxy};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::{ServiceReadyNotifier, ServiceWithDependents};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The variable that makes this executable the process under test.
pub const CHILD: &str = "SUPERVISOR_TEST_PART";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    pub listeners: Vec<(String, SocketAddr)>,
    pub backend: SocketAddr,
    pub shutdown_delay: Duration,
    pub shutdown_timeout: Duration,
    pub ready_file: PathBuf,
    pub upgrade_socket: Option<PathBuf>,
    /// Takes over the sockets of the process that answers on the upgrade socket.
    pub upgrade: bool,
    /// Starts its services on SIGUSR1 only.
    pub slow_start: bool,
    /// For idle connections after a hand-over.
    pub patience: Duration,
    /// SIGHUP loads this file again.
    pub config: Option<PathBuf>,
    pub watch_config: bool,
    pub threads: usize,
    /// SIGTERM to itself before anything is bound.
    pub early_signal: bool,
    /// What SIGHUP and SIGUSR1 do is left to the supervisor.
    pub default_hooks: bool,
    /// Connections are accepted, but reach the proxy only when the drain has begun.
    pub hold_connections: bool,
    /// Connections are counted until SIGUSR1 after they have served their requests.
    pub linger: bool,
    pub fault: Fault,
}

/// What goes wrong, on SIGUSR1 unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    None,
    ServicePanicsAtStart,
    ServicePanics,
    ServiceEnds,
    TaskPanics,
    TaskEnds,
    /// The thread of the tasks is stuck until the next SIGUSR1.
    TaskBlocks,
    SideFails,
    /// When told to end.
    TaskFailsWhileStopping,
    /// With the sockets open, before anything is served.
    DiesLoading,
    NeverLoads,
    /// At the start.
    ListenerWithoutService,
    ServiceWithoutListener,
}

impl Part {
    pub fn new(backend: SocketAddr) -> Self {
        let free = "127.0.0.1:0".parse().expect("an address");
        Self {
            listeners: vec![("public".to_owned(), free), ("ops".to_owned(), free)],
            backend,
            shutdown_delay: Duration::ZERO,
            // A drain that does not end with the last request runs into the deadline of the test.
            shutdown_timeout: Duration::from_secs(3600),
            ready_file: "ready".into(),
            upgrade_socket: None,
            upgrade: false,
            slow_start: false,
            // As with the shutdown.
            patience: Duration::from_secs(3600),
            config: None,
            watch_config: false,
            threads: 2,
            early_signal: false,
            default_hooks: false,
            hold_connections: false,
            linger: false,
            fault: Fault::None,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Runs the part and ends the process, when this is the process under test.
pub fn run_if_child() {
    let Ok(part) = std::env::var(CHILD) else { return };
    let part: Part = serde_json::from_str(&part).expect("the part is readable");
    std::process::exit(run(&part).into());
}

fn run(part: &Part) -> u8 {
    let supervisor = Supervisor::install().expect("signal handlers");
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).init();
    raise_open_files();
    if part.early_signal {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
            .expect("sent");
    }
    let bound = match open(&supervisor, part) {
        Ok(bound) => bound,
        Err(exit) => return exit.code(),
    };
    match part.fault {
        Fault::DiesLoading => return 9,
        Fault::NeverLoads => {
            event("loading");
            loop {
                std::thread::park();
            }
        }
        _ => {}
    }
    event(if bound.old_gone().is_gone() { "alone" } else { "not alone" });
    let plan = plan(part, supervisor.notifier());
    match supervisor.run(bound, plan) {
        Ok(stop) => {
            event(&format!("{stop:?}"));
            stop.exit().code()
        }
        Err(error) => {
            eprintln!("error: {error}");
            error.exit().code()
        }
    }
}

fn open(supervisor: &Supervisor, part: &Part) -> std::result::Result<Bound, Exit> {
    if !part.upgrade {
        return supervisor.bind(&part.listeners).map_err(|error| {
            eprintln!("error: {error}");
            error.exit()
        });
    }
    let path = part.upgrade_socket.as_deref().expect("a part that upgrades has a socket");
    supervisor.take_over(path, &part.listeners).map_err(|error| {
        eprintln!("error: {}", Chain(&error));
        error.exit()
    })
}

/// A reloader whose application is told to the test.
fn reloader(path: &Path, notifier: Notifier) -> Reloader {
    let source = reload::Source { path: path.to_owned(), text: None, variables: Vec::new() };
    let loaded = source.load().expect("a good file");
    let weight = |config: &Config| config.backends[0].weight;
    let apply: reload::Apply = Box::new(move |old, new, _| {
        event(&format!("applied {} -> {}", weight(old), weight(new)));
        Ok(())
    });
    Reloader::new(source, loaded, None, Events::default(), notifier, apply, Box::new(|| None))
        .expect("a thread")
}

fn plan(part: &Part, notifier: Notifier) -> Plan {
    let (requests, connections) = (TaskTracker::new(), TaskTracker::new());
    let (trigger, draining, fault) =
        (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)), part.fault);
    let shutdown_state = Shutdown::default();
    let relay = Relay {
        backend: part.backend,
        requests: requests.clone(),
        shutdown_state: shutdown_state.clone(),
    };
    let guard = Guard {
        connections: connections.clone(),
        hold: part.hold_connections,
        linger: part.linger.then(|| Arc::clone(&trigger)),
        inner: Arc::new(http_proxy(&Arc::default(), relay)),
    };
    let (start, go) = channel();
    let patient = DrainingService::new(guard, shutdown_state.clone());
    let slow_start = part.slow_start.then_some(Mutex::new(go));
    let service_trigger = Arc::clone(&trigger);
    let make = move |listening: &[Listening], threads: &Threads| {
        let inner = listening::Service::new("traffic".to_owned(), patient, threads);
        services(Faulty { inner, trigger: service_trigger, slow_start, fault }, fault, listening)
    };
    let pull = Arc::clone(&trigger);
    let (release, released) = channel();
    let (is_draining, side_trigger) = (Arc::clone(&draining), Arc::clone(&trigger));
    let plan = Plan::new(make)
        .threads(part.threads)
        .requests(requests)
        .connections(connections)
        .shutdown_delay(part.shutdown_delay)
        .shutdown_timeout(part.shutdown_timeout)
        .shutdown_state(shutdown_state)
        .linger(part.patience)
        .upgrade_socket(part.upgrade_socket.clone())
        .on_handover(|handover| match handover {
            Handover::Asked => event("asked for the sockets"),
            Handover::Ended => event("the successor has ended"),
            Handover::Done => {}
        })
        .on_old_gone(|| event("old gone"))
        .ready_file(Some(part.ready_file.clone()))
        .on_ready(|_| event("ready"))
        .on_drain(move || {
            draining.store(true, Ordering::SeqCst);
            event("draining");
        })
        .side_listener("ops", move |listener, stop| async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let word = if is_draining.load(Ordering::SeqCst) { "draining" } else { "serving" };
                        accepted?.0.write_all(word.as_bytes()).await?;
                    }
                    () = side_trigger.notified(), if fault == Fault::SideFails => return Err("the side gave up".into()),
                    () = stop.cancelled() => {
                        event("side ended");
                        return Ok(());
                    }
                }
            }
        })
        .task("keeper", move |stop| async move {
            tokio::select! {
                () = trigger.notified(), if fault == Fault::TaskPanics => panic!("the keeper lost it"),
                () = trigger.notified(), if fault == Fault::TaskEnds => return Ok(()),
                () = block(&trigger, released), if fault == Fault::TaskBlocks => {}
                () = stop.cancelled() => {}
            }
            event("task ended");
            if fault == Fault::TaskFailsWhileStopping { Err("the last rows are lost".into()) } else { Ok(()) }
        });
    if part.default_hooks {
        return plan;
    }
    let successor = part.clone().with(|part| part.upgrade = true);
    let plan = plan.successor(move || command(&successor));
    let reloader = part.config.as_deref().map(|path| reloader(path, notifier));
    if let (Some(reloader), true) = (&reloader, part.watch_config) {
        watch_config(reloader.clone()).expect("files can be watched");
    }
    let mut times = 0;
    plan.on_reload(move || {
        event("reload");
        if let Some(reloader) = &reloader {
            reloader.request(Trigger::Signal);
        }
    })
    .on_reopen_logs(move || {
        event("reopen");
        pull.notify_waiters();
        // Nobody waits unless the start is slow.
        let _ = start.send(());
        times += 1;
        if times > 1 {
            // Nobody waits unless the fault is that.
            let _ = release.send(());
        }
    })
}

/// Holds the thread from the first SIGUSR1 to the second, and then only waits.
async fn block(trigger: &Notify, released: Receiver<()>) {
    trigger.notified().await;
    event("blocked");
    released.recv().expect("the supervisor is there");
    event("released");
    std::future::pending().await
}

/// This executable as the process under test.
pub fn command(part: &Part) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    let test = "start::the_process_reports_its_ports_and_ends_with_0";
    command.args(["--exact", test, "--nocapture"]);
    command.env(CHILD, serde_json::to_string(part).expect("JSON"));
    command
}

fn services(
    mut service: Faulty,
    fault: Fault,
    listening: &[Listening],
) -> std::result::Result<Services, BoxError> {
    for listening in listening {
        if fault != Fault::ListenerWithoutService {
            service.inner.listen(listening.address);
        }
    }
    if fault == Fault::ServiceWithoutListener {
        service.inner.listen("127.0.0.1:1".parse()?);
    }
    Ok(vec![Box::new(service)])
}

/// Says something to the test, in one write, so that lines of several threads do not mix.
fn event(text: &str) {
    std::io::stdout().write_all(format!("event {text}\n").as_bytes()).expect("the test reads");
}

/// The service, ending as the fault says.
struct Faulty {
    inner: listening::Service<DrainingService<Guard>>,
    trigger: Arc<Notify>,
    slow_start: Option<Mutex<Receiver<()>>>,
    fault: Fault,
}

#[async_trait]
impl ServiceWithDependents for Faulty {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        tasks: usize,
        ready: ServiceReadyNotifier,
    ) {
        assert!(self.fault != Fault::ServicePanicsAtStart, "no certificate");
        if let Some(go) = self.slow_start.take() {
            event("slow");
            // Not a wait: the supervisor takes the first one for a sign that the service runs.
            go.into_inner().expect("not poisoned").recv().expect("the supervisor is there");
        }
        tokio::select! {
            () = self.inner.start_service(fds, shutdown, tasks, ready) => event("traffic ended"),
            () = self.trigger.notified(), if self.fault == Fault::ServicePanics => panic!("the service lost it"),
            () = self.trigger.notified(), if self.fault == Fault::ServiceEnds => {}
        }
    }

    fn name(&self) -> &str {
        "traffic"
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        self.inner.listen_addresses()
    }
}

/// A server application of our own around the proxy.
struct Guard {
    connections: TaskTracker,
    hold: bool,
    linger: Option<Arc<Notify>>,
    inner: Arc<HttpProxy<Relay>>,
}

impl Handler for Guard {
    async fn serve(self: Arc<Self>, connection: Accepted, shutdown: ShutdownWatch) {
        let _open = self.connections.token();
        if self.hold {
            connection.socket.peek(&mut [0]).await.expect("readable");
            event("accepted");
            let _ = shutdown.clone().wait_for(|stop| *stop).await;
        }
        let released = self.linger.as_ref().map(|trigger| trigger.notified());
        let stream: Stream = Box::new(l4::stream::Stream::from(connection.socket));
        let mut next = Some(stream);
        while let Some(stream) = next {
            next = self.inner.process_new(stream, &shutdown).await;
        }
        if let Some(released) = released {
            released.await;
        }
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(self.inner.as_ref()).await;
    }
}

struct Relay {
    backend: SocketAddr,
    requests: TaskTracker,
    shutdown_state: Shutdown,
}

struct Context {
    _open: TaskTrackerToken,
}

impl Drop for Context {
    fn drop(&mut self) {
        event("request gone");
    }
}

#[async_trait]
impl ProxyHttp for Relay {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context { _open: self.requests.token() }
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Context) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.backend, false, String::new())))
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _: &mut Context,
    ) -> Result<()> {
        response.insert_header("x-process", std::process::id().to_string())?;
        if session.is_process_shutting_down() {
            event("answering while shutting down");
            session.set_keepalive(None);
        }
        if self.shutdown_state.is_leaving() {
            session.set_keepalive(None);
        }
        Ok(())
    }

    async fn logging(&self, _: &mut Session, _: Option<&pingora::Error>, _: &mut Context) {
        event("answered");
    }
}
