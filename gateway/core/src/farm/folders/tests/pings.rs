//! What Pings take and give back.

use crate::farm::ProbeFailure::{self, Closed, Garbage, NoAck, Refused, Status, Timeout, Tls};

use super::*;

const IN_A_ROW: InARow = InARow { rise: 2, fall: 3 };

impl World {
    /// A round of probes of the backend, in all folders alike.
    fn pings(&mut self, backend: BackendId, outcome: Result<(), ProbeFailure>, now: Duration) {
        for ping in self.0.pings(backend) {
            self.0.pinged(&ping, outcome, IN_A_ROW, &RULES, now);
        }
    }

    /// Where the backend is pinged.
    fn places(&self, backend: BackendId) -> Vec<String> {
        let text = |ping: &Ping| String::from_utf8(ping.directory.path().to_vec()).unwrap();
        self.0.pings(backend).iter().map(text).collect()
    }
}

/// One letter for what happens at a backend that has opened a session.
fn happens(world: &mut World, letter: char, now: Duration) {
    let failure = match letter {
        // It opens another session.
        'O' => return world.accepts(A, "/in/o", 1, now),
        'P' => return world.pings(A, Ok(()), now),
        't' => Timeout,
        'r' => Refused,
        'c' => Closed,
        'g' => Garbage,
        's' => Tls,
        'n' => NoAck(200),
        'L' => Status(401),
        'F' => Status(403),
        'Q' => Status(429),
        '4' => Status(404),
        '5' => Status(500),
        other => panic!("{other}"),
    };
    world.pings(A, Err(failure), now);
}

#[track_caller]
fn check(history: &str, barred: bool) {
    let mut world = World::default();
    world.accepts(A, "/in/1", 1, at(0));
    for letter in history.chars() {
        happens(&mut world, letter, at(0));
    }
    let expected = if barred { &[(0, Sign::Ping)][..] } else { &[] };
    assert_eq!(world.barred("/in/2", at(1)), expected, "{history}");
    assert_eq!(world.barred("/other/2", at(1)), [], "{history}");
}

#[test]
fn what_takes_new_sessions_from_a_backend() {
    for (history, barred) in [
        ("", false),
        // It fell silent.
        ("Ptt", false),
        ("Pttt", true),
        ("Prrr", true),
        ("PtPttPt", false),
        // It never answered a Ping, and did answer a Create-Session.
        ("ttt", true),
        ("tOtOtOttt", false),
        // It answers in another way than before.
        ("P555", true),
        ("P5tc", true),
        ("P444", true),
        ("Pnnn", true),
        ("Pccc", true),
        ("Pggg", true),
        ("Psss", true),
        // It always answers in that way.
        ("555555", false),
        ("444444", false),
        ("nnnnnn", false),
        ("cccccc", false),
        ("gggggg", false),
        ("ssssss", false),
        ("45c45c", false),
        // It wants to know who asks.
        ("LLLLLL", false),
        ("PLLLLL", false),
        ("PFFFFF", false),
        ("PQQQQQ", false),
        ("tLtLtL", false),
        ("Lttt", true),
        ("L555", true),
        // Its own way, and then silence.
        ("444ttt", true),
        ("44t4tt", false),
        // Sessions are opened all the same.
        ("P5O55", false),
        ("P55O5555", false),
        ("P55O55P55", false),
        ("P55O55P555", true),
        ("P555O", false),
        ("P555O5555", false),
        ("tttOttt", false),
        ("tttOPttt", true),
        // Given back.
        ("P555P", true),
        ("P555PP", false),
        ("P555P5P", true),
        ("P555LL", false),
        ("P555PP55", false),
        ("P555PP555", true),
        ("ttt4", true),
        ("ttt44", false),
        ("tttPP", false),
    ] {
        check(history, barred);
    }
}

#[test]
fn a_doubt_is_settled_soon() {
    let mut world = World::default();
    world.accepts(A, "/in/1", 1, at(0));
    let ping = world.0.pings(A).remove(0);
    let mut soon = |outcome| world.0.pinged(&ping, outcome, IN_A_ROW, &RULES, at(1));
    let failed = Err(Timeout);
    let all = [failed, failed, failed, failed, Ok(()), Ok(()), Ok(())].map(&mut soon);
    assert_eq!(all, [true, true, false, false, true, false, false]);
}

