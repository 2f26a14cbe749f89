//! What carriers ask: the owners of the steps of a request, put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::passage::Edit;
use gateway_core::routing::ownership::Shared;
use gateway_core::session::live::Wait;
use http::HeaderValue;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::admission::{Admission, Course};
use super::arrival::Arrival;
use super::bodies::Bodies;
use super::cancellation::Cancellation;
use super::creates::Creates;
use super::deliveries::Deliveries;
use super::ends::Ends;
use super::failover::FailoverRunner;
use super::failure::{self, ConnectFailure, ExchangeFailure};
use super::forwarding::Forwarding;
use super::learning::{Learned, Learning, NotPassed};
use super::login::Login;
use super::logins::{self, Logins};
use super::lost_close::LostCloses;
use super::onward;
use super::orphans::OrphanCanceller;
use super::own_answer::{self, OwnAnswer};
use super::recovery::Recovery;
use super::report::Reporter;
use super::room::Room;
use super::router::Router;
use super::session_turns::{self, SessionTurns};
use super::state::Exchange;
use super::tries::{Tries, Way};
use super::turns::Turns;
use crate::base::clock;
use crate::config::RequestId;
use crate::farm::Farm;
use crate::farm::backend_client::BackendClient;
use crate::farm::health::FarmHealth;
use crate::guard::Conn;
use crate::process::readiness::Readiness;
use crate::process::supervisor::Shutdown;
use crate::sessions::Sessions;
use crate::telemetry::metrics::Carrier;

/// Serves requests, step by step, for whatever carries their bytes.
pub struct Gateway {
    farm: Arc<ArcSwap<Farm>>,
    health: FarmHealth,
    reporter: Arc<Reporter>,
    running: TaskTracker,
    shutdown_state: Shutdown,
    readiness: Readiness,
    requests: AtomicU64,
    pub(super) admission: Admission,
    pub(super) tries: Tries,
    pub(super) bodies: Arc<Bodies>,
    pub(super) learning: Learning,
    pub(super) cancellation: Arc<Cancellation>,
}

impl Gateway {
    /// The gateway, and the task that cancels what it leaves behind.
    pub fn new(
        farm: Arc<ArcSwap<Farm>>,
        health: FarmHealth,
        sessions: Arc<Sessions>,
        reporter: Reporter,
        (running, shutdown_state): (TaskTracker, Shutdown),
        bound_connections: usize,
    ) -> (Self, OrphanCanceller) {
        let client = Arc::new(BackendClient::new(farm.load().config.timeouts.ask));
        let life = (running, shutdown_state);
        Self::with_client(farm, health, sessions, reporter, life, bound_connections, client)
    }

