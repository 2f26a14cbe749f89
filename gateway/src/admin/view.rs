//! The shapes of the answers. `docs/admin-api.md` describes them.

use std::net::IpAddr;
use std::time::Duration;

use gateway_core::farm::{AdminState, Health};
use gateway_core::session::Timestamp;
use serde::Serialize;

use super::control::{BackendInfo, BarredFolder, StoreInfo};
use super::estimate::Pace;
use crate::base::build_info::{REVISION, VERSION};
use crate::farm::health::LastProbe;
use crate::process::readiness::Phase;
use crate::sessions::live_uploads::{LiveUpload, UnderWay};
use crate::sessions::view::{Left, Moment, Row};
use crate::telemetry::log::rfc3339;
use crate::telemetry::metrics::PacketLabel;
use crate::telemetry::problems::Verdict;

#[derive(Debug, Serialize)]
pub struct Status {
    name: &'static str,
    version: &'static str,
    revision: &'static str,
    /// `starting`, `ready` or `draining`.
    phase: &'static str,
    draining: bool,
    started: String,
    uptime_seconds: u64,
    sessions: Fill,
    store: Store,
    backends: Counts,
    health: Verdict,
}

#[derive(Debug, Serialize)]
pub struct Fill {
    pub count: u64,
    pub limit: u64,
}

#[derive(Debug, Serialize)]
pub struct Store {
    kind: &'static str,
    ok: bool,
    message: Option<String>,
}

/// Configured backends. `down` is another axis than the three states.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    total: usize,
    ready: usize,
    drain: usize,
    maint: usize,
    lost: usize,
    down: usize,
    eligible: usize,
}

#[derive(Debug, Serialize)]
pub struct Backend {
    name: String,
    address: String,
    configured: bool,
    admin_state: &'static str,
    admin_since: Option<String>,
    health: &'static str,
    health_since: Option<String>,
    health_reason: Option<String>,
    /// Since the last change of either state.
    seconds_in_state: Option<u64>,
    barred_folders: Vec<BarredFolder>,
    eligible: bool,
    weight: u32,
    sessions: u64,
    uploads_left: u64,
    bytes_left: u64,
    bytes_received: u64,
    of_unknown_size: u64,
    idle: u64,
    /// Less than 100 while it starts slowly.
    weight_percent: u32,
    requests_in_flight: u64,
    /// Of bodies, over the last seconds.
    bytes_per_second: Option<u64>,
    /// Since the start: connections that could not be made, and answers of 5xx.
    errors: u64,
    last_probe: Option<Probe>,
    /// Since the start, all outages together.
    down_seconds: u64,
}

#[derive(Debug, Serialize)]
pub struct Probe {
    at: String,
    passed: bool,
    milliseconds: u64,
}

#[derive(Debug, Serialize)]
pub struct Backends {
    pub backends: Vec<Backend>,
}

