//! A Create-Session that its backend refused: whether another backend may have it, and what it says
//! about the first one.

use http::StatusCode;

use crate::farm::{BackendId, Sign};
use crate::protocol::{Ack, Fields, HResult, PacketType, headers};

/// An answer to a Create that opens no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Another backend may accept it, or this one the next time.
    pub elsewhere: bool,
    /// What it says about the backend, if another one accepts the Create.
    pub sign: Option<Sign>,
}

/// A Create that was refused so often is not sent to another backend: three refuse alike what all
/// refuse.
pub const MOST_TRIES: usize = 2;

/// The credentials are what is missing, the file of another request is in the way, or the request is
/// too long. 409 is also what servers say of a file that is there already.
const OF_THE_REQUEST: [StatusCode; 4] = [
    StatusCode::UNAUTHORIZED,
    StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
];

/// The same in the words of the protocol. Access is also denied to a file that is there already.
const OF_THE_FILE: [HResult; 3] =
    [HResult::INVALID_ARGUMENT, HResult::ACCESS_DENIED, HResult::TOO_LARGE];

/// A file of that name is there, or open. Another backend may have none; but any client can arrange
/// that, so it says nothing about the backend.
const OF_ONE_COPY: [HResult; 4] = [
    HResult::SHARING_VIOLATION,
    HResult::LOCK_VIOLATION,
    HResult::FILE_EXISTS,
    HResult::ALREADY_EXISTS,
];

impl Refusal {
    /// The connection ended before there was an answer, or what came is none. `stale` says that it
    /// was a connection of the pool, which its backend may have closed just then: that is no
    /// refusal, and its client comes again.
    pub fn without_answer(stale: bool) -> Self {
        Self { elsewhere: !stale, sign: (!stale).then_some(Sign::Refuses) }
    }

    /// `None` if the backend has opened a session, or may have: an id is there.
    pub fn of(fields: &impl Fields, ack: &Ack<'_>) -> Option<Self> {
        let mut ids = fields.values(&headers::SESSION_ID);
        if ids.any(|id| !id.trim_ascii().is_empty()) {
            return None;
        }
        let error = ack.error.filter(|_| !ack.status.is_success());
        let says = |codes: &[HResult]| error.is_some_and(|error| codes.contains(&error));
        let refusal = |elsewhere, sign| Some(Self { elsewhere, sign });
        if OF_THE_REQUEST.contains(&ack.status) || says(&OF_THE_FILE) {
            refusal(false, None)
        } else if says(&OF_ONE_COPY) {
            refusal(true, None)
        } else if error.is_some_and(HResult::is_disk_full) {
            refusal(true, Some(Sign::Full))
        } else {
            refusal(true, Some(Sign::Refuses))
        }
    }
}

/// The backends that have refused one packet.
#[derive(Debug, Clone, Default)]
pub struct Refusers {
    all: Vec<(BackendId, Refusal)>,
}

