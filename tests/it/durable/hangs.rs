//! A disk that takes writes and does not end them.

use std::fs;

use e2e_tests::client::PacketType;
use e2e_tests::farm::{Farm, Signal};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use super::{ask, begin, sessions};
use crate::packets::{create, expect_not_now, fragment};

/// A farm whose disk hangs while a file is there. In debug builds the gateway looks for that.
struct Rig {
    farm: Farm,
    folder: TempDir,
}

impl Rig {
    fn start() -> Self {
        let folder = TempDir::new("hangs");
        let file = folder.join("disk");
        let farm = Farm::of_stubs(2)
            .without_host_ids()
            .set("store.slow", "\"300ms\"")
            .set("timeouts.shutdown", "\"5s\"")
            .env("BITS_GATEWAY_DISK_HANGS", file.to_str().expect("a plain path"))
            .start();
        Self { farm, folder }
    }

    fn hang(&self) {
        fs::write(self.folder.join("disk"), "").expect("written");
    }

    fn go_on(&self) {
        fs::remove_file(self.folder.join("disk")).expect("removed");
    }

    fn opened(&self) -> u64 {
        self.farm.stubs().iter().map(|stub| stub.stats().sessions).sum()
    }

    /// The first Create-Session finds out.
    #[track_caller]
    fn hang_and_find_out(&self) {
        self.hang();
        wait::until("a Create is refused and no backend has heard of it", || {
            let before = self.opened();
            let answer = ask(&self.farm, &create("/in/new.bin"));
            assert!([200, 503].contains(&answer.status), "{}", answer.head);
            answer.status == 503 && self.opened() == before
        });
    }
}

/// Fault: store disk hangs.
#[test]
fn with_a_disk_that_hangs_creates_are_refused_before_a_backend_hears_of_them() {
    let rig = Rig::start();
    let farm = &rig.farm;
    let id = begin(farm, "/in/a.bin");
    rig.hang_and_find_out();
    let before = rig.opened();
    for number in 0..30 {
        let answer = ask(farm, &create(&format!("/in/{number}.bin")));
        expect_not_now(&[503], PacketType::CreateSession, &answer);
    }
    assert_eq!(rig.opened(), before, "no orphan");
    assert_eq!(farm.metric("bitsgw_store_up", &[]), 0.0);
    farm.gateway().expect_logged("a write to the session store does not come back");
    // What is known is served.
    let packet = fragment("/in/a.bin", &id, "bytes 3-8/9", b"defghi");
    assert_eq!(ask(farm, &packet).status, 200);
    rig.go_on();
    wait::until("a session is taken", || ask(farm, &create("/in/b.bin")).status == 200);
    farm.gateway().expect_logged("the session store answers again");
    assert_eq!(farm.metric("bitsgw_store_up", &[]), 1.0);
    farm.gateway().restart();
    assert!(sessions(farm) >= 2.0);
    farm.expect_healthy();
}

/// Fault: store disk hangs.
#[test]
fn sigterm_ends_a_gateway_whose_disk_hangs() {
    let rig = Rig::start();
    let id = begin(&rig.farm, "/in/a.bin");
    rig.hang_and_find_out();
    rig.farm.gateway().signal(Signal::TERM);
    assert_eq!(rig.farm.gateway().wait_ended().code(), Some(0), "while the disk hangs");
    rig.farm.gateway().expect_logged("the disk hangs, leaving the session store as it is");
    rig.go_on();
    rig.farm.gateway().start();
    let packet = fragment("/in/a.bin", &id, "bytes 3-8/9", b"defghi");
    assert_eq!(ask(&rig.farm, &packet).status, 200);
}
