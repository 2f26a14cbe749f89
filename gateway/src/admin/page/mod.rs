//! The page: the farm and every upload in a browser.
//!
//! It is rendered here and kept up to date by events; nothing is loaded from elsewhere, and without
//! the script everything works but does not move. What a client chose is text: `maud` escapes it.
//!
//! The hazard is that of the whole listener, with a browser in it: a page of a stranger must neither
//! read this one nor press its buttons. So, beside what [`super::access`] checks: a cookie only
//! under TLS, for this host, and never the token itself; a number in each form that only this page
//! knows; no frame around it; no script but its own.
//!
//! Reading order: [`handle`], [`visitor`], [`shell`], then a module for each page.

mod about;
mod configuration;
mod events;
mod farm;
mod form;
mod shell;
mod uploads;
mod visitor;
mod words;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use gateway_core::farm::AdminState;
use gateway_core::protocol::SessionKey;
use http::header::{
    ALLOW, CONTENT_SECURITY_POLICY, HeaderName, LOCATION, REFERRER_POLICY, SET_COOKIE,
    WWW_AUTHENTICATE, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use maud::Markup;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::access::{Entrance, SEC_FETCH_SITE};
use super::api::Api;
use super::body::AnswerBody;
use super::live::{Live, Seen};
use super::refusal::Refusal;
use super::route::Call;
use super::service::respond;
use super::signed_in::SignedIn;
use super::stay::Stay;
use crate::process::supervisor::TaskResult;
use crate::telemetry::metrics::AdminAction;
use visitor::Visitor;

/// Requests of browsers under way. Those that keep a page up to date have places of their own.
pub const PLACES: usize = 24;

/// Uploads that an open page is told of: those that moved last.
const ROWS: usize = 200;

/// Nothing from elsewhere, no script in the page, no frame around it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";

/// What the page keeps for all browsers.
pub struct Pages {
    pub live: Live,
    pub signed_in: SignedIn,
    places: Arc<Semaphore>,
    /// From which the numbers in the forms are made. Another one in each process.
    secret: [u8; 16],
}

impl Default for Pages {
    fn default() -> Self {
        Self {
            live: Live::default(),
            signed_in: SignedIn::default(),
            places: Arc::new(Semaphore::new(PLACES)),
            secret: *uuid::Uuid::new_v4().as_bytes(),
        }
    }
}

/// An answer to a browser.
enum Answer {
    Page(StatusCode, Markup),
    /// Nothing of it is secret.
    File(&'static str, &'static str),
    /// To another page, with what the browser is to keep.
    Onward(&'static str, Option<String>),
    Live(AnswerBody),
}

/// Answers a browser. `stay` is that of its connection.
pub async fn handle(
    api: &Api,
    entrance: Entrance,
    request: Request<Incoming>,
    stay: Stay,
) -> Response<AnswerBody> {
    let Ok(place) = Arc::clone(&api.pages().places).try_acquire_owned() else {
        let busy = Refusal::busy("too many pages are loaded at this moment; try again");
        return refused(&busy, entrance);
    };
    stay.take(place);
    let (parts, body) = request.into_parts();
    let site = api.access().site(&entrance, &parts, is_followed(&parts));
    let answer = match site {
        Ok(()) => serve(api, entrance, &parts, body, &stay).await,
        Err(refusal) => {
            api.note(entrance.peer, AdminAction::Unknown, None, Err(&refusal));
            Err(refusal)
        }
    };
    answer.map_or_else(|refusal| refused(&refusal, entrance), response)
}

/// A link on another site that leads here changes nothing, and the other site sees nothing of it.
fn is_followed(parts: &Parts) -> bool {
    let says = |name: &str, value: &str| parts.headers.get(name).is_some_and(|is| is == value);
    // It may last for an hour, and only our own page asks for it.
    let lasts = parts.uri.path() == "/live";
    parts.method == Method::GET
        && !lasts
        && parts.headers.contains_key(SEC_FETCH_SITE)
        && says("sec-fetch-mode", "navigate")
        && says("sec-fetch-dest", "document")
}

async fn serve(
    api: &Api,
    entrance: Entrance,
    parts: &Parts,
    body: Incoming,
    stay: &Stay,
) -> Result<Answer, Refusal> {
    let path: Vec<&str> = parts.uri.path().trim_start_matches('/').split('/').collect();
    let post = match parts.method {
        Method::GET | Method::HEAD => false,
        Method::POST => true,
        _ => return Err(Refusal::method("GET, HEAD, POST")),
    };
    match path.as_slice() {
        ["page.css"] if !post => return Ok(Answer::File("text/css", include_str!("page.css"))),
        ["page.js"] if !post => {
            return Ok(Answer::File("text/javascript", include_str!("page.js")));
        }
        ["icon.svg"] if !post => {
            return Ok(Answer::File("image/svg+xml", include_str!("icon.svg")));
        }
        ["sign-in"] if entrance.tls && !post => {
            return Ok(Answer::Page(StatusCode::OK, shell::sign_in(None)));
        }
        ["sign-in"] if entrance.tls => {
            visitor::check_origin(api, entrance, parts)?;
            return visitor::sign_in(api, entrance, form::read(body).await?);
        }
        _ => {}
    }
    let found = visitor::find(api, &entrance, &parts.headers);
    let visitor = match found {
        Ok(Some(visitor)) => visitor,
        // Nobody is told why: a browser comes for the first time.
        Ok(None) if entrance.tls && !post && path != ["live"] => {
            return Ok(Answer::Onward("/sign-in", None));
        }
        Ok(None) => return Err(Refusal::unauthorized("not_signed_in", "sign in first")),
        Err(refusal) => {
            api.note(entrance.peer, AdminAction::Unknown, None, Err(&refusal));
            return Err(refusal);
        }
    };
    if post {
        let fields = form::read(body).await?;
        return change(api, entrance, &visitor, &path, &fields).await;
    }
    if path == ["live"] {
        let is_let_in = visitor.is_let_in(api);
        let events = api.pages().live.join(is_let_in, stay);
        return events
            .map(Answer::Live)
            .ok_or_else(|| Refusal::busy("as many pages as can be are kept up to date already"));
    }
    let query = form::query(parts.uri.query().unwrap_or_default());
    let page = show(api, &visitor, &path, &query).await?;
    Ok(Answer::Page(StatusCode::OK, page))
}

async fn show(api: &Api, visitor: &Visitor, path: &[&str], query: &str) -> Result<Markup, Refusal> {
    match path {
        [""] => farm::page(api, visitor).await,
        ["uploads"] => uploads::list(api, visitor, query).await,
        ["uploads", mark] => uploads::one(api, visitor, mark).await,
        ["events"] => events::page(api, visitor, query).await,
        ["configuration"] => configuration::page(api, visitor).await,
        ["about"] => about::page(api, visitor).await,
        // An open page of the process before asks by the short word.
        ["backends", name, word]
            if AdminState::from_word(word) == Some(AdminState::Maintenance) =>
        {
            farm::sure(api, visitor, name).await
        }
        ["uploads", mark, "forget"] => uploads::sure(api, visitor, mark).await,
        _ => Err(Refusal::not_found("not_found", "there is no such page")),
    }
}

/// What a button does.
async fn change(
    api: &Api,
    entrance: Entrance,
    visitor: &Visitor,
    path: &[&str],
    fields: &form::Fields,
) -> Result<Answer, Refusal> {
    let number = fields.get("number");
    if !number.is_some_and(|number| visitor.is_number(number)) {
        let refusal =
            Refusal::foreign("foreign_form", "this form is of another visit: load the page again");
        api.note(entrance.peer, AdminAction::Unknown, None, Err(&refusal));
        return Err(refusal);
    }
    let (call, next) = match path {
        ["sign-out"] => return Ok(visitor.sign_out(api)),
        ["backends", name, word] => {
            let state = AdminState::from_word(word).filter(|state| *state != AdminState::Lost);
            let nothing = || Refusal::not_found("not_found", "there is no such page");
            (Call::SetState(form::decode(name)?, state.ok_or_else(nothing)?), "/")
        }
        ["uploads", mark, "forget"] => (Call::Forget(uploads::handle(mark)?), "/uploads"),
        ["reload"] => (Call::Reload, "/configuration"),
        _ => return Err(Refusal::not_found("not_found", "there is no such page")),
    };
    api.act(entrance.peer, visitor.role, call).await?;
    Ok(Answer::Onward(next, None))
}

/// Tells open pages what changes, until told to stop.
pub async fn keep_up_to_date(api: Api, stop: CancellationToken) -> TaskResult {
    // What was there a moment ago is looked at once more, so that pages hear of its end.
    let before = Arc::new(Mutex::new(Vec::new()));
    let looking = api.clone();
    let look = move || -> BoxFuture<'static, Option<Seen>> {
        let (api, before) = (looking.clone(), Arc::clone(&before));
        Box::pin(async move {
            let known = std::mem::take(&mut *before.lock());
            let (seen, keys) = see(&api, known).await.ok()?;
            *before.lock() = keys;
            Some(seen)
        })
    };
    api.pages().live.run(look, stop).await;
    Ok(())
}

/// One look at everything that pages show and that moves.
async fn see(api: &Api, known: Vec<SessionKey>) -> Result<(Seen, Vec<SessionKey>), Refusal> {
    let mut seen = Seen::default();
    let overview = api.overview().await?;
    let mut add = |id: &str, part: Markup| seen.parts.insert(id.to_owned(), part.into_string());
    add("verdict", shell::verdict(&overview));
    add("as-of", shell::as_of());
    for (backend, drain) in api.farm().await? {
        add(&farm::id(&backend.name), farm::row(&backend, drain.as_ref(), None));
    }
    let (uploads, keys, ended) = api.movers(ROWS, known).await?;
    for (_, upload) in uploads {
        add(&uploads::id(&upload.mark), uploads::row(&upload));
    }
    seen.ended = ended.iter().map(|mark| uploads::id(&mark.to_string())).collect();
    Ok((seen, keys))
}

fn response(answer: Answer) -> Response<AnswerBody> {
    let (status, kind, body, headers) = match answer {
        Answer::Page(status, page) => (status, HTML, page.into_string().into(), None),
        Answer::File(kind, text) => (StatusCode::OK, kind, text.to_owned().into(), None),
        Answer::Live(events) => (StatusCode::OK, "text/event-stream", events, None),
        Answer::Onward(to, cookie) => {
            let mut headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(to))]);
            let cookie = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok());
            headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
            (StatusCode::SEE_OTHER, HTML, AnswerBody::Whole(None), Some(headers))
        }
    };
    let mut response = respond(status, kind, None, body);
    response.headers_mut().extend(headers.unwrap_or_default());
    dress(response)
}

/// What every answer to a browser has besides.
fn dress(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        // With "no-referrer" a form of ours would come without an origin.
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refused(refusal: &Refusal, entrance: Entrance) -> Response<AnswerBody> {
    let mut response = response(Answer::Page(refusal.status, shell::refused(refusal)));
    let headers = response.headers_mut();
    if let Some(allow) = refusal.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if refusal.status == StatusCode::UNAUTHORIZED && !entrance.tls {
        // Browsers keep these apart by port; a cookie would go to every port of this machine.
        let basic = HeaderValue::from_static("Basic realm=\"bits-gateway\", charset=\"UTF-8\"");
        headers.insert(WWW_AUTHENTICATE, basic);
    }
    response
}
