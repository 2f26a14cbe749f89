//! What the listener may see and do, given to it by the program.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use gateway_core::farm::{AdminState, BackendId, Health};
use gateway_core::protocol::SessionKey;
use gateway_core::session::Timestamp;
use serde_json::Value as Json;

use crate::farm::health::History;
use crate::process::readiness::Readiness;
use crate::sessions::Sessions;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::{BackendTotals, Metrics};
use crate::telemetry::problems::Judge;

/// An action under way. It runs to its end even if whoever asked for it has gone.
pub type Action<T> = BoxFuture<'static, Result<T, ActionError>>;

/// The gateway as an operator takes hold of it.
pub struct Control {
    pub sessions: Arc<Sessions>,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub events: Events,
    pub judge: Judge,
    /// Silence that ends a session.
    pub idle_timeout: Box<dyn Fn() -> Duration + Send + Sync>,
    /// Every backend, in the order of the configuration, and those behind it that were removed but
    /// still have sessions.
    pub backends: Box<dyn Fn() -> Vec<BackendInfo> + Send + Sync>,
    pub store: Box<dyn Fn() -> StoreInfo + Send + Sync>,
    /// Ready only once the state is durable.
    pub set_state: Box<dyn Fn(BackendId, AdminState) -> Action<()> + Send + Sync>,
    /// Drops every pin of a backend, so that the clients start over elsewhere. Returns how many.
    pub move_sessions: Box<dyn Fn(BackendId) -> Action<u64> + Send + Sync>,
    /// Drops one pin, so that its client starts over. `false` if there is none.
    pub forget: Box<dyn Fn(SessionKey) -> Action<bool> + Send + Sync>,
    pub reload: Box<dyn Fn() -> Action<Reloaded> + Send + Sync>,
    /// Every value that counts and where it comes from, as `config dump --json` has it.
    pub configuration: Box<dyn Fn() -> Json + Send + Sync>,
    /// What a reload would do.
    pub preview: Box<dyn Fn() -> Action<Reloaded> + Send + Sync>,
}

/// A backend at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendInfo {
    pub id: BackendId,
    pub name: Arc<str>,
    /// As it stands in the configuration.
    pub address: String,
    pub weight: u32,
    pub admin: AdminState,
    /// `None`: for as long as anybody remembers.
    pub admin_since: Option<Timestamp>,
    pub health: Health,
    pub health_since: Option<Timestamp>,
    /// Why it is down, in words that may be shown.
    pub health_reason: Option<String>,
    /// Folders of which it gets no new sessions.
    pub barred: Vec<BarredFolder>,
    /// Whether the configuration still names it.
    pub configured: bool,
    /// Share of its weight that counts while it starts slowly, 1 to 100.
    pub weight_percent: u32,
    /// Requests that are with it now.
    pub in_flight: u64,
    pub totals: BackendTotals,
    pub history: History,
    /// After so long its clients go back to their first name, where they were given another.
    pub fallback_timeout: Option<Duration>,
}

/// A folder of which a backend gets no new sessions but a trial now and then.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BarredFolder {
    pub folder: String,
    /// `refuses`, `silent`, `full`, `ping`.
    pub reason: &'static str,
    /// The verdict rests on the word of one client and counts for that client only.
    pub one_client: bool,
}

impl BackendInfo {
    /// May get new sessions.
    pub fn is_eligible(&self) -> bool {
        self.configured && self.admin == AdminState::Ready && self.health == Health::Up
    }

    /// Serves no packets of its sessions.
    pub fn is_away(&self) -> bool {
        self.admin.is_out() || self.health == Health::Down
    }
}

/// How the session store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// `memory`, `sqlite`.
    pub kind: &'static str,
    /// Whether what has to be durable can be made durable.
    pub ok: bool,
    /// What is the matter, in words that may be shown.
    pub message: Option<String>,
}

/// A reload that took place, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reloaded {
    /// What is different now, a line each.
    pub changed: Vec<String>,
    /// What the file changes, but only a restart can.
    pub needs_restart: Vec<String>,
    pub warnings: Vec<String>,
    /// The same and more, as `check --json` has them.
    pub findings: Json,
    /// Uploads that it touches. Said before it takes place only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub touched: Option<Vec<Touched>>,
}

/// What one changed key does to uploads that are under way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Touched {
    pub key: String,
    pub uploads: u64,
    /// What becomes of them.
    pub what: String,
}

/// Why an action did not take place. The texts are shown to the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// The new configuration cannot be used, and the old one stays. `report` shows every mistake.
    #[error("{message}")]
    Config { message: String, report: String, findings: Json },
    #[error("it cannot be made durable: {message}")]
    Store { message: String },
    /// Not now; it is no mistake to ask again.
    #[error("{message}")]
    Busy { message: String },
    #[error("{message}")]
    Other { message: String },
}
