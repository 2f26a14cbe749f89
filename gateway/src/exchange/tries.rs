//! Carrying out a decision: the tries to have a backend serve a request, and what it is sent.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::PacketType;
use gateway_core::protocol::head::RequestHead;
use gateway_core::routing::failover::{MAX_TRIES, ends_or_moves, try_another};
use gateway_core::routing::retry::MAX_REPEATS;
use gateway_core::routing::{Failure, Lookup, Step, Why, may_retry};
use gateway_core::session::live::Wait;

use super::Exchange;
use super::creates::Creates;
use super::failover::{FailoverRunner, Went};
use super::failure::{ConnectFailure, ExchangeFailure};
use super::logins::Logins;
use super::report::Reporter;
use super::router::{Router, follow};
use super::state::Attempt;
use super::turns::Turn;
use crate::farm::Farm;
use crate::farm::health::FarmHealth;
use crate::guard::BoundConnections;
use crate::telemetry::metrics::{ConnectError, FailoverReason};

/// So long a request waits for a connection to a backend where another one may have it: longer than an
/// unused connection stays with its client.
const ELSEWHERE: Duration = Duration::from_secs(3);

/// The connection over which a request goes.
#[derive(Clone)]
pub enum Way {
    /// One that serves everybody.
    Shared,
    /// A new one that serves no other request.
    Once,
    /// One that belongs to its client.
    Bound(Arc<BoundConnections>),
}

/// Whether only one backend may have the request. A Create is not bound to the alias that its
/// client still remembers.
fn is_owned(exchange: &Exchange) -> bool {
    let admitted = &exchange.admitted;
    let named = matches!(admitted.why, Some(Why::Pin | Why::Alias | Why::Asked | Why::Delivered));
    named && admitted.kind() != Some(PacketType::CreateSession)
}

/// Has backends tried one after the other, until one serves the request.
pub(super) struct Tries {
    pub farm: Arc<ArcSwap<Farm>>,
    pub health: FarmHealth,
    pub reporter: Arc<Reporter>,
    pub router: Arc<Router>,
    pub failover: Arc<FailoverRunner>,
    pub creates: Arc<Creates>,
    pub logins: Logins,
}

impl Tries {
    /// Begins the next try: at which backend, and over which connection.
    ///
    /// # Errors
    /// The fault to answer with, which the findings hold as well.
    pub async fn next_try(
        &self,
        head: &RequestHead,
        exchange: &mut Exchange,
    ) -> Result<(BackendId, Way), Fault> {
        let backend = self.next_backend(head, exchange).await?;
        let way = match self.logins.keep_apart(head, backend, exchange) {
            Ok(Way::Shared) if exchange.tries.avoid_pool => Ok(Way::Once),
            way => way,
        };
        let chosen = way.map(|way| (backend, way));
        chosen.inspect_err(|&fault| exchange.findings.fault = Some(fault))
    }

    /// The same for a carrier all of whose connections are shared, to which no request comes that has a
    /// login.
    ///
    /// # Errors
    /// The fault to answer with, which the findings hold as well.
    pub async fn next_backend(
        &self,
        head: &RequestHead,
        exchange: &mut Exchange,
    ) -> Result<BackendId, Fault> {
        let chosen = self.choose_next(head, exchange).await;
        chosen.inspect_err(|&fault| exchange.findings.fault = Some(fault))
    }

    async fn choose_next(
        &self,
        head: &RequestHead,
        exchange: &mut Exchange,
    ) -> Result<BackendId, Fault> {
        if exchange.tries.count > 0 && !exchange.admitted.creating.is_chosen() {
            exchange.waits_for(Wait::Backend);
            Box::pin(self.choose_again(head, exchange)).await?;
        }
        let farm = &exchange.arrival.farm;
        let kind = exchange.admitted.kind();
        // A Fragment and a Close may be answered by an application behind the server.
        let by_application = matches!(kind, Some(PacketType::Fragment | PacketType::CloseSession));
        let long = exchange.arrival.has_body || by_application;
        let timeouts = &farm.config.timeouts;
        exchange.tries.count += 1;
        exchange.waits_for(Wait::Connection);
        let patience = if long { timeouts.answer_long } else { timeouts.answer };
        exchange.attempt = Attempt::new(patience);
        let backend = exchange.admitted.backend.filter(|&id| farm.address(id).is_some());
        let Some(backend) = backend else {
            // Its name has no address any more.
            return Err(if is_owned(exchange) { Fault::BackendDown } else { Fault::NoBackend });
        };
        if let Some(conn) = &exchange.arrival.conn {
            conn.answer_is_here();
        }
        Ok(backend)
    }

    /// What no backend owns may go elsewhere; a packet with an owner waits for it a moment.
    async fn choose_again(&self, head: &RequestHead, exchange: &mut Exchange) -> Result<(), Fault> {
        if let (Some(step), Some(owner)) = (exchange.tries.step.take(), exchange.admitted.backend)
            && self.failover.carry_out(step, owner, pending(), head, exchange).await?
                == Went::Elsewhere
        {
            return Ok(());
        }
        if is_owned(exchange) {
            // Its name may lead to another address by now.
            exchange.arrival.farm = self.farm.load_full();
            return Ok(());
        }
        let alias = self.router.alias_of(head, exchange).unwrap_or_default();
        let decided = match exchange.admitted.packet.clone() {
            // It had an owner that was given up; the one chosen in its place refuses too.
            Some(_) if ends_or_moves(exchange.admitted.kind(), exchange.admitted.key.is_some()) => {
                self.router.decide_again(exchange)
            }
            Some(packet) => {
                let decision = self.router.decide(&packet, &Lookup::NotAsked, exchange, alias);
                follow(decision, exchange)
            }
            None => self.router.decide_plain(None, None, exchange, alias),
        };
        decided.map_err(|denied| match denied.fault() {
            Fault::NoBackend if exchange.tries.busy => Fault::BackendBusy,
            Fault::NoBackend => exchange.tries.distrust.when_none_is_left(),
            fault => fault,
        })
    }

