//! Fields by which somebody speaks for another: a proxy for its client, a server for itself.
//!
//! A client that sends one is believed by whoever reads it, so none of them passes.
//!
//! What is absent: `Via`. It says over what a message came and nothing of whose it is, and proxies
//! on the client's side add it in good faith.

use std::borrow::Cow;

use super::headers::{Id, NAME_LIMIT};

/// Starts of names that proxies, balancers and TLS terminators use, and nobody else.
const PROXY_STARTS: [&str; 8] = [
    // RFC 9440.
    "client-cert",
    // RFC 7239, and what came before it.
    "forwarded",
    "ssl-client-",
    "x-arr-",
    "x-client-cert",
    "x-envoy-",
    "x-forward",
    "x-ssl-client-",
];

/// The other names, each by itself: `X-Original-Filename` is a client's to say.
const PROXY_NAMES: [&str; 35] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "fastly-client-ip",
    "fastly-ssl",
    "front-end-https",
    // Becomes HTTP_PROXY in the environment of a CGI program.
    "proxy",
    "remote-addr",
    "remote-user",
    "true-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-original-for",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-proto",
    "x-original-remote-addr",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-real-port",
    "x-remote-addr",
    "x-remote-ip",
    "x-remote-user",
    "x-rewrite-url",
    "x-url-scheme",
];

/// Fields of answers, of the `BITS-` family, and those that only a server and the application
/// behind it exchange (MC-BUP 2.2.12, 3.4.5).
const SERVER_NAMES: [&str; 13] = [
    "bits-copy-file-to-destination",
    "bits-error",
    "bits-error-code",
    "bits-error-context",
    "bits-host-id",
    "bits-host-id-fallback-timeout",
    "bits-original-request-url",
    "bits-protocol",
    "bits-received-content-range",
    "bits-reply-url",
    "bits-request-datafile-name",
    "bits-response-datafile-name",
    "bits-static-response-url",
];

/// A name for each entry of the lists.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = String> {
    let starts = PROXY_STARTS.iter().map(|start| format!("{start}x"));
    let names = PROXY_NAMES.iter().chain(&SERVER_NAMES).map(ToString::to_string);
    starts.chain(names)
}

/// Whether it begins as one of the above does; hardly a field of a packet does.
fn may_be_of_proxies(name: &[u8]) -> bool {
    let start = name.first_chunk().map(|start: &[u8; 2]| start.to_ascii_lowercase());
    matches!(
        start.as_ref().map_or(name, |start| &start[..]),
        [b'c', b'f' | b'l', ..]
            | [b'f', b'a' | b'o' | b'r', ..]
            | [b'p' | b't', b'r', ..]
            | [b'r', b'e', ..]
            | [b's', b's', ..]
            | [b'x', b'-' | b'_', ..]
    )
}

/// Whether a field, its name in lower case, tells of a client or of its request what only a proxy
/// in front may tell: its address, certificate or user, the scheme, host or path it meant.
///
/// `_` is read as `-`, as some servers do: Apache itself writes `SSL_CLIENT_VERIFY`.
pub fn is_proxy_name(name: &str) -> bool {
    if !may_be_of_proxies(name.as_bytes()) {
        return false;
    }
    let read = match name.contains('_') {
        true => Cow::Owned(name.replace('_', "-")),
        false => Cow::Borrowed(name),
    };
    // Lengths are compared first, so this reads no more names than a search by halves.
    PROXY_NAMES.contains(&&*read) || PROXY_STARTS.iter().any(|start| read.starts_with(start))
}

/// Whether a field, its name in lower case, is one that a client only ever reads, or never sees.
pub fn is_server_name(name: &str) -> bool {
    name.starts_with("bits-") && SERVER_NAMES.contains(&name)
}

/// [`is_proxy_name`] of a field that was read, in whatever case its name stands.
pub fn is_proxy_field(id: Id, name: &[u8]) -> bool {
    match id {
        Id::OTHER => may_be_of_proxies(name) && in_lower_case(name, is_proxy_name),
        Id::FORWARDED
        | Id::FORWARDED_FOR
        | Id::FORWARDED_HOST
        | Id::FORWARDED_PORT
        | Id::FORWARDED_PROTO => true,
        _ => false,
    }
}

/// [`is_server_name`] of a field that was read, in whatever case its name stands.
pub fn is_server_field(id: Id, name: &[u8]) -> bool {
    match id {
        Id::OTHER => matches!(name, [b'B' | b'b', ..]) && in_lower_case(name, is_server_name),
        Id::ERROR
        | Id::ERROR_CODE
        | Id::ERROR_CONTEXT
        | Id::HOST_ID
        | Id::HOST_ID_FALLBACK_TIMEOUT
        | Id::PROTOCOL
        | Id::RECEIVED_CONTENT_RANGE
        | Id::REPLY_URL => true,
        _ => false,
    }
}

/// False for what is no name. No head that was checked has a longer one.
fn in_lower_case(name: &[u8], is: impl Fn(&str) -> bool) -> bool {
    let mut room = [0; NAME_LIMIT];
    let Some(lower) = room.get_mut(..name.len()) else { return false };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).is_ok_and(is)
}

#[cfg(test)]
mod tests {
    use super::super::headers::{KNOWN, id_of};
    use super::*;

    #[test]
    fn a_field_is_judged_alike_by_its_number_and_by_its_name() {
        let names = KNOWN.iter().map(|field| field.wire);
        let names = names.chain(PROXY_NAMES).chain(PROXY_STARTS).chain(SERVER_NAMES);
        for name in names.chain(["Accept", "X-Own", "x", "", "BITS-Other", "Client-Cert-Chain"]) {
            let lower = name.to_ascii_lowercase();
            for name in [name.as_bytes(), lower.as_bytes(), name.to_ascii_uppercase().as_bytes()] {
                let id = id_of(name);
                assert_eq!(is_proxy_field(id, name), is_proxy_name(&lower), "{lower}");
                assert_eq!(is_server_field(id, name), is_server_name(&lower), "{lower}");
            }
        }
    }

    #[test]
    fn underscores_are_read_as_what_they_imitate() {
        let spell = |name: &str| name.replace('-', "_");
        for name in PROXY_NAMES.into_iter().chain(PROXY_STARTS) {
            assert!(is_proxy_name(&spell(name)), "{name}");
            assert!(is_proxy_name(&name.replacen('-', "_", 1)), "{name}");
        }
        for name in ["x_own", "x_original_filename", "_", "remote_user_", "_remote_user"] {
            assert!(!is_proxy_name(name), "{name}");
        }
    }

    #[test]
    fn what_only_proxies_say_is_known_by_name_or_start() {
        for name in PROXY_NAMES {
            assert!(is_proxy_name(name), "{name}");
        }
        for start in PROXY_STARTS {
            assert!(is_proxy_name(start) && is_proxy_name(&format!("{start}x")), "{start}");
        }
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-prefix", "client-cert-chain"] {
            assert!(is_proxy_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_a_clients_to_say_is_left() {
        for name in [
            "",
            "via",
            "from",
            "x-original-filename",
            "x-client",
            "x-resource-id",
            "x-zenfolio-user-agent",
            "x-http-method-override",
            "cookie",
            "content-range",
            "referer",
            "range",
        ] {
            assert!(!is_proxy_name(name), "{name}");
        }
        for name in ["bits-packet-type", "bits-session-id", "bits-supported-protocols", "bits-x"] {
            assert!(!is_server_name(name), "{name}");
        }
    }

    #[test]
    fn the_words_of_servers_are_known() {
        for name in SERVER_NAMES {
            assert!(is_server_name(name), "{name}");
        }
    }
}
