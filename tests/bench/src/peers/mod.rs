//! What is compared: other ways from the clients to the farm, each a process of its own.

mod configs;
mod process;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e_tests::pki::Issued;
use e2e_tests::ports::Port;

pub use process::Process;

use crate::meter;

/// One row of every table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: &'static str,
    pub about: &'static str,
    pub program: Program,
    pub threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// No proxy: clients connect to a server.
    Direct,
    /// The bare relay of this program.
    Floor {
        splice: bool,
    },
    Haproxy {
        large_buffers: bool,
    },
    Nginx,
    Gateway {
        access_log: bool,
        durable: bool,
    },
}

const HAPROXY: Program = Program::Haproxy { large_buffers: false };
const HAPROXY_64K: Program = Program::Haproxy { large_buffers: true };
const GATEWAY: Program = Program::Gateway { access_log: false, durable: false };
const GATEWAY_LOG: Program = Program::Gateway { access_log: true, durable: false };
const GATEWAY_SQLITE: Program = Program::Gateway { access_log: false, durable: true };

#[rustfmt::skip]
pub const PEERS: &[Peer] = &[
    peer("direct", Program::Direct, 1, "clients connect to one server"),
    peer("floor-copy", Program::Floor { splice: false }, 1, "a bare relay on tokio to one server"),
    peer("floor-splice", Program::Floor { splice: true }, 1, "the same; bodies go through a pipe"),
    peer("haproxy-1", HAPROXY, 1, "affinity by a table that learns ids from answers"),
    peer("haproxy-2", HAPROXY, 2, "the same with two threads"),
    peer("haproxy-1-64k", HAPROXY_64K, 1, "tune.bufsize 65536, no zero-copy forwarding"),
    peer("haproxy-2-64k", HAPROXY_64K, 2, "the same with two threads"),
    peer("nginx-1", Program::Nginx, 1, "no request buffering, keep-alive, one server: no affinity"),
    peer("gateway-1", GATEWAY, 1, "one thread, no access log, sessions in memory"),
    peer("gateway-2", GATEWAY, 2, "the same with two threads"),
    peer("gateway-1-log", GATEWAY_LOG, 1, "with an access log in a file"),
    peer("gateway-2-log", GATEWAY_LOG, 2, "the same with two threads"),
    peer("gateway-1-sqlite", GATEWAY_SQLITE, 1, "sessions durable in SQLite, no access log"),
    peer("gateway-2-sqlite", GATEWAY_SQLITE, 2, "the same with two threads"),
];

const fn peer(name: &'static str, program: Program, threads: usize, about: &'static str) -> Peer {
    Peer { name, about, program, threads }
}

/// What all peers are started with.
pub struct Setup {
    pub directory: PathBuf,
    pub servers: Vec<SocketAddr>,
    pub issued: Issued,
    pub programs: Programs,
    /// How many sessions every table has to hold.
    pub sessions: usize,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    pub haproxy: PathBuf,
    pub nginx: PathBuf,
    pub gateway: PathBuf,
    /// Directives of HAProxy depend on it.
    pub haproxy_version: (u32, u32),
}

/// A peer that accepts connections. It ends when this is dropped.
pub struct Running {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    /// What it held before its first client.
    pub idle_bytes: u64,
    process: Option<Process>,
    _ports: Option<[Port; 2]>,
}

impl Peer {
    pub fn start(&self, setup: &Setup) -> Result<Running, String> {
        let ports = [Port::reserve(), Port::reserve()];
        let [plain, tls] = ports.each_ref().map(Port::address);
        let first = setup.servers[0];
        let directory = setup.directory.join(self.name);
        let said = |error| format!("{}: {error}", self.name);
        std::fs::create_dir_all(&directory).map_err(said)?;
        let place = configs::Place { directory: &directory, plain, tls, threads: self.threads };
        let command = match self.program {
            Program::Direct => return Ok(Running::without_proxy(first)),
            Program::Floor { splice } => floor(setup, &place, splice).map_err(said)?,
            Program::Haproxy { large_buffers } => {
                let text = configs::haproxy(setup, &place, large_buffers).map_err(said)?;
                let mut command = Command::new(&setup.programs.haproxy);
                command.arg("-db").arg("-f").arg(written(&directory, &text).map_err(said)?);
                command
            }
            Program::Nginx => {
                let text = configs::nginx(setup, &place).map_err(said)?;
                let file = written(&directory, &text).map_err(said)?;
                let mut command = Command::new(&setup.programs.nginx);
                command.arg("-p").arg(&directory).args(["-e", "stderr", "-c"]).arg(file);
                command
            }
            Program::Gateway { access_log, durable } => {
                let text = configs::gateway(setup, &place, access_log, durable).map_err(said)?;
                let file = written(&directory, &text).map_err(said)?;
                let mut command = Command::new(&setup.programs.gateway);
                command.arg("run").arg("--config").arg(file);
                command
            }
        };
        let process = Process::start(command, &directory.join("log")).map_err(said)?;
        let mut running =
            Running { plain, tls, idle_bytes: 0, process: Some(process), _ports: Some(ports) };
        running.accepts().map_err(|error| format!("{}: {error}", self.name))?;
        running.idle_bytes = meter::resident_of(&running.pids()?).map_err(said)?;
        Ok(running)
    }

    /// What an earlier run of it has left.
    pub fn forget(&self, setup: &Setup) -> Result<(), String> {
        match std::fs::remove_dir_all(setup.directory.join(self.name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", self.name))
            }
            _ => Ok(()),
        }
    }

    pub fn is_floor(&self) -> bool {
        matches!(self.program, Program::Floor { .. })
    }
}

impl Running {
    fn without_proxy(server: SocketAddr) -> Self {
        Self { plain: server, tls: server, idle_bytes: 0, process: None, _ports: None }
    }

    /// Ends it and waits for the end.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// The processes that carry traffic. None without a proxy.
    pub fn pids(&self) -> Result<Vec<u32>, String> {
        let Some(process) = &self.process else { return Ok(Vec::new()) };
        meter::tree(process.pid()).map_err(|error| format!("it has ended: {error}"))
    }

    /// The end of its log, for the reason of a row that is void.
    pub fn last_words(&self) -> String {
        self.process.as_ref().map(Process::last_words).unwrap_or_default()
    }

    fn accepts(&self) -> Result<(), String> {
        let Some(process) = &self.process else { return Ok(()) };
        process.until("it accepts connections", || {
            [self.plain, self.tls].iter().all(|port| std::net::TcpStream::connect(port).is_ok())
        })
    }
}

fn floor(setup: &Setup, place: &configs::Place<'_>, splice: bool) -> std::io::Result<Command> {
    let pem = configs::pem(setup, place)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["relay", "--listen", &place.plain.to_string()])
        .args(["--listen-tls", &place.tls.to_string()])
        .args(["--server", &setup.servers[0].to_string()])
        .args(["--threads", &place.threads.to_string(), "--pem"])
        .arg(pem);
    if splice {
        command.arg("--splice");
    }
    Ok(command)
}

fn written(directory: &Path, text: &str) -> std::io::Result<PathBuf> {
    let file = directory.join("configuration");
    std::fs::write(&file, text)?;
    Ok(file)
}
