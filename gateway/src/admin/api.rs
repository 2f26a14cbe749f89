//! What is done about a request: checked, performed, logged, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use gateway_core::farm::{AdminState, BackendId};
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::Timestamp;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::access::{self, Peer};
use super::control::{BackendInfo, Control};
use super::estimate::Estimates;
use super::rates::Rates;
use super::refusal::Refusal;
use super::route::{Call, EventQuery, From, Handle, route};
use super::view;
use super::which::Which;
use crate::base::clock;
use crate::config::token::Token;
use crate::process::supervisor::{TaskResult, told_to_stop};
use crate::sessions::listing::{Filter, Forgotten, InState, Listings, Query};
use crate::sessions::names::Named;
use crate::sessions::view::{Left, Moment, Row};
use crate::telemetry::events::wire;
use crate::telemetry::log::Untrusted;
use crate::telemetry::metrics::{AdminAction, AdminResult};

/// Backends are looked at this often.
const SAMPLE: Duration = Duration::from_secs(10);

/// Sessions that are forgotten together share a commit.
const ENDS_AT_ONCE: usize = 256;

/// Refused requests that the log tells of; the metric counts every one. Any program on this
/// machine may ask, and must not be able to fill the disk.
const REFUSALS_PER_SECOND: u64 = 5;

/// The interface, whichever way it is reached. Clones share everything.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    control: Control,
    /// For requests over TCP; a Unix socket has its permissions.
    token: Option<Token>,
    estimates: Mutex<Estimates>,
    rates: Mutex<Rates>,
    listings: Listings,
    started: Timestamp,
    started_steady: Duration,
    /// Seconds of the steady clock, times 2^16, plus refusals logged in that second.
    refusals: AtomicU64,
}

/// An answer, and what it was about, for the log.
struct Done {
    body: String,
    subject: Option<String>,
}

type Outcome = Result<Done, Refusal>;

impl Api {
    /// Without a token nobody gets in over TCP.
    pub fn new(control: Control, token: Option<Token>) -> Self {
        Self(Arc::new(Inner {
            control,
            token,
            estimates: Mutex::default(),
            rates: Mutex::default(),
            listings: Listings::default(),
            started: clock::now(),
            started_steady: clock::steady(),
            refusals: AtomicU64::new(0),
        }))
    }

    /// Answers one request. `has_body` says that it brings a body, which no call takes.
    pub async fn handle(&self, peer: Peer, parts: Parts, has_body: bool) -> Response<String> {
        let asked = route(&parts.method, &parts.uri);
        let action = asked.as_ref().map_or(AdminAction::Unknown, Call::action);
        let allowed = access::check(&peer, self.0.token.as_ref(), &parts);
        let call = match allowed.and_then(|()| no_body(has_body)).and(asked) {
            Ok(call) => call,
            Err(refusal) => {
                self.note(peer, action, None, Err(&refusal));
                return refuse(&refusal);
            }
        };
        // A task of its own: what has begun goes on to its end and to its line in the log, even if
        // whoever asked for it hangs up.
        let api = self.clone();
        let task = tokio::spawn(async move {
            let subject = subject(&call);
            let outcome = api.perform(call).await;
            match &outcome {
                Ok(done) => {
                    let subject = done.subject.as_ref().or(subject.as_ref());
                    api.note(peer, action, subject, Ok(()));
                }
                Err(refusal) => api.note(peer, action, subject.as_ref(), Err(refusal)),
            }
            outcome
        });
        match task.await {
            Ok(Ok(done)) => respond(StatusCode::OK, done.body),
            Ok(Err(refusal)) => refuse(&refusal),
            Err(_) => {
                let refusal = Refusal::failed("something went wrong inside; the log says more");
                self.note(peer, action, None, Err(&refusal));
                refuse(&refusal)
            }
        }
    }

    /// Looks at backends and live uploads now and then, so that there is a rate, and an estimate of what is drained,
    /// for whoever asks.
    pub async fn watch_backends(self, mut stop: watch::Receiver<bool>) -> TaskResult {
        loop {
            let backends = (self.0.control.backends)();
            let bytes = backends.iter().map(|backend| (backend.id, backend.totals.uploaded));
            self.0.rates.lock().look(clock::steady(), bytes);
            self.0.control.sessions.live_uploads().look(clock::steady());
            let draining: Vec<BackendId> = backends
                .iter()
                .filter(|backend| backend.admin == AdminState::Drain)
                .map(|backend| backend.id)
                .collect();
            self.0.estimates.lock().retain(|backend| draining.contains(&backend));
            if !draining.is_empty()
                && let Ok(left) = self.left().await
            {
                let mut estimates = self.0.estimates.lock();
                for backend in draining {
                    estimates.note(backend, clock::steady(), of(&left, backend).bytes);
                }
            }
            tokio::select! {
                () = told_to_stop(&mut stop) => return Ok(()),
                () = tokio::time::sleep(SAMPLE) => {}
            }
        }
    }

