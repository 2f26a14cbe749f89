//! A place in the table for a session that is about to be opened.
//!
//! A full table makes room by a session that surely has no byte, is an hour old and has no request
//! under way: first by one of the client that holds most of those. Its server is told, so that the
//! limit holds there too. Who the rule is about is the core's (`session::limits`); here it is
//! carried out.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::fault::Fault;
use gateway_core::protocol::{SessionKey, latin1};
use gateway_core::session::limits::PerClient;
use http::HeaderValue;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::Exchange;
use super::report::Reporter;
use super::turns::{TurnRequest, Turns};
use crate::base::clock;
use crate::farm::Farm;
use crate::farm::backend_client::{BackendClient, BackendRequest};
use crate::sessions::{Birth, Evictable, Place, Refused, Sessions};
use crate::telemetry::metrics::OrphanResult;
use crate::telemetry::warned::Hourly;

/// After this long in a full table the sessions that may give way are looked for anew.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// For a server to cancel a session that gives way, while a client waits to begin.
const CANCEL: Duration = Duration::from_secs(2);

/// Sessions that are tried for one that is to be opened.
const TRIES: usize = 4;

/// Finds places, and makes room for them.
pub(super) struct Room {
    farm: Arc<ArcSwap<Farm>>,
    sessions: Arc<Sessions>,
    reporter: Arc<Reporter>,
    turns: Arc<Turns>,
    client: Arc<BackendClient>,
    candidates: Mutex<Candidates>,
    warned: Hourly,
}

#[derive(Debug, Default)]
struct Candidates {
    /// The next one last.
    keys: Vec<SessionKey>,
    looked: Option<Duration>,
}

impl Room {
    pub fn new(
        farm: Arc<ArcSwap<Farm>>,
        sessions: Arc<Sessions>,
        reporter: Arc<Reporter>,
        turns: Arc<Turns>,
        client: Arc<BackendClient>,
    ) -> Self {
        let (candidates, warned) = (Mutex::default(), Hourly::default());
        Self { farm, sessions, reporter, turns, client, candidates, warned }
    }

    /// A place for the session of a Create; `None` if the table is full.
    pub async fn find_place(&self, exchange: &Exchange) -> Result<Option<Place>, Fault> {
        let shared_farm = self.sessions.evicts();
        let (client, most) = (
            exchange.arrival.counted_client(),
            exchange.arrival.farm.config.sessions.limit_per_client,
        );
        let most = match most {
            // What ended elsewhere still counts here, and a full table is no sign of greed.
            PerClient::OneIn(_) if shared_farm => PerClient::Unlimited,
            most => most,
        };
        let places = self.sessions.places();
        for _ in 0..TRIES {
            match places.reserve(client, most) {
                Ok(place) => return Ok(Some(place)),
                Err(Refused::Client { has }) => {
                    self.warn_of_client(exchange, has);
                    return Err(Fault::ClientSessions);
                }
                Err(Refused::Full) if shared_farm && self.sessions.evict() => {}
                Err(Refused::Full) if !shared_farm && self.make_room().await => {}
                Err(Refused::Full) => break,
            }
        }
        Ok(None)
    }

    fn warn_of_client(&self, exchange: &Exchange, sessions: u64) {
        let (taken, limit) = (self.sessions.places().taken(), self.sessions.limit());
        self.warned.warn(|| {
            let client = exchange.arrival.client.map(tracing::field::display);
            tracing::warn!(
                client,
                sessions,
                all = taken,
                limit,
                "a client has as many sessions as `sessions.limit_per_client` allows"
            );
        });
    }

    /// Whether a session has given way.
    async fn make_room(&self) -> bool {
        for _ in 0..TRIES {
            let Some(key) = self.next_candidate().await else { return false };
            if self.evict(&key).await {
                return true;
            }
        }
        false
    }

    async fn next_candidate(&self) -> Option<SessionKey> {
        // Who comes while somebody looks waits for what is found.
        let mut candidates = self.candidates.lock().await;
        let steady = clock::steady();
        let fresh =
            candidates.looked.is_some_and(|looked| steady.saturating_sub(looked) < LOOK_AGAIN);
        if candidates.keys.is_empty() && !fresh {
            let (sessions, now) = (self.sessions.clone(), clock::now());
            let chance = Uuid::new_v4().as_u64_pair().0;
            let look = move || sessions.look_for_evictable(now, steady, chance);
            // A million sessions take some ten milliseconds, which no thread for packets has.
            let mut keys = tokio::task::spawn_blocking(look).await.unwrap_or_default();
            keys.reverse();
            *candidates = Candidates { keys, looked: Some(steady) };
        }
        candidates.keys.pop()
    }

    /// Ends a session that may still give way.
    async fn evict(&self, key: &SessionKey) -> bool {
        // For as long as this lives nobody begins a request of it.
        let Some(_turn) = self.turns.try_enter(key, TurnRequest::own()) else { return false };
        let found = self.sessions.evictable(key, clock::now(), clock::steady());
        let Some(Evictable { pin, birth }) = found else { return false };
        let farm = self.farm.load_full();
        if farm.view.backend(pin.backend).is_none_or(|backend| !backend.is_reachable()) {
            return false;
        }
        let result = match birth {
            Some(Birth { target, id }) => {
                let id = latin1::encode(&id).and_then(|id| HeaderValue::from_bytes(&id).ok());
                let request =
                    id.and_then(|id| BackendRequest::to_cancel(target, id, &farm, pin.backend));
                let Some(request) = request else { return false };
                let cancel = self.client.cancel(&request, &farm, pin.backend);
                let done = tokio::time::timeout(CANCEL, cancel).await;
                done.unwrap_or(OrphanResult::Failed)
            }
            // If it has a byte all the same, its client finds it by asking.
            None => OrphanResult::Dropped,
        };
        self.reporter.orphaned(pin.backend, result);
        if matches!(result, OrphanResult::Failed | OrphanResult::Refused) {
            return false;
        }
        let ended = self.sessions.give_way(key, &pin);
        if let Some(ended) = &ended {
            self.reporter.ended(ended, None);
        }
        ended.is_some()
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
