//! The rule of Pings on arbitrary histories.

use std::time::Duration;

use gateway_core::farm::{
    BackendId, Create, Directory, Folder, FolderRules, Folders, InARow, ProbeFailure, Sign,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const BACKENDS: u32 = 3;
const TARGETS: [&str; 9] =
    ["/in/a/1", "/in/a/b/2", "/in/3", "/IN/a/4", "/b/1", "/c/1", "/d/1", "/e/f/1", "/1"];
const RULES: FolderRules = FolderRules {
    retry_after: Duration::from_secs(30),
    full_for: Duration::from_secs(60),
    create_wait: Duration::from_secs(3),
};

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The backend opens a session.
    Opens(u32, usize),
    /// A round of probes.
    Pings(u32, Result<(), ProbeFailure>),
    Forgotten(u32),
}

use Event::{Forgotten, Opens, Pings};

fn event() -> impl Strategy<Value = Event> {
    let outcome = select(
        &[
            Ok(()),
            Ok(()),
            Err(ProbeFailure::Timeout),
            Err(ProbeFailure::Timeout),
            Err(ProbeFailure::Timeout),
            Err(ProbeFailure::Closed),
            Err(ProbeFailure::Status(500)),
            Err(ProbeFailure::Status(401)),
            Err(ProbeFailure::NoAck(200)),
        ][..],
    );
    prop_oneof![
        2 => (0..BACKENDS, 0..TARGETS.len()).prop_map(|(backend, target)| Opens(backend, target)),
        6 => (0..BACKENDS, outcome).prop_map(|(backend, outcome)| Pings(backend, outcome)),
        1 => (0..BACKENDS).prop_map(Forgotten),
    ]
}

fn in_a_row() -> impl Strategy<Value = InARow> {
    (1..4u32, 1..4u32).prop_map(|(rise, fall)| InARow { rise, fall })
}

fn folder_of(target: usize) -> Folder {
    Folder::of(TARGETS[target].as_bytes())
}

fn create(target: &str) -> Create {
    let (folder, directory) = (Folder::of(target.as_bytes()), Directory::of(target.as_bytes()));
    Create { folder, directory, target: 1, client: None, without_body: true }
}

fn play(folders: &mut Folders, event: Event, in_a_row: InARow, now: Duration) {
    match event {
        Opens(backend, target) => {
            let asked = folders.asked(BackendId(backend), create(TARGETS[target]), now);
            folders.accepted(&asked, &[], &RULES, now);
        }
        Pings(backend, outcome) => {
            for ping in folders.pings(BackendId(backend)) {
                folders.pinged(&ping, outcome, in_a_row, &RULES, now);
            }
        }
        Forgotten(backend) => folders.forget(BackendId(backend)),
    }
}

/// How many of the last rounds of that backend failed, or passed, since anything else happened to
/// it in the folder.
fn run(past: &[Event], of: u32, folder: &Folder, failed: bool) -> u32 {
    let passes = |outcome| matches!(outcome, Ok(()) | Err(ProbeFailure::Status(401)));
    let mut count = 0;
    for &event in past.iter().rev() {
        match event {
            Pings(backend, outcome) if backend == of => match passes(outcome) != failed {
                true => count += 1,
                false => break,
            },
            Opens(backend, target) if backend == of && folder_of(target) == *folder => break,
            Forgotten(backend) if backend == of => break,
            _ => {}
        }
    }
    count
}

proptest! {
    #![proptest_config(crate::cases(3000))]

    #[test]
    fn a_verdict_of_pings_is_new_after_so_many_that_failed_and_never_outlives_so_many_that_passed(
        history in vec(event(), 0..60),
        in_a_row in in_a_row(),
    ) {
        let mut folders = Folders::default();
        for (at, &event) in history.iter().enumerate() {
            let before: Vec<_> = folders.verdicts().collect();
            play(&mut folders, event, in_a_row, Duration::from_millis(at as u64));
            let past = &history[..=at];
            for verdict in folders.verdicts() {
                prop_assert_eq!(verdict.why, Sign::Ping);
                let of = verdict.backend.0;
                let run = |failed| run(past, of, &verdict.folder, failed);
                prop_assert!(run(false) < in_a_row.rise);
                if !before.contains(&verdict) {
                    prop_assert!(matches!(event, Pings(backend, Err(_)) if backend == of));
                    prop_assert!(run(true) >= in_a_row.fall);
                }
            }
            match event {
                // Only its own, or what all have said of a directory.
                Opens(of, target) => {
                    let folder = folder_of(target);
                    let stays = |v: &_| folders.verdicts().any(|now| now == *v);
                    prop_assert!(!folders.verdicts().any(|v| v.backend.0 == of && v.folder == folder));
                    let lost: Vec<_> = before.iter().filter(|v| !stays(v)).collect();
                    // Of one folder, or one more that made room.
                    let elsewhere = lost.iter().filter(|v| v.folder != folder);
                    let mut others: Vec<_> = elsewhere.map(|v| v.folder.path()).collect();
                    others.dedup();
                    prop_assert!(others.len() <= 1);
                }
                Forgotten(of) => {
                    prop_assert!(folders.verdicts().all(|verdict| verdict.backend.0 != of));
                    prop_assert_eq!(folders.pings(BackendId(of)), []);
                }
                Pings(..) => {}
            }
        }
    }

    #[test]
    fn a_ping_goes_where_all_sessions_of_the_folder_lie(history in vec(event(), 0..60)) {
        let mut folders = Folders::default();
        let in_a_row = InARow { rise: 2, fall: 3 };
        for (at, &event) in history.iter().enumerate() {
            play(&mut folders, event, in_a_row, Duration::from_millis(at as u64));
            for backend in (0..BACKENDS).map(BackendId) {
                let pings = folders.pings(backend);
                prop_assert!(pings.len() <= 4);
                for ping in pings {
                    let path = ping.directory.path().to_ascii_lowercase();
                    prop_assert_eq!(Folder::of(&path), ping.folder.clone());
                    // The last one at least.
                    let last = history[..=at].iter().rev().find_map(|event| match event {
                        Opens(_, target) => Some(TARGETS[*target]),
                        _ => None,
                    });
                    let last = last.expect("it has opened one");
                    if Folder::of(last.as_bytes()) == ping.folder {
                        prop_assert!(last.to_ascii_lowercase().as_bytes().starts_with(&path));
                    }
                }
            }
        }
    }
}
