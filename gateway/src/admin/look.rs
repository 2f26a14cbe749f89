//! What can be seen of the gateway, for the API and for the page.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::events::{Event, Kind};
use gateway_core::farm::{AdminState, BackendId, Health};
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::Timestamp;
use serde_json::Value as Json;
use tokio::task::spawn_blocking;

use super::api::{Api, blocking, broken};
use super::control::{BackendInfo, Reloaded};
use super::refusal::Refusal;
use super::route::Handle;
use super::view;
use super::which::Which;
use crate::base::clock;
use crate::sessions::listing::{Filter, Forgotten, InState, ListCursor, Query};
use crate::sessions::names::Named;
use crate::sessions::view::{Left, Mark, Moment, Row};
use crate::telemetry::log::Untrusted;
use crate::telemetry::problems::Verdict;

/// Pages that are loaded together are made of one walk over the session table.
const FRESH: Duration = Duration::from_millis(900);

/// What the last walk for a page found, and when.
pub(super) type Recent = Option<(Duration, Arc<[Left]>)>;

/// What stands above every page.
pub(super) struct Overview {
    pub verdict: Verdict,
    /// A line for each backend that is away.
    pub down: Vec<String>,
}

impl Api {
    pub(super) async fn overview(&self) -> Result<Overview, Refusal> {
        let away = |info: &&BackendInfo| info.configured && info.health == Health::Down;
        let line = |info: &BackendInfo| {
            let why = info.health_reason.as_deref().map(|why| format!(": {why}"));
            format!("{} is down{}", info.name, why.unwrap_or_default())
        };
        let down = (self.control().backends)().iter().filter(away).map(line).collect();
        Ok(Overview { verdict: self.verdict().await?, down })
    }

    pub(super) async fn status(&self) -> Result<view::Status, Refusal> {
        let control = self.control();
        let sessions =
            view::Fill { count: control.sessions.len(), limit: control.sessions.limit() };
        let (started, uptime) = self.started();
        Ok(view::Status::new(
            control.readiness.phase(),
            started,
            uptime.as_secs(),
            sessions,
            (control.store)(),
            &(control.backends)(),
            self.verdict().await?,
        ))
    }

    pub(super) async fn verdict(&self) -> Result<Verdict, Refusal> {
        let judge = self.control().judge.clone();
        // Reads a file and walks over nothing: a store that hangs does not keep `status` waiting.
        spawn_blocking(move || judge.verdict()).await.map_err(|_| broken())
    }

    pub(super) async fn sessions(
        &self,
        which: Which,
        after: Option<ListCursor>,
        limit: usize,
        more: bool,
    ) -> Result<view::Page, Refusal> {
        let backends = (self.control().backends)();
        let filter = filter(which, &backends)?;
        let (api, at) = (self.clone(), Moment::now());
        let page = move || {
            let sessions = &api.control().sessions;
            let query = Query { filter: sessions.with_names(filter), after, limit, more };
            api.listings().page(sessions, &query, at)
        };
        let page = blocking(page).await?;
        let page = page
            .map_err(|Forgotten| Refusal::conflict("listing_forgotten", Forgotten.to_string()))?;
        let session = |row: &Row| self.session(row, &backends, at);
        Ok(view::Page {
            sessions: page.rows.iter().map(session).collect(),
            next: page.next.map(|next| next.to_string()),
            matching: page.matching,
        })
    }

    pub(super) async fn one(&self, handle: Handle) -> Result<view::Session, Refusal> {
        let row = self.row(handle).await?;
        Ok(self.session(&row, &(self.control().backends)(), Moment::now()))
    }

    /// Uploads that moved last, and of those that did so before and are not among them any more,
    /// what they are now: the ones that are still there, and the marks of the others.
    pub(super) async fn movers(
        &self,
        limit: usize,
        before: Vec<SessionKey>,
    ) -> Result<(Vec<(SessionKey, view::Session)>, Vec<SessionKey>, Vec<Mark>), Refusal> {
        let (sessions, at) = (Arc::clone(&self.control().sessions), Moment::now());
        let look = move || {
            let mut rows = sessions.movers(limit, at);
            let moving: Vec<SessionKey> = rows.iter().map(|row| row.key.clone()).collect();
            let mut ended = Vec::new();
            for key in before.into_iter().filter(|key| !moving.contains(key)) {
                match sessions.show(&key) {
                    Some(row) => rows.push(row),
                    None => ended.push(Mark::of(&key)),
                }
            }
            sessions.add_names(&mut rows);
            (rows, moving, ended)
        };
        let (rows, moving, ended) = blocking(look).await?;
        let backends = (self.control().backends)();
        let shown = rows.into_iter().map(|row| {
            let shown = self.session(&row, &backends, at);
            (row.key, shown)
        });
        Ok((shown.collect(), moving, ended))
    }