    /// With another way to ask backends.
    pub(super) fn with_client(
        farm: Arc<ArcSwap<Farm>>,
        health: FarmHealth,
        sessions: Arc<Sessions>,
        reporter: Reporter,
        (running, shutdown_state): (TaskTracker, Shutdown),
        bound_connections: usize,
        client: Arc<BackendClient>,
    ) -> (Self, OrphanCanceller) {
        let reporter = Arc::new(reporter);
        let metrics = Arc::clone(&reporter.metrics);
        sessions.tell_of_evictions(move |ended| {
            let age = clock::now().since(ended.pin.created);
            let total = ended.progress.total;
            metrics.session_ended(ended.pin.backend, ended.reason, age, total);
        });
        let (farm_of, sessions_of) = (|| Arc::clone(&farm), || Arc::clone(&sessions));
        let (reporter_of, client_of) = (|| Arc::clone(&reporter), || Arc::clone(&client));
        let (orphans, canceller) = OrphanCanceller::new(
            client_of(),
            farm_of(),
            health.clone(),
            sessions_of(),
            reporter_of(),
        );
        let deliveries = Arc::<Deliveries>::default();
        let turns = Arc::<Turns>::default();
        let router = Arc::new(Router::new(sessions_of(), health.clone(), reporter_of()));
        let ends = Arc::new(Ends {
            sessions: sessions_of(),
            reporter: reporter_of(),
            deliveries: Arc::clone(&deliveries),
        });
        let failover =
            Arc::new(FailoverRunner::new(health.clone(), Arc::clone(&ends), Arc::clone(&router)));
        let session_turns =
            Arc::new(SessionTurns { turns: Arc::clone(&turns), sessions: sessions_of() });
        let bodies = Arc::new(Bodies::new(Arc::clone(&session_turns), reporter_of()));
        let creates = Arc::new(Creates {
            health: health.clone(),
            reporter: reporter_of(),
            router: Arc::clone(&router),
        });
        let cancellation = Arc::new(Cancellation {
            sessions: sessions_of(),
            reporter: reporter_of(),
            turns: Arc::clone(&session_turns),
            client: client_of(),
            orphans,
        });
        let admission = Admission {
            farm: farm_of(),
            health: health.clone(),
            sessions: sessions_of(),
            reporter: reporter_of(),
            router: Arc::clone(&router),
            failover: Arc::clone(&failover),
            turns: session_turns,
            bodies: Arc::clone(&bodies),
            deliveries,
            cancellation: Arc::clone(&cancellation),
            room: Room::new(farm_of(), sessions_of(), reporter_of(), turns, client_of()),
            recovery: Recovery::new(
                farm_of(),
                health.clone(),
                sessions_of(),
                reporter_of(),
                client_of(),
            ),
        };
        let bound = Arc::new(Semaphore::new(bound_connections));
        let tries = Tries {
            farm: farm_of(),
            health: health.clone(),
            reporter: reporter_of(),
            router,
            failover,
            creates: Arc::clone(&creates),
            logins: Logins { bound, reporter: reporter_of() },
        };
        let learning = Learning {
            health: health.clone(),
            sessions: sessions_of(),
            reporter: reporter_of(),
            ends: Arc::clone(&ends),
            creates,
            lost_closes: LostCloses::new(health.clone(), ends, client_of()),
            cancellation: Arc::clone(&cancellation),
        };
        let requests = AtomicU64::new(0);
        let gateway = Self {
            farm,
            health,
            reporter,
            running,
            shutdown_state,
            readiness: Readiness::default(),
            requests,
            admission,
            tries,
            bodies,
            learning,
            cancellation,
        };
        (gateway, canceller)
    }

    /// What balancers that ask here are told.
    pub fn telling(self, readiness: Readiness) -> Self {
        Self { readiness, ..self }
    }

    pub fn farms(&self) -> &Arc<ArcSwap<Farm>> {
        &self.farm
    }

    /// The farm as it stands.
    pub fn farm(&self) -> Guard<Arc<Farm>> {
        self.farm.load()
    }

    /// The answer that is about to be written is the last one on its connection: the process is
    /// about to end, and the next request belongs to another.
    pub fn is_leaving(&self) -> bool {
        self.shutdown_state.is_leaving()
    }

    /// A request is about to come to that carrier.
    pub fn expect(&self, carrier: Carrier) -> Exchange {
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let (farm, now, started) = (self.farm.load_full(), clock::now(), clock::steady());
        let mut arrival = Arrival::new(carrier, farm, id, now, started);
        arrival.running = Some(self.running.token());
        Exchange::new(arrival)
    }

    /// Its head is here. From now on it owes one report, however it ends.
    pub fn arrive(
        &self,
        conn: Option<Arc<Conn>>,
        head: &Arc<RequestHead>,
        exchange: &mut Exchange,
    ) {
        exchange.owe_report(&self.reporter, head);
        exchange.arrival.conn = conn;
        if let Some(conn) = &exchange.arrival.conn {
            let forwarding = Forwarding::of(&exchange.arrival.farm.config.http);
            let (client, speaker) = forwarding.client(conn, head);
            exchange.arrival.client = client;
            exchange.admitted.login = Login::of(conn, speaker);
        }
        let listener = exchange.arrival.conn.as_ref().map_or(0, |conn| conn.listener);
        exchange.arrival.request = Some(self.reporter.metrics.request(listener));
        if let Some(conn) = &exchange.arrival.conn {
            conn.wait_for_body(exchange.arrival.farm.config.timeouts.client_body);
        }
    }

