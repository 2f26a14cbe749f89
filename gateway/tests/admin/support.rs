//! A listener over a farm that is made up, and the binary as its client.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bits_gateway::admin::{
    Access, ActionError, Api, BackendInfo, Control, Reloaded, StoreInfo, UnixSocket,
    keep_up_to_date, serve_tcp, serve_unix,
};
use bits_gateway::base::clock;
use bits_gateway::config::token::Token;
use bits_gateway::farm::health::History;
use bits_gateway::process::readiness::Readiness;
use bits_gateway::sessions::Sessions;
use bits_gateway::telemetry::events::Events;
use bits_gateway::telemetry::metrics::{BackendTotals, Metrics};
use bits_gateway::telemetry::problems::{Judge, Level, Verdict};
use bits_gateway::tls::ListenerTls;
use bits_gateway::tls::settings::{CertificateFiles, ListenerTlsSettings};
use gateway_core::farm::{AdminState, BackendId, Health};
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::{Binding, EndReason, Pin, Progress, TargetHash, Timestamp};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio_util::sync::CancellationToken;

/// Longer than anything on loopback takes, shorter than anybody's patience.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub const TOKEN: &str = "0123456789abcdef0123456789ABCDEF";
pub const VIEWER: &str = "viewer-0123456789abcdef-0123456789";

/// What the made-up farm is, and what it will say.
pub struct Farm {
    pub backends: Vec<BackendInfo>,
    pub store_error: Option<String>,
    pub reload: Result<Reloaded, ActionError>,
    pub reloads: usize,
    pub verdict: Verdict,
}

pub struct Admin {
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub folder: TempDir,
    pub sessions: Arc<Sessions>,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub farm: Arc<Mutex<Farm>>,
    /// How to speak to it, where that is TLS.
    tls: Option<Arc<ClientConfig>>,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        let json = self.json();
        assert_eq!(json["error"]["code"], code, "{json}");
        assert!(json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{json}");
    }
}

pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Admin {
    /// Backends up01, up02 and up03, ready and without sessions.
    pub fn start() -> Self {
        Self::start_as(false)
    }

    /// With a certificate for `localhost` and 127.0.0.1.
    pub fn start_with_tls() -> Self {
        Self::start_as(true)
    }

    fn start_as(with_tls: bool) -> Self {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let names = ["up01", "up02", "up03"];
        let weights: Vec<_> =
            (0..).map(BackendId).zip(names).map(|(id, name)| (id, name.to_owned(), 1)).collect();
        let metrics = Metrics::new(&["public".to_owned()], &weights);
        let sessions = Sessions::new(100_000, std::time::Duration::from_secs(60));
        let readiness = Readiness::default();
        let farm = Arc::new(Mutex::new(Farm {
            backends: weights.iter().map(|(id, name, _)| info(*id, name)).collect(),
            store_error: None,
            reload: Ok(Reloaded::default()),
            reloads: 0,
            verdict: Verdict {
                status: Level::Ok,
                problems: vec![],
                backends: 3,
                eligible: 3,
                sessions: 7,
            },
        }));
        let control = control(&sessions, &metrics, &readiness, &farm);
        let operator = Token::read(&token_file(folder.path())).ok();
        let viewer = Token::read(&secret_file(folder.path(), "viewer", VIEWER)).ok();
        let access = Access { operator, viewer, ..Access::default() };
        let tls = with_tls.then(|| certify(folder.path()));
        let (shown, tls) = tls.unzip();
        let api = Api::new(control, access);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = folder.path().join("admin.sock");
        let unix = UnixSocket::bind(&socket, 0o600).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (one, two, _) = tokio::join!(
                    serve_tcp(listener, shown, api.clone(), stopped.clone()),
                    serve_unix(unix, api.clone(), stopped.clone()),
                    keep_up_to_date(api, stopped)
                );
                one.and(two).unwrap();
            });
        });
        let thread = Some(thread);
        Self { address, socket, folder, sessions, metrics, readiness, farm, tls, stop, thread }
    }

    /// With `total` bytes, of which `next_offset` have arrived; last heard of so long ago.
    pub fn put(&self, id: &str, backend: u32, (next_offset, total): (u64, u64), idle: Duration) {
        let now = clock::now().0;
        let ago = |span: Duration| Timestamp(now - span.as_millis() as u64);
        let pin = Pin {
            backend: BackendId(backend),
            backend_session: None,
            binding: Binding::unspelled(TargetHash(7)),
            created: ago(idle + Duration::from_secs(3600)),
            subject: None,
        };
        let progress = Progress { next_offset, total, seen: ago(idle) };
        block_on(self.sessions.pin(key(id), pin, progress, Duration::ZERO)).unwrap();
    }

    pub fn end(&self, id: &str) {
        block_on(self.sessions.unpin(&key(id), EndReason::Closed, std::time::Duration::ZERO))
            .expect("a session");
    }

    pub fn set(&self, backend: usize, change: impl FnOnce(&mut BackendInfo)) {
        change(&mut self.farm.lock().unwrap().backends[backend]);
    }

    pub fn state(&self, backend: usize) -> AdminState {
        self.farm.lock().unwrap().backends[backend].admin
    }

    /// Exactly these bytes over TCP.
    pub fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        match &self.tls {
            None => exchange(&mut stream, request),
            Some(tls) => {
                let name = "localhost".try_into().unwrap();
                let client = ClientConnection::new(Arc::clone(tls), name).unwrap();
                exchange(&mut StreamOwned::new(client, stream), request)
            }
        }
    }

    /// As [`Self::ask_with`], with a body.
    pub fn ask_body(&self, method: &str, path: &str, more: &str, body: &str) -> Answer {
        let host = self.address;
        self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n{body}"))
    }

    /// A request as it should be, over TCP, with more header lines.
    pub fn ask_with(&self, method: &str, path: &str, more: &str) -> Answer {
        self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", self.address))
    }

    pub fn ask(&self, method: &str, path: &str) -> Answer {
        self.ask_with(method, path, &bearer(TOKEN))
    }

    /// Over the Unix socket, without a token.
    pub fn ask_socket(&self, method: &str, path: &str, more: &str) -> Answer {
        self.raw_socket(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"))
    }

    /// Over the Unix socket.
    pub fn raw_socket(&self, request: &str) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        exchange(&mut stream, request)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Json {
        let answer = self.ask("GET", &format!("/api/v1/{path}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    #[track_caller]
    pub fn post(&self, path: &str) -> Json {
        let answer = self.ask("POST", &format!("/api/v1/{path}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// What the metric says of an action.
    pub fn counted(&self, action: &str, result: &str) -> u64 {
        let line =
            format!("bitsgw_admin_actions_total{{action=\"{action}\",result=\"{result}\"}} ");
        let text = self.metrics.encode();
        let value = text.lines().find_map(|found| found.strip_prefix(&line));
        value.expect("every action and result has its series").parse().unwrap()
    }

    /// Runs the binary against the socket.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let admin = format!("unix:{}", self.socket.display());
        run(self.folder.path(), &[arguments, &["--admin", &admin]].concat(), &[])
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the listener panicked");
        assert!(!self.socket.exists() || thread::panicking(), "the socket is left over");
    }
}

pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A file `token` with the right token.
pub fn token_file(folder: &Path) -> PathBuf {
    secret_file(folder, "token", TOKEN)
}

fn secret_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("{text}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// What a listener shows, and who trusts it. The certificate is `ca.pem`.
fn certify(folder: &Path) -> (Arc<ListenerTls>, Arc<ClientConfig>) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = secret_file(folder, "ca.pem", &own.cert.pem());
    let key = secret_file(folder, "key.pem", &own.signing_key.serialize_pem());
    let files = CertificateFiles { certificate, key };
    let settings = ListenerTlsSettings { certificates: vec![files], client_ca: None };
    let (shown, _) = ListenerTls::load("admin", &settings).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(bits_gateway::tls::provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    (shown, Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Runs the binary with nothing of our environment.
pub fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_bits-gateway"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Polls until `done` says something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(now() - begun < DEADLINE, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// By the clock that never jumps.
fn now() -> Duration {
    bits_gateway::base::clock::steady()
}

pub fn key(id: &str) -> SessionKey {
    SessionId::parse(id).unwrap().key().clone()
}

fn info(id: BackendId, name: &str) -> BackendInfo {
    BackendInfo {
        id,
        name: name.into(),
        address: format!("{name}.internal:80"),
        weight: 1,
        admin: AdminState::Ready,
        admin_since: None,
        health: Health::Up,
        health_since: None,
        health_reason: None,
        barred: Vec::new(),
        configured: true,
        weight_percent: 100,
        in_flight: 0,
        totals: BackendTotals::default(),
        history: History::default(),
        fallback_timeout: Some(Duration::from_secs(900)),
    }
}

fn control(
    sessions: &Arc<Sessions>,
    metrics: &Arc<Metrics>,
    readiness: &Readiness,
    farm: &Arc<Mutex<Farm>>,
) -> Control {
    let shared = || (Arc::clone(sessions), Arc::clone(farm));
    let (_, snapshot) = shared();
    let (_, to_set) = shared();
    let (_, to_reload) = shared();
    let (_, to_preview) = shared();
    let (to_move, _) = shared();
    let (to_forget, _) = shared();
    let (_, judged) = shared();
    Control {
        events: Events::default(),
        sessions: Arc::clone(sessions),
        metrics: Arc::clone(metrics),
        readiness: readiness.clone(),
        judge: Judge::new(move || judged.lock().unwrap().verdict.clone()),
        idle_timeout: Box::new(|| Duration::from_secs(14 * 86_400)),
        backends: Box::new(move || snapshot.lock().unwrap().backends.clone()),
        store: Box::new(|| StoreInfo { kind: "sqlite", ok: true, message: None }),
        set_state: Box::new(move |id, state| {
            let farm = Arc::clone(&to_set);
            Box::pin(async move {
                let mut farm = farm.lock().unwrap();
                if let Some(message) = farm.store_error.clone() {
                    return Err(ActionError::Store { message });
                }
                let backend = &mut farm.backends[id.0 as usize];
                backend.admin = state;
                backend.admin_since = Some(clock::now());
                Ok(())
            })
        }),
        move_sessions: Box::new(move |id| {
            let sessions = Arc::clone(&to_move);
            Box::pin(async move {
                let keys = sessions.of_backend(id);
                for key in &keys {
                    sessions.unpin(key, EndReason::Lost, std::time::Duration::ZERO).await;
                }
                Ok(keys.len() as u64)
            })
        }),
        forget: Box::new(move |key| {
            let sessions = Arc::clone(&to_forget);
            Box::pin(async move {
                Ok(sessions.unpin(&key, EndReason::Lost, std::time::Duration::ZERO).await.is_some())
            })
        }),
        configuration: Box::new(|| serde_json::json!({ "values": [] })),
        preview: Box::new(move || {
            let farm = Arc::clone(&to_preview);
            Box::pin(async move { farm.lock().unwrap().reload.clone() })
        }),
        reload: Box::new(move || {
            let farm = Arc::clone(&to_reload);
            Box::pin(async move {
                let mut farm = farm.lock().unwrap();
                farm.reloads += 1;
                farm.reload.clone()
            })
        }),
    }
}

fn exchange(stream: &mut (impl Read + Write), request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.expect("a status");
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

/// Something that takes connections and gives each the same answer, whatever it asks.
pub fn stranger(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    address
}