/// What came of a change of state.
#[derive(Debug, Serialize)]
pub struct Changed {
    /// Whether it was in another state before.
    pub changed: bool,
    pub backend: Backend,
    pub warning: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Drain {
    name: String,
    admin_state: &'static str,
    /// Nothing is left: the backend may be stopped.
    empty: bool,
    sessions: u64,
    uploads_left: u64,
    bytes_left: u64,
    of_unknown_size: u64,
    idle: u64,
    bytes_per_second: Option<u64>,
    measured_over_seconds: Option<u64>,
    seconds_left: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct Moved {
    pub moved: u64,
    pub backend: Backend,
}

#[derive(Debug, Serialize)]
pub struct Page {
    pub sessions: Vec<Session>,
    pub next: Option<String>,
    /// On all pages together.
    pub matching: u64,
}

#[derive(Debug, Serialize)]
pub struct Session {
    /// What stands for the id where the id must not stand.
    #[serde(rename = "ref")]
    mark: String,
    /// The beginning of the id, as the logs have it.
    id: String,
    backend: String,
    backend_session: Option<String>,
    created: String,
    age_seconds: u64,
    /// `active`, `waiting` or `idle`.
    state: &'static str,
    /// Last progress, also inside a Fragment.
    seen: String,
    idle_seconds: u64,
    next_offset: u64,
    /// With what has come of a Fragment under way.
    bytes_received: u64,
    /// `null` until the first Fragment.
    total: Option<u64>,
    /// Those of a live upload are `null` for others; path and client may be stored.
    path: Option<Box<str>>,
    client: Option<IpAddr>,
    user_agent: Option<Box<str>>,
    bytes_per_second: Option<u64>,
    under_way: Option<Request>,
    /// Also of one that is not live, if its backend is away.
    waits_for: Option<&'static str>,
    /// `null` while its packets succeed.
    falls_back: Option<String>,
    /// If nothing more is heard of it.
    expires: String,
}

/// A request that is here.
#[derive(Debug, Serialize)]
pub struct Request {
    packet: &'static str,
    since: String,
    seconds: u64,
    range: Option<Range>,
}

/// Of a Fragment.
#[derive(Debug, Serialize)]
pub struct Range {
    first: u64,
    last: u64,
    /// That have come.
    bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct Forgotten {
    pub forgotten: Session,
}

#[derive(Debug, Serialize)]
pub struct AllForgotten {
    /// How many.
    pub forgotten: u64,
}

#[derive(Debug, Serialize)]
pub struct Problem<'a> {
    pub error: ProblemBody<'a>,
}

#[derive(Debug, Serialize)]
pub struct ProblemBody<'a> {
    pub code: &'static str,
    pub message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<&'a serde_json::Value>,
}

impl Status {
    pub fn new(
        phase: Phase,
        started: Timestamp,
        uptime_seconds: u64,
        sessions: Fill,
        store: StoreInfo,
        backends: &[BackendInfo],
        health: Verdict,
    ) -> Self {
        Self {
            name: env!("CARGO_PKG_NAME"),
            version: VERSION,
            revision: REVISION,
            phase: match phase {
                Phase::Starting => "starting",
                Phase::Ready => "ready",
                Phase::Draining => "draining",
            },
            draining: phase == Phase::Draining,
            started: rfc3339(started).to_string(),
            uptime_seconds,
            sessions,
            store: Store { kind: store.kind, ok: store.ok, message: store.message },
            backends: Counts::of(backends),
            health,
        }
    }
}

impl Counts {
    fn of(backends: &[BackendInfo]) -> Self {
        let mut counts = Self::default();
        for backend in backends.iter().filter(|backend| backend.configured) {
            counts.total += 1;
            match backend.admin {
                AdminState::Ready => counts.ready += 1,
                AdminState::Drain => counts.drain += 1,
                AdminState::Maint => counts.maint += 1,
                AdminState::Lost => counts.lost += 1,
            }
            counts.down += usize::from(backend.health == Health::Down);
            counts.eligible += usize::from(backend.is_eligible());
        }
        counts
    }
}

impl Backend {
    pub fn new(info: &BackendInfo, left: Left, rate: Option<u64>, now: Timestamp) -> Self {
        let probe = |probe: LastProbe| Probe {
            at: rfc3339(probe.at).to_string(),
            passed: probe.passed,
            milliseconds: u64::try_from(probe.took.as_millis()).unwrap_or(u64::MAX),
        };
        let since = |at: Option<Timestamp>| at.map(|at| rfc3339(at).to_string());
        Self {
            name: info.name.to_string(),
            address: info.address.clone(),
            configured: info.configured,
            admin_state: info.admin.word(),
            admin_since: since(info.admin_since),
            health: match info.health {
                Health::Up => "up",
                Health::Spared => "spared",
                Health::Down => "down",
            },
            health_since: since(info.health_since),
            health_reason: info.health_reason.clone(),
            seconds_in_state: info
                .admin_since
                .max(info.health_since)
                .map(|since| now.since(since).as_secs()),
            barred_folders: info.barred.clone(),
            eligible: info.is_eligible(),
            weight: info.weight,
            sessions: left.sessions,
            uploads_left: left.uploads,
            bytes_left: left.bytes,
            bytes_received: left.received,
            of_unknown_size: left.of_unknown_size,
            idle: left.idle,
            weight_percent: info.weight_percent,
            requests_in_flight: info.in_flight,
            bytes_per_second: rate,
            errors: info.totals.errors,
            last_probe: info.history.last_probe.map(probe),
            down_seconds: info.history.down.as_secs(),
        }
    }
}

impl Drain {
    pub fn new(info: &BackendInfo, left: Left, pace: Option<Pace>) -> Self {
        let seconds_left = match left.sessions {
            0 => Some(0),
            _ => pace.and_then(|pace| pace.time_left).map(|left| left.as_secs()),
        };
        Self {
            name: info.name.to_string(),
            admin_state: info.admin.word(),
            empty: left.sessions == 0,
            sessions: left.sessions,
            uploads_left: left.uploads,
            bytes_left: left.bytes,
            of_unknown_size: left.of_unknown_size,
            idle: left.idle,
            bytes_per_second: pace.map(|pace| pace.bytes_per_second),
            measured_over_seconds: pace.map(|pace| pace.over.as_secs()),
            seconds_left,
        }
    }
}

/// What its backend and the configuration say of the life of a session.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub idle_timeout: Duration,
    pub fallback_timeout: Option<Duration>,
    /// Its backend serves no packets.
    pub away: bool,
}

