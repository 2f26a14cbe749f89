//! What an operator does to a running farm, through the commands that an operator types.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use e2e_tests::binaries;
use e2e_tests::client::{FragmentSizes, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use crate::packets::{TARGET, create, fragment, ping, session_of};

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

/// A farm whose admin listener is a Unix socket.
pub struct Operated {
    pub farm: Farm,
    socket: String,
    _folder: TempDir,
}

impl Operated {
    pub fn start() -> Self {
        Self::with(|farm| farm)
    }

    /// With two stubs.
    pub fn with(change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Self {
        let folder = TempDir::new("operator");
        let socket = folder.path().join("admin.sock").display().to_string();
        let farm = Farm::of_stubs(2).set("admin.socket", &format!("{socket:?}"));
        let farm = change(farm).start();
        Self { farm, socket, _folder: folder }
    }

    /// That of the admin listener.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    #[track_caller]
    pub fn type_in(&self, words: &[&str]) -> Output {
        let output = self.try_in(words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {text}");
        output
    }

    pub fn try_in(&self, words: &[&str]) -> Output {
        self.answering(words, "")
    }

    /// Types `answer` where the command asks.
    pub fn answering(&self, words: &[&str], answer: &str) -> Output {
        let mut command = Command::new(binaries::gateway())
            .args(words)
            .args(["--admin", &format!("unix:{}", self.socket)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway's binary runs");
        // A command that asks nothing may have ended.
        let _ = command.stdin.take().expect("it is piped").write_all(answer.as_bytes());
        command.wait_with_output().expect("it ends")
    }
}

/// Item 84.
/// Fault: backend drains.
#[test]
fn a_draining_backend_finishes_its_uploads_and_gets_no_new_ones() {
    let operated = Operated::start();
    let farm = &operated.farm;
    let client = farm.client().with(|o| o.fragments = PIECES);
    let content = Content::seeded(1, 50_000);
    let mut upload = client.begin(&farm.url("/in/old.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let owner = farm.stubs().iter().find(|stub| stub.stats().sessions == 1).expect("an owner");
    operated.type_in(&["backends", "drain", owner.name()]);
    for number in 0..4 {
        let path = format!("/in/new-{number}.bin");
        client.upload(&farm.url(&path), &content).expect_smooth();
        assert_ne!(farm.expect_stored(&path, &content), owner.name());
    }
    let report = upload.run();
    report.expect_smooth();
    assert_eq!(farm.expect_stored("/in/old.bin", &content), owner.name());
    operated.type_in(&["backends", "drain", owner.name(), "--wait"]);
    operated.type_in(&["backends", "ready", owner.name()]);
    farm.expect_healthy();
}

/// Fault: backend drains, and the deadline passes.
#[test]
fn a_drain_whose_deadline_has_passed_moves_what_is_left() {
    let operated = Operated::start();
    let farm = &operated.farm;
    let client = farm.client().with(|o| o.fragments = PIECES);
    let content = Content::seeded(1, 50_000);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let owner = farm.stubs().iter().find(|stub| stub.stats().sessions == 1).expect("an owner");
    operated.type_in(&["backends", "drain", owner.name(), "--wait", "--deadline", "0s"]);
    let report = upload.run();
    assert_eq!(report.expect_complete().restarts, 1, "{report}");
    assert_ne!(farm.expect_stored("/in/a.bin", &content), owner.name());
}

/// Fault: backend is given up by an operator.
#[test]
fn the_uploads_of_a_lost_server_start_over_at_once_and_no_others() {
    let operated = Operated::with(|farm| farm.set("failover.hold", "\"0s\""));
    let farm = &operated.farm;
    let client = farm.client().with(|o| o.fragments = PIECES);
    let content = Content::seeded(1, 50_000);
    let mut uploads: Vec<_> = (0..4)
        .map(|number| {
            let path = format!("/in/{number}.bin");
            let mut upload = client.begin(&farm.url(&path), &content);
            assert!(upload.run_until(|upload| upload.position() >= 20_000));
            (path, upload)
        })
        .collect();
    let lost = farm.stub(0);
    assert_eq!(lost.stats().sessions, 2, "they are spread evenly");
    lost.kill();
    // No, and no answer, change nothing.
    for answer in ["", "n\n", "up02\n"] {
        let asked = operated.answering(&["backends", "lost", lost.name()], answer);
        let text = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert_eq!(asked.status.code(), Some(1), "{text}");
        assert!(text.contains("up01 has 2 uploads, and 39.1 KiB of them"), "{text}");
        assert!(text.contains("nothing was changed"), "{text}");
    }
    let is_lost = || {
        let listed = operated.type_in(&["backends", "list"]).stdout;
        let listed = String::from_utf8(listed).expect("it is text");
        listed.lines().any(|line| line.starts_with("up01") && line.contains(" lost "))
    };
    assert!(!is_lost());
    let yes = operated.answering(&["backends", "lost", lost.name()], "y\n");
    assert!(yes.status.success(), "{}", String::from_utf8_lossy(&yes.stderr));
    assert!(is_lost());
    // It outlives the process.
    farm.gateway().restart();
    assert!(is_lost());
    let mut restarts = 0;
    for (path, upload) in uploads.drain(..) {
        let report = upload.run();
        restarts += report.expect_complete().restarts;
        assert_eq!(farm.expect_stored(&path, &content), "up02");
    }
    assert_eq!(restarts, 2, "those of the server that is gone, once each");
    // It was replaced, and takes uploads again.
    lost.start();
    operated.type_in(&["backends", "ready", lost.name()]);
    wait::until("new uploads go there", || {
        session_of(&exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer"));
        lost.stats().sessions > 0
    });
    farm.expect_healthy();
}

/// A Ping is how a client asks whether it may go on. It may, and hears then that it has to start over.
#[test]
fn a_client_of_a_lost_server_is_not_kept_waiting_by_its_ping() {
    let operated = Operated::with(|farm| farm.set("failover.hold", "\"0s\""));
    let farm = &operated.farm;
    let created = exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
    let alias = created.field("BITS-Host-Id").expect("an alias").to_owned();
    let owner = farm.stubs().iter().find(|stub| stub.stats().sessions == 1).expect("an owner");
    owner.kill();
    let ask = || {
        let ping = ping(TARGET).at(&alias);
        exchange(farm.entrance(), &ping.bytes()).expect("an answer").status
    };
    wait::until("nobody is there", || ask() == 503);
    operated.type_in(&["backends", "lost", owner.name(), "--yes"]);
    assert_eq!(ask(), 200);
}

/// What a server that is gone for good might have had, nobody has.
#[test]
fn a_lost_server_is_not_waited_for_when_a_session_is_looked_for() {
    let operated = Operated::with(|farm| {
        farm.without_host_ids()
            .forgetful()
            .set("sessions.unknown", "\"ask\"")
            .set("failover.hold", "\"0s\"")
    });
    let farm = &operated.farm;
    let id = session_of(&exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer"));
    let owner = farm.stubs().iter().find(|stub| stub.stats().sessions == 1).expect("an owner");
    owner.kill();
    farm.gateway().restart();
    let next = fragment(TARGET, &id, "bytes 0-2/9", b"abc");
    let ask = || exchange(farm.entrance(), &next.bytes()).expect("an answer");
    for _ in 0..3 {
        assert_eq!(ask().status, 503, "it may come back");
    }
    operated.type_in(&["backends", "lost", owner.name(), "--yes"]);
    let answer = wait::some("a clear answer", || Some(ask()).filter(|a| a.status != 503));
    assert_eq!((answer.status, answer.field("BITS-Error")), (500, Some("0x8020001F")));
}

/// Its sessions would wait for it for `failover.restart_after`.
#[test]
fn a_server_that_was_taken_out_of_the_configuration_can_be_given_up() {
    let operated = Operated::with(|farm| farm.without_host_ids().set("failover.hold", "\"0s\""));
    let farm = &operated.farm;
    let id = session_of(&exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer"));
    let owner = farm.stubs().iter().find(|stub| stub.stats().sessions == 1).expect("an owner");
    owner.kill();
    farm.gateway().remove_backend(owner.name());
    farm.gateway().restart();
    let next = fragment(TARGET, &id, "bytes 0-2/9", b"abc");
    let ask = || exchange(farm.entrance(), &next.bytes()).expect("an answer").status;
    assert_eq!(ask(), 503);
    operated.type_in(&["backends", "lost", owner.name(), "--yes"]);
    farm.gateway().restart();
    assert_eq!(ask(), 500);
    let drained = operated.try_in(&["backends", "drain", owner.name()]);
    assert!(!drained.status.success());
}