    pub(super) async fn backends(&self) -> Result<Vec<view::Backend>, Refusal> {
        let left = self.left().await?;
        let backends = (self.control().backends)();
        Ok(backends.iter().map(|info| self.view(info, &left)).collect())
    }

    pub(super) async fn backend(&self, name: &str) -> Result<view::Backend, Refusal> {
        let left = self.left().await?;
        let info = find(&(self.control().backends)(), name)?;
        Ok(self.view(&info, &left))
    }

    pub(super) async fn drain(&self, name: &str) -> Result<view::Drain, Refusal> {
        let left = self.left().await?;
        let info = find(&(self.control().backends)(), name)?;
        Ok(self.estimate(&info, of(&left, info.id)))
    }

    /// Every backend, and of those that are drained how far that is, as of a moment ago. All who ask
    /// meanwhile get what one walk has found.
    pub(super) async fn farm(&self) -> Result<Vec<(view::Backend, Option<view::Drain>)>, Refusal> {
        let mut recent = self.recent().lock().await;
        let left = match &*recent {
            Some((at, left)) if clock::steady().saturating_sub(*at) < FRESH => Arc::clone(left),
            _ => {
                let left: Arc<[Left]> = self.left().await?.into();
                *recent = Some((clock::steady(), Arc::clone(&left)));
                left
            }
        };
        drop(recent);
        let one = |info: &BackendInfo| {
            let drained = info.admin == AdminState::Drain;
            let drain = drained.then(|| self.estimate(info, of(&left, info.id)));
            (self.view(info, &left), drain)
        };
        Ok((self.control().backends)().iter().map(one).collect())
    }

    /// The newest events of these kinds, or of all, in the order of their time.
    pub(super) async fn happened(
        &self,
        kinds: &[Kind],
        limit: usize,
    ) -> Result<Vec<Event>, Refusal> {
        let (events, kinds) = (self.control().events.clone(), kinds.to_vec());
        blocking(move || events.newest(limit, Timestamp(0), &kinds).events).await
    }

    /// Of all backends.
    pub(super) fn names(&self) -> Vec<String> {
        (self.control().backends)().iter().map(|info| info.name.to_string()).collect()
    }

    /// Every value that counts, as `config dump --json` has it.
    pub(super) fn configuration(&self) -> Json {
        (self.control().configuration)()
    }

    pub(super) async fn preview(&self) -> Result<Reloaded, Refusal> {
        Ok((self.control().preview)().await?)
    }

    pub(super) async fn left(&self) -> Result<Vec<Left>, Refusal> {
        let sessions = Arc::clone(&self.control().sessions);
        blocking(move || sessions.left(Moment::now())).await
    }

    pub(super) async fn row(&self, handle: Handle) -> Result<Row, Refusal> {
        let sessions = &self.control().sessions;
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

    pub(super) fn session(&self, row: &Row, backends: &[BackendInfo], at: Moment) -> view::Session {
        let backend = backends.iter().find(|backend| backend.id == row.pin.backend);
        let terms = view::Terms {
            idle_timeout: (self.control().idle_timeout)(),
            fallback_timeout: backend.and_then(|backend| backend.fallback_timeout),
            away: backend.is_some_and(BackendInfo::is_away),
        };
        view::Session::new(row, backend.map_or("", |backend| &*backend.name), terms, at)
    }
}

pub(super) fn find(backends: &[BackendInfo], name: &str) -> Result<BackendInfo, Refusal> {
    let found = backends.iter().find(|backend| backend.name.eq_ignore_ascii_case(name));
    found.cloned().ok_or_else(|| {
        let name = Untrusted(name.as_bytes());
        Refusal::not_found("backend_not_found", format!("there is no backend \"{name}\""))
    })
}

pub(super) fn of(left: &[Left], backend: BackendId) -> Left {
    left.get(backend.0 as usize).copied().unwrap_or_default()
}

pub(super) fn filter(which: Which, backends: &[BackendInfo]) -> Result<Filter, Refusal> {
    let Which { state, backend, client, path, idle_for } = which;
    let backend = backend.map(|name| find(backends, &name)).transpose()?.map(|found| found.id);
    let away = backends.iter().filter(|backend| backend.is_away()).map(|backend| backend.id);
    let state = state.map(|state| InState { state, away: away.collect() });
    Ok(Filter { state, backend, client, path, idle_for, named: Named::default() })
}

fn key(id: &str) -> Option<SessionKey> {
    SessionId::parse(id).map(|id| id.key().clone())
}

pub(super) fn no_session() -> Refusal {
    Refusal::not_found("session_not_found", "there is no such session")
}
