//! The section `[sessions]`: the uploads that the gateway remembers.

use std::time::Duration;

use gateway_core::routing::UnknownSession;
use gateway_core::session::limits::PerClient;
use gateway_core::session::lost_close::LostClose;
use gateway_core::session::opening::IdPolicy;

use super::draft::{Broken, SectionValues};
use super::keys::{DefaultValue, SECOND, TIMEOUT, word};
use super::kind::Kind;
use super::names::named;
use super::section::section;

section! {
    pub struct Sessions in "sessions";
    about: "The uploads that the gateway remembers.";
    later: &[];

    id: IdPolicy {
        kind: word::<IdPolicy>(),
        default: DefaultValue::word("backend"),
        applies: Reload,
        about: "Whose session id the client sees.",
    }

    idle_timeout: Duration {
        kind: Kind::Duration {
            min: SECOND,
            max: Duration::from_secs(365 * 24 * 60 * 60),
            whole_seconds: false,
        },
        // As long as IIS keeps a session without progress, and as long as a Windows job goes on
        // trying.
        default: DefaultValue::days(14),
        applies: Reload,
        about: "A session without progress for that long is forgotten. Keep it at least as long as \
                the session timeout of the backends.",
    }

    /// How long an ended session is remembered.
    tombstone: Duration {
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: Duration::from_secs(365 * 24 * 60 * 60),
            whole_seconds: false,
        },
        // A client whose last Ack got lost comes again after 10 minutes, a laptop the next morning.
        default: DefaultValue::hours(24),
        applies: Reload,
        about: "An upload that has ended is remembered for that long: a client whose last Ack got \
                lost gets it again, in place of starting over.",
    }

    limit: u64 {
        kind: Kind::Integer { min: 1, max: 100_000_000 },
        // Sessions in the table; at some 200 bytes each, a full table takes 200 MB.
        default: DefaultValue::integer(1_000_000),
        applies: Reload,
        about: "Sessions at most, those that a server has yet to cancel included. In a full table \
                a new one takes the place of one that is an hour old and has no byte; else it is \
                answered 503, and the client tries again later. A session takes about 200 bytes.",
    }

    limit_per_client: PerClient = per_client {
        kind: Kind::Integer { min: 0, max: 100_000_000 },
        default: DefaultValue::Unset {
            meaning: "a quarter of `limit`, and only while more than three quarters of \
                      the session table are taken",
            sample: "1000",
        },
        applies: Reload,
        about: "Sessions at once of one client address, or of one IPv6 network of 64 bits. Further \
                Create-Sessions are answered 503 with `Retry-After`. A number that is set counts \
                always; 0 is no limit. What `http.trusted_proxies` open for themselves is not \
                counted. Counted from the start of the process.",
    }

    bind: Bind {
        kind: word::<Bind>(),
        default: DefaultValue::word("none"),
        applies: Reload,
        about: "What a client needs, beside the id, to go on with an upload. To anybody else the \
                session does not exist. Sessions that are open when this is set stay unbound. \
                Every listener must have `client_auth = \"required\"` then.",
    }

    unknown: UnknownSession {
        kind: word::<UnknownSession>(),
        default: DefaultValue::word("ask"),
        applies: Reload,
        about: "What becomes of an upload whose session is not in the gateway's table.",
    }

    /// Questions a second to each backend, at least 1.
    ask_rate: u32 {
        kind: Kind::Integer { min: 1, max: 10_000 },
        // A question costs a server less than a Fragment does. After the loss of a table, a
        // thousand uploads are back within seconds; and whoever makes ids up keeps a server busy
        // for a few percent of its time.
        default: DefaultValue::integer(100),
        applies: Restart,
        about: "How many times a second each backend is asked at most for `unknown = \"ask\"`, and \
                as many at once; a tenth of it for one client address, or one IPv6 network of 64 \
                bits. Packets beyond it wait for `failover.hold`, and are then answered 503.",
    }

    /// How long a backend that is up may answer unclearly before it counts as one that has nothing.
    ask_patience: Duration {
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: Duration::from_secs(365 * 24 * 60 * 60),
            whole_seconds: false,
        },
        // Longer than a server takes that starts, or that somebody looks after who was alarmed.
        default: DefaultValue::hours(1),
        applies: Reload,
        about: "A server that is up and gives unclear answers for that long when it is asked for a \
                session counts as one that does not have it. Until then the client is answered \
                503. One that is away counts by `[failover]`.",
    }

    /// Other gateways with tables of their own serve the same backends.
    shared_farm: bool {
        kind: Kind::Bool,
        default: DefaultValue::bool(false),
        applies: Reload,
        about: "Whether other gateways, with tables of their own, serve the same backends. A \
                session that another one opened then goes on here before it has a byte; and as \
                this gateway is not told of ends elsewhere, a full table drops the pin that was \
                silent the longest, in place of refusing a new session. See docs/pair.md.",
    }

    lost_close: LostClose {
        kind: word::<LostClose>(),
        default: DefaultValue::word("verify"),
        applies: Reload,
        about: "What becomes of a Close-Session whose server does not know the session, although \
                all of its file had arrived: either the server closed it and the answer was lost, \
                or it lost the file.",
    }

    /// How long it may be unclear whether a file was delivered.
    lost_close_after: Duration {
        kind: TIMEOUT,
        // As long as an update of a server takes that answers for no file meanwhile; six tries of a
        // Windows client.
        default: DefaultValue::hours(1),
        applies: Reload,
        about: "With `lost_close = \"verify\"`, a client whose server does not tell whether it has \
                the file starts over after that time; `operations.md` says which servers do not.",
    }
}

/// Four clients that want everything have to come together before a fifth is refused.
fn per_client(table: &SectionValues, key: &str) -> Result<PerClient, Broken> {
    table.per_client(key, PerClient::OneIn(4))
}

/// To what of its client a session is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    None,
    Certificate,
}

named!(IdPolicy {
    Backend = "backend": "the backend's own id; a fresh one only where that is taken or unusable",
    Minted = "minted": "always a fresh id of the gateway, translated both ways",
});

named!(Bind {
    None = "none": "nothing: any client that knows its id and its URL may continue it",
    Certificate = "certificate": "the certificate of the client that opened it, or a renewed one: same issuer and same subject",
});

named!(UnknownSession {
    Ask = "ask": "the backends are asked, and the one that has the session goes on with it; if none has, as \"restart\", and while that is not clear, as \"wait\"",
    Restart = "restart": "session not found: the client starts the upload again at once",
    Wait = "wait": "503: the client comes back later, in case the session store is restored",
});

named!(LostClose {
    Verify = "verify": "its server is asked for the file: 200 if it is there, is as large as the client said and is not older than the session; starting over if it is not there or is another one; 503 while that is not clear",
    Ack = "ack": "200: what had arrived counts as delivered; for servers whose application takes files away",
    Restart = "restart": "session not found: the client starts the upload again",
});
