//! A farm of four backends, with the signs that its Creates give.

use std::net::IpAddr;

use super::known::{FOLDERS, OF_ONE_CLIENT, WATCHED};
use super::*;

mod pings;

const RULES: FolderRules = FolderRules {
    retry_after: Duration::from_secs(30),
    full_for: Duration::from_secs(60),
    create_wait: Duration::from_secs(3),
};

const A: BackendId = BackendId(0);
const B: BackendId = BackendId(1);
const C: BackendId = BackendId(2);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn client(number: u8) -> Option<ClientKey> {
    Some(ClientKey::of(IpAddr::from([192, 0, 2, number])))
}

fn create(target: &str, number: u8) -> Create {
    let hash = target.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31) + u64::from(byte));
    let folder = Folder::of(target.as_bytes());
    let directory = Directory::of(target.as_bytes());
    Create { folder, directory, target: hash, client: client(number), without_body: true }
}

#[derive(Default)]
struct World(Folders);

impl World {
    /// `refuser` refuses and B accepts.
    fn refuses(&mut self, refuser: BackendId, target: &str, client: u8, now: Duration) {
        let asked = self.0.asked(refuser, create(target, client), now);
        self.0.refused(&asked, true, &RULES, now);
        let asked = self.0.asked(B, create(target, client), now);
        self.0.accepted(&asked, &[(refuser, Sign::Refuses)], &RULES, now);
    }

    fn accepts(&mut self, backend: BackendId, target: &str, client: u8, now: Duration) {
        let asked = self.0.asked(backend, create(target, client), now);
        self.0.accepted(&asked, &[], &RULES, now);
    }

    /// For a client that has said nothing.
    fn barred(&mut self, target: &str, now: Duration) -> Vec<(u32, Sign)> {
        self.barred_for(99, target, now)
    }

    fn barred_for(&mut self, number: u8, target: &str, now: Duration) -> Vec<(u32, Sign)> {
        let folder = Folder::of(target.as_bytes());
        let barred = self.0.barred(&folder, client(number), &RULES, now);
        barred.iter().map(|barred| (barred.backend.0, barred.why)).collect()
    }

    /// Two clients are known.
    fn with_others() -> Self {
        let mut world = Self::default();
        world.accepts(C, "/other/1", 1, at(0));
        world.accepts(C, "/other/2", 2, at(0));
        world
    }
}

#[test]
fn a_folder_is_the_first_segment_of_a_path() {
    for (target, folder) in [
        ("/in/a.bin", "/in/"),
        ("/IN/b.bin?x=/y/", "/in/"),
        ("//in//deep/a.bin", "/in/"),
        ("/a.bin", "/"),
        ("/?/in/", "/"),
        ("/", "/"),
        ("", "/"),
        ("*", "/"),
    ] {
        assert_eq!(Folder::of(target.as_bytes()).path(), folder, "{target}");
    }
    let long = format!("/{}/a", "x".repeat(5000));
    assert_eq!(Folder::of(long.as_bytes()).path().len(), 66);
}

#[test]
fn two_targets_that_another_backend_accepts_make_a_verdict() {
    let mut world = World::default();
    world.refuses(A, "/in/1", 1, at(0));
    assert_eq!(world.barred("/in/2", at(0)), []);
    world.refuses(A, "/in/2", 1, at(1));
    assert_eq!(world.barred("/in/3", at(1)), [(0, Sign::Refuses)]);
    assert_eq!(world.barred("/other/3", at(1)), [], "of that folder");
    let change =
        |why| Change { backend: A, folder: Folder::of(b"/in/"), why, reach: Reach::Everyone };
    assert_eq!(world.0.take_changes(), [change(Some(Sign::Refuses))]);
    world.accepts(A, "/in/3", 1, at(31));
    assert_eq!(world.0.take_changes(), [change(None)]);
    assert_eq!(world.0.verdicts().count(), 0);
}

#[test]
fn one_target_makes_none_however_often() {
    let mut world = World::with_others();
    for second in 0..300 {
        world.refuses(A, "/in/1", (second % 2) as u8, at(second));
        assert_eq!(world.barred("/in/1", at(second)), []);
    }
}

