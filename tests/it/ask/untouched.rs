//! No byte of a question is ever in a file, whatever its server has and does.

use e2e_tests::client::exchange;
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;

use super::lost_table::asking;
use crate::packets::{Packet, close, create, fragment, session_of};

/// Servers differ in what they make of bytes that they have, and of half a body.
const HABITS: [&[&str]; 6] = [
    &[],
    &["--strict-ranges"],
    &["--overwrite-overlaps"],
    &["--keep-parts"],
    &["--keep-parts", "--overwrite-overlaps"],
    &["--flavour", "transfervm"],
];

#[track_caller]
fn send(farm: &Farm, packet: &Packet) -> u16 {
    exchange(farm.entrance(), &packet.bytes()).expect("an answer").status
}

/// `first..end` of a file whose bytes are all of one kind, and none of them zero.
fn part(path: &str, id: &str, (first, end, total): (usize, usize, usize)) -> Packet {
    let range = format!("bytes {first}-{}/{total}", end - 1);
    fragment(path, id, &range, &vec![b'x'; end - first])
}

/// A session that has `next` bytes of `total`, and the range that its client sends next; `None` for
/// a Close-Session.
struct Case {
    path: String,
    id: String,
    next: usize,
    total: usize,
    sends: Option<(usize, usize)>,
}

impl Case {
    #[track_caller]
    fn open(farm: &Farm, path: String, next: usize, total: usize) -> Self {
        let answer = exchange(farm.entrance(), &create(&path).bytes()).expect("an answer");
        let id = session_of(&answer);
        if next > 0 {
            assert_eq!(send(farm, &part(&path, &id, (0, next, total))), 200);
        }
        Self { path, id, next, total, sends: None }
    }

    /// Whatever the client is told, it goes on as if all were well: with the rest of the file, with
    /// all of it, or with the end alone.
    #[track_caller]
    fn check(&self, farm: &Farm, rest: Option<usize>) {
        let Self { path, id, next, total, .. } = self;
        let first = match self.sends {
            Some((first, end)) => part(path, id, (first, end, *total)),
            None => close(path, id),
        };
        let status = send(farm, &first);
        assert!([200, 416, 500, 503].contains(&status), "{status}");
        if let Some(first) = rest {
            send(farm, &part(path, id, (first, *total, *total)));
        }
        send(farm, &close(path, id));
        for stored in farm.stored(path) {
            let expected = Content::bytes(vec![b'x'; *total]);
            let whole = (stored.bytes, &stored.sha256) == (expected.len(), &expected.sha256());
            assert!(whole, "{next} of {total}, {:?}, then {rest:?}: {stored:?}", self.sends);
        }
    }
}

#[test]
fn no_byte_of_a_question_is_in_a_file_whatever_its_session_has() {
    for (habits, shared) in HABITS.into_iter().flat_map(|habits| [(habits, false), (habits, true)])
    {
        let farm = asking(1)
            .set("sessions.ask_rate", "10_000")
            .set("sessions.shared_farm", if shared { "true" } else { "false" })
            .each_stub(habits)
            .start();
        let mut cases = Vec::new();
        for total in [1, 2, 3, 20] {
            let mut offsets = vec![0, 1, total / 2, total - 1, total];
            offsets.sort_unstable();
            offsets.dedup();
            for next in offsets {
                // Again from the begin, in other Fragments than before; where it was; and the end.
                let mut ranges: Vec<_> =
                    [1, total / 2, total - 1, total].map(|end| Some((0, end))).into();
                ranges.extend([Some((next, total)), None]);
                ranges.retain(|range| range.is_none_or(|(first, end)| first < end));
                ranges.dedup();
                for sends in ranges {
                    for rest in [None, Some(0), Some(next.min(total - 1))] {
                        let path = format!("/in/{}.bin", cases.len());
                        let case = Case::open(&farm, path, next, total);
                        cases.push((Case { sends, ..case }, rest));
                    }
                }
            }
        }
        assert!(cases.len() > 150, "{}", cases.len());
        farm.gateway().restart();
        for (case, rest) in cases {
            case.check(&farm, rest);
        }
        let asked = farm.metric("bitsgw_asks_total", &[("result", "sent")]);
        assert!(asked > 100.0, "{asked} questions");
    }
}
