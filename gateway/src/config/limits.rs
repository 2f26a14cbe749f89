//! The section `[limits]`: how much of anything there may be.

use gateway_core::protocol::ChunkedMode;
use gateway_core::protocol::head::HeadLimits;
use gateway_core::session::limits::{PerClient, Sizes};

use super::draft::{Broken, SectionValues};
use super::keys::{DefaultValue, word};
use super::kind::Kind;
use super::names::{Choice, named};
use super::section::section;

section! {
    pub struct Limits in "limits";
    about: "How much of anything a client may send. What is over a limit that will pass is \
            answered 503 with `Retry-After`, and the client comes back.";
    later: &[];

    head {
        kind: Kind::Size { min: 1024, max: 512 * 1024 },
        // Each more than IIS takes by default, so that a backend refuses before we do: 16 KiB of
        // head (http.sys `MaxRequestBytes`), 4 KiB of path and 2 KiB of query. A Kerberos ticket of
        // Windows has up to 48,000 bytes (`MaxTokenSize`), 64,000 in base64, and servers that take
        // such are configured for it. A BITS client sends a dozen fields; a proxy in front of us
        // adds a few.
        default: DefaultValue::size(80 * 1024),
        applies: Reload,
        about: "Request line and fields together.",
    }

    line {
        kind: Kind::Size { min: 256, max: 256 * 1024 },
        default: DefaultValue::size(8 * 1024),
        applies: Reload,
        about: "The request line. At most `head`.",
    }

    fields {
        // Pingora itself takes no more than 256.
        kind: Kind::Integer { min: 16, max: 256 },
        default: DefaultValue::integer(100),
        applies: Reload,
        about: "Number of header fields.",
    }

    connections: usize {
        kind: Kind::Integer { min: 1, max: 1_000_000 },
        // Twice the 10,000 idle clients that a gateway is sized for.
        default: DefaultValue::integer(20_000),
        applies: Restart,
        about: "Client connections at once, over all listeners. It is lowered to what the limit of \
                open files allows, with a warning: that has to be two and a quarter times \
                `connections`, `bound_connections`, and some hundred more.",
    }

    connections_per_address: PerClient = per_address {
        kind: Kind::Integer { min: 0, max: 1_000_000 },
        default: DefaultValue::Unset {
            meaning: "half of `connections`, and only while more than three quarters of \
                      those are taken",
            sample: "100",
        },
        applies: Reload,
        about: "Client connections at once from one IP address, or from one IPv6 network of 64 \
                bits; more are answered 503 with `Retry-After`. A number that is set counts \
                always. 0 is no limit: behind a NAT a whole office has one address. Connections \
                from `http.trusted_proxies` are not counted.",
    }

    bound_connections: usize {
        kind: Kind::Integer { min: 0, max: 1_000_000 },
        // As many clients as a gateway is sized for, should they all log in by NTLM.
        default: DefaultValue::integer(10_000),
        applies: Restart,
        about: "Connections to backends at once that belong to one client connection each: those \
                logged in by NTLM or Negotiate, and those of backends with `connections = \
                \"per-client\"`. They need two open files each.",
    }

    /// To each backend, over all threads; 0 is no limit.
    backend_connections: usize {
        kind: Kind::Integer { min: 0, max: 1_000_000 },
        // Servers differ, and the limit on open files bounds the whole.
        default: DefaultValue::integer(0),
        applies: Reload,
        about: "Connections to each backend at once, over all threads, those of logins included. A \
                request that finds none free waits for one: for `failover.hold` if only this \
                backend may have it, else for three seconds, after which it tries another one. \
                Then it is answered 503 (`backend_busy`). 0 is no limit. Probes, and questions of \
                the gateway's own, come on top.",
    }

    chunked: ChunkedMode {
        kind: word::<ChunkedMode>(),
        default: DefaultValue::word("refuse"),
        applies: Reload,
        about: "What happens to a packet with `Transfer-Encoding: chunked`.",
    }

    /// Bytes; a larger Fragment is answered 413. `None` is no limit.
    fragment: Option<u64> = SectionValues::unless_off {
        kind: SIZE_OR_OFF,
        default: OFF,
        applies: Reload,
        about: "The largest Fragment. A larger one is answered 413, and the client goes on with \
                smaller ones.",
    }

    /// Bytes of a whole file.
    upload: Option<u64> = SectionValues::unless_off {
        kind: SIZE_OR_OFF,
        default: OFF,
        applies: Reload,
        about: "The largest file. The first Fragment of a larger one is answered 500 with \
                0x80200020, which ends the job; no byte of it reaches a backend. A limit that is \
                lowered ends no upload of which bytes were acknowledged.",
    }

    /// Bytes a second.
    bandwidth: Option<u64> = SectionValues::unless_off {
        kind: RATE_OR_OFF,
        default: OFF,
        applies: Reload,
        about: "Bytes a second in request bodies, over all clients; uploads under way share them \
                evenly, by bytes.",
    }

    /// Bytes a second.
    bandwidth_per_client: Option<u64> = SectionValues::unless_off {
        kind: RATE_OR_OFF,
        default: OFF,
        applies: Reload,
        about: "The same for one client address, or one IPv6 network of 64 bits.",
    }

    /// How much of a refused body is read before the connection is closed.
    drain_bytes as "drain": u64 {
        kind: Kind::Size { min: 0, max: i64::MAX as u64 },
        // A client in the middle of a refused Fragment reads the answer only once it has sent the
        // rest. About five times 13 MiB, the largest Fragment that Windows sends.
        default: DefaultValue::size(64 * 1024 * 1024),
        applies: Reload,
        about: "How much of the body of a refused request is read, so that the client gets to see \
                the answer, before the connection is closed.",
    }

    /// Bytes, over all connections.
    body_memory: u64 {
        kind: Kind::Size { min: 1024 * 1024, max: 1024 * 1024 * 1024 * 1024 },
        default: DefaultValue::size(64 * 1024 * 1024),
        applies: Reload,
        about: "Memory that the bodies of all requests may take while their backends do not read \
                them. When it runs short, bodies are read in smaller pieces, 2 KiB at least; no \
                request is refused for it.",
    }

    ;
    head: HeadLimits = head;
}

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

const OFF: DefaultValue = DefaultValue::word("off");

fn head(table: &SectionValues) -> Result<HeadLimits, Broken> {
    Ok(HeadLimits {
        head_bytes: table.get("head")?,
        line_bytes: table.get("line")?,
        fields: table.get("fields")?,
    })
}

/// An office behind one address is not meant; one client that takes them all is.
fn per_address(table: &SectionValues, key: &str) -> Result<PerClient, Broken> {
    table.per_client(key, PerClient::OneIn(2))
}

named!(ChunkedMode {
    Refuse = "refuse": "411, as the protocol requires a Content-Length",
    Forward = "forward": "Fragments are passed to the backend in chunks, which it has to read; other \
                          packets are answered 411",
    Length = "length": "Fragments go on with the length of their `Content-Range`, as IIS needs it; a \
                        body of another length is answered 400. Other packets may come in empty chunks",
});
