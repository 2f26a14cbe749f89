//! What holds for every input: of the readers, of the head check, of decisions and edits.

#[path = "properties/ask.rs"]
mod ask;
#[path = "properties/failover.rs"]
mod failover;
#[path = "properties/grammar.rs"]
mod grammar;
#[path = "properties/heads.rs"]
mod heads;
#[path = "properties/health.rs"]
mod health;
#[path = "properties/limits.rs"]
mod limits;
#[path = "properties/ownership.rs"]
mod ownership;
#[path = "properties/pings.rs"]
mod pings;
#[path = "properties/routing.rs"]
mod routing;
#[path = "properties/targets.rs"]
mod targets;
#[path = "properties/wire.rs"]
mod wire;

use gateway_core::protocol::head::{
    BodyFraming, HeadLimits, HeadPolicy, RequestHead, check_head, end_of_head, find_field,
};
use gateway_core::protocol::{ChunkedMode, RequestPacket, packet, read_request};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Small enough that the heads reach them.
const LIMITS: HeadLimits = HeadLimits { head_bytes: 400, line_bytes: 40, fields: 6 };
const ANY: HeadPolicy<'_> = HeadPolicy { hosts: None, escape_path: false };
const WIDE: HeadLimits = HeadLimits { head_bytes: 32 * 1024, line_bytes: 8 * 1024, fields: 100 };

/// `PROPTEST_CASES` asks for more. What fails is printed in its smallest form, to be kept as a line
/// of a table test.
fn cases(count: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(count), failure_persistence: None, ..config }
}

/// What httparse reads in a head: everything by which a server would act on it.
struct Reading<'h> {
    method: &'h str,
    target: &'h str,
    fields: Vec<(&'h str, &'h [u8])>,
}

fn read_with_httparse(head: &[u8]) -> Reading<'_> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    let status = request.parse(head).expect("what the check accepts, httparse reads");
    assert_eq!(status, httparse::Status::Complete(head.len()), "the head ends where it ends");
    assert_eq!(request.version, Some(1));
    Reading {
        method: request.method.unwrap(),
        target: request.path.unwrap(),
        fields: request.headers.iter().map(|field| (field.name, field.value)).collect(),
    }
}

impl Reading<'_> {
    fn values(&self, name: &str) -> Vec<&[u8]> {
        let fields = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| *value).collect()
    }

    /// As a server frames a body that knows only RFC 9112, section 6.3.
    fn framing(&self) -> BodyFraming {
        match (&self.values("transfer-encoding")[..], &self.values("content-length")[..]) {
            ([], []) => BodyFraming::Length(0),
            ([], [length]) => {
                BodyFraming::Length(std::str::from_utf8(length).unwrap().parse().unwrap())
            }
            ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => BodyFraming::Chunked,
            other => panic!("two framings in one head: {other:?}"),
        }
    }
}

/// The fields as they stand between the line ends, without a parser.
fn fields_by_hand(head: &[u8]) -> Vec<(&str, &[u8])> {
    let mut lines =
        head.split(|&b| b == b'\n').skip(1).map(|line| line.strip_suffix(b"\r").unwrap());
    let mut fields = Vec::new();
    while let Some(line) = lines.next().filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|&b| b == b':').unwrap();
        fields.push((std::str::from_utf8(&line[..colon]).unwrap(), line[colon + 1..].trim_ascii()));
    }
    fields
}

proptest! {
    #![proptest_config(cases(6000))]

    #[test]
    fn the_head_check_accepts_what_the_grammar_accepts(head in heads::head()) {
        for limits in [LIMITS, WIDE] {
            let facts = check_head(&head, &limits, &ANY).ok().map(|facts| grammar::Verdict {
                passed: facts.edits.apply(&head),
                body: facts.body,
                http10: facts.http10,
            });
            prop_assert_eq!(facts, grammar::judge(&head, &limits));
        }
    }

    #[test]
    fn what_the_head_check_accepts_others_read_alike(head in heads::head()) {
        if let Ok(facts) = check_head(&head, &WIDE, &ANY) {
            prop_assert_eq!(end_of_head(&head, 0), Some(head.len()));
            // Servers read what is passed on.
            let head = facts.edits.apply(&head);
            prop_assert_eq!(end_of_head(&head, 0), Some(head.len()));
            let again = check_head(&head, &WIDE, &ANY);
            if let Ok(again) = &again {
                prop_assert!(again.edits.is_empty() && !again.http10, "edited twice is edited once");
            }
            let reading = read_with_httparse(&head);
            prop_assert_eq!(&reading.fields, &fields_by_hand(&head));
            prop_assert_eq!(reading.framing(), facts.body);
            let hosts = reading.values("host").len();
            prop_assert_eq!(hosts, usize::from(again.is_ok()));
            prop_assert!(hosts == 1 || facts.http10);
            let mut request = http::Request::builder().method(reading.method).uri(reading.target);
            for (name, value) in &reading.fields {
                request = request.header(*name, *value);
            }
            let parts = request.body(()).expect("and the http types hold it").into_parts().0;
            let packet = read_request(&parts.headers, ChunkedMode::Refuse);
            if let Ok(RequestPacket::Fragment { range, .. }) = &packet {
                prop_assert_eq!(facts.body, BodyFraming::Length(range.len()));
            } else if packet.is_ok() {
                prop_assert_eq!(facts.body, BodyFraming::Length(0));
            }
            let session = find_field(&head, "bits-session-id").filter(|id| !id.is_empty());
            if let Some(id) = packet::session_of(&parts.headers) {
                prop_assert_eq!(session, Some(id.as_str()));
            }
        }
    }

    #[test]
    fn a_head_is_found_in_whatever_pieces_it_comes(
        head in heads::head(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let whole = end_of_head(&head, 0);
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(head.len() + 1)).collect();
        ends.push(head.len());
        ends.sort_unstable();
        let mut searched = 0;
        let mut found = None;
        for end in ends {
            found = found.or_else(|| end_of_head(&head[..end], searched));
            searched = end;
        }
        prop_assert_eq!(found, whole);
    }
}

