//! The section `[http]`: names, methods, and whom the gateway believes.

use gateway_core::protocol::host::key_of;
use gateway_core::protocol::network::Network;
use gateway_core::protocol::passage::ForwardedMode;

use super::draft::{Broken, SectionValues};
use super::keys::{DefaultValue, word};
use super::kind::{Kind, Value};
use super::names::named;
use super::section::section;

section! {
    pub struct Http in "http";
    about: "Names and methods.";
    later: &[];

    /// In the form of [`gateway_core::protocol::host::key_of`]; empty accepts any.
    hosts: Vec<String> = hosts {
        kind: Kind::Hosts,
        default: DefaultValue::Is(Value::Texts(Vec::new())),
        applies: Reload,
        about: "The names that clients use in their URLs; requests for other hosts are answered \
                400. The host ids and `gateway_name` are always accepted. Empty accepts any host.",
    }

    upstream_host: UpstreamHost {
        kind: word::<UpstreamHost>(),
        default: DefaultValue::word("origin"),
        applies: Reload,
        about: "The `Host` that backends see.",
    }

    forwarded: ForwardedMode {
        kind: word::<ForwardedMode>(),
        default: DefaultValue::word("x-forwarded-for"),
        applies: Reload,
        about: "Which fields tell backends of the client and its request. What clients themselves \
                say in such fields never passes.",
    }

    request_id: RequestId {
        kind: word::<RequestId>(),
        default: DefaultValue::word("own"),
        applies: Reload,
        about: "The `X-Request-Id` that backends see, to find a request in their logs. A W3C \
                `traceparent` passes in any case, unless it is malformed.",
    }

    via: bool {
        kind: Kind::Bool,
        default: DefaultValue::bool(false),
        applies: Reload,
        about: "Whether the gateway adds itself to the `Via` that backends see, as RFC 9110 wants \
                of proxies. Some servers answer such requests in another way: nginx does not compress \
                for them. What others have added passes in any case, and `CDN-Loop`, by which \
                the gateway sees loops, does not depend on it.",
    }

    trusted_proxies: Vec<Network> = networks {
        kind: Kind::Networks { least: 0 },
        default: DefaultValue::Is(Value::Texts(Vec::new())),
        applies: Reload,
        about: "Addresses and networks of proxies in front of the gateway. What they say in the \
                fields of `forwarded` is kept and appended to, and the client is the last address \
                there that is not theirs. Behind a proxy that is not listed no client logs in by \
                NTLM or Negotiate.",
    }

    forwarded_host: bool {
        kind: Kind::Bool,
        default: DefaultValue::bool(false),
        applies: Reload,
        about: "Whether the host that a trusted proxy names counts for `hosts` and for host ids, \
                in place of `Host`: the last element of `X-Forwarded-Host`, or the `host` in the \
                last one of `Forwarded`. If the two differ, the answer is 400. For proxies that \
                replace `Host` by a name of their own. Backends never get it as `Host`.",
    }

    method_override: bool {
        kind: Kind::Bool,
        default: DefaultValue::bool(false),
        applies: Reload,
        about: "Whether a POST with `X-HTTP-Method-Override: BITS_POST` is a packet. If not, it is \
                answered 400: behind the gateway it would be one without a pin.",
    }

    /// Of requests that are no packets; empty lets any pass.
    methods: Vec<::http::Method> = methods {
        kind: Kind::Methods,
        default: DefaultValue::Is(Value::Texts(Vec::new())),
        applies: Reload,
        about: "What may pass beside packets, such as `[\"GET\", \"HEAD\"]` for the replies of \
                upload-reply jobs; other methods are answered 405. Empty lets any pass.",
    }

    raw_path: RawPath {
        kind: word::<RawPath>(),
        default: DefaultValue::word("refuse"),
        applies: Reload,
        about: "What happens to a request whose path has bytes beyond ASCII. A URL may not have \
                them, and some clients send them all the same.",
    }

    reply_url: ReplyUrl {
        kind: word::<ReplyUrl>(),
        default: DefaultValue::word("pass"),
        applies: Reload,
        about: "What happens to an absolute `BITS-Reply-URL`. A backend that does not know the \
                gateway names itself in it, and clients cannot reach it there. A reply under \
                `/BITS-Sessions/Replies/` is fetched from the backend of its session while that is \
                open. Any other URL that was uploaded to is fetched from the backend that has the \
                file, until a restart or an upgrade of the gateway; then, as every other request, \
                from any.",
    }

    ;
    /// The first of the hosts as it is written in the file.
    origin: Option<String> = origin;
}

fn hosts(table: &SectionValues, key: &str) -> Result<Vec<String>, Broken> {
    let mut hosts: Vec<String> = Vec::new();
    for key in table.get::<Vec<String>>(key)?.iter().filter_map(|host| key_of(host)) {
        if !hosts.contains(&key) {
            hosts.push(key);
        }
    }
    Ok(hosts)
}

fn origin(table: &SectionValues) -> Result<Option<String>, Broken> {
    Ok(table.get::<Vec<String>>("hosts")?.into_iter().next())
}

fn methods(table: &SectionValues, key: &str) -> Result<Vec<::http::Method>, Broken> {
    let methods: Vec<String> = table.get(key)?;
    Ok(methods.iter().filter_map(|method| method.parse().ok()).collect())
}

fn networks(table: &SectionValues, key: &str) -> Result<Vec<Network>, Broken> {
    let networks: Vec<String> = table.get(key)?;
    Ok(networks.iter().filter_map(|network| network.parse().ok()).collect())
}

/// What happens to a request whose path has bytes beyond ASCII, which no URL may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawPath {
    Refuse,
    Escape,
}

/// What becomes of the URL of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyUrl {
    Pass,
    Rewrite,
}

/// The `X-Request-Id` that backends see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestId {
    Own,
    Pass,
}

/// The `Host` that backends see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamHost {
    Origin,
    Preserve,
    Backend,
}

named!(RawPath {
    Refuse = "refuse": "the request is answered 400",
    Escape = "escape": "each byte is percent-encoded, where the path is UTF-8",
});

named!(ReplyUrl {
    Pass = "pass": "it passes as the backend wrote it",
    Rewrite = "rewrite": "one at the backend itself gets the scheme and the name of the client's URL",
});

named!(RequestId {
    Own = "own": "the gateway's id of the request, which is `request_id` in the access log, in place of a client's",
    Pass = "pass": "what the client or a proxy in front has said; nothing is added",
});

named!(UpstreamHost {
    Origin = "origin": "the first name in `hosts`; without one, as \"preserve\"",
    Preserve = "preserve": "as the client sent it",
    Backend = "backend": "the backend's `address`",
});

named!(ForwardedMode {
    XForwardedFor = "x-forwarded-for": "`X-Forwarded-For`, the address of the client",
    XForwarded = "x-forwarded": "`X-Forwarded-For`, `-Host`, `-Port` and `-Proto`",
    Forwarded = "forwarded": "`Forwarded` (RFC 7239)",
    Both = "both": "`x-forwarded` and `forwarded`",
    Off = "off": "none of these",
});
