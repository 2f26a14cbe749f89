//! The listener for operators and their machines: `/metrics`, `/livez`, `/readyz`, `/health`,
//! `/version`.
//!
//! Read-only, and small on purpose. Each connection carries one request and lives for
//! [`EXCHANGE`] at most, and there are at most [`CONNECTIONS`] of them: a scraper that reads
//! slowly, or never, holds a bounded piece of memory for a bounded time.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::build_info::{REVISION, RUSTC, VERSION};
use crate::process::readiness::{Phase, Readiness};
use crate::sessions::store::Store;
use crate::telemetry::metrics::{self, Metrics};
use crate::telemetry::problems::Judge;

/// A scrape of 200 backends is about 1 MiB, so this bounds what slow readers can hold.
pub const CONNECTIONS: usize = 32;

/// From the first byte of a connection to the last one. Prometheus gives up after 10 s.
pub const EXCHANGE: Duration = Duration::from_secs(20);

/// For a head; no probe needs more than a packet.
const HEAD: Duration = Duration::from_secs(5);
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_FIELDS: usize = 64;

/// After an accept that failed for want of descriptors, others need time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long answers that have begun may go on after the end of the process was decided.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the listener reports on.
#[derive(Debug, Clone)]
pub struct State {
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub store: Store,
    pub judge: Judge,
}

/// Answers until told to stop.
///
/// # Errors
/// Only if the listener cannot be used with this runtime.
pub async fn serve(
    listener: std::net::TcpListener,
    state: State,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let state = Arc::new(state);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            // Closing at once is kinder to a probe than silence.
            Ok(_) if connections.len() >= CONNECTIONS => {
                tracing::warn!("too many connections to the ops listener");
            }
            Ok((stream, _)) => {
                connections.spawn(exchange(stream, Arc::clone(&state)));
            }
            Err(error) => {
                tracing::warn!(%error, "the ops listener cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn exchange(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(|request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let (method, uri) = (request.method(), request.uri());
            Ok::<_, Infallible>(match uri.path() {
                HEALTH if is_read(method) => health_page(&state).await,
                _ => answer(method, uri, &state),
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that breaks off or is too slow has nobody to be told.
    let _ = timeout(EXCHANGE, connection).await;
}

const HEALTH: &str = "/health";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What pages are asked by.
const READS: &str = "GET, HEAD";

/// What `/livez` and `/readyz` are asked by: HAProxy asks by OPTIONS where nothing else is configured.
const PROBES: &str = "GET, HEAD, OPTIONS";

fn answer(method: &Method, uri: &http::Uri, state: &State) -> Response<String> {
    let (page, methods): (fn(&State, &str) -> Response<String>, _) = match uri.path() {
        "/metrics" => (metrics_page, READS),
        "/livez" => (|_, _| response(StatusCode::OK, TEXT, "ok\n".to_owned()), PROBES),
        "/readyz" => (readyz_page, PROBES),
        "/version" => (version_page, READS),
        // Of another method: what is read is answered by `health_page`.
        HEALTH => (version_page, READS),
        _ => return response(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
    };
    let allow = HeaderValue::from_static(methods);
    if is_read(method) {
        page(state, uri.query().unwrap_or_default())
    } else if method == Method::OPTIONS && methods == PROBES {
        // The status counts.
        let mut answer = page(state, "").map(|_| String::new());
        answer.headers_mut().insert(ALLOW, allow);
        answer
    } else {
        let refusal = format!("only {methods} are served here\n");
        let mut answer = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, refusal);
        answer.headers_mut().insert(ALLOW, allow);
        answer
    }
}

/// Always 200: it is for people and `bits-gateway health`, and nobody is to kill a process because
/// its disk is full.
async fn health_page(state: &State) -> Response<String> {
    let judge = state.judge.clone();
    // It reads a file, on a disk that may hang.
    match tokio::task::spawn_blocking(move || judge.verdict()).await {
        Ok(verdict) => {
            let text = serde_json::to_string(&verdict).expect("a verdict has text for keys");
            response(StatusCode::OK, JSON, text + "\n")
        }
        Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the log says more\n".into()),
    }
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn metrics_page(state: &State, _: &str) -> Response<String> {
    state.metrics.set_draining(state.readiness.phase() == Phase::Draining);
    response(StatusCode::OK, metrics::CONTENT_TYPE, state.metrics.encode())
}

fn readyz_page(state: &State, query: &str) -> Response<String> {
    let phase = state.readiness.phase();
    let (status, word) = match phase {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Phase::Ready => (StatusCode::OK, "ready"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    };
    let mut body = String::new();
    if query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")) {
        let checks =
            [("started", phase != Phase::Starting), ("not-draining", phase != Phase::Draining)];
        for (name, good) in checks {
            let (sign, verdict) = if good { ('+', "ok") } else { ('-', "failed") };
            writeln!(body, "[{sign}] {name} {verdict}").expect("a String takes everything");
        }
        // For people only: running uploads go on without it, so a balancer must not turn away.
        match state.store.status().trouble {
            None => body.push_str("[+] store ok (does not count)\n"),
            Some(trouble) => {
                writeln!(body, "[-] store failed: {} (does not count)", trouble.kind)
                    .expect("a String takes everything");
            }
        }
    }
    body.push_str(word);
    body.push('\n');
    response(status, TEXT, body)
}

fn version_page(_: &State, _: &str) -> Response<String> {
    let version = serde_json::json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": VERSION,
        "revision": REVISION,
        "rustc": RUSTC,
    });
    response(StatusCode::OK, JSON, format!("{version}\n"))
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
