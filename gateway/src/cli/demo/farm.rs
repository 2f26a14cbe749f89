//! The processes of the demo: three servers and a gateway.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use uuid::Uuid;

/// By this the program runs a server of the demo, as backend-stub does.
pub const SERVER_COMMAND: &str = "demo-server";

/// Host ids are names below this one. It needs no DNS: the demo's clients look names up
/// themselves.
pub const DOMAIN: &str = "demo.test";

const SERVERS: [&str; 3] = ["up01", "up02", "up03"];

/// A start that takes so long has failed. A machine that compiles beside it is slow.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Everything that was started. Dropping it kills all of it.
pub struct Farm {
    folder: PathBuf,
    servers: Vec<Server>,
    gateway: Gateway,
}

pub struct Server {
    pub name: String,
    pub address: SocketAddr,
    process: Process,
}

/// A process that ends with its owner, whatever ends that: success, an error, an interruption or a
/// panic.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.0.start_kill();
        // Waited for, so that nobody writes into the folder while it is removed.
        for _ in 0..200 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

struct Gateway {
    public: SocketAddr,
    ops: SocketAddr,
    admin: SocketAddr,
    /// Lets a browser in.
    token: String,
    /// Kept for its end.
    _process: Process,
}

#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    #[error("cannot start {what}")]
    Start {
        what: String,
        #[source]
        error: io::Error,
    },
    #[error("{what} did not come up; the end of its log:\n{log}")]
    NotReady { what: String, log: String },
}

/// What a server prints when it accepts connections.
#[derive(Deserialize)]
struct Listening {
    address: SocketAddr,
}

/// What the gateway writes when it accepts connections.
#[derive(Deserialize)]
struct Ready {
    listeners: std::collections::HashMap<String, SocketAddr>,
}

impl Farm {
    /// Starts everything on free ports of the loopback interface, with its files in `folder`.
    pub async fn start(folder: &Path) -> Result<Self, FarmError> {
        let mut servers = Vec::new();
        for name in SERVERS {
            servers.push(start_server(folder, name, "127.0.0.1:0").await?);
        }
        let gateway = start_gateway(folder, &servers).await?;
        Ok(Self { folder: folder.to_owned(), servers, gateway })
    }

    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    pub fn names(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.name.clone()).collect()
    }

    pub fn gateway(&self) -> SocketAddr {
        self.gateway.public
    }

    /// That of the gateway.
    pub fn configuration(&self) -> PathBuf {
        configuration_file(&self.folder)
    }

    /// Where the gateway shows its metrics.
    pub fn ops(&self) -> SocketAddr {
        self.gateway.ops
    }

    /// The gateway's page, for a browser.
    pub fn page(&self) -> String {
        format!("http://demo:{}@{}/", self.gateway.token, self.gateway.admin)
    }

    /// Ends a server as a power cut would: nothing is said, nothing is written.
    pub async fn kill(&mut self, name: &str) {
        if let Some(server) = self.servers.iter_mut().find(|server| server.name == name) {
            // It can only fail if the process has ended, which is what was wanted.
            let _ = server.process.0.kill().await;
        }
    }

    /// Brings a killed server back, on its port and with its files.
    pub async fn restart(&mut self, name: &str) -> Result<(), FarmError> {
        for server in self.servers.iter_mut().filter(|server| server.name == name) {
            let address = server.address.to_string();
            *server = start_server(&self.folder, name, &address).await?;
        }
        Ok(())
    }
}

/// The kernel takes paths of 107 bytes.
fn admin_socket(folder: &Path) -> Option<PathBuf> {
    let path = folder.join("admin.sock");
    (path.as_os_str().len() <= 107).then_some(path)
}

fn token_file(folder: &Path) -> PathBuf {
    folder.join("admin-token")
}

fn configuration_file(folder: &Path) -> PathBuf {
    folder.join("gateway.toml")
}

/// Where a server keeps its files.
pub fn server_folder(folder: &Path, name: &str) -> PathBuf {
    folder.join("servers").join(name)
}