#[test]
fn one_client_makes_none_where_there_are_others() {
    let mut world = World::with_others();
    for target in 0..200 {
        world.refuses(A, &format!("/in/{target}"), 1, at(1));
        assert_eq!(world.barred("/in/x", at(1)), []);
    }
    // As long as others are served, its word never counts.
    for second in 2..200 {
        world.refuses(A, &format!("/in/{second}"), 1, at(second));
        if second % 50 == 0 {
            world.accepts(A, "/in/other", 2, at(second));
        }
        assert_eq!(world.barred("/in/x", at(second)), []);
    }
    // Another client says the same.
    world.refuses(A, "/in/a", 2, at(201));
    assert_eq!(world.barred("/in/x", at(201)), [(0, Sign::Refuses)]);
}

#[test]
fn the_word_of_one_client_counts_for_that_client() {
    let mut world = World::with_others();
    let change =
        |why| Change { backend: A, folder: Folder::of(b"/in/"), why, reach: Reach::OneClient };
    world.refuses(A, "/in/1", 1, at(1));
    assert_eq!(world.barred_for(1, "/in/x", at(1)), []);
    // However often and for however long.
    for second in 2..500 {
        world.refuses(A, &format!("/in/{second}"), 1, at(second));
        assert_eq!(world.barred_for(1, "/in/x", at(second)), [(0, Sign::Refuses)]);
        assert_eq!(world.barred_for(2, "/in/x", at(second)), []);
        assert_eq!(world.barred("/in/x", at(second)), []);
        world.accepts(C, "/in/others", 2, at(second));
    }
    assert_eq!(world.0.take_changes(), [change(Some(Sign::Refuses))]);
    assert_eq!(world.0.verdicts().count(), 0, "no verdict for everyone");
    assert_eq!(world.0.verdicts_for_one(at(528)).count(), 1);
    assert_eq!(world.0.verdicts_for_one(at(529)).count(), 0, "it may try again");
    // After its time that client tries one Create, and so on.
    assert_eq!(world.barred_for(1, "/in/x", at(528)), [(0, Sign::Refuses)]);
    assert_eq!(world.barred_for(1, "/in/x", at(529)), []);
    let trial = world.0.asked(A, create("/in/x", 1), at(529));
    assert_eq!(world.barred_for(1, "/in/y", at(529)), [(0, Sign::Refuses)]);
    world.0.refused(&trial, true, &RULES, at(530));
    assert_eq!(world.barred_for(1, "/in/y", at(530)), [], "no other backend has accepted it");
    // What the backend accepts from anyone takes it back.
    world.accepts(A, "/in/z", 2, at(531));
    assert_eq!(world.0.take_changes(), [change(None)]);
}

#[test]
fn a_disk_that_is_full_for_one_client_is_so_until_that_client_has_tried() {
    let mut world = World::with_others();
    for second in 0..300 {
        world.0.full(A, &create("/in/1", 1), &RULES, at(second));
        world.accepts(A, "/in/2", 2, at(second));
        assert_eq!(world.barred_for(1, "/in/x", at(second)), [(0, Sign::Full)]);
        assert_eq!(world.barred_for(2, "/in/x", at(second)), []);
    }
    world.accepts(A, "/in/3", 1, at(358));
    assert_eq!(world.barred_for(1, "/in/x", at(358)), [(0, Sign::Full)]);
    world.accepts(A, "/in/3", 1, at(359));
    assert_eq!(world.barred_for(1, "/in/x", at(359)), []);
}

#[test]
fn a_sign_is_forgotten() {
    let mut world = World::default();
    world.refuses(A, "/in/1", 1, at(0));
    world.refuses(A, "/in/2", 1, MEMORY);
    assert_eq!(world.barred("/in/3", MEMORY), []);
    world.accepts(A, "/in/1", 1, MEMORY);
    world.refuses(A, "/in/3", 1, MEMORY);
    assert_eq!(world.barred("/in/3", MEMORY), [], "a Create that it accepts speaks for it");
}

