//! The proxies that `tests/run` has.

use e2e_tests::client::exchange;
use e2e_tests::farm::{Farm, FarmBuilder, Gateway, Signal};
use e2e_tests::wait;

use super::front::{Front, configured_for};
use super::{cases, document, logins};
use crate::packets::{TARGET, ping};

const CONFIGURED: [&str; 4] = ["nginx-websocket", "nginx-pool", "haproxy-http", "haproxy-tcp"];

#[test]
fn nginx_with_a_plain_proxy_pass() {
    cases::uploads_arrive("nginx-least");
}

#[test]
fn nginx_with_the_lines_for_websockets() {
    for name in ["nginx-websocket", "nginx-upgrade"] {
        cases::uploads_arrive(name);
    }
}

#[test]
fn nginx_with_kept_connections() {
    cases::uploads_arrive("nginx-pool");
}

#[test]
fn haproxy_that_speaks_http() {
    cases::uploads_arrive("haproxy-http");
}

#[test]
fn haproxy_that_passes_connections_on() {
    cases::uploads_arrive("haproxy-tcp");
}

#[test]
fn uploads_outlive_a_crash_of_the_gateway() {
    cases::uploads_outlive_a_crash_of_the_gateway("nginx-least");
    CONFIGURED.iter().for_each(|name| cases::uploads_outlive_a_crash_of_the_gateway(name));
}

#[test]
fn the_largest_ticket_passes() {
    CONFIGURED.iter().for_each(|name| cases::the_largest_ticket_passes(name));
}

#[test]
fn clients_are_told_apart() {
    CONFIGURED.iter().for_each(|name| cases::clients_are_told_apart(name));
}

#[test]
fn logins_belong_to_their_clients() {
    logins::no_login_is_lent("nginx-pool");
    logins::every_login_works("haproxy-http");
    logins::every_login_works("haproxy-tcp");
}

/// The gateway serves until it ends, and HAProxy sends no more to it once it says that it will.
#[test]
fn haproxy_takes_out_a_gateway_that_is_not_ready() {
    for name in ["haproxy-http", "haproxy-tcp"] {
        let farm = configured_for(name, Farm::of_stubs(1).plain())
            .set("timeouts.shutdown_delay", "\"1h\"")
            .set("timeouts.shutdown", "\"1h\"")
            .start();
        let front = Front::start(name, farm.entrance(), farm.gateway().listener("ops"));
        let served = || {
            exchange(front.address(), &ping(TARGET).bytes())
                .is_ok_and(|answer| answer.status == 200)
        };
        assert!(served());
        farm.gateway().signal(Signal::TERM);
        wait::until("HAProxy has seen that it is not ready", || !served());
        assert_eq!(farm.gateway().ops("/readyz").status, 503);
        assert!(farm.gateway().is_running());
    }
}

/// Two gateways, and the balancer in front of them.
struct Balanced {
    farm: Farm,
    front: Front,
}

impl Balanced {
    fn start(name: &str, farm: FarmBuilder) -> Self {
        let farm = farm.gateways(2).set("sessions.shared_farm", "true").start();
        let [first, second] = farm.gateways() else { panic!("two gateways") };
        let second = second.address().to_string();
        let changes = [("10.0.0.6:8080", &*second)];
        let front = Front::changed(name, name, &changes, first.address(), first.listener("ops"));
        Self { farm, front }
    }

    /// Whether a packet is served.
    fn serves(&self) -> bool {
        exchange(self.front.address(), &ping(TARGET).bytes()).is_ok_and(|a| a.status == 200)
    }

    /// The gateway that clients get, and the other one.
    fn used_and_other(&self) -> (&Gateway, &Gateway) {
        wait::until("a packet is served", || self.serves());
        let [first, second] = self.farm.gateways() else { panic!("two gateways") };
        wait::until("the log has it", || pings(first) + pings(second) > 0);
        if pings(first) > 0 { (first, second) } else { (second, first) }
    }
}

/// Packets of clients that a gateway has served, by its log.
fn pings(gateway: &Gateway) -> usize {
    gateway.access_log().iter().filter(|line| line["packet"] == "ping").count()
}

#[test]
fn haproxy_asks_for_readiness_at_the_listener_for_clients() {
    let farm = document::configured("balanced", Farm::of_stubs(1).plain())
        .set("timeouts.shutdown_delay", "\"1h\"")
        .set("timeouts.shutdown", "\"1h\"");
    let balanced = Balanced::start("haproxy-balancer", farm);
    let (used, other) = balanced.used_and_other();
    assert_eq!(pings(other), 0, "a client stays at one gateway");
    used.signal(Signal::TERM);
    wait::until("HAProxy has seen that it is not ready", || balanced.serves() && pings(other) > 0);
    assert!(used.is_running());
    other.kill();
    wait::until("HAProxy has seen that both are away", || !balanced.serves());
    other.start();
    wait::until("HAProxy has seen that one is back", || balanced.serves());
}

#[test]
fn a_client_whose_gateway_crashes_gets_the_other_one_at_once() {
    for (name, gateway) in [("haproxy-balancer", "balanced"), ("nginx-balancer", "gateway-http")] {
        let farm = document::configured(gateway, Farm::of_stubs(1).plain());
        let balanced = Balanced::start(name, farm);
        let (used, other) = balanced.used_and_other();
        assert_eq!(pings(other), 0, "a client stays at one gateway");
        used.kill();
        assert!(balanced.serves(), "{name}");
        wait::until("the log has it", || pings(other) == 1);
    }
}
