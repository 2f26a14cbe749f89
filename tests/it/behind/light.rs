//! The proxies that `tests/run` has.

use super::cases;

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
