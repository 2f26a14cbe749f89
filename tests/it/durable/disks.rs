//! Disks that are full or cannot be written, under a gateway that runs or starts.

use std::time::Duration;

use e2e_tests::client::PacketType;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::mount::Mount;
use e2e_tests::wait;

use super::{PIECES, ask, begin, sessions};
use crate::operator::Operated;
use crate::packets::{TARGET, close, create, expect_not_now, fragment};

/// For the log of a store, which is written in advance, and a little more.
const ROOM: u32 = 6 << 20;

/// Only a file system of one's own can be filled; whoever may not mount one has the tests of the
/// store alone, which make the disk fail by other means.
fn disk() -> Option<Mount> {
    Mount::new(ROOM)
}

fn on(disk: &Mount) -> impl FnOnce(FarmBuilder) -> FarmBuilder {
    let path = format!("{:?}", disk.path().join("store"));
    move |farm| farm.set("store.path", &path)
}

/// Fills the disk until the store is down and finds no room when it tries again.
#[track_caller]
fn fill(disk: &Mount, farm: &Farm) {
    let mut refused = 0;
    // The log has room for some hundred, which take their time on a busy machine.
    let deadline = Duration::from_secs(180);
    wait::until_within("new sessions are refused", deadline, || {
        // The store gives room back when it cleans up, once or twice.
        disk.fill();
        let answer = ask(farm, &create("/in/new.bin"));
        if answer.status == 503 && farm.metric("bitsgw_store_up", &[]) == 0.0 {
            expect_not_now(&[503], PacketType::CreateSession, &answer);
            refused += 1;
        } else {
            refused = 0;
        }
        refused == 50
    });
}

#[track_caller]
fn takes_new_ones(farm: &Farm) {
    wait::until("a new session is taken", || ask(farm, &create("/in/new.bin")).status == 200);
}

