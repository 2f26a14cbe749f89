//! The proxies that `tests/run` has.

use e2e_tests::client::exchange;
use e2e_tests::farm::{Farm, Signal};
use e2e_tests::wait;

use super::front::{Front, configured_for};
use super::{cases, logins};
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
