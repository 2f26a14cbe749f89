//! Every proxy and every client, by `tests/field`: it installs what is needed.

use super::{captured, cases, claims, front, logins, programs};

/// Whether to run: the programs are many, and few machines have them.
fn wanted() -> bool {
    let wanted = std::env::var_os("E2E_FIELD").is_some();
    if !wanted {
        println!("not run: set E2E_FIELD, as tests/field does");
    }
    wanted
}

fn through(front: &str, client: &str) {
    if !wanted() {
        return;
    }
    let (farm, front) = front::in_front(&front.replace('_', "-"), 2);
    programs::upload(client, &front, &farm);
    farm.expect_healthy();
}

fn case(front: &str, case: fn(&str)) {
    if wanted() {
        case(&front.replace('_', "-"));
    }
}

/// Writes the files of [`captured`](super::captured) anew: what proxies and clients of this machine send.
#[test]
fn captures() {
    if std::env::var_os("E2E_CAPTURE").is_none() {
        println!("not run: set E2E_CAPTURE, as tests/field --capture does");
        return;
    }
    captured::PROXIES.iter().for_each(|name| captured::capture_proxy(name));
    captured::CLIENTS.iter().for_each(|name| captured::capture_client(name));
}

/// A module for each proxy, in it a test for each client and each case.
macro_rules! fronts {
    ([$($front:ident)*] $cases:tt) => {
        $(front! {
            $front [curl curl_http2 curl_tr_encoding jdk lwp node node_fetch python wget] $cases
        })*
    };
}

macro_rules! front {
    ($front:ident [$($client:ident)*] [$($case:ident)*]) => {
        mod $front {
            $(
                #[test]
                fn $client() {
                    super::through(stringify!($front), stringify!($client));
                }
            )*
            $(
                #[test]
                fn $case() {
                    super::case(stringify!($front), super::cases::$case);
                }
            )*
        }
    };
}

fronts! {
    [nginx_websocket nginx_upgrade nginx_pool haproxy_http haproxy_tcp apache apache_1_0 squid varnish]
    [uploads_arrive uploads_outlive_a_crash_of_the_gateway the_largest_ticket_passes clients_are_told_apart]
}

// It passes neither large tickets on nor the addresses of its clients.
fronts! {
    [nginx_least]
    [uploads_arrive uploads_outlive_a_crash_of_the_gateway]
}

/// What the document says of the waits and limits of the three that `tests/run` does not have.
#[test]
fn waits_and_limits() {
    if !wanted() {
        return;
    }
    use claims::{says_to_a_body, says_to_a_large_field, says_to_a_pause, says_to_silence};
    // Apache.
    let head = ("    LimitRequestFieldSize 98304\n", "");
    assert_eq!(says_to_a_large_field("apache", &[head], 16_384), Some(400));
    for body in [("body=0", "body=1"), ("TimeOut 130", "TimeOut 1")] {
        assert_eq!(says_to_a_pause("apache", &[body]), Some(408), "{body:?}");
    }
    assert_eq!(says_to_silence("apache", &[("timeout=320", "timeout=1")]), Some(502));
    // What it passes on without keeping it has no limit.
    let size = ("AllowEncodedSlashes", "LimitRequestBody 100000\n    AllowEncodedSlashes");
    assert_eq!(says_to_a_body("apache", &[size], 1_000_000), Some(200));
    // Squid: one wait is for answers, another one is for a connection in all.
    let with = |more: &'static str| ("cache deny all\n", more);
    let answer = with("cache deny all\nread_timeout 1 second\n");
    assert_eq!(says_to_silence("squid", &[answer]), Some(504));
    let connection = with("cache deny all\nclient_lifetime 1 second\n");
    assert_eq!(says_to_a_pause("squid", &[connection]), None);
    // Varnish.
    let head = (" -p http_req_hdr_len=80k", "");
    assert_eq!(says_to_a_large_field("varnish", &[head], 16_384), Some(400));
    let idle = ("timeout_idle=130", "timeout_idle=1");
    assert_eq!(says_to_a_pause("varnish", &[idle]), Some(503));
    let answer = (".first_byte_timeout = 320s", ".first_byte_timeout = 1s");
    assert_eq!(says_to_silence("varnish", &[answer]), Some(503));
}

#[test]
fn varnish_without_its_line_and_its_probes() {
    if wanted() {
        claims::varnish_makes_a_tunnel_of_a_connection_that_it_is_not_told_to_pass();
        claims::varnish_uses_a_gateway_again_after_three_good_probes();
    }
}

/// They keep a connection for each client that logs in.
#[test]
fn logins_through_proxies_that_keep_connections_apart() {
    let kept = ["haproxy_http", "haproxy_tcp", "squid"];
    kept.iter().for_each(|front| case(front, logins::every_login_works));
}

#[test]
fn logins_through_proxies_that_mix_their_clients() {
    let mixed = ["nginx_pool", "nginx_websocket", "apache", "apache_1_0", "varnish"];
    mixed.iter().for_each(|front| case(front, logins::no_login_is_lent));
}