#[test]
fn only_where_it_has_opened_a_session_is_a_backend_pinged() {
    let mut world = World::default();
    assert_eq!(world.places(A), [""; 0]);
    world.accepts(A, "/in/1", 1, at(0));
    world.refuses(C, "/in/2", 1, at(0));
    assert_eq!(world.places(A), ["/in/"]);
    assert_eq!(world.places(B), ["/in/"]);
    assert_eq!(world.places(C), [""; 0]);
    world.0.forget(A);
    assert_eq!(world.places(A), [""; 0], "it may be another one");
    assert_eq!(world.places(B), ["/in/"]);
}

#[test]
fn a_ping_goes_to_the_directory_that_all_sessions_lie_in() {
    for (targets, directory) in [
        (&["/in/a/b/1.bin?x=/y/"][..], Some("/in/a/b/")),
        (&["/in/a/b/1", "/in/a/b/2"], Some("/in/a/b/")),
        (&["/in/a/b/1", "/in/a/c/2"], Some("/in/a/")),
        (&["/in/a/b/1", "/in/ab/c/2"], Some("/in/")),
        (&["/in/a/1", "/in/1"], Some("/in/")),
        (&["/In/A/1", "/iN/a/2"], Some("/In/A/")),
        (&["/1", "/2"], Some("/")),
        (&["//in/1"], None),
        (&["//in/1", "/in/a/1", "//in/2"], Some("/in/a/")),
        (&["*"], None),
        (&["/in/../1"], Some("/in/../")),
        (&["/in/../1", "/in/2"], Some("/in/")),
    ] {
        let mut world = World::default();
        for target in targets {
            world.accepts(A, target, 1, at(0));
        }
        let expected: Vec<_> = directory.iter().map(|text| text.to_string()).collect();
        assert_eq!(world.places(A), expected, "{targets:?}");
    }
    let long = |length| format!("/in/{}/1", "x".repeat(length));
    assert!(Directory::of(long(251).as_bytes()).is_some());
    assert_eq!(Directory::of(long(252).as_bytes()), None);
    let first = |length| format!("/{}/1", "x".repeat(length));
    assert!(Directory::of(first(64).as_bytes()).is_some());
    assert_eq!(Directory::of(first(65).as_bytes()), None, "such folders are not told apart");
}

#[test]
fn few_folders_are_pinged() {
    let mut world = World::default();
    for number in 0..100 {
        world.accepts(A, &format!("/{number}/1"), 1, at(number));
    }
    assert_eq!(world.places(A), ["/96/", "/97/", "/98/", "/99/"]);
    world.accepts(A, "/97/1", 1, at(100));
    world.accepts(A, "/96/1", 1, at(100));
    world.accepts(A, "/new/1", 1, at(101));
    assert_eq!(world.places(A), ["/96/", "/97/", "/new/", "/99/"]);
    // One that fails stays, and clients who open others cannot lift its verdict.
    let failing = world.0.pings(A).remove(3);
    for _ in 0..3 {
        world.0.pinged(&failing, Err(Timeout), IN_A_ROW, &RULES, at(102));
    }
    for number in 200..300 {
        world.accepts(B, &format!("/{number}/1"), 1, at(number));
    }
    assert_eq!(world.places(A), ["/99/"]);
    assert_eq!(world.barred("/99/2", at(103)), [(0, Sign::Ping)]);
}

#[test]
fn a_folder_that_is_pinged_no_more_is_free() {
    let mut world = World::default();
    world.accepts(A, "/in/1", 1, at(0));
    for outcome in [Err(Timeout), Err(Timeout), Err(Timeout), Ok(())] {
        world.pings(A, outcome, at(1));
    }
    assert_eq!(world.barred("/in/2", at(1)), [(0, Sign::Ping)], "it has passed once");
    for number in 0..4 {
        world.accepts(B, &format!("/{number}/1"), 1, at(2));
    }
    assert_eq!(world.barred("/in/2", at(2)), []);
}

