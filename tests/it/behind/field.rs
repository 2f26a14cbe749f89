//! Every proxy and every client, by `tests/field`: it installs what is needed.

use super::{captured, cases, front, logins, programs};

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
