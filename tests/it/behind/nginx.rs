//! nginx.

use e2e_tests::client::FragmentSizes;
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;

use super::front::Front;

#[test]
fn a_plain_proxy_pass() {
    let farm = Farm::of_stubs(3).plain().start();
    let front = Front::nginx("nginx-least", &farm);
    let content = Content::seeded(1, 5_000_000);
    let client = front.client(&farm).with(|o| o.fragments = FragmentSizes::Fixed(2_000_000));
    client.upload(&farm.url("/in/a.bin"), &content).expect_smooth();
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
}