    /// The answer to a request that is for the gateway itself.
    pub fn page_for(&self, head: &RequestHead, exchange: &Exchange) -> Option<OwnAnswer> {
        let public = exchange.arrival.farm.config.ops.public;
        own_answer::page_for(head, public, self.readiness.phase())
    }

    /// Decides where the request goes and leaves that in `exchange`, or says why it is answered.
    pub fn admit<'a>(
        &'a self,
        head: &'a RequestHead,
        exchange: &'a mut Exchange,
    ) -> impl Future<Output = Result<Course, Fault>> + Send + use<'a> {
        self.admission.admit(head, exchange)
    }

    /// The same for the carrier of plain HTTP.
    pub fn admit_plain(&self, head: &RequestHead, exchange: &mut Exchange) -> Result<(), Fault> {
        self.admission.admit_plain(head, exchange)
    }

    /// The rate at which the client of a request may send its body.
    pub fn begin_body(&self, exchange: &mut Exchange) {
        self.bodies.begin(exchange);
    }

    /// So many bytes of the body have come, and are about to go on; `end` says that these are the
    /// last. Waits until the bandwidth allows for them.
    ///
    /// # Errors
    /// The body must not go on. The findings hold the fault.
    pub fn body_came<'a>(
        &'a self,
        bytes: usize,
        end: bool,
        exchange: &'a mut Exchange,
    ) -> impl Future<Output = Result<(), Fault>> + Send + use<'a> {
        self.bodies.came(bytes, end, exchange)
    }

    /// Waits until the bandwidth allows for so many bytes of a body.
    pub fn keep_pace<'a>(
        &'a self,
        bytes: usize,
        end: bool,
        exchange: &'a mut Exchange,
    ) -> impl Future<Output = ()> + Send + use<'a> {
        self.bodies.keep_pace(bytes, end, exchange)
    }

    /// Begins the next try: at which backend, and over which connection.
    ///
    /// # Errors
    /// The fault to answer with, which the findings hold as well.
    pub fn next_try<'a>(
        &'a self,
        head: &'a RequestHead,
        exchange: &'a mut Exchange,
    ) -> impl Future<Output = Result<(BackendId, Way), Fault>> + Send + use<'a> {
        self.tries.next_try(head, exchange)
    }

    /// The same for a carrier all of whose connections are shared.
    ///
    /// # Errors
    /// The fault to answer with, which the findings hold as well.
    pub fn next_backend<'a>(
        &'a self,
        head: &'a RequestHead,
        exchange: &'a mut Exchange,
    ) -> impl Future<Output = Result<BackendId, Fault>> + Send + use<'a> {
        self.tries.next_backend(head, exchange)
    }

    /// No connection came about. Returns whether there is another try.
    pub fn connect_failed(&self, failure: ConnectFailure, exchange: &mut Exchange) -> bool {
        self.tries.connect_failed(failure, exchange)
    }

    /// How long a request waits for a place among the connections to its backend.
    pub fn connection_wait(&self, exchange: &Exchange) -> Duration {
        self.tries.connection_wait(exchange)
    }

    /// A connection for the request is there.
    ///
    /// # Errors
    /// The fault to answer with, which the findings hold as well.
    pub fn connected(&self, reused: bool, exchange: &mut Exchange) -> Result<(), Fault> {
        self.tries.connected(reused, exchange)
    }

    /// How the head of the request is changed for its backend.
    ///
    /// # Errors
    /// The fault to answer with.
    pub fn onward(&self, request: &RequestHead, exchange: &Exchange) -> Result<Vec<Edit>, Fault> {
        onward::onward(request, exchange)
    }

    /// The id of the request, where its backend is told.
    pub fn request_id(&self, exchange: &Exchange) -> Option<Uuid> {
        let arrival = &exchange.arrival;
        let own = arrival.farm.config.http.request_id == RequestId::Own;
        own.then(|| self.reporter.request_id(arrival.id))
    }

    /// An exchange with a backend has failed. Returns whether there is another try.
    pub fn exchange_failed(
        &self,
        head: &RequestHead,
        failure: ExchangeFailure,
        exchange: &mut Exchange,
    ) -> bool {
        self.tries.exchange_failed(head, failure, exchange)
    }

    /// The backend takes no more of the body for now.
    pub fn body_is_stuck(&self, exchange: &Exchange) {
        exchange.waits_for(Wait::Write);
    }

    /// It is stuck no more; `whole` says that the client has sent all of it.
    pub fn body_goes_on(&self, whole: bool, exchange: &Exchange) {
        exchange.waits_for(if whole { Wait::Answer } else { Wait::Client });
    }

    /// The head of an answer has come. False for a 1xx: another head follows.
    ///
    /// # Errors
    /// It does not go on. The findings hold the fault.
    pub fn answer_came(
        &self,
        response: &AnswerHead,
        exchange: &mut Exchange,
    ) -> Result<bool, Fault> {
        exchange.answer_came(response)
    }

    /// What the answer says of the login.
    pub fn note_challenge(&self, response: &AnswerHead, exchange: &mut Exchange) {
        logins::note_challenge(response, exchange);
    }

    /// A client that is not known is offered no login that would count for others too. Returns the
    /// challenges that stand in place of those of the answer, if not all of them may pass.
    ///
    /// # Errors
    /// None is left. The findings hold the fault.
    pub fn refuse_login(
        &self,
        response: &AnswerHead,
        exchange: &mut Exchange,
    ) -> Result<Option<Vec<HeaderValue>>, Fault> {
        self.tries.logins.refuse_login(response, exchange)
    }

    /// Applies what the answer teaches, then edits it.
    ///
    /// # Errors
    /// The client does not get this answer.
    pub fn learn<'a>(
        &'a self,
        head: &'a RequestHead,
        response: &'a AnswerHead,
        exchange: &'a mut Exchange,
    ) -> impl Future<Output = Result<Option<Learned>, NotPassed>> + Send + use<'a> {
        self.learning.learn(head, response, exchange)
    }

    /// Gives those that have joined the packet its answer. `edits` make it what its own client gets.
    pub fn share(&self, what: Shared, response: &AnswerHead, edits: &[Edit], exchange: &Exchange) {
        session_turns::share(what, response, edits, exchange);
    }

    /// The gateway's own answer for a fault.
    pub fn answer_for(&self, fault: Fault, head: &RequestHead, exchange: &Exchange) -> OwnAnswer {
        own_answer::answer_for(fault, head, exchange)
    }

    /// The fault to answer with when no answer came: what was found on the way counts before what
    /// the carrier says. `None` where nobody is left to be answered.
    pub fn fault_of_failure(&self, seen: Option<Fault>, exchange: &mut Exchange) -> Option<Fault> {
        failure::fault_of_failure(seen, &self.health, exchange)
    }

    /// The request is over; `exchange.sent` says what its client got.
    pub async fn finish(&self, head: &RequestHead, exchange: &mut Exchange) {
        exchange.report();
        if exchange.answered.opened.is_some() {
            Box::pin(self.cancellation.cancel_undelivered(head, exchange)).await;
        }
        self.bodies.end(exchange);
        if let Some(live) = exchange.admitted.live.take() {
            live.answered(exchange.sent.status);
        }
        // The session's next request may come on another connection as soon as this one is over.
        exchange.admitted.turn = None;
        if let Some(conn) = &exchange.arrival.conn {
            conn.request_done();
        }
    }
}