    async fn perform(&self, call: Call) -> Outcome {
        let control = &self.0.control;
        match call {
            Call::Status => {
                let judge = control.judge.clone();
                let uptime = clock::steady().saturating_sub(self.0.started_steady).as_secs();
                let sessions =
                    view::Fill { count: control.sessions.len(), limit: control.sessions.limit() };
                done(&view::Status::new(
                    control.readiness.phase(),
                    self.0.started,
                    uptime,
                    sessions,
                    (control.store)(),
                    &(control.backends)(),
                    blocking(move || judge.verdict()).await?,
                ))
            }
            Call::Sessions { which, after, limit } => {
                let backends = (control.backends)();
                let filter = filter(which, &backends)?;
                let (api, at) = (self.clone(), Moment::now());
                let page = move || {
                    let sessions = &api.0.control.sessions;
                    let query = Query { filter: sessions.with_names(filter), after, limit };
                    api.0.listings.page(sessions, &query, at)
                };
                let page = blocking(page).await?;
                let page = page.map_err(|Forgotten| {
                    Refusal::conflict("listing_forgotten", Forgotten.to_string())
                })?;
                let session = |row: &Row| self.session(row, &backends, at);
                done(&view::Page {
                    sessions: page.rows.iter().map(session).collect(),
                    next: page.next.map(|next| next.to_string()),
                    matching: page.matching,
                })
            }
            Call::Session(handle) => {
                let row = self.row(handle).await?;
                done(&self.session(&row, &(control.backends)(), Moment::now()))
            }
            Call::Forget(handle) => self.forget(handle).await,
            Call::ForgetAll(which) => self.forget_all(which).await,
            Call::Backends => {
                let left = self.left().await?;
                let backends = (control.backends)();
                let row = |info: &BackendInfo| self.view(info, &left);
                done(&view::Backends { backends: backends.iter().map(row).collect() })
            }
            Call::Backend(name) => done(&self.backend(&name).await?),
            Call::SetState(name, state) => self.set_state(&name, state).await,
            Call::Drain(name) => {
                let left = self.left().await?;
                let info = find(&(control.backends)(), &name)?;
                let left = of(&left, info.id);
                // A backend that takes new uploads is not on its way to the end.
                let pace = if info.admin == AdminState::Drain {
                    self.0.estimates.lock().note(info.id, clock::steady(), left.bytes)
                } else {
                    None
                };
                done(&view::Drain::new(&info, left, pace))
            }
            Call::Move(name) => self.move_sessions(&name).await,
            Call::Reload => done(&(control.reload)().await?),
            Call::Preview => done(&(control.preview)().await?),
            Call::Events(EventQuery { from, limit, kinds }) => {
                let events = control.events.clone();
                let page = move || match from {
                    From::Time(since) => events.newest(limit, since, &kinds),
                    From::Last(span) => events.newest(limit, clock::now().before(span), &kinds),
                    From::Cursor(cursor) => events.behind(cursor, limit, &kinds),
                };
                done(&wire::page(&blocking(page).await?))
            }
        }
    }

    async fn forget(&self, handle: Handle) -> Outcome {
        let control = &self.0.control;
        let row = self.row(handle).await?;
        if !(control.forget)(row.key.clone()).await? {
            return Err(no_session());
        }
        let forgotten = self.session(&row, &(control.backends)(), Moment::now());
        let Done { body, .. } = done(&view::Forgotten { forgotten })?;
        Ok(Done { body, subject: Some(format!("{} {}", row.key.short(), row.mark())) })
    }

