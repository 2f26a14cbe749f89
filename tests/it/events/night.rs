//! A night with its troubles.

use std::fs;

use e2e_tests::client::FragmentSizes;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, Tls};
use e2e_tests::pki::{self, Validity};
use e2e_tests::wait;

use super::{is, says, stored, told};
use crate::operator::Operated;

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

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
