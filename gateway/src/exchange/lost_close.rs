//! A Close whose session its backend does not know: the shell of
//! [`gateway_core::session::lost_close`].

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::{SessionKey, headers};
use gateway_core::routing::Lookup;
use gateway_core::session::lost_close::{
    Conclusion, Evidence, Expected, FileHead, Next, Why, conclude, judge, next,
};
use gateway_core::session::{EndReason, Progress, Timestamp};
use http::{HeaderName, header, response};

use super::Exchange;
use super::ends::Ends;
use super::report::Reporter;
use crate::base::clock;
use crate::exchange::forwarding::told_with;
use crate::farm::backend_client::{BackendClient, BackendRequest, Task};
use crate::farm::health::FarmHealth;
use crate::sessions::Sessions;
use crate::telemetry::metrics::LostCloseResult;

/// Since when it has been unclear what became of a session, by the steady clock. An entry goes with
/// its session.
#[derive(Default)]
struct UnclearCloses(DashMap<SessionKey, Duration>);

impl UnclearCloses {
    /// For how long it has been unclear, now included.
    fn lasts(&self, key: &SessionKey, now: Duration) -> Duration {
        now.saturating_sub(*self.0.entry(key.clone()).or_insert(now))
    }

    fn forget(&self, key: &SessionKey) {
        self.0.remove(key);
    }
}

/// Finds out what became of sessions whose Close-Session was not understood.
pub(super) struct LostCloses {
    health: FarmHealth,
    sessions: Arc<Sessions>,
    reporter: Arc<Reporter>,
    ends: Arc<Ends>,
    client: Arc<BackendClient>,
    unclear: Arc<UnclearCloses>,
}

impl LostCloses {
    pub fn new(health: FarmHealth, ends: Arc<Ends>, client: Arc<BackendClient>) -> Self {
        let (sessions, reporter) = (Arc::clone(&ends.sessions), Arc::clone(&ends.reporter));
        let unclear = Arc::<UnclearCloses>::default();
        let told = Arc::clone(&unclear);
        sessions.on_session_end(move |key| told.forget(key));
        Self { health, sessions, reporter, ends, client, unclear }
    }

    /// The backend has said "session not found" to a Close. `Ok` if its client is to hear that and
    /// start over; the session has ended then.
    pub async fn close_not_found(
        &self,
        head: &RequestHead,
        exchange: &Exchange,
    ) -> Result<(), Fault> {
        let (Some(key), Some(backend)) = (&exchange.admitted.key, exchange.admitted.backend) else {
            return Ok(());
        };
        let sessions = &exchange.arrival.farm.config.sessions;
        let result = match next(sessions.lost_close, self.progress_anywhere(key).await) {
            Next::StartOver(Why::Incomplete) => LostCloseResult::Incomplete,
            Next::StartOver(Why::Policy) => LostCloseResult::Restarted,
            Next::Acknowledge => LostCloseResult::Acknowledged,
            Next::Look { total } => {
                let evidence = self.look_for_file(total, key, backend, head, exchange).await;
                let unclear_since = match evidence {
                    Evidence::Unclear => self.unclear.lasts(key, clock::steady()),
                    _ => Duration::ZERO,
                };
                match conclude(evidence, unclear_since, sessions.lost_close_after) {
                    Conclusion::Acknowledge => LostCloseResult::Delivered,
                    Conclusion::StartOver => LostCloseResult::NotDelivered,
                    Conclusion::GiveUp => LostCloseResult::Unverified,
                    Conclusion::Wait => LostCloseResult::Unclear,
                }
            }
        };
        self.reporter.lost_close(backend, result);
        match result {
            LostCloseResult::Delivered | LostCloseResult::Acknowledged => {
                self.ends.end(EndReason::Closed, head, exchange).await;
                Err(Fault::AlreadyEnded)
            }
            LostCloseResult::Unclear => Err(Fault::CloseUnverified),
            LostCloseResult::NotDelivered
            | LostCloseResult::Unverified
            | LostCloseResult::Incomplete
            | LostCloseResult::Restarted => {
                self.ends.end(EndReason::Lost, head, exchange).await;
                Ok(())
            }
        }
    }

    /// How far the session is, also where another process has seen its last byte arrive.
    async fn progress_anywhere(&self, key: &SessionKey) -> Progress {
        let known = || self.sessions.progress_of(key).unwrap_or_default();
        if known().complete().is_none() && self.sessions.follows_others() {
            // It reads on, whatever it is asked for.
            let _ = self.sessions.find_elsewhere(key).await;
        }
        known()
    }