    /// Each is looked at once more before it goes: its client may have come back.
    async fn forget_all(&self, which: Which) -> Outcome {
        let control = &self.0.control;
        let said = which.to_string();
        let filter = filter(which, &(control.backends)())?;
        let sessions = Arc::clone(&control.sessions);
        let found = move || {
            let filter = sessions.with_names(filter);
            (sessions.matching(&filter, Moment::now()), filter)
        };
        let (keys, filter) = blocking(found).await?;
        let still = |key: &SessionKey| control.sessions.matches(key, &filter, Moment::now());
        let forget =
            |key| async move { if still(&key) { (control.forget)(key).await } else { Ok(false) } };
        let ends = stream::iter(keys).map(forget).buffer_unordered(ENDS_AT_ONCE);
        let forgotten =
            ends.try_fold(0, |sum, one| async move { Ok(sum + u64::from(one)) }).await?;
        let Done { body, .. } = done(&view::AllForgotten { forgotten })?;
        Ok(Done { body, subject: Some(format!("{forgotten} sessions, {said}")) })
    }

    async fn set_state(&self, name: &str, state: AdminState) -> Outcome {
        let control = &self.0.control;
        let before = find(&(control.backends)(), name)?;
        // Of one that is gone only this can still be decided, and taken back.
        let of_the_gone = [before.admin, state].contains(&AdminState::Lost)
            && matches!(state, AdminState::Lost | AdminState::Ready);
        if !before.configured && !of_the_gone {
            let message = "this backend was removed from the configuration";
            return Err(Refusal::conflict("backend_removed", message));
        }
        (control.set_state)(before.id, state).await?;
        let nobody = !(control.backends)().iter().any(BackendInfo::is_eligible);
        let warning = (nobody && state != AdminState::Ready)
            .then(|| "no backend takes new uploads now".to_owned());
        let backend = self.backend(name).await?;
        done(&view::Changed { changed: before.admin != state, backend, warning })
    }

    async fn move_sessions(&self, name: &str) -> Outcome {
        let control = &self.0.control;
        let backends = (control.backends)();
        let info = find(&backends, name)?;
        if info.configured && info.admin == AdminState::Ready {
            let message = "the backend takes new uploads; drain it first";
            return Err(Refusal::conflict("backend_is_ready", message));
        }
        if !backends.iter().any(|other| other.id != info.id && other.is_eligible()) {
            let message = "no other backend takes new uploads: the clients would start over \
                           and find nobody";
            return Err(Refusal::conflict("no_backend_left", message));
        }
        let moved = (control.move_sessions)(info.id).await?;
        let backend = self.backend(name).await?;
        let Done { body, .. } = done(&view::Moved { moved, backend })?;
        Ok(Done { body, subject: Some(format!("{} {moved} sessions", info.name)) })
    }

    async fn backend(&self, name: &str) -> Result<view::Backend, Refusal> {
        let left = self.left().await?;
        let info = find(&(self.0.control.backends)(), name)?;
        Ok(self.view(&info, &left))
    }

    fn view(&self, info: &BackendInfo, left: &[Left]) -> view::Backend {
        let rate = self.0.rates.lock().rate(info.id, clock::steady(), info.totals.uploaded);
        view::Backend::new(info, of(left, info.id), rate, clock::now())
    }

    async fn left(&self) -> Result<Vec<Left>, Refusal> {
        let sessions = Arc::clone(&self.0.control.sessions);
        blocking(move || sessions.left(Moment::now())).await
    }

    async fn row(&self, handle: Handle) -> Result<Row, Refusal> {
        let sessions = &self.0.control.sessions;
        let row = match handle {
            Handle::Id(id) => key(&id).and_then(|key| sessions.show(&key)),
            Handle::Mark(mark) => {
                let sessions = Arc::clone(sessions);
                blocking(move || sessions.marked(mark)).await?
            }
        };
        let mut row = [row.ok_or_else(no_session)?];
        let sessions = Arc::clone(sessions);
        let named = move || {
            sessions.add_names(&mut row);
            row
        };
        let [row] = blocking(named).await?;
        Ok(row)
    }

    fn session(&self, row: &Row, backends: &[BackendInfo], at: Moment) -> view::Session {
        let backend = backends.iter().find(|backend| backend.id == row.pin.backend);
        let terms = view::Terms {
            idle_timeout: (self.0.control.idle_timeout)(),
            fallback_timeout: backend.and_then(|backend| backend.fallback_timeout),
            away: backend.is_some_and(BackendInfo::is_away),
        };
        view::Session::new(row, backend.map_or("", |backend| &*backend.name), terms, at)
    }