/// Threat: T22.
#[test]
fn t22_a_directory_of_one_client_takes_no_backend_from_others() {
    let mut world = World::default();
    world.accepts(A, "/in/evil/1", 1, at(0));
    for second in 0..9 {
        world.pings(A, Err(Timeout), at(second));
    }
    assert_eq!(world.barred("/in/x", at(9)), [(0, Sign::Ping)], "it is alone");
    let _ = world.0.take_changes();
    // Another one, at another backend.
    world.accepts(B, "/in/1", 2, at(10));
    assert_eq!(world.barred("/in/x", at(10)), []);
    let lifted = Change::lifted(A, Folder::of(b"/in/"));
    assert_eq!(world.0.take_changes(), [lifted]);
    // Its own directory is not asked any more, whatever it does.
    for second in 11..99 {
        world.accepts(A, "/in/evil/2", 1, at(second));
        assert_eq!(world.places(A), ["/in/"]);
    }
}

#[test]
fn an_answer_about_another_directory_counts_for_nothing() {
    let mut world = World::default();
    world.accepts(A, "/in/a/1", 1, at(0));
    let old = world.0.pings(A).remove(0);
    world.accepts(A, "/in/b/1", 1, at(0));
    for _ in 0..9 {
        assert!(!world.0.pinged(&old, Err(Timeout), IN_A_ROW, &RULES, at(1)));
    }
    assert_eq!(world.barred("/in/x", at(1)), []);
    world.pings(A, Err(Timeout), at(1));
    world.0.forget(A);
    let gone = Ping { backend: A, folder: Folder::of(b"/in/"), directory: old.directory };
    assert!(!world.0.pinged(&gone, Err(Timeout), IN_A_ROW, &RULES, at(1)));
}

#[test]
fn after_a_verdict_of_pings_there_are_trials_too() {
    let mut world = World::default();
    world.accepts(A, "/in/1", 1, at(0));
    let fail = |world: &mut World, now| world.pings(A, Err(Timeout), now);
    (0..30).for_each(|second| fail(&mut world, at(second)));
    assert_eq!(world.barred("/in/2", at(31)), [(0, Sign::Ping)]);
    assert_eq!(world.barred("/in/2", at(32)), [], "30 s after the verdict");
    // The trial waits as well. That verdict is not for Pings to take back.
    let trial = world.0.asked(A, create("/in/2", 1), at(32));
    fail(&mut world, at(33));
    assert_eq!(world.barred("/in/3", at(33)), [(0, Sign::Ping)]);
    world.0.gone(&trial, &RULES, at(40));
    assert_eq!(world.barred("/in/3", at(69)), [(0, Sign::Silent)]);
    (0..9).for_each(|_| world.pings(A, Ok(()), at(69)));
    assert_eq!(world.barred("/in/3", at(69)), [(0, Sign::Silent)]);
    world.accepts(A, "/in/3", 1, at(70));
    assert_eq!(world.barred("/in/4", at(70)), []);
}

#[test]
fn pings_do_not_touch_what_traffic_has_said() {
    let mut world = World::default();
    world.accepts(A, "/in/1", 1, at(0));
    world.0.full(A, &create("/in/1", 1), &RULES, at(0));
    (0..9).for_each(|_| world.pings(A, Err(Timeout), at(1)));
    assert_eq!(world.barred("/in/2", at(1)), [(0, Sign::Full)]);
    (0..9).for_each(|_| world.pings(A, Ok(()), at(2)));
    assert_eq!(world.barred("/in/2", at(2)), [(0, Sign::Full)]);
}

#[test]
fn a_verdict_that_was_forgotten_comes_back_with_the_next_ping() {
    let mut world = World::default();
    world.accepts(A, "/in/1", 1, at(0));
    (0..3).for_each(|_| world.pings(A, Err(Timeout), at(0)));
    // Clients choose the names of folders.
    for number in 0..FOLDERS as u64 {
        world.0.full(A, &create(&format!("/{number}/x"), 1), &RULES, at(1 + number));
    }
    assert_eq!(world.barred("/in/2", at(60)), []);
    world.pings(A, Err(Timeout), at(60));
    assert_eq!(world.barred("/in/2", at(60)), [(0, Sign::Ping)]);
}
