//! A new process takes the sockets of a running one, under load.

mod ends;
mod handover;
mod load;

use std::sync::atomic::{AtomicBool, Ordering};

use e2e_tests::client::FragmentSizes;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::wait;

use load::Load;

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

fn upgradable(stubs: usize) -> FarmBuilder {
    Farm::of_stubs(stubs).set("process.upgrade_socket", "\"{{tmp}}/upgrade.sock\"")
}

/// Fault: gateway is upgraded.
#[test]
fn twenty_reloads_and_three_upgrades_under_load_fail_no_request() {
    let farm = upgradable(3).start();
    let stop = AtomicBool::new(false);
    let uploads = std::thread::scope(|scope| {
        let load = Load::start(scope, &farm, &stop);
        for round in 0..23 {
            load.expect_progress();
            if round % 8 == 7 {
                let mut old = farm.gateway().upgrade();
                assert_eq!(old.wait().code(), Some(0));
            } else {
                let weight = (round % 5 + 1).to_string();
                farm.gateway()
                    .configure(|settings| settings.set_backend("up01", "weight", &weight));
                assert!(farm.gateway().reload());
            }
        }
        stop.store(true, Ordering::Relaxed);
        load.finish()
    });
    assert!(uploads.len() > 10, "{} uploads", uploads.len());
    for (path, content, report) in &uploads {
        report.expect_smooth();
        farm.expect_stored(path, content);
    }
    farm.expect_healthy();
}

/// Fault: gateway is upgraded.
#[test]
fn a_successor_serves_on_every_listener_and_the_old_process_ends() {
    let farm = upgradable(1).start();
    let content = Content::seeded(1, 50_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let (public, ops) = (farm.gateway().address(), farm.gateway().listener("ops"));
    let mut old = farm.gateway().upgrade();
    assert!(old.is_running(), "it still has the connection of the upload");
    assert_eq!((farm.gateway().address(), farm.gateway().listener("ops")), (public, ops));
    wait::until("the new process is ready", || farm.gateway().ops("/readyz").status == 200);
    // One more answer on the old connection, and the rest over a new one.
    upload.run().expect_smooth();
    assert_eq!(old.wait().code(), Some(0));
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
}