impl Session {
    /// `terms` are those of its backend.
    pub fn new(row: &Row, backend: &str, terms: Terms, at: Moment) -> Self {
        let (now, seen, live) = (at.wall, row.seen(at), row.live.as_ref());
        let name = row.name.as_ref();
        let falls_back = terms.fallback_timeout.and_then(|timeout| row.falls_back(at, timeout));
        let short = |id: &str| {
            let id = gateway_core::protocol::SessionId::parse(id);
            id.map(|id| id.key().short().to_string())
        };
        Self {
            mark: row.mark().to_string(),
            id: row.key.short().to_string(),
            backend: backend.to_owned(),
            backend_session: row.pin.backend_session.as_deref().and_then(short),
            created: rfc3339(row.pin.created).to_string(),
            age_seconds: now.since(row.pin.created).as_secs(),
            state: row.state(at, terms.away).word(),
            seen: rfc3339(seen).to_string(),
            idle_seconds: now.since(seen).as_secs(),
            next_offset: row.progress.next_offset,
            bytes_received: row.received(),
            total: row.total(),
            path: live
                .map(|live| Box::from(&*live.path))
                .or_else(|| name.and_then(|name| name.path.clone())),
            client: live.and_then(|live| live.client).or_else(|| name.and_then(|name| name.client)),
            user_agent: live.and_then(|live| live.user_agent.as_deref().map(Box::from)),
            bytes_per_second: live.and_then(|live| live.bytes_per_second),
            under_way: live.and_then(|live| Request::of(live, at)),
            waits_for: row.waits_for(terms.away).word(),
            falls_back: falls_back.map(|at| rfc3339(at).to_string()),
            expires: rfc3339(row.expires(at, terms.idle_timeout)).to_string(),
        }
    }
}

impl Request {
    fn of(live: &LiveUpload, at: Moment) -> Option<Self> {
        let UnderWay { packet, range, begun } = live.under_way?;
        let range = range.filter(|range| !range.is_empty()).map(|range| Range {
            first: range.first(),
            last: range.first() + range.len() - 1,
            bytes: live.came,
        });
        Some(Self {
            packet: PacketLabel::from(packet).label(),
            since: rfc3339(at.at(begun)).to_string(),
            seconds: at.steady.saturating_sub(begun).as_secs(),
            range,
        })
    }
}
