//! Sessions of a backend that the configuration does not name any more.

use e2e_tests::client::PacketType;
use e2e_tests::farm::Farm;
use e2e_tests::raw_backend::RawBackend;

use super::{ask, begin, sessions};
use crate::packets::{TARGET, close, expect_not_found, expect_not_now, fragment};

/// A farm in which `up01` has a session and is then called otherwise, as if it were another.
fn renamed(restart_after: &str) -> (Farm, String) {
    let farm = Farm::of_stubs(1)
        .without_host_ids()
        .set("failover.restart_after", restart_after)
        .set("failover.hold", "\"0s\"")
        .backend("idle", RawBackend::agreeable().address())
        .set_backend("idle", "weight", "1")
        .start();
    let id = begin(&farm, TARGET);
    (farm, id)
}

/// Fault: backend is missing in the configuration after a restart.
#[test]
fn a_session_of_a_backend_that_is_not_configured_waits_until_it_is_again() {
    let (farm, id) = renamed("\"1h\"");
    let packet = fragment(TARGET, &id, "bytes 3-8/9", b"defghi");
    for _ in 0..2 {
        farm.gateway().rename_backend("up01", "elsewhere");
        farm.gateway().restart();
        for packet in [&packet, &close(TARGET, &id)] {
            expect_not_now(&[503], packet.kind, &ask(&farm, packet));
        }
        assert_eq!(sessions(&farm), 0.0, "it is no session of a backend of this farm");
    }
    farm.gateway().expect_logged("sessions of a backend that is not configured");
    farm.gateway().rename_backend("elsewhere", "up01");
    farm.gateway().restart();
    assert_eq!(ask(&farm, &packet).status, 200);
    assert_eq!(ask(&farm, &close(TARGET, &id)).status, 200);
    farm.expect_healthy();
}

/// Fault: backend is missing in the configuration for good.
#[test]
fn a_session_of_a_backend_that_is_not_configured_starts_over_after_its_time() {
    let (farm, id) = renamed("\"1s\"");
    farm.gateway().rename_backend("up01", "elsewhere");
    farm.gateway().restart();
    let packet = fragment(TARGET, &id, "bytes 3-8/9", b"defghi");
    let answer = e2e_tests::wait::some("it is given up", || {
        let answer = ask(&farm, &packet);
        (answer.status != 503).then_some(answer)
    });
    expect_not_found(PacketType::Fragment, &answer);
    // And is gone for good.
    farm.gateway().rename_backend("elsewhere", "up01");
    farm.gateway().restart();
    expect_not_found(PacketType::Fragment, &ask(&farm, &packet));
}
