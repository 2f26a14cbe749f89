//! One gateway for a directory.

use e2e_tests::farm::Farm;
use e2e_tests::wait;

use super::{ask, begin, sessions};
use crate::packets::fragment;

fn upgradable() -> Farm {
    Farm::of_stubs(2)
        .without_host_ids()
        .set("process.upgrade_socket", "\"{{tmp}}/upgrade.sock\"")
        .start()
}

/// A gateway that was stopped, and whose file names the store of another one.
fn second(first: &Farm) -> Farm {
    let farm = Farm::of_stubs(2).without_host_ids().start();
    farm.gateway().terminate();
    let store = format!("{:?}", first.directory().join("store"));
    farm.gateway().configure(|settings| settings.set("store.path", &store));
    farm
}

#[track_caller]
fn is_refused(second: &Farm, first: &Farm) {
    let (code, said) = second.gateway().fail_to_start();
    assert_eq!(code, Some(69), "{said}");
    let pid = first.gateway().pid();
    assert!(said.contains(&format!("another gateway (pid {pid}) uses this store")), "{said}");
}

/// Fault: store is in use by another gateway.
#[test]
fn a_second_gateway_on_one_store_ends_at_once_and_harms_nothing() {
    let farm = Farm::of_stubs(2).without_host_ids().start();
    let id = begin(&farm, "/in/a.bin");
    let other = second(&farm);
    is_refused(&other, &farm);
    let packet = fragment("/in/a.bin", &id, "bytes 3-8/9", b"defghi");
    assert_eq!(ask(&farm, &packet).status, 200);
    // Killed, it leaves the store to others.
    farm.gateway().kill();
    other.gateway().start();
    assert_eq!(sessions(&other), 1.0);
}

/// Fault: store is in use by another gateway.
#[test]
fn an_upgrade_shares_the_store_and_keeps_others_off_to_its_end() {
    let farm = upgradable();
    let id = begin(&farm, "/in/a.bin");
    let other = second(&farm);
    for _ in 0..2 {
        let mut old = farm.gateway().upgrade();
        is_refused(&other, &farm);
        assert_eq!(old.wait().code(), Some(0));
        is_refused(&other, &farm);
    }
    let packet = fragment("/in/a.bin", &id, "bytes 3-8/9", b"defghi");
    assert_eq!(ask(&farm, &packet).status, 200);
    assert_eq!(farm.gateway().terminate().code(), Some(0));
    other.gateway().start();
    assert_eq!(sessions(&other), 1.0);
}

/// Fault: store is in use by another gateway.
#[test]
fn a_successor_that_was_killed_before_it_was_ready_lets_nobody_in() {
    let farm = upgradable();
    let id = begin(&farm, "/in/a.bin");
    let other = second(&farm);
    let lock = farm.directory().join("store/sessions.lock");
    let said = |words: &str| farm.gateway().log().matches(words).count();
    wait::until("a successor was killed before it was ready", || {
        let before = [said("the successor was lost"), said("a successor has taken over")];
        let mut new = farm.gateway().start_successor();
        wait::until("it uses the store", || {
            let users = std::fs::read_to_string(&lock).expect("a lock file");
            users.starts_with(&new.pid().to_string())
        });
        new.kill();
        let lost = || said("the successor was lost") > before[0];
        let late = || said("a successor has taken over") > before[1];
        wait::until("its end is seen", || lost() || late());
        if late() {
            farm.gateway().restart();
        }
        lost()
    });
    is_refused(&other, &farm);
    let packet = fragment("/in/a.bin", &id, "bytes 3-8/9", b"defghi");
    assert_eq!(ask(&farm, &packet).status, 200);
}
