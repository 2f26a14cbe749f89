//! A copy of the store, and a gateway that goes on from it.

use std::process::{Command, Output};

use e2e_tests::binaries;
use e2e_tests::data::Content;

use super::PIECES;
use crate::operator::Operated;

fn store(operated: &Operated, words: &[&str]) -> Output {
    let mut command = Command::new(binaries::gateway());
    command.arg("store").args(words).arg("--config");
    command.arg(operated.farm.gateway().config_file()).output().expect("it runs")
}

#[test]
fn an_upload_goes_on_from_a_copy_of_the_store() {
    // Without host ids and questions only the store knows where an upload belongs.
    let operated =
        Operated::with(|farm| farm.without_host_ids().set("sessions.unknown", "\"restart\""));
    let (farm, gateway) = (&operated.farm, operated.farm.gateway());
    let content = Content::seeded(1, 60_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    operated.type_in(&["backends", "drain", "up02"]);

    let copy = farm.directory().join("copy.db").display().to_string();
    let made = store(&operated, &["backup", &copy]);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(said.contains(": 1 session, 0 that have ended, 1 state of backends, "), "{said}");
    let again = store(&operated, &["backup", &copy]);
    assert_eq!(again.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force replaces it"));

    let refused = store(&operated, &["restore", &copy, "--yes"]);
    assert_eq!(refused.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"));
    gateway.kill();
    std::fs::remove_dir_all(farm.directory().join("store")).expect("it is there");
    // Standard input is at its end, which is no yes.
    let asked = store(&operated, &["restore", &copy]);
    assert_eq!(asked.status.code(), Some(1));
    let restored = store(&operated, &["restore", &copy, "--yes", "--json"]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let restored: serde_json::Value = serde_json::from_slice(&restored.stdout).expect("JSON");
    assert_eq!((&restored["sessions"], &restored["backend_states"]), (&1.into(), &1.into()));

    gateway.start();
    let report = upload.run();
    assert_eq!(report.expect_complete().restarts, 0, "{report}");
    farm.expect_stored("/in/a.bin", &content);
    let list = operated.type_in(&["backends", "list", "up02", "--json"]).stdout;
    let list: serde_json::Value = serde_json::from_slice(&list).expect("JSON");
    assert_eq!(list["backends"][0]["admin_state"], "drain", "it is remembered too");
}
