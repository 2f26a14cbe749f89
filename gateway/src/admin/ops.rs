//! The ops listener, for operators and their machines: `/metrics`, `/livez`, `/readyz`, `/health`,
//! `/version`. Read-only, and small on purpose.

use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::session::limits::PerClient;
use http::header::ALLOW;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use tokio_util::sync::CancellationToken;

use super::body::AnswerBody;
use super::service::{self, Asked, JSON, Rules, Socket};
use crate::base::build_info::{REVISION, RUSTC, VERSION};
use crate::process::readiness::{Phase, Readiness};
use crate::sessions::store::Store;
use crate::telemetry::metrics::{self, Metrics};
use crate::telemetry::problems::Judge;

/// A scrape of 200 backends is about 1 MiB, so this bounds what slow readers can hold.
pub const CONNECTIONS: usize = 32;

/// Prometheus gives up after 10 s.
const EXCHANGE: Duration = Duration::from_secs(20);

const RULES: Rules = Rules {
    name: "ops",
    connections: CONNECTIONS,
    of_one_client: PerClient::Unlimited,
    exchange: EXCHANGE,
    send_buffer: None,
};

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
    let state = Arc::new(state);
    let answer = move |asked: Asked| {
        let state = Arc::clone(&state);
        async move { answer(&state, &asked.request.into_parts().0).await }
    };
    service::serve(Socket::tcp(listener, None)?, RULES, answer, stop).await;
    Ok(())
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What pages are asked by.
const READS: &str = "GET, HEAD";

/// What `/livez` and `/readyz` are asked by: HAProxy asks by OPTIONS where nothing else is configured.
const PROBES: &str = "GET, HEAD, OPTIONS";

async fn answer(state: &State, head: &Parts) -> Response<AnswerBody> {
    let (method, uri) = (&head.method, &head.uri);
    let (page, methods): (fn(&State, &str) -> Response<AnswerBody>, _) = match uri.path() {
        "/metrics" => (metrics_page, READS),
        "/livez" => (|_, _| text(StatusCode::OK, "ok\n"), PROBES),
        "/readyz" => (readyz_page, PROBES),
        "/version" => (version_page, READS),
        "/health" if is_read(method) => return health_page(state).await,
        "/health" => (version_page, READS),
        _ => return text(StatusCode::NOT_FOUND, "not found\n"),
    };
    if is_read(method) {
        page(state, uri.query().unwrap_or_default())
    } else if method == Method::OPTIONS && methods == PROBES {
        // The status counts.
        let mut answer = page(state, "").map(|_| AnswerBody::Whole(None));
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        answer
    } else {
        let refusal = format!("only {methods} are served here\n");
        service::respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, Some(methods), refusal)
    }
}

/// Always 200: it is for people and `bits-gateway health`, and nobody is to kill a process because
/// its disk is full.
async fn health_page(state: &State) -> Response<AnswerBody> {
    let judge = state.judge.clone();
    // It reads a file, on a disk that may hang.
    match tokio::task::spawn_blocking(move || judge.verdict()).await {
        Ok(verdict) => {
            let text = serde_json::to_string(&verdict).expect("a verdict has text for keys");
            service::respond(StatusCode::OK, JSON, None, text + "\n")
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the log says more\n"),
    }
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn metrics_page(state: &State, _: &str) -> Response<AnswerBody> {
    state.metrics.set_draining(state.readiness.phase() == Phase::Draining);
    service::respond(StatusCode::OK, metrics::CONTENT_TYPE, None, state.metrics.encode())
}

fn readyz_page(state: &State, query: &str) -> Response<AnswerBody> {
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
    text(status, &body)
}

fn version_page(_: &State, _: &str) -> Response<AnswerBody> {
    let version = serde_json::json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": VERSION,
        "revision": REVISION,
        "rustc": RUSTC,
    });
    service::respond(StatusCode::OK, JSON, None, format!("{version}\n"))
}

fn text(status: StatusCode, text: &str) -> Response<AnswerBody> {
    service::respond(status, TEXT, None, text.to_owned())
}