    /// Asks the backend for the file, in the name of the client.
    ///
    /// Where a login counts for a connection only, the question goes without it: that connection
    /// has the answer to the Close on it. Such a server mostly answers 401, which is unclear.
    async fn look_for_file(
        &self,
        total: u64,
        key: &SessionKey,
        backend: BackendId,
        head: &RequestHead,
        exchange: &Exchange,
    ) -> Evidence {
        let Lookup::Pinned(pin) = self.sessions.find(Some(key)) else { return Evidence::Unclear };
        let http = &exchange.arrival.farm.config.http;
        let session = head.value(&headers::SESSION_ID);
        let request = session.and_then(|id| {
            BackendRequest::of(head, id, told_with(head, exchange.arrival.conn.as_deref(), http))
        });
        let Some(request) = request else { return Evidence::Unclear };
        let request = request.spelled(exchange.admitted.spelling.as_deref());
        let asked = clock::now();
        let answer = self.client.send(&request, Task::Look, &exchange.arrival.farm, backend).await;
        let (created, answered) = (pin.created, clock::now());
        match answer {
            Ok(answer) => judge(&file_head(&answer), &Expected { total, created, asked, answered }),
            Err(error) => {
                if error.by_backend {
                    self.health.connect_failed(backend);
                }
                Evidence::Unclear
            }
        }
    }
}

fn file_head(answer: &response::Parts) -> FileHead {
    let field = |name: HeaderName| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let date = |name| {
        let date = httpdate::parse_http_date(field(name)?.trim()).ok()?;
        let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Timestamp(since.as_millis().try_into().ok()?))
    };
    let identity = |coding: &str| coding.trim().eq_ignore_ascii_case("identity");
    // Of what is compressed on the way, the length is another.
    let plain = answer.headers.get_all(header::CONTENT_ENCODING).iter();
    let plain = plain.into_iter().all(|value| value.to_str().is_ok_and(identity))
        && !answer.headers.contains_key(header::TRANSFER_ENCODING);
    let length = field(header::CONTENT_LENGTH).filter(|_| plain);
    let mut lengths = answer.headers.get_all(header::CONTENT_LENGTH).iter();
    let one = lengths.next().is_some_and(|first| lengths.all(|other| other == first));
    FileHead {
        status: answer.status,
        length: length.filter(|_| one).and_then(|digits| digits.trim().parse().ok()),
        modified: date(header::LAST_MODIFIED),
        date: date(header::DATE),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(fields: &[(&'static str, &'static str)]) -> FileHead {
        let mut answer = http::Response::new(()).into_parts().0;
        for (name, value) in fields {
            answer.headers.append(*name, HeaderValue::from_static(value));
        }
        file_head(&answer)
    }

    #[test]
    fn a_date_is_read_in_each_of_its_three_forms() {
        // RFC 9110 section 5.6.7.
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let head = read(&[("Date", date), ("Last-Modified", date)]);
            let expected = Some(Timestamp(784_111_777_000));
            assert_eq!((head.date, head.modified), (expected, expected), "{date}");
        }
        for date in ["", "yesterday", "Sun, 06 Nov 1994 08:49:37", "Thu, 01 Jan 1969 00:00:00 GMT"]
        {
            assert_eq!(read(&[("Date", date)]).date, None, "{date}");
        }
    }

    #[test]
    fn only_the_length_of_the_file_itself_counts() {
        let length = ("Content-Length", "5000000000");
        assert_eq!(read(&[length]).length, Some(5_000_000_000));
        assert_eq!(read(&[length, length]).length, Some(5_000_000_000));
        assert_eq!(read(&[length, ("Content-Encoding", "identity")]).length, Some(5_000_000_000));
        for more in [
            ("Content-Length", "4"),
            ("Content-Encoding", "gzip"),
            ("Content-Encoding", "br, identity"),
            ("Transfer-Encoding", "chunked"),
        ] {
            assert_eq!(read(&[length, more]).length, None, "{more:?}");
        }
        for odd in ["", "-1", "1,1", "x", "18446744073709551616"] {
            assert_eq!(read(&[("Content-Length", odd)]).length, None, "{odd}");
        }
        assert_eq!(read(&[]).length, None);
    }

    #[test]
    fn a_doubt_lasts_from_its_first_moment_until_its_session_ends() {
        let closes = UnclearCloses::default();
        let key = |id: &str| {
            gateway_core::protocol::SessionId::parse(id).expect("a legal id").key().clone()
        };
        let at = Duration::from_secs;
        assert_eq!(closes.lasts(&key("a"), at(10)), Duration::ZERO);
        assert_eq!(closes.lasts(&key("a"), at(70)), at(60));
        assert_eq!(closes.lasts(&key("b"), at(80)), Duration::ZERO);
        closes.forget(&key("a"));
        assert_eq!(closes.lasts(&key("a"), at(90)), Duration::ZERO);
    }
}

#[cfg(test)]
#[path = "lost_close_tests.rs"]
mod closed_tests;