/// A head that passes unchanged, as a connection keeps it, and one of as many bytes. Whether that is
/// taken for the same but for its numbers.
fn is_repeated(head: &[u8], other: &[u8]) -> bool {
    let Ok(facts) = check_head(head, &WIDE, &ANY) else { return false };
    if !facts.edits.is_empty() || facts.body == BodyFraming::Chunked {
        return false;
    }
    let mut kept = RequestHead::new(head.to_vec(), facts.index);
    let Some(length) = kept.repeat(other) else {
        assert_eq!(kept.bytes(), head, "it stays as it was");
        return false;
    };
    let (read, anew) = (|head: &RequestHead| read_request(head, ChunkedMode::Refuse), kept.clone());
    let before = RequestHead::read(head.to_vec()).expect("a head");
    if let Ok(before) = read(&before) {
        assert_eq!(packet::read_again(before, &anew), read(&anew));
    }
    let facts = check_head(other, &WIDE, &ANY).expect("it passes as the one before");
    assert!(facts.edits.is_empty() && !facts.http10);
    assert_eq!(facts.body, BodyFraming::Length(length));
    assert_eq!(kept, RequestHead::new(other.to_vec(), facts.index));
    true
}

/// Other bytes in some places: in half of the cases digits for digits of a length or a range.
fn changed(head: &[u8], changes: &[(proptest::sample::Index, u8)]) -> Vec<u8> {
    const BYTES: &[u8] = b"0123456789-/ ,:*ax\r\n\0\xff";
    let mut other = head.to_vec();
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let numbers: Vec<_> = ["content-length:", "content-range:"]
        .iter()
        .flat_map(|name| text.match_indices(name))
        .flat_map(|(start, _)| {
            (start..head.len())
                .take_while(|at| head[*at] != b'\r')
                .filter(|at| head[*at].is_ascii_digit())
        })
        .collect();
    for (at, byte) in changes.iter().filter(|_| !head.is_empty()) {
        if byte & 1 == 0 || numbers.is_empty() {
            other[at.index(head.len())] = BYTES[usize::from(byte / 2) % BYTES.len()];
        } else {
            other[numbers[at.index(numbers.len())]] = b'0' + byte / 2 % 10;
        }
    }
    other
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn a_head_that_repeats_one_that_has_passed_passes_as_that_did(
        head in heads::head(),
        changes in proptest::collection::vec(any::<(proptest::sample::Index, u8)>(), 0..4),
    ) {
        is_repeated(&head, &changed(&head, &changes));
    }
}

/// Without this, heads that never repeat would prove nothing.
#[test]
fn some_heads_of_the_properties_repeat() {
    let mut runner = TestRunner::deterministic();
    let strategy =
        (heads::head(), proptest::collection::vec(any::<(proptest::sample::Index, u8)>(), 1..3));
    let mut repeated = 0;
    for _ in 0..4000 {
        let (head, changes) = strategy.new_tree(&mut runner).expect("a head").current();
        let other = changed(&head, &changes);
        repeated += usize::from(other != head && is_repeated(&head, &other));
    }
    assert!(repeated > 5, "{repeated} of 4000");
}

/// Without this, heads that are all refused for one silly reason would prove nothing.
#[test]
fn the_heads_of_the_properties_are_of_both_kinds() {
    let mut runner = TestRunner::deterministic();
    let strategy = heads::head();
    let mut accepted = 0;
    for _ in 0..2000 {
        let head = strategy.new_tree(&mut runner).expect("a head").current();
        accepted += usize::from(check_head(&head, &WIDE, &ANY).is_ok());
    }
    assert!((300..1700).contains(&accepted), "{accepted} of 2000 accepted");
}
