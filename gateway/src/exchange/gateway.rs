//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::bandwidth::Bandwidth;
use super::deliveries::Deliveries;
use super::lost_close::UnclearCloses;
use super::orphans::{OrphanCanceller, Orphans};
use super::outages::Outages;
use super::recovery::Recovery;
use super::report::Reporter;
use super::room::Room;
use super::turns::Turns;
use crate::backend_client::BackendClient;
use crate::clock;
use crate::farm::Farm;
use crate::health::FarmHealth;
use crate::sessions::Sessions;
use crate::supervisor::{Farewell, InFlight};

/// Everything a request may need.
pub struct Gateway {
    pub(super) farm: Arc<ArcSwap<Farm>>,
    pub(super) health: FarmHealth,
    pub(super) sessions: Arc<Sessions>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) running: InFlight,
    pub(super) farewell: Farewell,
    pub(super) turns: Arc<Turns>,
    pub(super) outages: Outages,
    /// Room for connections that belong to one client each.
    pub(super) bound: Arc<Semaphore>,
    pub(super) bandwidth: Bandwidth,
    pub(super) room: Room,
    pub(super) recovery: Recovery,
    pub(super) unclear_closes: Arc<UnclearCloses>,
    pub(super) deliveries: Deliveries,
    pub(super) orphans: Orphans,
    /// When it began, by the steady clock.
    pub(super) begun: Duration,
    pub(super) requests: AtomicU64,
    /// Placements of new sessions. A counter of its own, or round-robin would skip backends with
    /// every packet that has nothing to place.
    pub(super) creates: AtomicU64,
    /// Held while a Create is placed and counted.
    pub(super) placing: Mutex<()>,
}

impl Gateway {
    /// The gateway, and the task that cancels what it leaves behind.
    pub fn new(
        farm: Arc<ArcSwap<Farm>>,
        health: FarmHealth,
        sessions: Arc<Sessions>,
        reporter: Reporter,
        running: InFlight,
        farewell: Farewell,
        bound_connections: usize,
    ) -> (Self, OrphanCanceller) {
        let turns = Arc::new(Turns::default());
        let outages = Outages::default();
        let requests = AtomicU64::new(0);
        let creates = AtomicU64::new(0);
        let config = Arc::clone(&farm.load().config);
        let bound = Arc::new(Semaphore::new(bound_connections));
        let client = Arc::new(BackendClient::new(config.timeouts.ask));
        let recovery = Recovery::new(config.sessions.ask_rate, Arc::clone(&client));
        let unclear_closes = Arc::<UnclearCloses>::default();
        let unclear = Arc::clone(&unclear_closes);
        sessions.tell_of_ends(move |key| unclear.forget(key));
        let metrics = Arc::clone(&reporter.metrics);
        sessions.tell_of_evictions(move |ended| {
            let age = clock::now().since(ended.pin.created);
            let total = ended.progress.total;
            metrics.session_ended(ended.pin.backend, ended.reason, age, total);
        });
        let (orphans, canceller) = OrphanCanceller::new(
            client,
            Arc::clone(&farm),
            health.clone(),
            Arc::clone(&sessions),
            reporter.clone(),
        );
        let reporter = Arc::new(reporter);
        let gateway = Self {
            farm,
            health,
            sessions,
            reporter,
            running,
            farewell,
            turns,
            outages,
            bound,
            bandwidth: Bandwidth::default(),
            room: Room::default(),
            recovery,
            unclear_closes,
            deliveries: Deliveries::default(),
            orphans,
            begun: clock::steady(),
            requests,
            creates,
            placing: Mutex::default(),
        };
        (gateway, canceller)
    }
}
