//! What is done about a request: checked, performed, logged, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use gateway_core::farm::{AdminState, BackendId};
use gateway_core::protocol::SessionKey;
use gateway_core::session::Timestamp;
use http::header::WWW_AUTHENTICATE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::access::{Access, Entrance, Peer, Role};
use super::body::AnswerBody;
use super::control::{BackendInfo, Control};
use super::estimate::Estimates;
use super::look::{Recent, filter, find, no_session, of};
use super::page::Pages;
use super::rates::Rates;
use super::refusal::Refusal;
use super::route::{Call, EventQuery, From, Handle, route};
use super::service::{JSON, respond};
use super::view;
use super::which::Which;
use crate::base::clock;
use crate::process::supervisor::TaskResult;
use crate::sessions::listing::Listings;
use crate::sessions::view::{Left, Moment};
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
    access: Access,
    pages: Pages,
    estimates: Mutex<Estimates>,
    rates: Mutex<Rates>,
    listings: Listings,
    /// Locked for as long as somebody walks over the table for a page.
    recent: tokio::sync::Mutex<Recent>,
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
    pub fn new(control: Control, access: Access) -> Self {
        Self(Arc::new(Inner {
            control,
            access,
            pages: Pages::default(),
            estimates: Mutex::default(),
            rates: Mutex::default(),
            listings: Listings::default(),
            recent: tokio::sync::Mutex::default(),
            started: clock::now(),
            started_steady: clock::steady(),
            refusals: AtomicU64::new(0),
        }))
    }

    /// Answers one request. `has_body` says that it brings a body, which no call takes.
    pub async fn handle(
        &self,
        from: Entrance,
        parts: Parts,
        has_body: bool,
    ) -> Response<AnswerBody> {
        let asked = route(&parts.method, &parts.uri);
        let action = asked.as_ref().map_or(AdminAction::Unknown, Call::action);
        let access = &self.0.access;
        let allowed = access.site(&from, &parts, false);
        let allowed = allowed.and_then(|()| access.bearer(&from, &parts.headers));
        match allowed.and_then(|role| no_body(has_body).and(asked).map(|call| (role, call))) {
            Ok((role, call)) => match self.act(from.peer, role, call).await {
                Ok(body) => respond(StatusCode::OK, JSON, None, body),
                Err(refusal) => refuse(&refusal),
            },
            Err(refusal) => {
                self.note(from.peer, action, None, Err(&refusal));
                refuse(&refusal)
            }
        }
    }

    /// Does what is asked, for somebody who was let in; the answer is JSON.
    pub(super) async fn act(&self, peer: Peer, role: Role, call: Call) -> Result<String, Refusal> {
        let action = call.action();
        if role < Role::Operator && action != AdminAction::Read {
            let message = "a viewer sees everything and changes nothing";
            let refusal = Refusal::foreign("viewer_only", message);
            self.note(peer, action, subject(&call).as_ref(), Err(&refusal));
            return Err(refusal);
        }
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
            Ok(outcome) => outcome.map(|done| done.body),
            Err(_) => {
                let refusal = Refusal::failed("something went wrong inside; the log says more");
                self.note(peer, action, None, Err(&refusal));
                Err(refusal)
            }
        }
    }

    pub(super) fn control(&self) -> &Control {
        &self.0.control
    }

    pub(super) fn access(&self) -> &Access {
        &self.0.access
    }

    pub(super) fn pages(&self) -> &Pages {
        &self.0.pages
    }

    pub(super) fn listings(&self) -> &Listings {
        &self.0.listings
    }

    pub(super) fn recent(&self) -> &tokio::sync::Mutex<Recent> {
        &self.0.recent
    }

    /// When, and how long ago.
    pub(super) fn started(&self) -> (Timestamp, Duration) {
        (self.0.started, clock::steady().saturating_sub(self.0.started_steady))
    }

    /// Looks at backends and live uploads now and then, so that there is a rate, and an estimate of what is drained,
    /// for whoever asks.
    pub async fn watch_backends(self, stop: CancellationToken) -> TaskResult {
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
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(SAMPLE) => {}
            }
        }
    }

    async fn perform(&self, call: Call) -> Outcome {
        let control = &self.0.control;
        match call {
            Call::Status => done(&self.status().await?),
            Call::Sessions { which, after, limit, more } => {
                done(&self.sessions(which, after, limit, more).await?)
            }
            Call::Session(handle) => done(&self.one(handle).await?),
            Call::Forget(handle) => self.forget(handle).await,
            Call::ForgetAll(which) => self.forget_all(which).await,
            Call::Backends => done(&view::Backends { backends: self.backends().await? }),
            Call::Backend(name) => done(&self.backend(&name).await?),
            Call::SetState(name, state) => self.set_state(&name, state).await,
            Call::DrainProgress(name) => done(&self.drain(&name).await?),
            Call::Move(name) => self.move_sessions(&name).await,
            Call::Reload => done(&(control.reload)().await?),
            Call::Preview => done(&self.preview().await?),
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

    pub(super) fn view(&self, info: &BackendInfo, left: &[Left]) -> view::Backend {
        let rate = self.0.rates.lock().rate(info.id, clock::steady(), info.totals.uploaded);
        view::Backend::new(info, of(left, info.id), rate, clock::now())
    }

    /// How far its drain is.
    pub(super) fn estimate(&self, info: &BackendInfo, left: Left) -> view::Drain {
        // A backend that takes new uploads is not on its way to the end.
        let pace = if info.admin == AdminState::Drain {
            self.0.estimates.lock().note(info.id, clock::steady(), left.bytes)
        } else {
            None
        };
        view::Drain::new(info, left, pace)
    }

    pub(super) fn note(
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

/// Walks at once. A place is kept until the walk has ended: a browser that leaves does not end it.
static WALKS: Semaphore = Semaphore::const_new(4);

/// How long a walk waits for a place. Those before it may hang with the disk of the store.
const WALK_WAIT: Duration = Duration::from_secs(5);

/// Walks over the session table or over the events, on threads that serve no traffic.
pub(super) async fn blocking<T: Send + 'static>(
    walk: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let place = match timeout(WALK_WAIT, WALKS.acquire()).await {
        Ok(place) => place.map_err(|_| broken())?,
        Err(_) => {
            return Err(Refusal::busy(
                "others read the sessions and do not get on; the disk of the store may hang",
            ));
        }
    };
    let walk = move || {
        let _place = place;
        walk()
    };
    spawn_blocking(walk).await.map_err(|_| broken())
}

pub(super) fn broken() -> Refusal {
    Refusal::failed("something went wrong inside; the log says more")
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
        Call::Backend(name)
        | Call::SetState(name, _)
        | Call::DrainProgress(name)
        | Call::Move(name) => Some(name.clone()),
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

fn refuse(refusal: &Refusal) -> Response<AnswerBody> {
    let error = view::ProblemBody {
        code: refusal.code,
        message: &refusal.message,
        details: refusal.details.as_deref(),
        findings: refusal.findings.as_deref(),
    };
    let text = text(&view::Problem { error });
    let mut response = respond(refusal.status, JSON, refusal.allow, text);
    if refusal.status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    }
    response
}
