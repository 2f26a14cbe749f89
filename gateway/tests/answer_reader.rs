//! Our reader of an answer's head beside Pingora's: each difference has its reason.
//!
//! `FUZZ_SEED` replays a run, `FUZZ_RUNS` asks for more of it (a million take about 15 s).

use std::collections::BTreeMap;
use std::io::Cursor;

use gateway_core::protocol::Fields;
use gateway_core::protocol::answer::{AnswerError, read_answer};
use gateway_core::protocol::head::HeadLimits;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::ErrorType;
use pingora::protocols::http::v1::client::HttpSession;

#[path = "support/mutations.rs"]
mod mutations;

use mutations::{Chance, corpus, env, mutate};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 64 * 1024, line_bytes: 0, fields: 200 };

/// What a reader makes of bytes behind which the connection ends.
#[derive(Debug, PartialEq)]
enum Reading {
    Partial,
    Refused,
    Whole { status: u16, fields: Vec<(String, Vec<u8>)> },
}

/// Why the two readers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// Pingora reads over empty lines before the status line. They are left over from another
    /// answer, whose end two readers found in two places.
    EmptyLines,
    /// Pingora takes a status of 600 and more, and waits for the rest of one below 100.
    Status,
    /// Pingora drops a length beside a coding, and takes codings other than `chunked`, chunks in
    /// HTTP/1.0, and a length or a coding where the status says that nothing follows.
    Framing,
    /// Pingora refuses a line as soon as it is wrong, we do when it is whole.
    Hurry,
}

async fn theirs(bytes: &[u8]) -> Reading {
    let mut session = HttpSession::new(Box::new(Cursor::new(bytes.to_vec())));
    match session.read_response().await {
        Ok(_) => {
            let head = session.resp_header().expect("it was read");
            Reading::Whole { status: head.status.as_u16(), fields: listed(&head.headers) }
        }
        Err(error) if *error.etype() == ErrorType::ConnectionClosed => Reading::Partial,
        Err(_) => Reading::Refused,
    }
}

fn ours(bytes: &[u8]) -> (Reading, Option<AnswerError>) {
    match read_answer(bytes, &LIMITS) {
        Ok(Some(answer)) => {
            let status = answer.head.status.as_u16();
            let mut fields = HeaderMap::new();
            for (_, name, value) in answer.head.all() {
                let name = HeaderName::from_bytes(name).expect("a name");
                fields.append(name, HeaderValue::from_bytes(value).expect("a value"));
            }
            (Reading::Whole { status, fields: listed(&fields) }, None)
        }
        Ok(None) => (Reading::Partial, None),
        Err(error) => (Reading::Refused, Some(error)),
    }
}

/// In the order of their names, and one length of several equal ones.
fn listed(fields: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let lengths = fields.get_all("content-length").iter().count();
    let mut list: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .filter(|(name, _)| lengths == 0 || name != "content-length")
        .collect();
    list.sort_by(|(a, _), (b, _)| a.cmp(b));
    list
}

/// `None` where the two agree.
fn why(
    bytes: &[u8],
    theirs: &Reading,
    ours: &Reading,
    error: Option<AnswerError>,
) -> Option<Reason> {
    use Reading::{Partial, Refused, Whole};
    let begun = matches!(bytes, [b'\r' | b'\n', ..]);
    match (theirs, ours, error) {
        _ if theirs == ours => None,
        (Whole { .. } | Partial, Refused, Some(AnswerError::StatusLine)) if begun => {
            Some(Reason::EmptyLines)
        }
        (Whole { .. } | Partial, Refused, Some(AnswerError::Status)) => Some(Reason::Status),
        (Whole { .. } | Partial, Refused, Some(AnswerError::Framing)) => Some(Reason::Framing),
        (Refused, Partial, None) => Some(Reason::Hurry),
        _ => panic!("\"{}\"\n{theirs:?}\n{ours:?} {error:?}", bytes.escape_ascii()),
    }
}

#[test]
fn every_difference_to_pingoras_reader_has_its_reason() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let seeds = corpus("answer");
    let mut chance = Chance(env("FUZZ_SEED").unwrap_or(1));
    let mut found: BTreeMap<Reason, u64> = BTreeMap::new();
    for _ in 0..env("FUZZ_RUNS").unwrap_or(20_000) {
        let mut bytes = seeds[chance.below(seeds.len())].clone();
        let other = &seeds[chance.below(seeds.len())];
        for _ in 0..=chance.below(4) {
            mutate(&mut chance, &mut bytes, other);
        }
        let theirs = runtime.block_on(theirs(&bytes));
        let (ours, error) = ours(&bytes);
        if let Some(reason) = why(&bytes, &theirs, &ours, error) {
            *found.entry(reason).or_default() += 1;
        }
    }
    // A reason that no run needs is none.
    let reasons: Vec<_> = found.keys().copied().collect();
    let all = [Reason::EmptyLines, Reason::Status, Reason::Framing, Reason::Hurry];
    assert_eq!(reasons, all, "{found:?}");
}