    fn note(
        &self,
        peer: Peer,
        action: AdminAction,
        subject: Option<&String>,
        outcome: Result<(), &Refusal>,
    ) {
        let result = outcome.map_or_else(|refusal| refusal.result, |()| AdminResult::Ok);
        self.0.control.metrics.admin_action(action, result);
        if let Some(event) = super::told::event(&peer, action, subject, outcome) {
            self.0.control.events.tell(event);
        }
        let changes = !matches!(action, AdminAction::Read | AdminAction::Unknown);
        let (action, result) = (action.label(), result.label());
        let subject = Untrusted(subject.map_or(b"-", |subject| subject.as_bytes()));
        match outcome {
            Ok(()) if changes => {
                tracing::info!(action, result, %subject, by = %peer, "admin action");
            }
            Err(refusal) if refusal.result == AdminResult::Refused => {
                if self.may_log_refusal() {
                    let code = refusal.code;
                    tracing::warn!(action, result, code, by = %peer, "admin request refused");
                }
            }
            Err(refusal) if changes => {
                let (code, error) = (refusal.code, Untrusted(refusal.message.as_bytes()));
                tracing::warn!(action, result, %subject, code, %error, by = %peer,
                    "admin action did not take place");
            }
            _ => tracing::debug!(action, result, %subject, by = %peer, "admin request"),
        }
    }

    fn may_log_refusal(&self) -> bool {
        let second = clock::steady().as_secs() << 16;
        let next = |seen: u64| {
            let logged = if seen >> 16 == second >> 16 { seen & 0xffff } else { 0 };
            (logged < REFUSALS_PER_SECOND).then_some(second | (logged + 1))
        };
        self.0.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// Walks over the session table are for threads that nobody waits on.
async fn blocking<T: Send + 'static>(
    walk: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    spawn_blocking(walk)
        .await
        .map_err(|_| Refusal::failed("something went wrong inside; the log says more"))
}

fn find(backends: &[BackendInfo], name: &str) -> Result<BackendInfo, Refusal> {
    let found = backends.iter().find(|backend| backend.name.eq_ignore_ascii_case(name));
    found.cloned().ok_or_else(|| {
        let name = Untrusted(name.as_bytes());
        Refusal::not_found("backend_not_found", format!("there is no backend \"{name}\""))
    })
}

fn of(left: &[Left], backend: BackendId) -> Left {
    left.get(backend.0 as usize).copied().unwrap_or_default()
}

fn filter(which: Which, backends: &[BackendInfo]) -> Result<Filter, Refusal> {
    let Which { state, backend, client, path, idle_for } = which;
    let backend = backend.map(|name| find(backends, &name)).transpose()?.map(|found| found.id);
    let away = backends.iter().filter(|backend| backend.is_away()).map(|backend| backend.id);
    let state = state.map(|state| InState { state, away: away.collect() });
    Ok(Filter { state, backend, client, path, idle_for, named: Named::default() })
}

fn key(id: &str) -> Option<SessionKey> {
    SessionId::parse(id).map(|id| id.key().clone())
}

fn no_session() -> Refusal {
    Refusal::not_found("session_not_found", "there is no such session")
}

fn no_body(has_body: bool) -> Result<(), Refusal> {
    match has_body {
        false => Ok(()),
        true => Err(Refusal::invalid("unexpected_body", "no call takes a body")),
    }
}

fn subject(call: &Call) -> Option<String> {
    match call {
        Call::Session(handle) | Call::Forget(handle) => Some(format!("{handle:?}")),
        Call::Backend(name) | Call::SetState(name, _) | Call::Drain(name) | Call::Move(name) => {
            Some(name.clone())
        }
        Call::ForgetAll(which) => Some(which.to_string()),
        Call::Status
        | Call::Sessions { .. }
        | Call::Backends
        | Call::Reload
        | Call::Preview
        | Call::Events(_) => None,
    }
}

fn done(view: &impl Serialize) -> Outcome {
    Ok(Done { body: text(view), subject: None })
}

fn text(view: &impl Serialize) -> String {
    let mut text = serde_json::to_string(view).expect("views have text for keys");
    text.push('\n');
    text
}

fn refuse(refusal: &Refusal) -> Response<String> {
    let error = view::ProblemBody {
        code: refusal.code,
        message: &refusal.message,
        details: refusal.details.as_deref(),
        findings: refusal.findings.as_deref(),
    };
    let mut response = respond(refusal.status, text(&view::Problem { error }));
    let mut header = |name: HeaderName, value: &'static str| {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    if let Some(allow) = refusal.allow {
        header(ALLOW, allow);
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        header(WWW_AUTHENTICATE, "Bearer");
    }
    response
}

fn respond(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
