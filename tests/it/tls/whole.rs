//! What an upload is promised, over plain connections, over TLS, and with certificates on both sides.

use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::client::{FragmentSizes, PacketType, Report, Upload};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, StubFault, Tls};
use e2e_tests::fault_link::Cut;
use e2e_tests::pki;

const EACH: [Tls; 3] = [Tls::Off, Tls::Front, Tls::Mutual];

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

fn each(count: usize) -> impl Iterator<Item = FarmBuilder> {
    EACH.into_iter().map(move |tls| Farm::of_stubs(count).tls(tls))
}

#[test]
fn files_of_every_size_arrive_byte_for_byte() {
    for farm in each(2) {
        let farm = farm.start();
        let sizes = [
            (0, FragmentSizes::Whole),
            (1, FragmentSizes::Whole),
            (16_384, FragmentSizes::Whole),
            (70_001, FragmentSizes::Fixed(5 * 1024)),
            (20_000_003, FragmentSizes::Fixed(13 << 20)),
        ];
        for (size, fragments) in sizes {
            let content = Content::seeded(size, size);
            let path = format!("/in/{size}.bin");
            let client = farm.client().with(|o| o.fragments = fragments);
            client.upload(&farm.url(&path), &content).expect_smooth();
            farm.expect_stored(&path, &content);
        }
        farm.expect_healthy();
    }
}

/// An upload that meets trouble in its middle, and does not begin again for it.
#[track_caller]
fn through(farm: &Farm, trouble: impl FnOnce(&mut Upload)) -> Report {
    let content = Content::seeded(1, 120_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    trouble(&mut upload);
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
    report
}

#[test]
fn an_upload_goes_on_after_a_killed_gateway() {
    for farm in each(3) {
        let farm = farm.start();
        let report = through(&farm, |_| farm.gateway().restart());
        assert_eq!(report.resyncs, 0, "{report}");
    }
}

#[test]
fn an_upload_waits_for_a_killed_backend() {
    for farm in each(2) {
        let farm = farm.set("failover.hold", "\"0s\"").start();
        through(&farm, |upload| {
            let index = (0..2).find(|&index| farm.stub(index).stats().fragment > 0).unwrap();
            farm.stub(index).kill();
            assert!(upload.run_until(|upload| upload.report().retries > 0));
            farm.stub(index).start();
        });
    }
}

#[test]
fn connections_that_break_on_either_side_cost_nothing_but_retries() {
    for farm in each(2) {
        let farm = farm.link_front().link_backends().start();
        through(&farm, |upload| {
            for (position, cut) in [(20_000, Cut::Reset), (50_000, Cut::Fin), (80_000, Cut::Reset)]
            {
                assert!(upload.run_until(|upload| upload.position() >= position));
                farm.front().cut(cut);
                farm.link(0).cut(cut);
                farm.link(1).cut(cut);
            }
        });
    }
}

#[test]
fn a_new_upload_goes_elsewhere_when_a_backend_is_gone() {
    for farm in each(3) {
        let farm = farm.start();
        farm.stub(1).kill();
        for number in 0..4 {
            let content = Content::seeded(number, 30_000);
            let path = format!("/in/{number}.bin");
            let client = farm.client().with(|o| o.fragments = PIECES);
            client.upload(&farm.url(&path), &content).expect_complete();
            farm.expect_stored(&path, &content);
        }
        farm.expect_healthy();
    }
}

#[test]
fn answers_that_are_lost_or_early_do_no_harm() {
    for farm in each(1) {
        let farm = farm.start();
        let stub = farm.stub(0);
        stub.fault(StubFault::on(PacketType::Fragment, "reset_after_bytes").with("n", 3_000));
        stub.fault(StubFault::on(PacketType::Fragment, "apply_then_close").skip(2));
        stub.fault(StubFault::on(PacketType::CloseSession, "connection_close"));
        let content = Content::seeded(4, 60_000);
        let client = farm.client().with(|o| o.fragments = PIECES);
        let report = client.upload(&farm.url("/in/a.bin"), &content);
        report.expect_complete();
        assert_eq!(report.restarts, 0, "{report}");
        farm.expect_stored("/in/a.bin", &content);
        farm.expect_healthy();
    }
}

#[test]
fn the_upload_command_speaks_tls_and_shows_a_certificate() {
    for tls in [Tls::Front, Tls::Mutual] {
        let farm = Farm::of_stubs(2).tls(tls).start();
        let directory = farm.directory();
        let content = Content::seeded(9, 40_000);
        let file = directory.join("local.bin");
        let mut bytes = vec![0; 40_000];
        content.read_at(0, &mut bytes);
        std::fs::write(&file, bytes).unwrap();
        let authority = directory.join("trusted.pem");
        pki::write(&authority, &pki::servers().pem(), 0o644);
        let own = pki::client().write(directory.path(), "uploader");
        let run = |shown: bool| {
            let mut command = Command::new(binaries::gateway());
            command.arg("upload").arg(&file).arg("https://up.test/in/a.bin").arg("--quiet");
            command.arg("--resolve").arg(format!("*:{}", farm.entrance())).arg("--ca");
            command.arg(&authority).arg("--state").arg(directory.join("state"));
            command.args(["--give-up", "0s"]);
            if shown {
                command.arg("--cert").arg(&own.certificate).arg("--key").arg(&own.key);
            }
            command.output().expect("it runs")
        };
        if tls == Tls::Mutual {
            assert!(!run(false).status.success(), "nobody uploads without a certificate");
        }
        let output = run(true);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        farm.expect_stored("/in/a.bin", &content);
    }
}