/// Fault: store disk is full.
#[test]
fn with_a_full_disk_new_uploads_wait_and_running_ones_go_on_until_there_is_room() {
    let Some(disk) = disk() else { return };
    let operated = Operated::with(|farm| on(&disk)(farm.without_host_ids()));
    let farm = &operated.farm;
    let content = Content::seeded(1, 60_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url("/in/running.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let ended = begin(farm, TARGET);
    assert_eq!(ask(farm, &fragment(TARGET, &ended, "bytes 3-8/9", b"defghi")).status, 200);
    fill(&disk, farm);
    // Refused before a backend hears of it.
    let opened = || farm.stubs().iter().map(|stub| stub.stats().sessions).sum::<u64>();
    let before = opened();
    for _ in 0..5 {
        expect_not_now(&[503], PacketType::CreateSession, &ask(farm, &create("/in/new.bin")));
    }
    assert_eq!(opened(), before);
    // What an operator decides is not made either, and says so.
    let refused = operated.try_in(&["backends", "drain", "up01"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("cannot be made durable") && said.contains("full"), "{said}");
    let status = operated.type_in(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(
        (&status["store"]["kind"], &status["store"]["ok"]),
        (&"sqlite".into(), &false.into())
    );
    assert!(status["store"]["message"].as_str().unwrap().contains("make room"), "{status}");
    let ready = farm.gateway().ops("/readyz?verbose");
    assert_eq!(ready.status, 200);
    assert!(
        ready.body_text().contains("[-] store failed: the disk is full"),
        "{}",
        ready.body_text()
    );
    let health = ops_health(farm);
    assert_eq!(health["status"], "critical");
    assert_eq!(health["problems"][0]["code"], "store", "{health}");
    assert_eq!(farm.metric("bitsgw_store_up", &[]), 0.0);
    let report = upload.run();
    report.expect_smooth();
    farm.expect_stored("/in/running.bin", &content);
    let packet = close(TARGET, &ended);
    assert_eq!(ask(farm, &packet).status, 200);
    assert_eq!(ask(farm, &packet).status, 200);

    disk.empty();
    takes_new_ones(farm);
    operated.type_in(&["backends", "drain", "up01"]);
    assert_eq!(farm.metric("bitsgw_store_up", &[]), 1.0);
    assert_eq!(ops_health(farm)["status"], "ok");
    // What ended meanwhile is on the disk now.
    let known = sessions(farm);
    farm.gateway().restart();
    assert_eq!(sessions(farm), known);
    assert_eq!(ask(farm, &packet).status, 200);
    farm.expect_healthy();
}

/// Fault: store disk is full.
#[test]
fn a_gateway_starts_on_a_full_disk_and_serves_what_it_knows() {
    let Some(disk) = disk() else { return };
    let farm = on(&disk)(Farm::of_stubs(2).without_host_ids()).start();
    let id = begin(&farm, TARGET);
    farm.gateway().terminate();
    disk.fill();
    farm.gateway().start();
    farm.gateway().expect_logged("the session store takes no writes");
    expect_not_now(&[503], PacketType::CreateSession, &ask(&farm, &create("/in/new.bin")));
    let packet = fragment(TARGET, &id, "bytes 3-8/9", b"defghi");
    assert_eq!(ask(&farm, &packet).status, 200);
    disk.empty();
    takes_new_ones(&farm);
    farm.expect_healthy();
}

#[test]
fn a_gateway_that_may_lose_sessions_takes_them_with_a_full_disk() {
    let Some(disk) = disk() else { return };
    let farm = on(&disk)(Farm::of_stubs(2).without_host_ids().set("store.on_error", "\"accept\""));
    let farm = farm.start();
    disk.fill();
    // The log has room for some hundred.
    let mut begun = Vec::new();
    while begun.len() < 400 || farm.metric("bitsgw_store_up", &[]) == 1.0 {
        assert!(begun.len() < 4_000, "the store finds room again and again");
        begun.push(begin(&farm, &format!("/in/{}.bin", begun.len())));
    }
    disk.empty();
    wait::until("the store is back", || farm.metric("bitsgw_store_up", &[]) == 1.0);
    // They were written when that was possible.
    farm.gateway().restart();
    assert_eq!(sessions(&farm) as usize, begun.len());
    farm.expect_healthy();
}

/// Fault: store folder is read-only or may not be used.
#[test]
fn on_a_read_only_disk_a_gateway_starts_and_serves_what_it_knows() {
    let Some(disk) = disk() else { return };
    let farm = on(&disk)(Farm::of_stubs(2).without_host_ids()).start();
    let id = begin(&farm, TARGET);
    // A kill, so that the log holds something that is nowhere else.
    farm.gateway().kill();
    disk.read_only(true);
    farm.gateway().start();
    farm.gateway().expect_logged("the disk is read-only");
    expect_not_now(&[503], PacketType::CreateSession, &ask(&farm, &create("/in/new.bin")));
    let packet = fragment(TARGET, &id, "bytes 3-8/9", b"defghi");
    assert_eq!(ask(&farm, &packet).status, 200);
    let packet = close(TARGET, &id);
    assert_eq!(ask(&farm, &packet).status, 200);
    disk.read_only(false);
    takes_new_ones(&farm);
    // What ended meanwhile was stored first.
    farm.gateway().restart();
    assert_eq!(sessions(&farm), 1.0);
    assert_eq!(ask(&farm, &packet).status, 200);
    farm.expect_healthy();
}

#[test]
fn a_gateway_that_may_lose_sessions_takes_them_on_a_read_only_disk() {
    let Some(disk) = disk() else { return };
    let farm = on(&disk)(Farm::of_stubs(2).without_host_ids().set("store.on_error", "\"accept\""));
    let farm = farm.start();
    let id = begin(&farm, TARGET);
    farm.gateway().terminate();
    disk.read_only(true);
    farm.gateway().start();
    let packet = fragment(TARGET, &id, "bytes 3-8/9", b"defghi");
    assert_eq!(ask(&farm, &packet).status, 200);
    begin(&farm, "/in/new.bin");
    disk.read_only(false);
    wait::until("the store takes writes", || farm.metric("bitsgw_store_up", &[]) == 1.0);
    farm.gateway().restart();
    assert_eq!(sessions(&farm), 2.0);
    farm.expect_healthy();
}

/// What `bits-gateway health` rests on.
fn ops_health(farm: &Farm) -> serde_json::Value {
    serde_json::from_str(&farm.gateway().ops("/health").body_text()).expect("JSON")
}
