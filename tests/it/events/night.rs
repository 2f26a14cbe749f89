//! A night with its troubles.

use std::fs;
use std::time::Duration;

use e2e_tests::client::{FragmentSizes, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, Signal, Tls};
use e2e_tests::mount::Mount;
use e2e_tests::pki::{self, Validity};
use e2e_tests::wait;

use super::{events, is, says, stored, told};
use crate::operator::Operated;
use crate::packets::create;

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

fn probed(farm: FarmBuilder) -> FarmBuilder {
    farm.set("health.kind", "\"tcp\"").set("health.interval", "\"100ms\"")
}

#[test]
fn a_night_is_told_by_events_and_the_log_alone() {
    let operated = Operated::with(|farm| probed(farm.without_host_ids()));
    let (farm, gateway) = (&operated.farm, operated.farm.gateway());
    let content = Content::seeded(1, 50_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let stubs = farm.stubs();
    let (owner, other) = match stubs[0].stats().sessions {
        1 => (&stubs[0], &stubs[1]),
        _ => (&stubs[1], &stubs[0]),
    };

    // The server of the upload dies, and then the other one.
    owner.kill();
    let down = told(&operated, "backend", "down");
    assert_eq!((&down["backend"], &down["level"]), (&owner.name().into(), &"warning".into()));
    says(&down, &[owner.name(), "is down: ", "; 1 upload waits for it"]);
    other.kill();
    assert_eq!(told(&operated, "backend", "none_left")["level"], "error");
    gateway.expect_logged("no backend takes new uploads");
    let log = gateway.log();
    let of_owner = |line: &&str| line.contains("a backend is down") && line.contains(owner.name());
    let line = log.lines().find(of_owner).expect("the log has it too");
    assert!(line.contains("WARN") && line.contains("\"uploads\":1"), "{line}");
    let line = log.lines().find(|line| line.contains("no backend takes new uploads"));
    assert!(line.is_some_and(|line| line.contains("ERROR")), "{line:?}");
    owner.start();
    other.start();
    says(&told(&operated, "backend", "up"), &["is up again after ", "probes pass"]);
    told(&operated, "backend", "one_again");
    gateway.expect_logged("a backend takes new uploads again");
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("a backend takes new uploads again"));
    assert!(line.is_some_and(|line| line.contains("INFO")), "{line:?}");

    // Somebody breaks the file.
    let file = gateway.config_file();
    let good = fs::read_to_string(&file).expect("a file");
    fs::write(&file, format!("{good}\n[limts]\n")).expect("written");
    gateway.signal(Signal::HUP);
    let refused = told(&operated, "reload", "refused");
    assert_eq!((&refused["level"], &refused["by"]), (&"error".into(), &"signal".into()));
    says(&refused, &["the old one stays", "limts"]);
    fs::write(&file, good).expect("written");

    // Another gateway is started on the store of this one, and says in its own log why it does not.
    let second = farm.directory().join("second.toml");
    let store = farm.directory().join("store");
    fs::write(
        &second,
        format!(
            "[listeners.public]\naddress = \"127.0.0.1:0\"\n[ops]\naddress = \"127.0.0.1:0\"\n\
             [store]\npath = {store:?}\n[[backends]]\nname = \"up01\"\naddress = \"{}\"\n",
            owner.address()
        ),
    )
    .expect("written");
    let output = std::process::Command::new(e2e_tests::binaries::gateway())
        .arg("run")
        .arg(&second)
        .output()
        .expect("the gateway's binary runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    let pid = gateway.pid();
    assert!(said.contains(&format!("another gateway (pid {pid}) uses this store")), "{said}");

    // An operator looks after it, and says which upload is to start over.
    let list = operated.type_in(&["sessions", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
    let mark = list["sessions"][0]["ref"].as_str().expect("a session").to_owned();
    operated.type_in(&["sessions", "forget", &mark]);
    let action = told(&operated, "admin", "session_forget");
    assert!(action["by"].as_str().is_some_and(|by| by.starts_with("uid ")), "{action}");
    let forgotten = told(&operated, "session", "forgotten");
    assert_eq!(forgotten["session"], *mark);
    says(&forgotten, &["by an operator", "starts over"]);
    assert_eq!(upload.run().expect_complete().restarts, 1);

    assert!(gateway.terminate().success());
    let all = stored(farm);
    let order: Vec<usize> = [
        ("process", "started"),
        ("process", "ready"),
        ("backend", "down"),
        ("backend", "none_left"),
        ("backend", "one_again"),
        ("reload", "refused"),
        ("admin", "session_forget"),
        ("process", "draining"),
        ("process", "stopped"),
    ]
    .iter()
    .map(|(kind, name)| {
        let found = all.iter().position(|event| is(event, kind, name));
        found.unwrap_or_else(|| panic!("no {kind} {name} in {all:?}"))
    })
    .collect();
    assert!(order.is_sorted(), "{order:?} in {all:?}");
}

#[test]
fn a_storm_of_lost_uploads_is_summed_up_and_pushes_nothing_out() {
    const UPLOADS: usize = 40;
    let operated =
        Operated::with(|farm| farm.without_host_ids().set("sessions.unknown", "\"restart\""));
    let farm = &operated.farm;
    let client = farm.client().with(|o| o.fragments = PIECES);
    let content = Content::seeded(1, 30_000);
    let mut uploads: Vec<_> = (0..UPLOADS)
        .map(|number| {
            let mut upload = client.begin(&farm.url(&format!("/in/{number}.bin")), &content);
            assert!(upload.run_until(|upload| upload.position() >= 10_000));
            upload
        })
        .collect();
    farm.stubs().iter().for_each(|stub| stub.lose_sessions());
    for upload in uploads.drain(..) {
        assert_eq!(upload.run().expect_complete().restarts, 1);
    }
    let lost = told(&operated, "session", "lost");
    says(&lost, &["does not know session ", "starts over"]);
    assert!(lost["session"].as_str().is_some_and(|mark| mark.starts_with('@')), "{lost}");
    farm.gateway().terminate();
    let all = stored(farm);
    let lost: Vec<_> = all.iter().filter(|event| is(event, "session", "lost")).collect();
    // Ten one by one for each backend, and a sum for each.
    assert!(lost.len() <= 22, "{} events", lost.len());
    let counted: u64 = lost.iter().filter_map(|event| event["count"].as_u64()).sum();
    assert_eq!(counted, UPLOADS as u64, "none is missing from the sums");
    assert!(all.iter().any(|event| is(event, "process", "ready")));
}

#[test]
fn an_upload_that_is_given_up_says_why() {
    let operated = Operated::with(|farm| {
        farm.without_host_ids()
            .set("failover.hold", "\"0s\"")
            .set("failover.restart_after", "\"1s\"")
    });
    let farm = &operated.farm;
    let content = Content::seeded(1, 50_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let owner = farm.stubs().iter().find(|stub| stub.stats().sessions == 1).expect("an owner");
    owner.kill();
    upload.run().expect_complete();
    let given_up = told(&operated, "session", "given_up");
    assert_eq!(given_up["backend"], owner.name());
    says(&given_up, &[owner.name(), "is given up", "20000 bytes had arrived"]);
}

#[test]
fn a_disk_that_hangs_is_told_and_the_events_of_that_time_are_stored_later() {
    let folder = e2e_tests::temp::TempDir::new("events-hang");
    let file = folder.join("disk");
    let operated = Operated::with(|farm| {
        probed(farm.without_host_ids())
            .set("store.slow", "\"300ms\"")
            .env("BITS_GATEWAY_DISK_HANGS", file.to_str().expect("a plain path"))
    });
    let farm = &operated.farm;
    fs::write(&file, "").expect("written");
    wait::until("the store counts as hanging", || {
        // Whoever asks how the store is finds out.
        operated.type_in(&["status"]);
        events(&operated).iter().any(|event| is(event, "store", "hangs"))
    });
    farm.stub(0).kill();
    says(&told(&operated, "backend", "down"), &["up01 is down"]);
    fs::remove_file(&file).expect("removed");
    told(&operated, "store", "answers");
    wait::until("what happened meanwhile is stored", || {
        let all = stored(farm);
        ["hangs", "answers"].iter().all(|name| all.iter().any(|event| is(event, "store", name)))
            && all.iter().any(|event| is(event, "backend", "down"))
    });
}

#[test]
fn a_full_disk_is_told_and_that_it_is_over() {
    let Some(disk) = Mount::new(6 << 20) else { return };
    let path = format!("{:?}", disk.path().join("store"));
    let operated = Operated::with(|farm| farm.without_host_ids().set("store.path", &path));
    let farm = &operated.farm;
    wait::until_within("the store is down", Duration::from_secs(180), || {
        disk.fill();
        exchange(farm.entrance(), &create("/in/new.bin").bytes()).expect("an answer");
        farm.metric("bitsgw_store_up", &[]) == 0.0
    });
    let down = told(&operated, "store", "down");
    assert_eq!(down["level"], "error");
    says(&down, &["takes no writes, new uploads are refused", "the disk is full"]);
    disk.empty();
    says(&told(&operated, "store", "up"), &["takes writes again"]);
}

#[test]
fn a_store_that_was_made_anew_says_so_and_holds_the_events_of_before() {
    let operated = Operated::with(FarmBuilder::without_host_ids);
    let farm = &operated.farm;
    wait::until("the start is stored", || {
        stored(farm).iter().any(|event| is(event, "process", "ready"))
    });
    fs::remove_file(farm.directory().join("store/sessions.db")).expect("removed");
    told(&operated, "store", "down");
    told(&operated, "store", "up");
    wait::until("the new file has them all", || {
        let all = stored_or_none(farm);
        [("process", "started"), ("process", "ready"), ("store", "down"), ("store", "up")]
            .iter()
            .all(|(kind, name)| all.iter().filter(|event| is(event, kind, name)).count() == 1)
    });
}

/// A file that is being made anew may not be there.
fn stored_or_none(farm: &Farm) -> Vec<serde_json::Value> {
    let there = farm.directory().join("store/sessions.db").exists();
    if there { stored(farm) } else { Vec::new() }
}

#[test]
fn a_certificate_is_told_of_before_its_end_and_at_it() {
    let operated = Operated::with(|farm| farm.tls(Tls::Front));
    let farm = &operated.farm;
    let put = |validity| {
        let issued = pki::servers().issue_valid(&["up.test", "*.up.test"], validity);
        issued.write(farm.directory().path(), "server");
    };
    put(Validity::NotForLong);
    says(&told(&operated, "certificate", "replaced"), &["listener public"]);
    let ending = told(&operated, "certificate", "ending");
    assert_eq!(ending["level"], "warning");
    says(&ending, &["server.pem", "ends in 5 days"]);
    farm.gateway().expect_logged("a certificate ends soon");
    put(Validity::Over);
    let unusable = told(&operated, "certificate", "unusable");
    says(&unusable, &["cannot be used, the old ones stay"]);
    put(Validity::Seconds(3));
    let ended = told(&operated, "certificate", "ended");
    assert_eq!(ended["level"], "error");
    says(&ended, &["server.pem", "has ended"]);
    farm.gateway().expect_logged("a certificate has ended");
}
