//! From method and path to what is asked.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use gateway_core::events::Kind;
use gateway_core::farm::AdminState;
use gateway_core::protocol::SessionId;
use gateway_core::session::Timestamp;
use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use super::refusal::Refusal;
use super::which::Which;
use crate::sessions::listing;
use crate::sessions::view::Mark;
use crate::telemetry::events::EventCursor;
use crate::telemetry::metrics::AdminAction;

/// Every path begins with this.
pub const PREFIX: &str = "/api/v1/";

/// Rows on a page that asks for no number, and at most.
pub const PAGE: usize = 100;
pub const PAGE_LIMIT: usize = 10_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Status,
    Sessions {
        which: Which,
        after: Option<listing::ListCursor>,
        limit: usize,
        /// Whether there is to be a `next`.
        more: bool,
    },
    Session(Handle),
    Forget(Handle),
    ForgetAll(Which),
    Backends,
    Backend(String),
    SetState(String, AdminState),
    DrainProgress(String),
    Move(String),
    Reload,
    /// What a reload would do.
    Preview,
    Events(EventQuery),
}

/// Which events are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    pub from: From,
    pub limit: usize,
    /// All where it is empty.
    pub kinds: Vec<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The newest, no older than that.
    Time(Timestamp),
    /// Those of so long, or fewer.
    Last(Duration),
    /// Those behind an earlier page.
    Cursor(EventCursor),
}

/// How a caller names a session.
#[derive(Clone, PartialEq, Eq)]
pub enum Handle {
    /// The id as the client has it.
    Id(String),
    /// What a list says in place of the id.
    Mark(Mark),
}

/// The id is a secret.
impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => match SessionId::parse(id) {
                Some(id) => write!(f, "{}..", id.key().short()),
                None => f.write_str("no id"),
            },
            Self::Mark(mark) => write!(f, "{mark}"),
        }
    }
}

impl Call {
    pub fn action(&self) -> AdminAction {
        match self {
            Self::Forget(_) | Self::ForgetAll(_) => AdminAction::SessionForget,
            Self::SetState(_, AdminState::Ready) => AdminAction::BackendReady,
            Self::SetState(_, AdminState::Drain) => AdminAction::BackendDrain,
            Self::SetState(_, AdminState::Maintenance) => AdminAction::BackendMaintenance,
            Self::SetState(_, AdminState::Lost) => AdminAction::BackendLost,
            Self::Move(_) => AdminAction::BackendMove,
            Self::Reload => AdminAction::Reload,
            Self::Status
            | Self::Preview
            | Self::Events(_)
            | Self::Sessions { .. }
            | Self::Session(_)
            | Self::Backends
            | Self::Backend(_)
            | Self::DrainProgress(_) => AdminAction::Read,
        }
    }
}

/// Reads a request line.
///
/// # Errors
/// No such path, not by this method, or a parameter that is none.
pub fn route(method: &Method, uri: &Uri) -> Result<Call, Refusal> {
    let nothing = || Refusal::not_found("not_found", "there is nothing at this path");
    let path = uri.path().strip_prefix(PREFIX).ok_or_else(nothing)?;
    let segments: Vec<&str> = path.split('/').collect();
    let call = match segments.as_slice() {
        ["status"] => one(method, Call::Status),
        ["reload"] => match *method {
            Method::GET | Method::HEAD => Ok(Call::Preview),
            Method::POST => Ok(Call::Reload),
            _ => Err(Refusal::method("GET, HEAD, POST")),
        },
        ["backends"] => one(method, Call::Backends),
        ["events"] => {
            read_only(method)?;
            return events(uri.query().unwrap_or_default());
        }
        ["sessions"] => {
            let query = uri.query().unwrap_or_default();
            return match *method {
                Method::GET | Method::HEAD => sessions(query),
                Method::DELETE => forget_all(query),
                _ => Err(Refusal::method("GET, HEAD, DELETE")),
            };
        }
        ["sessions", id] => {
            let handle = handle(decode(id)?);
            match *method {
                Method::GET | Method::HEAD => Ok(Call::Session(handle)),
                Method::DELETE => Ok(Call::Forget(handle)),
                _ => Err(Refusal::method("GET, HEAD, DELETE")),
            }
        }
        ["backends", name] => one(method, Call::Backend(decode(name)?)),
        ["backends", name, "drain"] => {
            let name = decode(name)?;
            match *method {
                Method::GET | Method::HEAD => Ok(Call::DrainProgress(name)),
                Method::POST => Ok(Call::SetState(name, AdminState::Drain)),
                _ => Err(Refusal::method("GET, HEAD, POST")),
            }
        }
        ["backends", name, "move"] => change(method, Call::Move(decode(name)?)),
        ["backends", name, word] => {
            let state = AdminState::from_word(word).ok_or_else(nothing)?;
            change(method, Call::SetState(decode(name)?, state))
        }
        _ => Err(nothing()),
    }?;
    match uri.query() {
        None | Some("") => Ok(call),
        // A parameter that is ignored is a wish that is not granted and nobody hears of it.
        Some(_) => Err(Refusal::invalid("unknown_parameter", "this path takes no parameters")),
    }
}

