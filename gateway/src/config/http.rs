//! The section `[http]`: names, methods, and whom the gateway believes.

use gateway_core::protocol::host::key_of;

use super::draft::{Broken, Table};
use super::keys::{Key, Preset, Section, Shape};
use super::kind::{Kind, Value};
use super::sections::word;
use super::{ForwardedMode, Http, RawPath, ReplyUrl, RequestId, UpstreamHost};

pub const HTTP: Section = Section {
    name: "http",
    shape: Shape::Once,
    about: "Names and methods.",
    keys: &[
        Key {
            name: "hosts",
            kind: Kind::Hosts,
            preset: Preset::Is(Value::Texts(Vec::new())),
            about: "The names that clients use in their URLs; requests for other hosts are \
                    answered 400. The host ids and `gateway_name` are always accepted. \
                    Empty accepts any host.",
        },
        Key {
            name: "upstream_host",
            kind: word::<UpstreamHost>(),
            preset: Preset::Is(Value::Word("origin")),
            about: "The `Host` that backends see.",
        },
        Key {
            name: "forwarded",
            kind: word::<ForwardedMode>(),
            preset: Preset::Is(Value::Word("x-forwarded-for")),
            about: "Which fields tell backends of the client and its request. What clients \
                    themselves say in such fields never passes.",
        },
        Key {
            name: "request_id",
            kind: word::<RequestId>(),
            preset: Preset::Is(Value::Word("own")),
            about: "The `X-Request-Id` that backends see, to find a request in their logs. A W3C \
                    `traceparent` passes in any case, unless it is malformed.",
        },
        Key {
            name: "trusted_proxies",
            kind: Kind::Networks { least: 0 },
            preset: Preset::Is(Value::Texts(Vec::new())),
            about: "Addresses and networks of proxies in front of the gateway. What they say \
                    in the fields of `forwarded` is kept and appended to, and the client is \
                    the last address there that is not theirs. Behind a proxy that is not \
                    listed no client logs in by NTLM or Negotiate.",
        },
        Key {
            name: "forwarded_host",
            kind: Kind::Bool,
            preset: Preset::Is(Value::Bool(false)),
            about: "Whether the host that a trusted proxy names counts for `hosts` and for host ids, \
                    in place of `Host`: the last element of `X-Forwarded-Host`, or the `host` in \
                    the last one of `Forwarded`. If the two differ, the answer is 400. For proxies \
                    that replace `Host` by a name of their own. Backends never get it as `Host`.",
        },
        Key {
            name: "method_override",
            kind: Kind::Bool,
            preset: Preset::Is(Value::Bool(false)),
            about: "Whether a POST with `X-HTTP-Method-Override: BITS_POST` is a packet. If \
                    not, it is answered 400: behind the gateway it would be one without a pin.",
        },
        Key {
            name: "methods",
            kind: Kind::Methods,
            preset: Preset::Is(Value::Texts(Vec::new())),
            about: "What may pass beside packets, such as `[\"GET\", \"HEAD\"]` for the replies \
                    of upload-reply jobs; other methods are answered 405. Empty lets any pass.",
        },
        Key {
            name: "raw_path",
            kind: word::<RawPath>(),
            preset: Preset::Is(Value::Word("refuse")),
            about: "What happens to a request whose path has bytes beyond ASCII. A URL may not \
                    have them, and some clients send them all the same.",
        },
        Key {
            name: "reply_url",
            kind: word::<ReplyUrl>(),
            preset: Preset::Is(Value::Word("pass")),
            about: "What happens to an absolute `BITS-Reply-URL`. A backend that does not know the \
                    gateway names itself in it, and clients cannot reach it there. A reply \
                    under `/BITS-Sessions/Replies/` is fetched from the backend of its session \
                    while that is open. Any other URL that was uploaded to is fetched from the \
                    backend that has the file, until a restart or an upgrade of the gateway; then, \
                    as every other request, from any.",
        },
    ],
    later: &[],
};

pub fn build(table: &Table) -> Result<Http, Broken> {
    let written: Vec<String> = table.get("hosts")?;
    let mut hosts: Vec<String> = Vec::new();
    for key in written.iter().filter_map(|host| key_of(host)) {
        if !hosts.contains(&key) {
            hosts.push(key);
        }
    }
    let trusted: Vec<String> = table.get("trusted_proxies")?;
    let methods: Vec<String> = table.get("methods")?;
    Ok(Http {
        hosts,
        origin: written.into_iter().next(),
        upstream_host: table.get("upstream_host")?,
        method_override: table.get("method_override")?,
        methods: methods.iter().filter_map(|method| method.parse().ok()).collect(),
        raw_path: table.get("raw_path")?,
        reply_url: table.get("reply_url")?,
        request_id: table.get("request_id")?,
        forwarded: table.get("forwarded")?,
        forwarded_host: table.get("forwarded_host")?,
        trusted_proxies: trusted.iter().filter_map(|network| network.parse().ok()).collect(),
    })
}
