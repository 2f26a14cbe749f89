//! The section `[limits]`: how much of anything there may be.

use gateway_core::protocol::ChunkedMode;
use gateway_core::protocol::head::HeadLimits;
use gateway_core::session::limits::Sizes;

use super::Limits;
use super::defaults;
use super::draft::{Broken, Table};
use super::keys::{Key, Preset, Section, Shape};
use super::kind::{Kind, Value};
use super::names::Choice;
use super::sections::word;
use super::settle::{per_client, unless_off};

impl Limits {
    pub fn sizes(&self) -> Sizes {
        Sizes { fragment: self.fragment, upload: self.upload }
    }
}

const NO_LIMIT: &[Choice] = &[Choice { name: "off", about: "no limit" }];

/// A file or a part of one.
const SIZE_OR_OFF: Kind = Kind::WordOr(NO_LIMIT, &Kind::Size { min: 1, max: i64::MAX as u64 });

/// Bytes in a second. Less would make a backend take an upload for dead: 64 KiB go at once.
const RATE_OR_OFF: Kind =
    Kind::WordOr(NO_LIMIT, &Kind::Size { min: 64 * 1024, max: 1024 * 1024 * 1024 * 1024 });

const OFF: Preset = Preset::Is(Value::Word("off"));

pub const LIMITS: Section = Section {
    name: "limits",
    shape: Shape::Once,
    about: "How much of anything a client may send. What is over a limit that will pass is \
            answered 503 with `Retry-After`, and the client comes back.",
    keys: &[
        Key {
            name: "head",
            kind: Kind::Size { min: 1024, max: 512 * 1024 },
            preset: Preset::Is(Value::Size(defaults::HEAD.head_bytes as u64)),
            about: "Request line and fields together.",
        },
        Key {
            name: "line",
            kind: Kind::Size { min: 256, max: 256 * 1024 },
            preset: Preset::Is(Value::Size(defaults::HEAD.line_bytes as u64)),
            about: "The request line. At most `head`.",
        },
        Key {
            name: "fields",
            // Pingora itself takes no more than 256.
            kind: Kind::Integer { min: 16, max: 256 },
            preset: Preset::Is(Value::Integer(defaults::HEAD.fields as u64)),
            about: "Number of header fields.",
        },
        Key {
            name: "connections",
            kind: Kind::Integer { min: 1, max: 1_000_000 },
            preset: Preset::Is(Value::Integer(defaults::CONNECTIONS)),
            about: "Client connections at once, over all listeners. \
                    It is lowered to what the limit of open files allows, with a warning: that has \
                    to be two and a quarter times `connections`, `bound_connections`, and some \
                    hundred more.",
        },
        Key {
            name: "connections_per_address",
            kind: Kind::Integer { min: 0, max: 1_000_000 },
            preset: Preset::Unset {
                meaning: "half of `connections`, and only while more than three quarters of \
                          those are taken",
                sample: "100",
            },
            about: "Client connections at once from one IP address, or from one IPv6 network of \
                    64 bits; more are answered 503 with `Retry-After`. A number that is set \
                    counts always. 0 is no limit: behind a NAT a whole office has one address. \
                    Connections from `http.trusted_proxies` are not counted.",
        },
        Key {
            name: "bound_connections",
            kind: Kind::Integer { min: 0, max: 1_000_000 },
            preset: Preset::Is(Value::Integer(defaults::BOUND_CONNECTIONS)),
            about: "Connections to backends at once that belong to one client connection each: \
                    those logged in by NTLM or Negotiate, and those of backends with \
                    `connections = \"per-client\"`. They need two open files each.",
        },
        Key {
            name: "backend_connections",
            kind: Kind::Integer { min: 0, max: 1_000_000 },
            preset: Preset::Is(Value::Integer(defaults::BACKEND_CONNECTIONS)),
            about: "Connections to each backend at once, over all threads, those of logins included. \
                    A request that finds none free waits for one: for `failover.hold` if only this \
                    backend may have it, else for three seconds, after which it tries another one. Then \
                    it is answered 503 (`backend_busy`). 0 is no limit. Probes, and questions of the \
                    gateway's own, come on top.",
        },
        Key {
            name: "chunked",
            kind: word::<ChunkedMode>(),
            preset: Preset::Is(Value::Word("refuse")),
            about: "What happens to a packet with `Transfer-Encoding: chunked`.",
        },
        Key {
            name: "fragment",
            kind: SIZE_OR_OFF,
            preset: OFF,
            about: "The largest Fragment. A larger one is answered 413, and the client goes \
                    on with smaller ones.",
        },
        Key {
            name: "upload",
            kind: SIZE_OR_OFF,
            preset: OFF,
            about: "The largest file. The first Fragment of a larger one is answered 500 with \
                    0x80200020, which ends the job; no byte of it reaches a backend. A limit that is \
                    lowered ends no upload of which bytes were acknowledged.",
        },
        Key {
            name: "bandwidth",
            kind: RATE_OR_OFF,
            preset: OFF,
            about: "Bytes a second in request bodies, over all clients; uploads under way share \
                    them evenly, by bytes.",
        },
        Key {
            name: "bandwidth_per_client",
            kind: RATE_OR_OFF,
            preset: OFF,
            about: "The same for one client address, or one IPv6 network of 64 bits.",
        },
        Key {
            name: "drain",
            kind: Kind::Size { min: 0, max: i64::MAX as u64 },
            preset: Preset::Is(Value::Size(defaults::DRAIN_BYTES)),
            about: "How much of the body of a refused request is read, so that the client \
                    gets to see the answer, before the connection is closed.",
        },
        Key {
            name: "body_memory",
            kind: Kind::Size { min: 1024 * 1024, max: 1024 * 1024 * 1024 * 1024 },
            preset: Preset::Is(Value::Size(defaults::BODY_MEMORY)),
            about: "Memory that the bodies of all requests may take while their backends do not \
                    read them. When it runs short, bodies are read in smaller pieces, 2 KiB at \
                    least; no request is refused for it.",
        },
    ],
    later: &[],
};

pub(super) fn build(table: &Table) -> Result<Limits, Broken> {
    Ok(Limits {
        head: HeadLimits {
            head_bytes: table.get("head")?,
            line_bytes: table.get("line")?,
            fields: table.get("fields")?,
        },
        connections: table.get("connections")?,
        connections_per_address: per_client(
            table,
            "connections_per_address",
            defaults::CONNECTIONS_PER_ADDRESS,
        )?,
        bound_connections: table.get("bound_connections")?,
        backend_connections: table.get("backend_connections")?,
        chunked: table.get("chunked")?,
        fragment: unless_off(table, "fragment")?,
        upload: unless_off(table, "upload")?,
        bandwidth: unless_off(table, "bandwidth")?,
        bandwidth_per_client: unless_off(table, "bandwidth_per_client")?,
        drain_bytes: table.get("drain")?,
        body_memory: table.get("body_memory")?,
    })
}