async fn start_server(folder: &Path, name: &str, address: &str) -> Result<Server, FarmError> {
    let failed = |error| FarmError::Start { what: name.to_owned(), error };
    let root = server_folder(folder, name);
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg(SERVER_COMMAND);
    command.args(["--listen", address, "--name", name, "--root"]).arg(root);
    command.stdout(Stdio::piped());
    let log = log_file(folder, name);
    let mut process = spawn(command, name, &log)?;
    let stdout = process.0.stdout.take().expect("it was asked to be a pipe");
    let mut line = String::new();
    let read = timeout(START_LIMIT, BufReader::new(stdout).read_line(&mut line)).await;
    let listening = match read {
        Ok(Ok(_)) => serde_json::from_str::<Listening>(&line).ok(),
        _ => None,
    };
    match listening {
        Some(Listening { address }) => Ok(Server { name: name.to_owned(), address, process }),
        None => Err(not_ready(name, &log)),
    }
}

async fn start_gateway(folder: &Path, servers: &[Server]) -> Result<Gateway, FarmError> {
    let what = "the gateway";
    let failed = |error| FarmError::Start { what: what.to_owned(), error };
    let (config, ready) = (configuration_file(folder), folder.join("gateway.ready.json"));
    std::fs::write(&config, configuration(folder, servers)).map_err(failed)?;
    let token = Uuid::new_v4().simple().to_string();
    let mut file = File::options();
    let file = file.write(true).create_new(true).mode(0o600).open(token_file(folder));
    file.and_then(|mut file| file.write_all(token.as_bytes())).map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("run").arg("--config").arg(&config).arg("--ready-file").arg(&ready);
    // The configuration is the file alone.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BITSGW__") {
            command.env_remove(name);
        }
    }
    let access = File::create(folder.join("gateway.access.log")).map_err(failed)?;
    command.stdout(access);
    let log = log_file(folder, "gateway");
    let mut process = spawn(command, what, &log)?;
    let wait = async {
        loop {
            // Written by rename, so that it is either absent or whole.
            if let Ok(text) = tokio::fs::read(&ready).await {
                return serde_json::from_slice::<Ready>(&text).ok();
            }
            if process.0.try_wait().is_ok_and(|ended| ended.is_some()) {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ready = timeout(START_LIMIT, wait).await.ok().flatten();
    let address = |name| ready.as_ref().and_then(|ready| ready.listeners.get(name)).copied();
    match (address("public"), address("ops"), address("admin")) {
        (Some(public), Some(ops), Some(admin)) => {
            Ok(Gateway { public, ops, admin, token, _process: process })
        }
        _ => Err(not_ready(what, &log)),
    }
}

fn configuration(folder: &Path, servers: &[Server]) -> String {
    let store = folder.join("sessions");
    let mut text = format!(
        "[listeners.public]\naddress = \"127.0.0.1:0\"\n\n\
         [affinity]\nhost_id = \"backend\"\nhost_id_domain = \"{DOMAIN}\"\n\
         fallback_timeout = \"15m\"\n\n\
         [store]\npath = {store:?}\n\n\
         [placement]\npolicy = \"round-robin\"\n\n\
         [ops]\naddress = \"127.0.0.1:0\"\n"
    );
    let token = token_file(folder);
    text.push_str(&format!("\n[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = {token:?}\n"));
    if let Some(socket) = admin_socket(folder) {
        text.push_str(&format!("socket = {socket:?}\n"));
    }
    for Server { name, address, .. } in servers {
        text.push_str(&format!("\n[[backends]]\nname = \"{name}\"\naddress = \"{address}\"\n"));
    }
    text
}

fn spawn(mut command: Command, what: &str, log: &Path) -> Result<Process, FarmError> {
    let failed = |error| FarmError::Start { what: what.to_owned(), error };
    let log = File::options().create(true).append(true).open(log).map_err(failed)?;
    command.stdin(Stdio::null()).stderr(log);
    // A Ctrl-C is for the demo, which then ends the others.
    command.process_group(0);
    // They end with the demo also where that is killed.
    // SAFETY: between fork and exec there is one system call, and it allocates nothing.
    unsafe {
        command
            .pre_exec(|| set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into));
    }
    command.spawn().map(Process).map_err(failed)
}

fn log_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

fn not_ready(what: &str, log: &Path) -> FarmError {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let log = lines[lines.len().saturating_sub(10)..].join("\n");
    FarmError::NotReady { what: what.to_owned(), log }
}
