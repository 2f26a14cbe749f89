//! What an operator does to a running farm, through the commands that an operator types.

use std::process::{Command, Output};

use e2e_tests::binaries;
use e2e_tests::client::FragmentSizes;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::temp::TempDir;

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

    #[track_caller]
    pub fn type_in(&self, words: &[&str]) -> Output {
        let output = self.try_in(words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {text}");
        output
    }

    pub fn try_in(&self, words: &[&str]) -> Output {
        Command::new(binaries::gateway())
            .args(words)
            .args(["--admin", &format!("unix:{}", self.socket)])
            .output()
            .expect("the gateway's binary runs")
    }
}

/// Item 84.
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
