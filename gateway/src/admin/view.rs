//! The shapes of the answers. `docs/admin-api.md` describes them.

use std::net::IpAddr;
use std::time::Duration;

use gateway_core::farm::{AdminState, Health};
use gateway_core::session::Timestamp;
use serde::Serialize;

use super::control::{BackendInfo, BarredFolder, StoreInfo};
use super::estimate::Estimate;
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
    pub name: &'static str,
    pub version: &'static str,
    pub revision: &'static str,
    /// `starting`, `ready` or `draining`.
    pub phase: &'static str,
    pub draining: bool,
    pub started: String,
    pub uptime_seconds: u64,
    pub sessions: Fill,
    pub store: Store,
    pub backends: Counts,
    pub health: Verdict,
}

#[derive(Debug, Serialize)]
pub struct Fill {
    pub count: u64,
    pub limit: u64,
}

#[derive(Debug, Serialize)]
pub struct Store {
    pub kind: &'static str,
    pub ok: bool,
    pub message: Option<String>,
}

/// Configured backends. `down` is another axis than the three states.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    pub total: usize,
    pub ready: usize,
    pub drain: usize,
    pub maintenance: usize,
    pub lost: usize,
    pub down: usize,
    pub eligible: usize,
}

#[derive(Debug, Serialize)]
pub struct Backend {
    pub name: String,
    pub address: String,
    pub configured: bool,
    pub admin_state: &'static str,
    pub admin_since: Option<String>,
    pub health: &'static str,
    pub health_since: Option<String>,
    pub health_reason: Option<String>,
    /// Since the last change of either state.
    pub seconds_in_state: Option<u64>,
    pub barred_folders: Vec<BarredFolder>,
    pub eligible: bool,
    pub weight: u32,
    pub sessions: u64,
    pub uploads_left: u64,
    pub bytes_left: u64,
    pub bytes_received: u64,
    pub of_unknown_size: u64,
    pub idle: u64,
    /// Less than 100 while it starts slowly.
    pub weight_percent: u32,
    pub requests_in_flight: u64,
    /// Of bodies, over the last seconds.
    pub bytes_per_second: Option<u64>,
    /// Since the start: connections that could not be made, and answers of 5xx.
    pub errors: u64,
    pub last_probe: Option<Probe>,
    /// Since the start, all outages together.
    pub down_seconds: u64,
}

#[derive(Debug, Serialize)]
pub struct Probe {
    pub at: String,
    pub passed: bool,
    pub milliseconds: u64,
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
    pub name: String,
    pub admin_state: &'static str,
    /// Nothing is left: the backend may be stopped.
    pub empty: bool,
    pub sessions: u64,
    pub uploads_left: u64,
    pub bytes_left: u64,
    pub of_unknown_size: u64,
    pub idle: u64,
    pub bytes_per_second: Option<u64>,
    pub measured_over_seconds: Option<u64>,
    pub seconds_left: Option<u64>,
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
    pub mark: String,
    /// The beginning of the id, as the logs have it.
    pub id: String,
    pub backend: String,
    pub backend_session: Option<String>,
    pub created: String,
    pub age_seconds: u64,
    /// `active`, `waiting` or `idle`.
    pub state: &'static str,
    /// Last progress, also inside a Fragment.
    pub seen: String,
    pub idle_seconds: u64,
    pub next_offset: u64,
    /// With what has come of a Fragment under way.
    pub bytes_received: u64,
    /// `null` until the first Fragment.
    pub total: Option<u64>,
    /// Those of a live upload are `null` for others; path and client may be stored.
    pub path: Option<Box<str>>,
    pub client: Option<IpAddr>,
    pub user_agent: Option<Box<str>>,
    pub bytes_per_second: Option<u64>,
    pub under_way: Option<Request>,
    /// Also of one that is not live, if its backend is away.
    pub waits_for: Option<&'static str>,
    /// `null` while its packets succeed.
    pub falls_back: Option<String>,
    /// If nothing more is heard of it.
    pub expires: String,
}

/// A request that is here.
#[derive(Debug, Serialize)]
pub struct Request {
    pub packet: &'static str,
    pub since: String,
    pub seconds: u64,
    pub range: Option<Range>,
}

/// Of a Fragment.
#[derive(Debug, Serialize)]
pub struct Range {
    pub first: u64,
    pub last: u64,
    /// That have come.
    pub bytes: u64,
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
                AdminState::Maintenance => counts.maintenance += 1,
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
    pub fn new(info: &BackendInfo, left: Left, pace: Option<Estimate>) -> Self {
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
