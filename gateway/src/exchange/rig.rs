//! A gateway without sockets, for tests. Its farm has the servers up01 to up03, and a test says what
//! they answer to requests of the gateway's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::farm::{AdminState, Backend, BackendId};
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::{Binding, Pin, Progress, Target};
use http::{HeaderValue, StatusCode, Version, response};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gateway::Gateway;
use super::report::Reporter;
use super::state::Exchange;
use super::{Course, OrphanCanceller};
use crate::base::backend_ids::BackendIds;
use crate::base::clock;
use crate::config::Config;
use crate::farm::Farm;
use crate::farm::backend_client::{BackendClient, Task, Unanswered};
use crate::farm::health::{BackendSpec, FarmHealth};
use crate::process::supervisor::Shutdown;
use crate::sessions::Sessions;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::{Carrier, Metrics};

pub const UP01: BackendId = BackendId(0);
pub const UP02: BackendId = BackendId(1);
pub const UP03: BackendId = BackendId(2);

pub const TARGET: &str = "/in/report.cab?site=7";
pub const ID: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";

/// What a server answers.
pub type Reply = (u16, &'static [(&'static str, &'static str)]);

pub const ACK: (&str, &str) = ("BITS-Packet-Type", "Ack");
pub const NOT_FOUND: Reply = (500, &[ACK, ("BITS-Error", "0x8020001F")]);
pub const GONE_DOWN: Reply = (0, &[]);

type Say = dyn Fn(BackendId, Task) -> Reply + Send + Sync;

pub struct Rig {
    pub gateway: Gateway,
    pub farm: Arc<ArcSwap<Farm>>,
    pub health: FarmHealth,
    pub sessions: Arc<Sessions>,
    pub metrics: Arc<Metrics>,
    canceller: Option<OrphanCanceller>,
    says: Arc<Mutex<Box<Say>>>,
    asked: Arc<AtomicUsize>,
}

pub fn config(more: &str) -> Config {
    let mut text = format!("{more}\n[listeners.public]\naddress = \"127.0.0.1:0\"\n");
    for number in 1..=3 {
        text += &format!(
            "[[backends]]\nname = \"up0{number}\"\naddress = \"127.0.0.{number}:9001\"\n\
             health = {{ kind = \"off\" }}\n"
        );
    }
    Config::from_toml(&text).unwrap_or_else(|wrong| panic!("{wrong}"))
}

impl Rig {
    pub fn new() -> Self {
        Self::with("")
    }

    /// `more` are sections of the configuration.
    pub fn with(more: &str) -> Self {
        Self::logging_to(more, AccessLog::off())
    }

    pub fn logging_to(more: &str, access: AccessLog) -> Self {
        Self::configured(config(more), access)
    }

    /// Its only server is there; `more` are sections of the configuration.
    pub fn of(server: SocketAddr, more: &str) -> Self {
        let text = format!(
            "{more}\n[listeners.public]\naddress = \"127.0.0.1:0\"\n[[backends]]\nname = \"up01\"\n\
             address = \"{server}\"\nhealth = {{ kind = \"off\" }}\n"
        );
        let config = Config::from_toml(&text).unwrap_or_else(|wrong| panic!("{wrong}"));
        Self::configured(config, AccessLog::off())
    }

    fn configured(config: Config, access: AccessLog) -> Self {
        let names: Vec<_> = config.backends.iter().map(|backend| backend.name.clone()).collect();
        let ids = Arc::new(BackendIds::of(names.iter().map(String::as_str)));
        let series: Vec<_> = names.iter().map(|name| (ids.intern(name), name.clone(), 1)).collect();
        let metrics = Metrics::new(&["public".to_owned()], &series);
        let health = FarmHealth::new(Arc::clone(&metrics), Events::default());
        let farm = Farm::build(Arc::new(config.clone()), &ids, &[], None).expect("a farm");
        let spec = |backend: &Backend| {
            let configured = &config.backends[backend.id.0 as usize];
            BackendSpec::new(backend.id, configured, farm.found(backend.id), &config)
        };
        health.apply(&farm.view.backends().iter().map(spec).collect::<Vec<_>>());
        let farm = Arc::new(ArcSwap::from_pointee(farm.revised(&health)));
        let (swapped, revised) = (Arc::clone(&farm), health.clone());
        health.on_change(move |_| _ = swapped.rcu(|farm| farm.revised(&revised)));
        let sessions = Sessions::new(config.sessions.limit, config.sessions.tombstone);
        let says: Arc<Mutex<Box<Say>>> = Arc::new(Mutex::new(Box::new(|_, _| NOT_FOUND)));
        let asked = Arc::<AtomicUsize>::default();
        let (said, counted) = (Arc::clone(&says), Arc::clone(&asked));
        let client = BackendClient::scripted(move |backend, task| {
            counted.fetch_add(1, Ordering::Relaxed);
            parts((said.lock())(backend, task))
        });
        let (gateway, canceller) = Gateway::with_client(
            Arc::clone(&farm),
            health.clone(),
            Arc::clone(&sessions),
            Reporter::new(Arc::clone(&metrics), access, ids, Events::default()),
            (TaskTracker::new(), Shutdown::default()),
            2,
            Arc::new(client),
        );
        let canceller = Some(canceller);
        Self { gateway, farm, health, sessions, metrics, canceller, says, asked }
    }

    /// From now on the servers answer so. [`GONE_DOWN`] is no answer.
    pub fn say(&self, says: impl Fn(BackendId, Task) -> Reply + Send + Sync + 'static) {
        *self.says.lock() = Box::new(says);
    }

    /// How often servers were asked something since the last call.
    pub fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// A request that has arrived, of a client at 192.0.2.7.
    pub fn arrive(&self, head: &Arc<RequestHead>) -> Exchange {
        let mut exchange = self.gateway.expect(Carrier::Relay);
        self.gateway.arrive(None, head, &mut exchange);
        exchange.arrival.client = Some([192, 0, 2, 7].into());
        exchange
    }

    /// A request that goes on to a backend.
    pub async fn admitted(&self, head: &Arc<RequestHead>) -> Exchange {
        let mut exchange = self.arrive(head);
        match self.gateway.admit(head, &mut exchange).await {
            Ok(Course::Goes) => exchange,
            Ok(Course::Joined(_)) => panic!("it joins another request"),
            Err(fault) => panic!("it is refused: {fault:?}"),
        }
    }

    /// A session of [`TARGET`] that is at `backend`, with so many of 10,000 bytes.
    pub async fn pin(&self, id: &str, backend: BackendId, next_offset: u64) {
        let pin = Pin {
            backend,
            backend_session: None,
            binding: Binding::to(Target::of(TARGET.as_bytes()), TARGET.as_bytes()),
            created: clock::now(),
            subject: None,
        };
        let total = if next_offset > 0 { 10_000 } else { 0 };
        let progress = Progress { next_offset, total, seen: clock::now() };
        self.sessions.pin(key(id), pin, progress, clock::steady()).await.expect("room");
    }

    pub fn next_offset(&self, id: &str) -> Option<u64> {
        self.sessions.progress_of(&key(id)).map(|progress| progress.next_offset)
    }

    /// As many failures as it takes.
    pub fn take_down(&self, backend: BackendId) {
        for _ in 0..20 {
            self.health.connect_failed(backend);
        }
        assert!(self.health.down_for(backend).is_some(), "{backend:?} is still up");
    }

    pub fn lose(&self, backend: BackendId) {
        self.health.set_admin(backend, AdminState::Lost);
    }

    /// Has orphans cancelled from now on.
    pub fn cancel_orphans(&mut self) -> (JoinHandle<()>, CancellationToken) {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let canceller = self.canceller.take().expect("it runs once");
        let running = tokio::spawn(async move {
            let _ = canceller.run(stopped).await;
        });
        (running, stop)
    }

    #[track_caller]
    pub fn check_metric(&self, series: &str, value: u64) {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        assert_eq!(line, Some(value.to_string().as_str()), "{series}");
    }
}

fn parts((status, fields): Reply) -> Result<response::Parts, Unanswered> {
    if status == 0 {
        return Err(Unanswered { by_backend: true });
    }
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = StatusCode::from_u16(status).expect("a status");
    for (name, value) in fields {
        parts.headers.append(*name, HeaderValue::from_static(value));
    }
    Ok(parts)
}

pub fn key(id: &str) -> SessionKey {
    SessionId::parse(id).expect("a legal id").key().clone()
}

pub fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> Arc<RequestHead> {
    let fields = [("Host", "up.test")].iter().chain(fields);
    let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let head = RequestHead::of(method.as_bytes(), target.as_bytes(), fields);
    Arc::new(head.expect("a head"))
}

pub fn create() -> Arc<RequestHead> {
    let protocols = ("BITS-Supported-Protocols", "{7df0354d-249b-430f-820d-3d2a9bef4931}");
    head("BITS_POST", TARGET, &[("BITS-Packet-Type", "Create-Session"), protocols])
}

pub fn ping() -> Arc<RequestHead> {
    head("BITS_POST", TARGET, &[("BITS-Packet-Type", "Ping")])
}

/// `range` as in `0-4999/10000`.
pub fn fragment(id: &str, range: &str) -> Arc<RequestHead> {
    let numbers: Vec<u64> =
        range.split(['-', '/']).map(|number| number.parse().expect("a number")).collect();
    let length = (numbers[1] - numbers[0] + 1).to_string();
    let range = format!("bytes {range}");
    let fields = [
        ("BITS-Packet-Type", "Fragment"),
        ("BITS-Session-Id", id),
        ("Content-Range", &range),
        ("Content-Length", &length),
    ];
    head("BITS_POST", TARGET, &fields)
}

pub fn close(id: &str) -> Arc<RequestHead> {
    let fields = [("BITS-Packet-Type", "Close-Session"), ("BITS-Session-Id", id)];
    head("BITS_POST", TARGET, &fields)
}

pub fn cancel(id: &str) -> Arc<RequestHead> {
    let fields = [("BITS-Packet-Type", "Cancel-Session"), ("BITS-Session-Id", id)];
    head("BITS_POST", TARGET, &fields)
}

pub fn get(target: &str) -> Arc<RequestHead> {
    head("GET", target, &[])
}

pub fn answer((status, fields): Reply) -> AnswerHead {
    let status = StatusCode::from_u16(status).expect("a status");
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    AnswerHead::of(Version::HTTP_11, status, fields).expect("a head")
}

/// In time that passes at once, as far as tokio is asked.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
