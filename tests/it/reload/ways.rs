//! Signal, file and command, and what each of them says.

use e2e_tests::client::{Report, Upload};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::wait;

use super::{Operated, PIECES};

#[track_caller]
fn begun(farm: &Farm, path: &str, content: &Content) -> Upload {
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url(path), content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    upload
}

#[track_caller]
fn finish(farm: &Farm, upload: Upload, path: &str, content: &Content) {
    let report: Report = upload.run();
    report.expect_smooth();
    farm.expect_stored(path, content);
    farm.expect_healthy();
}

#[test]
fn the_command_prints_what_changed_and_what_needs_a_restart() {
    let operated = Operated::start(Farm::of_stubs(2).set("http.hosts", "[\"up.test\"]"));
    let farm = &operated.farm;
    let content = Content::seeded(1, 50_000);
    let upload = begun(farm, "/in/a.bin", &content);
    let nothing = operated.type_in(&["reload"]);
    assert!(nothing.status.success());
    assert_eq!(String::from_utf8_lossy(&nothing.stdout), "nothing has changed\n");
    farm.gateway().configure(|settings| {
        settings.set_backend("up02", "weight", "7");
        settings.set("limits.fragment", "\"13MiB\"");
        settings.set("process.threads", "3");
    });
    let output = operated.type_in(&["reload"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let (changed, rest) = text.split_once("needs a restart").expect("two parts");
    assert!(changed.contains("backends.up02.weight: 1 -> 7"), "{text}");
    assert!(changed.contains("limits.fragment: \"off\" -> \"13MiB\""), "{text}");
    assert!(rest.contains("process.threads: 2 -> 3"), "{text}");
    assert!(!changed.contains("process.threads"), "{text}");
    assert_eq!(farm.metric("bitsgw_backend_weight", &[("backend", "up02")]), 7.0);
    finish(farm, upload, "/in/a.bin", &content);
}

/// Fault: configuration to be loaded is bad.
#[test]
fn a_bad_file_changes_nothing_and_its_mistakes_are_shown_with_their_place() {
    let operated = Operated::start(Farm::of_stubs(2));
    let (farm, gateway) = (&operated.farm, operated.farm.gateway());
    let content = Content::seeded(2, 50_000);
    let upload = begun(farm, "/in/a.bin", &content);
    let good = std::fs::read_to_string(gateway.config_file()).expect("a file");
    let bad = good.replace("name = \"up02\"", "name = \"up02\"\nweight = 0")
        + "[limits]\nfragments = \"1MiB\"\n";
    std::fs::write(gateway.config_file(), &bad).expect("written");
    let output = operated.type_in(&["reload"]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    let line = 1 + bad.lines().position(|line| line == "weight = 0").expect("it is in there");
    assert!(text.contains(&format!("gateway.toml:{line}:")), "{text}");
    for key in ["weight", "fragments"] {
        assert!(text.contains(key), "{text}");
    }
    assert!(!gateway.reload_succeeded());
    assert!(!gateway.reload(), "by signal neither");
    assert_eq!(operated.backend("up02").expect("it is shown")["weight"], 1);
    std::fs::write(gateway.config_file(), &good).expect("written");
    assert!(gateway.reload());
    finish(farm, upload, "/in/a.bin", &content);
}

#[test]
fn a_backend_whose_name_has_no_address_is_taken_over_as_one_that_is_down() {
    let operated = Operated::start(Farm::of_stubs(2));
    let (farm, gateway) = (&operated.farm, operated.farm.gateway());
    let content = Content::seeded(3, 50_000);
    let upload = begun(farm, "/in/a.bin", &content);
    let good = std::fs::read_to_string(gateway.config_file()).expect("a file");
    let new = good.replace("name = \"up02\"", "name = \"up02\"\nweight = 5")
        + "[[backends]]\nname = \"up03\"\naddress = \"no-such-name.invalid:80\"\n";
    std::fs::write(gateway.config_file(), new).expect("written");
    let output = operated.type_in(&["reload"]);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the name no-such-name.invalid has no address now"), "{text}");
    assert_eq!(farm.metric("bitsgw_backend_weight", &[("backend", "up02")]), 5.0);
    assert_eq!(farm.metric("bitsgw_backend_up", &[("backend", "up03")]), 0.0);
    let shown = operated.backend("up03").expect("it is shown").to_string();
    assert!(shown.contains("the name has no address"), "{shown}");
    finish(farm, upload, "/in/a.bin", &content);
}

#[test]
fn a_watched_file_is_taken_over_when_it_changes() {
    let operated = Operated::start(Farm::of_stubs(2).set("process.watch_config", "true"));
    let (farm, gateway) = (&operated.farm, operated.farm.gateway());
    let content = Content::seeded(4, 50_000);
    let upload = begun(farm, "/in/a.bin", &content);
    gateway.configure(|settings| settings.set_backend("up02", "weight", "9"));
    let weight = || farm.metric("bitsgw_backend_weight", &[("backend", "up02")]);
    wait::until("the new weight counts", || weight() == 9.0);
    // As editors do it.
    let text = std::fs::read_to_string(gateway.config_file()).expect("a file");
    let beside = gateway.config_file().with_extension("new");
    std::fs::write(&beside, text.replace("weight = 9", "weight = 4")).expect("written");
    std::fs::rename(&beside, gateway.config_file()).expect("renamed");
    wait::until("the new weight counts", || weight() == 4.0);
    std::fs::write(gateway.config_file(), "junk = [").expect("written");
    wait::until("the mistake is seen", || !gateway.reload_succeeded());
    assert_eq!(weight(), 4.0);
    finish(farm, upload, "/in/a.bin", &content);
}
