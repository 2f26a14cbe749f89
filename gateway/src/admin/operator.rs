//! What an operator can do to a running gateway.

mod effects;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_core::farm::{AdminState, BackendId, Health, Reach};
use gateway_core::routing::Loads;
use gateway_core::session::{EndReason, Timestamp};
use parking_lot::Mutex;

use crate::admin::{ActionError, BackendInfo, BarredFolder, Control, Reloaded, StoreInfo};
use crate::base::clock;
use crate::config::Store;
use crate::config::reload::{Refused, Reloader, Trigger};
use crate::exchange::report::Reporter;
use crate::farm::Farm;
use crate::farm::backend_registry::BackendRegistry;
use crate::farm::health::{FarmHealth, History};
use crate::process::readiness::{Phase, Readiness};
use crate::sessions::Sessions;
use crate::sessions::store::{self, BackendState, OnError};
use crate::telemetry::metrics::BackendTotals;
use crate::telemetry::problems::{Facts, Judge, judge};
use crate::tls::certificates::Certificates;

/// Who decides what comes in through the admin listener, in the store.
const BY: &str = "admin listener";

/// The parts of the gateway that people change, behind the admin listener.
#[derive(Clone)]
pub struct Operator {
    farm: Arc<ArcSwap<Farm>>,
    sessions: Arc<Sessions>,
    reporter: Reporter,
    health: FarmHealth,
    /// When each backend got its state; none for those nobody has touched.
    since: Arc<Mutex<HashMap<BackendId, Timestamp>>>,
    /// Held while a state is stored and applied, so that both happen in one order.
    deciding: Arc<tokio::sync::Mutex<()>>,
}

impl Operator {
    pub fn new(
        backend_registry: &BackendRegistry,
        sessions: Arc<Sessions>,
        reporter: Reporter,
    ) -> Self {
        let (farm, health) = (Arc::clone(&backend_registry.farm), backend_registry.health.clone());
        let (since, deciding) = Default::default();
        Self { farm, sessions, reporter, health, since, deciding }
    }

    /// The handle that the admin listener works with.
    pub fn control(&self, readiness: &Readiness, reloader: Reloader, judge: Judge) -> Control {
        let shared = || self.clone();
        let (backends, states, moves, forgets) = (shared(), shared(), shared(), shared());
        let (sessions, timeouts) = (Arc::clone(&self.sessions), Arc::clone(&self.farm));
        Control {
            sessions: Arc::clone(&self.sessions),
            metrics: Arc::clone(&self.reporter.metrics),
            readiness: readiness.clone(),
            events: self.reporter.events.clone(),
            judge,
            idle_timeout: Box::new(move || timeouts.load().config.sessions.idle_timeout),
            backends: Box::new(move || backends.backends()),
            store: Box::new(move || store_info(sessions.store())),
            set_state: Box::new(move |id, state| {
                let operator = states.clone();
                Box::pin(async move { operator.set_state(id, state).await })
            }),
            move_sessions: Box::new(move |id| {
                let operator = moves.clone();
                Box::pin(async move { Ok(operator.move_sessions(id).await) })
            }),
            forget: Box::new(move |key| {
                let operator = forgets.clone();
                Box::pin(async move { Ok(operator.forget(&key).await) })
            }),
            configuration: {
                let reloader = reloader.clone();
                Box::new(move || reloader.dump())
            },
            preview: {
                let (operator, reloader) = (self.clone(), reloader.clone());
                Box::new(move || Box::pin(preview(operator.clone(), reloader.clone())))
            },
            reload: Box::new(move || Box::pin(reload(reloader.clone()))),
        }
    }