fn read_only(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::method("GET, HEAD")),
    }
}

fn one(method: &Method, call: Call) -> Result<Call, Refusal> {
    read_only(method).map(|()| call)
}

fn change(method: &Method, call: Call) -> Result<Call, Refusal> {
    if *method == Method::POST { Ok(call) } else { Err(Refusal::method("POST")) }
}

fn handle(text: String) -> Handle {
    Mark::parse(&text).map_or(Handle::Id(text), Handle::Mark)
}

fn sessions(query: &str) -> Result<Call, Refusal> {
    let (mut which, mut after, mut limit, mut more) = (Which::default(), None, PAGE, true);
    for parameter in parameters(query) {
        let (name, value) = parameter?;
        match name {
            "after" => match value.parse() {
                Ok(cursor) => after = Some(cursor),
                Err(_) => return Err(wrong("`after` is the `next` of an earlier page")),
            },
            "limit" => limit = number(&value)?,
            "more" if value == "no" => more = false,
            "more" => return Err(wrong("`more` is `no`, or left out")),
            _ => which.take(name, value)?,
        }
    }
    Ok(Call::Sessions { which, after, limit, more })
}

/// A slip must not forget every upload, so nothing said is not everything.
fn forget_all(query: &str) -> Result<Call, Refusal> {
    let mut which = Which::default();
    let mut said = false;
    for parameter in parameters(query) {
        let (name, value) = parameter?;
        which.take(name, value)?;
        said = true;
    }
    match said {
        true => Ok(Call::ForgetAll(which)),
        false => Err(wrong("say which: `state=all` means every session")),
    }
}

fn events(query: &str) -> Result<Call, Refusal> {
    let (mut from, mut limit, mut kinds) = (From::Time(Timestamp(0)), PAGE, Vec::new());
    for parameter in parameters(query) {
        let (name, value) = parameter?;
        match name {
            "since" => match (since(&value)?, from) {
                (_, From::Cursor(_)) => {}
                (since, _) => from = since,
            },
            "after" => match value.parse() {
                Ok(cursor) => from = From::Cursor(cursor),
                Err(_) => return Err(wrong("`after` is the `next` of an earlier page")),
            },
            "limit" => limit = number(&value)?,
            "kind" => match value.split(',').map(Kind::parse).collect() {
                Some(some) => kinds = some,
                None => {
                    let known = Kind::ALL.map(Kind::label).join(", ");
                    return Err(wrong(&format!("`kind` is some of {known}")));
                }
            },
            _ => {
                let message = "there are `since`, `after`, `limit` and `kind`";
                return Err(Refusal::invalid("unknown_parameter", message));
            }
        }
    }
    Ok(Call::Events(EventQuery { from, limit, kinds }))
}

fn since(text: &str) -> Result<From, Refusal> {
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(From::Last(span));
    }
    let since = humantime::parse_rfc3339(text).ok();
    let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    let since = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    let message = "`since` is a span as 8h, or a time as 2026-03-01T08:00:00Z";
    since.map(|since| From::Time(Timestamp(since))).ok_or_else(|| wrong(message))
}

/// The parts of a query. One that is given twice is refused: whichever counted, the other would not.
fn parameters(query: &str) -> impl Iterator<Item = Result<(&str, String), Refusal>> {
    let mut seen = Vec::new();
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(move |part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if seen.contains(&name) {
            return Err(wrong(&format!("`{name}` is given twice")));
        }
        seen.push(name);
        Ok((name, decode(value)?))
    })
}

fn number(text: &str) -> Result<usize, Refusal> {
    match text.parse() {
        Ok(number @ 1..=PAGE_LIMIT) => Ok(number),
        _ => Err(wrong(&format!("`limit` is a number from 1 to {PAGE_LIMIT}"))),
    }
}

pub(super) fn wrong(message: &str) -> Refusal {
    Refusal::invalid("invalid_parameter", message)
}

