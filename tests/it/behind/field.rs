//! Every proxy and every client, by `tests/field`: it installs what is needed.

use super::{captured, cases, front, programs};

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

macro_rules! tests {
    ($($front:ident)*) => {$(
        mod $front {
            use super::{case, cases, through};

            #[test]
            fn curl() {
                through(stringify!($front), "curl");
            }

            #[test]
            fn curl_http2() {
                through(stringify!($front), "curl_http2");
            }

            #[test]
            fn curl_tr_encoding() {
                through(stringify!($front), "curl_tr_encoding");
            }

            #[test]
            fn jdk() {
                through(stringify!($front), "jdk");
            }

            #[test]
            fn lwp() {
                through(stringify!($front), "lwp");
            }

            #[test]
            fn node() {
                through(stringify!($front), "node");
            }

            #[test]
            fn node_fetch() {
                through(stringify!($front), "node_fetch");
            }

            #[test]
            fn python() {
                through(stringify!($front), "python");
            }

            #[test]
            fn wget() {
                through(stringify!($front), "wget");
            }

            #[test]
            fn clients_like_windows() {
                case(stringify!($front), cases::uploads_arrive);
            }
        }
    )*};
}

tests! {
    nginx_least nginx_websocket nginx_upgrade nginx_pool
    haproxy_http haproxy_tcp apache apache_1_0 squid varnish
}