    /// No connection came about. Returns whether there is another try.
    pub fn connect_failed(&self, failure: ConnectFailure, exchange: &mut Exchange) -> bool {
        let owned = is_owned(exchange);
        if self.try_next_address(failure, exchange) {
            return true;
        }
        if let Some(backend) = exchange.admitted.backend.filter(|_| failure.by_backend) {
            self.health.connect_failed(backend);
        }
        exchange.tries.avoid.extend(exchange.admitted.backend.filter(|_| !owned));
        exchange.tries.distrust.note(failure.distrust);
        exchange.tries.busy |= failure.busy;
        let again = match exchange.admitted.backend.filter(|_| owned) {
            // It has waited for as long as it may.
            Some(_) if failure.busy => Err(Fault::BackendBusy),
            Some(owner) => {
                let refuses = self.failover.refuses(owner, failure.distrust, exchange);
                match exchange.arrival.farm.config.failover.step(refuses, &exchange.held()) {
                    Step::Later(fault) => Err(fault),
                    step => {
                        exchange.tries.step = Some(step);
                        Ok(())
                    }
                }
            }
            None => try_another(exchange.tries.count, exchange.tries.distrust),
        };
        if let Some(backend) = exchange.admitted.backend {
            self.note_connect_error(backend, failure.error, again.is_ok() && !owned);
        }
        if let Err(fault) = again {
            exchange.findings.fault.get_or_insert(fault);
        }
        again.is_ok()
    }

    /// How long a request waits for a place among the connections to its backend: where another
    /// backend may have it, not for long.
    pub fn connection_wait(&self, exchange: &Exchange) -> Duration {
        let hold = exchange.arrival.farm.config.failover.hold;
        if is_owned(exchange) { hold } else { hold.min(ELSEWHERE) }
    }

    /// Has a Create go on at the next address of its backend's name, where no upload can lie at the
    /// one that cannot be reached.
    fn try_next_address(&self, failure: ConnectFailure, exchange: &mut Exchange) -> bool {
        let tries = exchange.admitted.kind() == Some(PacketType::CreateSession)
            && exchange.tries.count < MAX_TRIES;
        let backend = exchange.admitted.backend.filter(|_| tries && failure.by_backend);
        let Some(backend) = backend else { return false };
        let next = exchange
            .arrival
            .farm
            .address(backend)
            .is_some_and(|at| self.health.try_next(backend, at));
        if next {
            self.note_connect_error(backend, failure.error, false);
            exchange.arrival.farm = self.farm.load_full();
        }
        next
    }

    /// An exchange with a backend has failed. Returns whether there is another try.
    pub fn exchange_failed(
        &self,
        head: &RequestHead,
        failure: ExchangeFailure,
        exchange: &mut Exchange,
    ) -> bool {
        let failed = Failure {
            reused: failure.reused,
            answered: exchange.attempt.answer_began || !failure.died_silently,
            body_whole: failure.replayable,
        };
        let retry = may_retry(exchange.admitted.repeatable, failed)
            && exchange.tries.count < MAX_REPEATS
            && !exchange.admitted.login.bound;
        if self.creates.outlives(head, failure, exchange) {
            return true;
        }
        // The connection was dead, not the backend: the next try need not wait, but it must not
        // find the next dead connection in the pool.
        exchange.tries.step = None;
        exchange.tries.avoid_pool = retry;
        retry
    }

    /// A connection for the request is there.
    ///
    /// # Errors
    /// The fault to answer with, which the findings hold as well.
    pub fn connected(&self, reused: bool, exchange: &mut Exchange) -> Result<(), Fault> {
        let connected = self.use_connection(reused, exchange);
        if let Err(fault) = connected {
            exchange.findings.fault = Some(fault);
        }
        connected
    }

    fn use_connection(&self, reused: bool, exchange: &mut Exchange) -> Result<(), Fault> {
        exchange.tries.reused = reused;
        exchange.waits_for(if exchange.arrival.has_body { Wait::Client } else { Wait::Answer });
        if let Some(backend) = exchange.admitted.backend {
            self.logins.bind_connected(backend, reused, exchange)?;
            if let Some(conn) = &exchange.arrival.conn {
                conn.used_backend(backend);
            }
            let login = &exchange.admitted.login;
            if let Some(bound_connections) =
                login.bound_connections.as_ref().filter(|_| login.bound)
            {
                bound_connections.used_backend(backend);
            }
            if let Some(live) = exchange.admitted.live.as_ref().filter(|_| exchange.admitted.moved)
            {
                live.goes_to(backend);
            }
            self.failover.is_back(backend);
            if !reused {
                self.health.connected(backend);
            }
            self.note_connected(backend, exchange);
        }
        let cancelled = exchange.admitted.turn.as_ref().is_some_and(Turn::is_cancelled);
        if cancelled { Err(Fault::Superseded) } else { Ok(()) }
    }

    fn note_connect_error(&self, backend: BackendId, error: ConnectError, moves_on: bool) {
        let metrics = &self.reporter.metrics;
        metrics.connect_error(backend, error);
        if moves_on {
            metrics.failover(backend, FailoverReason::Connect);
        }
    }

    fn note_connected(&self, backend: BackendId, exchange: &mut Exchange) {
        let metrics = &self.reporter.metrics;
        exchange.tries.backend_request =
            Some(metrics.backend_connected(backend, exchange.tries.reused));
    }
}

#[cfg(test)]
#[path = "tries_tests.rs"]
mod tests;