impl Refusers {
    pub fn note(&mut self, backend: BackendId, refusal: Refusal) {
        self.all.push((backend, refusal));
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What the refusals say, if another backend accepts.
    pub fn signs(&self) -> Vec<(BackendId, Sign)> {
        let signs =
            self.all.iter().filter_map(|(backend, refusal)| Some((*backend, refusal.sign?)));
        signs.collect()
    }

    /// Whether the packet goes to another backend after the last refusal. `bound`: it goes over a
    /// connection of its client's own, and another backend does not know the login. `whole`: its
    /// body is still there, or it has none.
    pub fn lets_go_elsewhere(&self, kind: PacketType, bound: bool, whole: bool) -> bool {
        let may = self.all.last().is_some_and(|(_, refusal)| refusal.elsewhere);
        let more = self.all.len() <= MOST_TRIES;
        may && more && kind == PacketType::CreateSession && !bound && whole
    }

    /// Whether each of the backends that were tried has refused. One that could not be reached may
    /// accept the packet later, so a refusal of another one is not the last word.
    pub fn include_all(&self, tried: &[BackendId]) -> bool {
        tried.iter().all(|backend| self.all.iter().any(|(refuser, _)| refuser == backend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::read_ack;

    const ACK: (&str, &str) = ("BITS-Packet-Type", "Ack");

    #[track_caller]
    fn check(status: u16, fields: &[(&str, &str)], expected: Option<Refusal>) {
        let mut answer = http::Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        let head = answer.body(()).unwrap().into_parts().0;
        assert_eq!(
            Refusal::of(&head.headers, &read_ack(head.status, &head.headers)),
            expected,
            "{status} {fields:?}"
        );
    }

    const TRIED: Option<Refusal> = Some(Refusal { elsewhere: true, sign: Some(Sign::Refuses) });
    const PASSED: Option<Refusal> = Some(Refusal { elsewhere: false, sign: None });

    #[test]
    fn whatever_opens_no_session_is_refused() {
        for status in [200, 204, 301, 302, 304, 400, 403, 404, 405, 411, 429, 500, 501, 502, 503] {
            check(status, &[], TRIED);
            check(status, &[ACK], TRIED);
            check(status, &[("Content-Type", "text/html")], TRIED);
            check(status, &[("BITS-Session-Id", " ")], TRIED);
        }
        for code in ["0x80070003", "0x8020001F", "0x80070002", "0x800703E3", "0x1"] {
            check(500, &[ACK, ("BITS-Error", code)], TRIED);
            check(404, &[("BITS-Error-Code", code)], TRIED);
        }
    }

    #[test]
    fn what_is_about_the_request_goes_back_to_its_client() {
        for status in [401, 407, 409, 413] {
            check(status, &[], PASSED);
            check(status, &[ACK, ("BITS-Error", "0x80070003")], PASSED);
        }
        for code in ["0x80070057", "0x80070005", "0x80200020"] {
            for status in [400, 403, 500, 503] {
                check(status, &[ACK, ("BITS-Error", code)], PASSED);
                check(status, &[("BITS-Error-Code", code)], PASSED);
            }
            // SimpleBITSServer sends codes with successes.
            check(200, &[ACK, ("BITS-Error", code)], TRIED);
        }
    }

    #[test]
    fn a_file_that_is_in_the_way_says_nothing_about_its_backend() {
        for code in ["0x80070020", "0x80070021", "0x80070050", "0x800700B7"] {
            let refusal = Refusal { elsewhere: true, sign: None };
            check(500, &[ACK, ("BITS-Error", code)], Some(refusal));
        }
    }

    #[test]
    fn a_full_disk_is_one() {
        for code in ["0x80070070", "0x80070112"] {
            let refusal = Refusal { elsewhere: true, sign: Some(Sign::Full) };
            check(500, &[ACK, ("BITS-Error", code)], Some(refusal));
        }
    }

    #[test]
    fn nothing_goes_elsewhere_once_there_is_an_id() {
        for status in [200, 201, 401, 404, 500] {
            check(status, &[ACK, ("BITS-Session-Id", "{x}")], None);
            check(status, &[("BITS-Session-Id", "{x}"), ("BITS-Session-Id", "{y}")], None);
        }
    }

    #[test]
    fn a_create_goes_to_two_more_backends_at_most() {
        let create = PacketType::CreateSession;
        let refused = |refusals: &[Option<Refusal>]| {
            let mut refusers = Refusers::default();
            for (number, refusal) in (0..).zip(refusals) {
                refusers.note(BackendId(number), refusal.unwrap());
            }
            refusers
        };
        let goes = |refusals| refused(refusals).lets_go_elsewhere(create, false, true);
        assert!(goes(&[TRIED]) && goes(&[TRIED, TRIED]));
        assert!(!goes(&[]) && !goes(&[PASSED]) && !goes(&[TRIED, PASSED]));
        assert!(!goes(&[TRIED, TRIED, TRIED]));
        let once = refused(&[TRIED]);
        assert!(!once.lets_go_elsewhere(create, true, true));
        assert!(!once.lets_go_elsewhere(create, false, false));
        for kind in PacketType::ALL.into_iter().filter(|kind| *kind != create) {
            assert!(!once.lets_go_elsewhere(kind, false, true));
        }
    }

    #[test]
    fn what_refusals_say_counts_for_each_that_says_something() {
        let mut refusers = Refusers::default();
        assert!(refusers.is_empty());
        for (number, refusal) in [(0, TRIED), (1, PASSED), (2, TRIED)] {
            refusers.note(BackendId(number), refusal.unwrap());
        }
        let refuses = |number| (BackendId(number), Sign::Refuses);
        assert_eq!(refusers.signs(), [refuses(0), refuses(2)]);
        assert!(refusers.include_all(&[]) && refusers.include_all(&[BackendId(2), BackendId(0)]));
        assert!(!refusers.include_all(&[BackendId(0), BackendId(3)]), "one was not reached");
        assert!(!refusers.is_empty());
    }

    #[test]
    fn a_pooled_connection_that_was_dead_is_no_refusal() {
        assert_eq!(Some(Refusal::without_answer(false)), TRIED);
        let stale = Refusal { elsewhere: false, sign: None };
        assert_eq!(Refusal::without_answer(true), stale);
    }
}