    /// Tells what is the matter with the gateway as a whole.
    pub fn judge(
        &self,
        readiness: &Readiness,
        reloader: &Reloader,
        certificates: &Certificates,
    ) -> Judge {
        let (operator, readiness) = (self.clone(), readiness.clone());
        let (reloader, certificates) = (reloader.clone(), certificates.clone());
        Judge::new(move || {
            let phase = readiness.phase();
            let backends = operator.backends();
            let configured = backends.iter().filter(|backend| backend.configured);
            let config = Arc::clone(&operator.farm.load().config);
            let store = store_info(operator.sessions.store());
            let (certificates, unusable) = certificates.state();
            let facts = Facts {
                is_starting: phase == Phase::Starting,
                is_draining: phase == Phase::Draining,
                store: (!store.ok).then(|| store.message.unwrap_or_default()),
                accepts_without_store: match &config.store {
                    Store::Sqlite(store) => store.on_error == OnError::Accept,
                    Store::Memory => true,
                },
                backends: configured.clone().count(),
                eligible: configured.filter(|backend| backend.is_eligible()).count(),
                sessions: operator.sessions.len(),
                config: reloader.drift(),
                certificates,
                unusable,
            };
            judge(&facts, clock::now())
        })
    }

    fn backends(&self) -> Vec<BackendInfo> {
        let farm = self.farm.load();
        let since = self.since.lock();
        let verdicts = self.health.verdicts(&farm.config.health.folder_rules());
        let barred = |id| {
            let of = verdicts.iter().filter(|(_, verdict)| verdict.backend == id);
            of.map(|(reach, verdict)| BarredFolder {
                folder: verdict.folder.path(),
                reason: verdict.why.label(),
                one_client: *reach == Reach::OneClient,
            })
            .collect()
        };
        let fallback_timeout = farm.config.affinity.fallback_timeout;
        let one = |backend: &gateway_core::farm::Backend| BackendInfo {
            id: backend.id,
            name: Arc::clone(&backend.name),
            address: farm.named(backend.id).map(ToString::to_string).unwrap_or_default(),
            weight: backend.weight,
            admin: backend.admin,
            admin_since: since.get(&backend.id).copied(),
            health: backend.health,
            health_since: self.health.state(backend.id).map(|state| state.since),
            health_reason: self.health.state(backend.id).map(|state| state.reason.to_string()),
            barred: barred(backend.id),
            configured: !farm.is_leaving(backend.id),
            weight_percent: self.health.state(backend.id).map_or(100, |state| state.weight_percent),
            in_flight: self.reporter.metrics.backend_in_flight(backend.id),
            totals: self.reporter.metrics.backend_totals(backend.id),
            history: self.health.history(backend.id),
            fallback_timeout: backend.announce.as_ref().map(|_| fallback_timeout),
        };
        let known = farm.view.backends().iter().map(one);
        // Stored sessions may name a backend that nothing else is known of.
        let names =
            self.reporter.ids.iter().filter(|(id, _)| {
                farm.view.backend(*id).is_none() && self.sessions.sessions(*id) > 0
            });
        let unknown = names.map(|(id, name)| BackendInfo {
            id,
            name: Arc::clone(name),
            address: String::new(),
            weight: 0,
            admin: if self.health.is_lost(id) { AdminState::Lost } else { AdminState::Drain },
            admin_since: since.get(&id).copied(),
            health: Health::Down,
            health_since: None,
            health_reason: Some("it is not in the configuration".to_owned()),
            barred: Vec::new(),
            configured: false,
            weight_percent: 100,
            in_flight: 0,
            totals: BackendTotals::default(),
            history: History::default(),
            fallback_timeout: None,
        });
        known.chain(unknown).collect()
    }

    /// What was decided before this process began. Decisions about backends that are not
    /// configured stay stored.
    pub fn restore(&self, states: &[BackendState]) {
        let farm = self.farm.load();
        for BackendState { backend, state, since, .. } in states {
            let mut backends = farm.view.backends().iter();
            let configured = backends.find(|found| found.name.eq_ignore_ascii_case(backend));
            // Sessions of one that is gone for good know no other way to learn of it.
            let gone = || {
                let mut named = self.reporter.ids.iter();
                let found = named.find(|(_, name)| name.eq_ignore_ascii_case(backend));
                let id = found.map(|(id, _)| id)?;
                (*state == AdminState::Lost || self.health.is_lost(id)).then_some(id)
            };
            if let Some(id) = configured.map(|found| found.id).or_else(gone) {
                self.apply(id, *state, *since);
                if *state != AdminState::Ready {
                    tracing::info!(%backend, state = state.word(), "a state that was set before the start");
                }
            }
        }
    }