fn decode(segment: &str) -> Result<String, Refusal> {
    match percent_decode_str(segment).decode_utf8() {
        Ok(text) if !text.is_empty() => Ok(Cow::into_owned(text)),
        _ => Err(Refusal::invalid("invalid_path", "a part of the path is empty or no UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::session::live::State;

    use super::*;

    fn ask(method: &str, uri: &str) -> Result<Call, (u16, &'static str)> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        route(&method, &uri.parse().unwrap())
            .map_err(|refusal| (refusal.status.as_u16(), refusal.code))
    }

    fn name() -> String {
        "up01".to_owned()
    }

    #[test]
    fn every_call_has_its_path() {
        assert_eq!(ask("GET", "/api/v1/status"), Ok(Call::Status));
        assert_eq!(ask("HEAD", "/api/v1/backends"), Ok(Call::Backends));
        assert_eq!(ask("GET", "/api/v1/backends/up01"), Ok(Call::Backend(name())));
        assert_eq!(ask("GET", "/api/v1/backends/up01/drain"), Ok(Call::DrainProgress(name())));
        for (word, state) in [
            ("ready", AdminState::Ready),
            ("drain", AdminState::Drain),
            ("maintenance", AdminState::Maintenance),
            ("maint", AdminState::Maintenance),
            ("lost", AdminState::Lost),
        ] {
            let call = ask("POST", &format!("/api/v1/backends/up01/{word}"));
            assert_eq!(call, Ok(Call::SetState(name(), state)));
        }
        assert_eq!(ask("POST", "/api/v1/backends/up01/move"), Ok(Call::Move(name())));
        assert_eq!(ask("POST", "/api/v1/reload"), Ok(Call::Reload));
        assert_eq!(ask("GET", "/api/v1/reload"), Ok(Call::Preview));
        assert_eq!(ask("DELETE", "/api/v1/reload"), Err((405, "method_not_allowed")));
        let handle = |id: &str| Handle::Id(id.to_owned());
        assert_eq!(
            ask("GET", "/api/v1/sessions/%7B3F9C1E52%7D"),
            Ok(Call::Session(handle("{3F9C1E52}")))
        );
        assert_eq!(
            ask("DELETE", "/api/v1/sessions/%2Fin%2Fa%2520b"),
            Ok(Call::Forget(handle("/in/a%20b")))
        );
        assert_eq!(
            ask("DELETE", "/api/v1/sessions/@00000000000000ff"),
            Ok(Call::Forget(Handle::Mark(Mark(255))))
        );
    }

    #[test]
    fn pages_have_parameters_and_bounds() {
        let page = |which, after, limit| Ok(Call::Sessions { which, after, limit, more: true });
        let which = Which::default;
        assert_eq!(ask("GET", "/api/v1/sessions"), page(which(), None, PAGE));
        let backend = Which { backend: Some(name()), ..which() };
        assert_eq!(
            ask("GET", "/api/v1/sessions?after=%4000000000000000ff&limit=5&backend=up01"),
            page(backend, Some(listing::ListCursor::Behind(Mark(255))), 5)
        );
        let all = Which {
            state: Some(State::Waiting),
            client: Some([192, 0, 2, 7].into()),
            path: Some("/in/a b".to_owned()),
            idle_for: Some(Duration::from_secs(30 * 86_400)),
            ..which()
        };
        let query = "state=waiting&client=192.0.2.7&path=/in/a%20b&idle_for=30d";
        assert_eq!(ask("GET", &format!("/api/v1/sessions?{query}")), page(all.clone(), None, PAGE));
        assert_eq!(ask("DELETE", &format!("/api/v1/sessions?{query}")), Ok(Call::ForgetAll(all)));
        assert_eq!(
            ask("GET", "/api/v1/sessions?more=no"),
            Ok(Call::Sessions { which: which(), after: None, limit: PAGE, more: false })
        );
        for bad in [
            "more=yes",
            "after=1",
            "limit=0",
            "limit=10001",
            "limit=-1",
            "limit=x",
            "limit",
            "state=busy",
            "state=",
            "client=up01",
            "idle_for=5",
            "idle_for=soon",
            "path=",
        ] {
            let code = ask("GET", &format!("/api/v1/sessions?{bad}")).unwrap_err().0;
            assert_eq!(code, 400, "{bad}");
        }
        let unknown = Err((400, "unknown_parameter"));
        assert_eq!(ask("GET", "/api/v1/sessions?offset=5"), unknown);
        assert_eq!(ask("POST", "/api/v1/reload?force=1"), unknown);
    }

    #[test]
    fn events_are_asked_for_since_a_time_or_behind_a_page() {
        let events = |from, limit, kinds: &[Kind]| {
            Ok(Call::Events(EventQuery { from, limit, kinds: kinds.to_vec() }))
        };
        let all = From::Time(Timestamp(0));
        assert_eq!(ask("GET", "/api/v1/events"), events(all, PAGE, &[]));
        let last = From::Last(Duration::from_secs(8 * 3600));
        assert_eq!(ask("GET", "/api/v1/events?since=8h&limit=5"), events(last, 5, &[]));
        let time = From::Time(Timestamp(1_000));
        let uri = "/api/v1/events?since=1970-01-01T00%3A00%3A01Z&kind=store,backend";
        assert_eq!(ask("GET", uri), events(time, PAGE, &[Kind::Store, Kind::Backend]));
        let cursor = From::Cursor("1-2-3".parse().unwrap());
        for uri in
            ["events?after=1-2-3", "events?after=1-2-3&since=8h", "events?since=8h&after=1-2-3"]
        {
            assert_eq!(ask("HEAD", &format!("/api/v1/{uri}")), events(cursor, PAGE, &[]), "{uri}");
        }
        for bad in ["since=yesterday", "since=", "after=5", "kind=weather", "limit=0", "to=8h"] {
            assert_eq!(ask("GET", &format!("/api/v1/events?{bad}")).unwrap_err().0, 400, "{bad}");
        }
        assert_eq!(ask("DELETE", "/api/v1/events"), Err((405, "method_not_allowed")));
    }

    #[test]
    fn all_are_forgotten_only_where_that_is_said() {
        for nothing in ["/api/v1/sessions", "/api/v1/sessions?", "/api/v1/sessions?&"] {
            assert_eq!(ask("DELETE", nothing), Err((400, "invalid_parameter")));
        }
        let all = ask("DELETE", "/api/v1/sessions?state=all");
        assert_eq!(all, Ok(Call::ForgetAll(Which::default())));
        let page = ask("DELETE", "/api/v1/sessions?limit=5");
        assert_eq!(page, Err((400, "unknown_parameter")));
        assert_eq!(ask("POST", "/api/v1/sessions?state=all"), Err((405, "method_not_allowed")));
    }

    #[test]
    fn a_parameter_is_given_once() {
        for (name, one, other) in [
            ("state", "idle", "all"),
            ("state", "all", "idle"),
            ("backend", "up01", "up01"),
            ("client", "192.0.2.7", "192.0.2.8"),
            ("path", "/in", "/out"),
            ("idle_for", "30d", "5m"),
        ] {
            let uri = format!("/api/v1/sessions?{name}={one}&path=/a&{name}={other}");
            for method in ["GET", "DELETE"] {
                assert_eq!(ask(method, &uri), Err((400, "invalid_parameter")), "{method} {uri}");
            }
        }
        for path in ["sessions?limit=5&limit=6", "events?kind=store&kind=backend"] {
            let refused = ask("GET", &format!("/api/v1/{path}"));
            assert_eq!(refused, Err((400, "invalid_parameter")), "{path}");
        }
    }

    #[test]
    fn nothing_changes_by_get() {
        for path in [
            "backends/up01/ready",
            "backends/up01/maintenance",
            "backends/up01/lost",
            "backends/up01/move",
        ] {
            for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BITS_POST"] {
                let refused = ask(method, &format!("/api/v1/{path}"));
                assert_eq!(refused, Err((405, "method_not_allowed")), "{method} {path}");
            }
        }
        assert_eq!(ask("POST", "/api/v1/sessions/abc"), Err((405, "method_not_allowed")));
        assert_eq!(ask("POST", "/api/v1/status"), Err((405, "method_not_allowed")));
    }

    #[test]
    fn other_paths_are_nothing() {
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/api/v1/",
            "/api/v2/status",
            "/api/v1//status",
            "/api/v1/status/",
            "/API/v1/status",
            "/metrics",
            "/api/v1/backends/up01/kill",
        ] {
            assert_eq!(ask("GET", path), Err((404, "not_found")), "{path}");
        }
        assert_eq!(ask("GET", "/api/v1/sessions/"), Err((400, "invalid_path")));
        assert_eq!(ask("GET", "/api/v1/sessions/%ff"), Err((400, "invalid_path")));
    }

    #[test]
    fn a_call_shows_no_whole_id() {
        let call = ask("GET", "/api/v1/sessions/%7B3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21%7D");
        assert_eq!(format!("{call:?}"), "Ok(Session(3f9c1e52..))");
    }
}