#[test]
fn after_a_verdict_there_is_one_trial_at_a_time() {
    let mut world = World::default();
    world.refuses(A, "/in/1", 1, at(0));
    world.refuses(A, "/in/2", 1, at(0));
    assert_eq!(world.barred("/in/3", at(29)), [(0, Sign::Refuses)]);
    assert_eq!(world.barred("/in/3", at(30)), []);
    let trial = world.0.asked(A, create("/in/3", 1), at(30));
    assert_eq!(world.barred("/in/4", at(30)), [(0, Sign::Refuses)]);
    assert_eq!(world.barred("/in/4", at(50)), [(0, Sign::Refuses)]);
    // What it says of the client says nothing of the backend.
    world.0.refused(&trial, false, &RULES, at(50));
    assert_eq!(world.barred("/in/4", at(50)), []);
    let trial = world.0.asked(A, create("/in/3", 1), at(50));
    world.0.refused(&trial, true, &RULES, at(51));
    assert_eq!(world.barred("/in/4", at(80)), [(0, Sign::Refuses)]);
    assert_eq!(world.barred("/in/4", at(81)), []);
    // A client that leaves at once has tried nothing; one that has waited has.
    let trial = world.0.asked(A, create("/in/3", 1), at(81));
    world.0.gone(&trial, &RULES, at(82));
    assert_eq!(world.barred("/in/4", at(82)), []);
    let trial = world.0.asked(A, create("/in/3", 1), at(82));
    world.0.gone(&trial, &RULES, at(90));
    assert_eq!(world.barred("/in/4", at(119)), [(0, Sign::Silent)]);
    assert_eq!(world.barred("/in/4", at(120)), []);
    let trial = world.0.asked(A, create("/in/3", 1), at(120));
    world.0.accepted(&trial, &[], &RULES, at(121));
    assert_eq!(world.0.verdicts().count(), 0);
}

#[test]
fn one_client_does_not_prolong_a_verdict() {
    let mut world = World::with_others();
    world.refuses(A, "/in/1", 1, at(0));
    world.refuses(A, "/in/2", 2, at(0));
    world.refuses(A, "/in/3", 1, at(30));
    assert_eq!(world.barred("/in/4", at(30)), [(0, Sign::Refuses)], "another client's word");
    world.refuses(A, "/in/4", 1, at(60));
    assert_eq!(world.barred("/in/4", at(60)), [], "a trial for the next client");
}

#[test]
fn silence_is_a_create_that_waits_while_others_answer() {
    let mut world = World::default();
    let first = world.0.asked(A, create("/in/1", 1), at(0));
    let _second = world.0.asked(A, create("/in/2", 1), at(1));
    assert_eq!(world.barred("/in/3", at(100)), [], "no other has answered");
    world.accepts(B, "/elsewhere/3", 1, at(100));
    assert_eq!(world.barred("/in/3", at(100)), [], "in that folder");
    world.accepts(B, "/in/3", 1, at(100));
    assert_eq!(world.barred("/in/3", at(100)), [(0, Sign::Silent)]);
    // Its answer comes after all.
    world.0.accepted(&first, &[], &RULES, at(101));
    assert_eq!(world.barred("/in/3", at(101)), []);
}

#[test]
fn silence_takes_its_time_and_two_targets() {
    let mut world = World::default();
    let _first = world.0.asked(A, create("/in/1", 1), at(0));
    world.accepts(B, "/in/3", 1, at(1));
    let _again = world.0.asked(A, create("/in/1", 1), at(1));
    let _second = world.0.asked(A, create("/in/2", 1), at(2));
    world.accepts(B, "/in/3", 1, at(2));
    assert_eq!(world.barred("/in/4", at(4)), []);
    assert_eq!(world.barred("/in/4", at(5)), [(0, Sign::Silent)]);
}

#[test]
fn a_create_that_its_own_client_holds_up_is_no_silence() {
    let mut world = World::default();
    for target in ["/in/1", "/in/2"] {
        let with_body = Create { without_body: false, ..create(target, 1) };
        world.0.asked(A, with_body, at(0));
    }
    world.accepts(B, "/in/3", 1, at(0));
    assert_eq!(world.barred("/in/4", at(100)), []);
}

#[test]
fn the_silence_of_one_client_makes_no_verdict_where_there_are_others() {
    let mut world = World::with_others();
    let all: Vec<_> =
        (0..10).map(|n| world.0.asked(A, create(&format!("/in/{n}"), 1), at(0))).collect();
    world.accepts(B, "/in/x", 2, at(1));
    assert_eq!(world.barred("/in/y", at(9)), []);
    for asked in &all {
        world.0.gone(asked, &RULES, at(10));
    }
    assert_eq!(world.barred("/in/y", at(10)), []);
    let _other = world.0.asked(A, create("/in/z", 2), at(10));
    world.accepts(B, "/in/x", 2, at(10));
    assert_eq!(world.barred("/in/y", at(13)), [(0, Sign::Silent)]);
}