    /// Nothing has changed unless the state would survive a restart. Requests that began before
    /// keep the picture that they began with.
    async fn set_state(&self, id: BackendId, state: AdminState) -> Result<(), ActionError> {
        let _one_at_a_time = self.deciding.lock().await;
        let since = clock::now();
        let backend = self.reporter.ids.name(id).to_string();
        let stored = BackendState { backend, state, since, by: BY.to_owned() };
        let store = self.sessions.store();
        store
            .set_backend_state(stored)
            .await
            .map_err(|error| ActionError::Store { message: error.to_string() })?;
        self.apply(id, state, since);
        Ok(())
    }

    fn apply(&self, id: BackendId, state: AdminState, since: Timestamp) {
        // It revises the farm by its hook.
        self.health.set_admin(id, state);
        self.since.lock().insert(id, since);
    }

    /// Ends every session of a backend, so that its clients start over elsewhere.
    async fn move_sessions(&self, id: BackendId) -> u64 {
        let mut moved = 0;
        for key in self.sessions.of_backend(id) {
            moved += u64::from(self.forget(&key).await);
        }
        moved
    }

    async fn forget(&self, key: &gateway_core::protocol::SessionKey) -> bool {
        let ended = self.sessions.unpin(key, EndReason::Admin, clock::steady()).await;
        if let Some(ended) = &ended {
            self.reporter.ended(ended, None);
        }
        ended.is_some()
    }
}

/// Waits for names to be resolved, so it has a thread of its own.
async fn reload(reloader: Reloader) -> Result<Reloaded, ActionError> {
    let attempt = tokio::task::spawn_blocking(move || reloader.reload(Trigger::Admin)).await;
    let Ok(reload) = attempt else {
        let message = "the reload panicked, see the log".to_owned();
        return Err(ActionError::Other { message });
    };
    if let Some(error) = &reload.error {
        return Err(unusable(error, reload.findings.clone()));
    }
    let done = reload.changed.iter().filter(|change| !change.needs_restart);
    Ok(Reloaded {
        changed: done.map(ToString::to_string).collect(),
        needs_restart: reload.needs_restart.iter().map(ToString::to_string).collect(),
        warnings: reload.warnings.clone(),
        findings: reload.findings.clone(),
        touched: None,
    })
}

/// What a reload would do.
async fn preview(operator: Operator, reloader: Reloader) -> Result<Reloaded, ActionError> {
    let look = move || {
        let preview =
            reloader.preview().map_err(|Refused { text, findings }| unusable(&text, findings))?;
        let done = preview.changed.iter().filter(|change| !change.needs_restart);
        Ok(Reloaded {
            changed: done.map(ToString::to_string).collect(),
            needs_restart: preview.needs_restart.iter().map(ToString::to_string).collect(),
            warnings: preview.warnings,
            findings: preview.findings,
            touched: Some(operator.effects(&preview.changed, &preview.config)),
        })
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|_| {
        Err(ActionError::Other { message: "it panicked, see the log".to_owned() })
    })
}

/// The first line, and the picture behind it.
fn unusable(error: &str, findings: serde_json::Value) -> ActionError {
    let (message, report) = error.split_once('\n').unwrap_or((error, ""));
    ActionError::Config { message: message.to_owned(), report: report.to_owned(), findings }
}

/// How the store is, for people.
fn store_info(store: &store::Store) -> StoreInfo {
    let status = store.status();
    let message = status.trouble.map(|trouble| format!("{trouble}; {}", trouble.help()));
    StoreInfo { kind: status.kind, ok: status.up, message }
}
