//! `run --backend`: a gateway without a configuration file.

use std::net::SocketAddr;
use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::client::{Client, Resolver};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, Process};
use e2e_tests::wait;
use serde_json::Value;

#[test]
fn uploads_pass_through_a_gateway_that_was_only_told_its_backends() {
    let farm = Farm::of_stubs(2).plain().without_gateway().start();
    let (ready, folder) = (farm.directory().join("ready"), farm.directory().path());
    let mut command = Command::new(binaries::gateway());
    command.arg("run").arg("--ready-file").arg(&ready).args(["--listen", "127.0.0.1:0"]);
    for stub in farm.stubs() {
        command.arg("--backend").arg(stub.address().to_string());
    }
    command.env("BITSGW__OPS__ADDRESS", "off").env("BITSGW__LOG__FORMAT", "text");
    let mut process = Process::start(command, "gateway", folder);
    let public: SocketAddr = wait::some("the gateway is ready", || {
        process.expect_running();
        let ready: Value = serde_json::from_str(&std::fs::read_to_string(&ready).ok()?).ok()?;
        ready["listeners"]["public"].as_str()?.parse().ok()
    });
    let client = Client::new(Resolver::new().with("up.test", public));
    for (number, name) in ["/in/a.bin", "/in/b.bin"].into_iter().enumerate() {
        let content = Content::seeded(number as u64, 300_000);
        client.upload(&format!("http://up.test{name}"), &content).expect_smooth();
        farm.expect_stored(name, &content);
    }
    let log = std::fs::read_to_string(folder.join("gateway.err")).expect("there is a log");
    let addresses = farm.stubs().iter().zip(1..);
    let told = addresses.map(|(stub, number)| format!("up{number:02} {}", stub.address()));
    let told = told.collect::<Vec<_>>().join(", ");
    assert!(log.contains(&told), "{log}");
    assert!(log.contains("there is no configuration file: sessions are in memory"), "{log}");
}