#[test]
fn a_full_disk_counts_at_once_for_its_folder_and_has_a_time_of_its_own() {
    let mut world = World::default();
    world.0.full(A, &create("/in/1", 1), &RULES, at(0));
    assert_eq!(world.barred("/in/2", at(59)), [(0, Sign::Full)]);
    assert_eq!(world.barred("/other/2", at(0)), []);
    // A Create needs no room.
    world.accepts(A, "/in/2", 1, at(1));
    assert_eq!(world.barred("/in/2", at(2)), [(0, Sign::Full)]);
    assert_eq!(world.barred("/in/2", at(60)), []);
    world.accepts(A, "/in/2", 1, at(60));
    assert_eq!(world.0.verdicts().count(), 0);
}

#[test]
fn the_quota_of_one_client_fills_no_disk_where_there_are_others() {
    let mut world = World::with_others();
    for second in 0..60 {
        world.0.full(A, &create(&format!("/in/{second}"), 1), &RULES, at(second));
        assert_eq!(world.barred("/in/x", at(second)), []);
    }
    world.0.full(A, &create("/in/other", 2), &RULES, at(59));
    assert_eq!(world.barred("/in/x", at(59)), [(0, Sign::Full)]);
}

#[test]
fn fragments_do_not_put_off_the_trial_of_a_full_disk() {
    let mut world = World::with_others();
    for second in 0..60 {
        let number = 1 + (second % 2) as u8;
        world.0.full(A, &create("/in/x", number), &RULES, at(second));
    }
    assert_eq!(world.barred("/in/y", at(60)), [(0, Sign::Full)]);
    assert_eq!(world.barred("/in/y", at(61)), [], "a minute after the second client has said so");
}

#[test]
fn a_full_disk_and_a_refusal_do_not_confirm_each_other() {
    let mut world = World::with_others();
    world.0.full(A, &create("/in/1", 1), &RULES, at(0));
    world.accepts(A, "/in/2", 2, at(1));
    world.refuses(A, "/in/3", 2, at(2));
    assert_eq!(world.barred("/in/4", at(2)), []);
    world.0.full(A, &create("/in/5", 1), &RULES, at(3));
    assert_eq!(world.barred("/in/4", at(3)), []);
}

#[test]
fn one_client_does_not_wipe_out_what_others_have_said() {
    let mut world = World::with_others();
    world.refuses(A, "/in/1", 2, at(0));
    world.0.full(A, &create("/in/2", 1), &RULES, at(1));
    world.refuses(A, "/in/3", 3, at(2));
    assert_eq!(world.barred("/in/4", at(2)), [(0, Sign::Refuses)]);
}

#[test]
fn a_backend_remembers_so_many_folders() {
    let mut world = World::default();
    for number in 0..1000 {
        world.0.full(A, &create(&format!("/{number}/x"), 1), &RULES, at(number));
        assert!(world.0.verdicts().count() <= FOLDERS);
    }
    // The latest stay, and what has gone is told.
    assert_eq!(world.barred("/999/x", at(999)), [(0, Sign::Full)]);
    assert_eq!(world.barred("/1/x", at(1)), []);
    let gone = world.0.take_changes().iter().filter(|change| change.why.is_none()).count();
    assert_eq!(gone, 1000 - FOLDERS);
    world.0.forget(A);
    assert_eq!(world.0.verdicts().count(), 0);
    assert_eq!(world.0.take_changes().len(), FOLDERS);
}

#[test]
fn a_backend_that_hangs_is_watched_with_so_many_creates() {
    let mut world = World::default();
    let all: Vec<_> =
        (0..1000).map(|n| world.0.asked(A, create(&format!("/in/{n}"), 1), at(0))).collect();
    assert_eq!(world.0.backends[0].waiting.len(), OF_ONE_CLIENT);
    for number in 2..100 {
        world.0.asked(A, create("/other/1", number), at(0));
    }
    assert_eq!(world.0.backends[0].waiting.len(), WATCHED);
    world.accepts(B, "/in/x", 1, at(1));
    assert_eq!(world.barred("/in/y", at(3)), [(0, Sign::Silent)]);
    for asked in &all {
        world.0.gone(asked, &RULES, at(60));
    }
    assert_eq!(world.0.backends[0].waiting.len(), WATCHED - OF_ONE_CLIENT);
}
