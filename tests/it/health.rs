//! What `bits-gateway health` says, as a monitoring plugin and as the probe of a container.

use std::process::{Command, Output};

use rustix::process::Signal;

use e2e_tests::binaries;
use e2e_tests::client::FragmentSizes;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN, Tls};
use e2e_tests::pki::{self, Validity};
use e2e_tests::wait;

use crate::operator::Operated;

/// Runs the command against the ops listener of the farm's gateway.
fn ask(farm: &Farm, more: &[&str]) -> Output {
    let ops = farm.gateway().listener("ops").to_string();
    let mut command = Command::new(binaries::gateway());
    command.args(["health", "--ops", &ops]).args(more).output().expect("it runs")
}

/// It exits with `code`, and says `said` on one line.
#[track_caller]
fn expect(farm: &Farm, code: i32, said: &str) {
    let output = ask(farm, &[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(said), "no {said:?} in {text:?}");
    assert_eq!((output.status.code(), text.lines().count()), (Some(code), 1), "{text}");
    let word = ["OK: ", "WARNING: ", "CRITICAL: "][code as usize];
    assert!(text.starts_with(word), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(ask(farm, &["--live"]).status.code(), Some(0), "it lives all the same");
}

/// The same, and `status` says it too.
#[track_caller]
fn expect_told(operated: &Operated, code: i32, said: &str) {
    expect(&operated.farm, code, said);
    let status = operated.type_in(&["status"]).stdout;
    let status = String::from_utf8_lossy(&status).into_owned();
    assert!(status.contains(said), "no {said:?} in\n{status}");
    let status = operated.type_in(&["status", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
    assert_eq!(status["health"]["status"], ["ok", "warning", "critical"][code as usize]);
}

#[test]
fn health_follows_backends_and_configuration() {
    let operated = Operated::start();
    let (farm, gateway) = (&operated.farm, operated.farm.gateway());
    expect(farm, 0, "new uploads go to 2 of 2 backends, 0 uploads known");
    let json = ask(farm, &["--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json["status"], "ok");

    for name in ["up01", "up02"] {
        operated.type_in(&["backends", "drain", name]);
    }
    expect_told(&operated, 2, "none of 2 backends takes new uploads");
    operated.type_in(&["backends", "ready", "up01"]);
    expect(farm, 0, "1 of 2 backends");

    gateway.configure(|settings| settings.set("limits.fragment", "\"13MiB\""));
    expect_told(&operated, 1, "is not the configuration in force: other values of limits.fragment");
    operated.type_in(&["reload"]);
    expect(farm, 0, "1 of 2 backends");
    gateway.configure(|settings| settings.set("limits.fragment", "\"no\""));
    expect_told(&operated, 1, "is not the configuration in force: it has 1 error");
    gateway.configure(|settings| {
        settings.unset("limits.fragment");
        settings.set("limits.connections", "100");
    });
    operated.type_in(&["reload"]);
    expect_told(&operated, 1, "waits for a restart: limits.connections");
    std::fs::remove_file(gateway.config_file()).expect("it is there");
    expect_told(&operated, 1, "is not the configuration in force: No such file");
}

#[test]
fn health_tells_of_the_end() {
    let operated = Operated::with(|farm| farm.set("timeouts.shutdown_delay", "\"1h\""));
    let farm = &operated.farm;
    farm.gateway().signal(Signal::TERM);
    wait::until("it drains", || farm.gateway().ops("/readyz").status == 503);
    expect_told(&operated, 1, "it is stopping and takes nothing new");
    farm.gateway().signal(Signal::STOP);
    let frozen = ask(farm, &["--timeout", "50ms"]);
    assert_eq!(frozen.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&frozen.stdout).contains("does not answer"));
    assert_eq!(ask(farm, &["--live", "--timeout", "50ms"]).status.code(), Some(1));
    let ops = farm.gateway().listener("ops").to_string();
    farm.gateway().kill();
    let health = |more: &[&str]| {
        let mut command = Command::new(binaries::gateway());
        command.args(["health", "--ops", &ops]).args(more).output().expect("it runs")
    };
    let dead = health(&[]);
    assert_eq!(dead.status.code(), Some(2));
    let said = format!("CRITICAL: the gateway is not running: nothing listens on {ops}\n");
    assert_eq!(String::from_utf8_lossy(&dead.stdout), said);
    assert_eq!(health(&["--live"]).status.code(), Some(1));
}

/// Threat: T15.
#[test]
fn health_tells_of_a_certificate_that_ends_soon() {
    let farm = Farm::of_stubs(1).tls(Tls::Front).start();
    expect(&farm, 0, "1 of 1 backend");
    let soon = pki::servers().issue_valid(&[ORIGIN], Validity::NotForLong);
    soon.write(farm.directory().path(), "server");
    wait::until("the new one is in use", || ask(&farm, &[]).status.code() == Some(1));
    expect(&farm, 1, "server.pem expires in 5 days");
    std::fs::write(farm.directory().join("server.pem"), "junk").expect("written");
    wait::until("it is told of", || {
        String::from_utf8_lossy(&ask(&farm, &[]).stdout).contains("new certificates are not in use")
    });
}

#[test]
fn who_cannot_be_asked_is_unknown() {
    let operated = Operated::start();
    let farm = &operated.farm;
    let health = |file: &std::path::Path, more: &[&str]| {
        let mut command = Command::new(binaries::gateway());
        command.args(["health", "--config"]).arg(file).args(more).output().expect("it runs")
    };
    let file = farm.directory().join("other.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let missing = health(&file, &[]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(said(&missing).starts_with("UNKNOWN: there is no file"), "{}", said(&missing));
    write("[ops]\naddress = \"off\"\n");
    let nobody = health(&file, &[]);
    assert_eq!(nobody.status.code(), Some(3));
    assert!(said(&nobody).contains("no listener to ask"), "{}", said(&nobody));
    assert_eq!(health(&file, &["--live"]).status.code(), Some(1));
    // The rest of the file does not matter, nor that the ops listener is off.
    write(&format!("[ops]\naddress = \"{}\"\n[junk", farm.gateway().listener("ops")));
    let good = health(&file, &[]);
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    let socket = operated.socket();
    // With port 0 nobody knows where it is either.
    for ops in ["off", "127.0.0.1:0"] {
        write(&format!("[ops]\naddress = \"{ops}\"\n[admin]\nsocket = {socket:?}\n[junk]\n"));
        for more in [&[][..], &["--live"]] {
            let good = health(&file, more);
            assert_eq!(good.status.code(), Some(0), "{}", said(&good));
        }
    }
    write("[ops]\naddress = \"127.0.0.1:0\"\n");
    let lost = health(&file, &[]);
    assert_eq!(lost.status.code(), Some(3));
    assert!(said(&lost).contains("name it by --ops"), "{}", said(&lost));
}

#[test]
fn the_log_tells_how_many_uploads_wait_and_when_nobody_is_left() {
    let farm = Farm::of_stubs(2)
        .without_host_ids()
        .set("health.kind", "\"tcp\"")
        .set("health.interval", "\"100ms\"")
        .set("health.timeout", "\"100ms\"")
        .start();
    let content = Content::seeded(1, 50_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let owner = farm.stubs().iter().find(|stub| stub.stats().sessions == 1).expect("an owner");
    owner.kill();
    farm.gateway().expect_logged("\"a backend is down\"");
    let log = farm.gateway().log();
    let line = log.lines().find(|line| line.contains("\"a backend is down\"")).expect("a line");
    let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((&event["backend"], &event["uploads"]), (&owner.name().into(), &1.into()));
    assert!(!log.contains("no backend takes new uploads"), "{log}");
    farm.stubs().iter().filter(|stub| stub.name() != owner.name()).for_each(|stub| stub.kill());
    farm.gateway().expect_logged("\"no backend takes new uploads\"");
    let line = |text: &str| {
        let log = farm.gateway().log();
        let line = log.lines().find(|line| line.contains(text)).expect("a line").to_owned();
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON")["level"].clone()
    };
    assert_eq!(line("\"no backend takes new uploads\""), "ERROR");
    farm.stubs().iter().for_each(|stub| stub.start());
    farm.gateway().expect_logged("\"a backend takes new uploads again\"");
    assert_eq!(line("\"a backend takes new uploads again\""), "INFO");
    upload.run().expect_complete();
    farm.expect_stored("/in/a.bin", &content);
}
