//! Files that a gateway finds when it starts.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use e2e_tests::farm::Farm;

use super::{ask, begin, sessions};
use crate::packets::fragment;

const SESSIONS: usize = 120;

fn database(farm: &Farm) -> PathBuf {
    farm.directory().join("store/sessions.db")
}

/// A gateway that was stopped in order, with [`SESSIONS`] sessions in its file.
fn stopped() -> (Farm, Vec<(String, String)>) {
    let farm = Farm::of_stubs(2).without_host_ids().start();
    let targets = (0..SESSIONS).map(|number| format!("/in/{number}.bin"));
    let begun = targets.map(|target| (begin(&farm, &target), target)).collect();
    farm.gateway().terminate();
    (farm, begun)
}

/// How many of the uploads go on; the others start over.
#[track_caller]
fn alive(farm: &Farm, begun: &[(String, String)]) -> usize {
    let goes_on = |(id, target): &&(String, String)| {
        let answer = ask(farm, &fragment(target, id, "bytes 3-8/9", b"defghi"));
        assert!([200, 500].contains(&answer.status), "{}", answer.head);
        answer.status == 200
    };
    begun.iter().filter(goes_on).count()
}

/// Fault: store file is damaged, cut or gone.
#[test]
fn a_damaged_file_is_set_aside_and_what_can_be_read_goes_on() {
    let (farm, begun) = stopped();
    let file = OpenOptions::new().write(true).open(database(&farm)).expect("a database");
    let bytes = fs::read(database(&farm)).expect("it can be read");
    let id = begun[SESSIONS / 2].0.as_bytes();
    let at = bytes.windows(id.len()).position(|window| window == id).expect("a row");
    // The page with this row, and nothing else.
    file.write_all_at(&[0xa5; 4096], at as u64 / 4096 * 4096).expect("written");
    farm.gateway().start();
    let (known, log) = (sessions(&farm) as usize, farm.gateway().log());
    assert!(known > 0 && known < SESSIONS, "{known} of {SESSIONS}");
    for said in ["is damaged", "could be read and are in a new file", "the damaged one is"] {
        assert!(log.contains(said), "no {said:?} in {log}");
    }
    assert_eq!(alive(&farm, &begun), known);
    let aside = fs::read_dir(farm.directory().join("store")).expect("a directory");
    let aside = aside.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    assert!(aside.filter(|name| name.contains(".corrupt-")).count() >= 1);
    // And the new file is whole.
    farm.gateway().restart();
    assert_eq!(sessions(&farm) as usize, known);
    farm.expect_healthy();
}

/// Fault: store file is damaged, cut or gone.
#[test]
fn a_file_that_was_cut_off_keeps_what_is_left_of_it() {
    let (farm, begun) = stopped();
    let file = OpenOptions::new().write(true).open(database(&farm)).expect("a database");
    let length = file.metadata().expect("it is there").len();
    file.set_len(length / 2 + 100).expect("cut");
    farm.gateway().start();
    let known = sessions(&farm) as usize;
    assert!(known < SESSIONS, "{known} of {SESSIONS}");
    farm.gateway().expect_logged("is damaged");
    assert_eq!(alive(&farm, &begun), known);
    farm.expect_healthy();
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let (farm, begun) = stopped();
    fs::write(database(&farm), "somebody's notes\n").expect("written");
    farm.gateway().start();
    assert_eq!(sessions(&farm), 0.0);
    farm.gateway().expect_logged("is damaged");
    assert_eq!(alive(&farm, &begun[..3]), 0);
    begin(&farm, "/in/new.bin");
    farm.gateway().restart();
    assert_eq!(sessions(&farm), 1.0);
}

/// Fault: store file is damaged, cut or gone.
#[test]
fn a_file_that_was_removed_while_the_gateway_runs_is_written_anew() {
    let farm = Farm::of_stubs(2).without_host_ids().start();
    let begun: Vec<_> = (0..5)
        .map(|number| format!("/in/{number}.bin"))
        .map(|target| (begin(&farm, &target), target))
        .collect();
    fs::remove_dir_all(farm.directory().join("store")).expect("removed");
    e2e_tests::wait::until("the store is there again", || {
        let answer = ask(&farm, &crate::packets::create("/in/probe.bin"));
        assert!([200, 503].contains(&answer.status), "{}", answer.head);
        answer.status == 200 && database(&farm).exists()
    });
    farm.gateway().restart();
    assert_eq!(alive(&farm, &begun), 5);
}

/// Threat: T16.
///
/// Fault: store folder is read-only or may not be used.
#[test]
fn a_folder_that_others_may_enter_stops_the_start() {
    let (farm, _) = stopped();
    let folder = farm.directory().join("store");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("permitted");
    let (code, said) = farm.gateway().fail_to_start();
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("is open to other users (mode 0755)"), "{said}");
    assert!(said.contains("session ids are secrets: chmod 7"), "{said}");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("permitted");
    farm.gateway().start();
    assert_eq!(sessions(&farm) as usize, SESSIONS);
}
