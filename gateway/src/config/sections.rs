//! Every section and every key of the file: its type, bounds, default and meaning.
//!
//! A key that is not here does not exist. To add one: a line here, its default in
//! [`super::defaults`], its field in [`super::Config`], and its reading in `settle.rs`.

use std::time::Duration;

use gateway_core::routing::{Placement, UnknownSession};
use gateway_core::session::lost_close::LostClose;
use gateway_core::session::opening::IdPolicy;

use super::defaults;
use super::health;
use super::keys::{Key, Preset, Section, Shape};
use super::kind::{Kind, Value};
use super::listeners;
use super::names::{Choice, Named};
use super::process;
use super::store;
use super::tls;
use super::{AccessFilter, BackendConnections, Bind, HashKey, Level, LogFormat, SocketMode, Then};

/// Sections of later versions.
pub const LATER: &[&str] = &[];

const NO_LISTENER: &[Choice] = &[Choice { name: "off", about: "no such listener" }];

const ACCESS: &[Choice] = &[
    Choice { name: "stdout", about: "standard output" },
    Choice { name: "off", about: "nowhere" },
];

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A day is longer than any wait that makes sense, and short enough that no timer overflows.
pub(super) const TIMEOUT: Kind =
    Kind::Duration { min: MILLISECOND, max: DAY, whole_seconds: false };
pub(super) const PERIOD: Kind =
    Kind::Duration { min: Duration::ZERO, max: DAY, whole_seconds: false };

pub(super) const fn word<T: Named>() -> Kind {
    Kind::Word { choices: T::CHOICES, later: &[] }
}

pub(super) const fn span(value: Duration) -> Preset {
    Preset::Is(Value::Duration(value))
}

/// In the order in which they are documented.
pub const SECTIONS: &[Section] = &[
    listeners::SECTION,
    super::affinity::SECTION,
    Section {
        name: "sessions",
        shape: Shape::Once,
        about: "The uploads that the gateway remembers.",
        keys: &[
            Key {
                name: "id",
                kind: word::<IdPolicy>(),
                preset: Preset::Is(Value::Word("backend")),
                about: "Whose session id the client sees.",
            },
            Key {
                name: "idle_timeout",
                kind: Kind::Duration {
                    min: SECOND,
                    max: Duration::from_secs(365 * 24 * 60 * 60),
                    whole_seconds: false,
                },
                preset: span(defaults::SESSION_IDLE_TIMEOUT),
                about: "A session without progress for that long is forgotten. \
                        Keep it at least as long as the session timeout of the backends.",
            },
            Key {
                name: "tombstone",
                kind: Kind::Duration {
                    min: Duration::ZERO,
                    max: Duration::from_secs(365 * 24 * 60 * 60),
                    whole_seconds: false,
                },
                preset: span(defaults::TOMBSTONE),
                about: "An upload that has ended is remembered for that long: a client whose last \
                        Ack got lost hears again that all is well, in place of starting over.",
            },
            Key {
                name: "limit",
                kind: Kind::Integer { min: 1, max: 100_000_000 },
                preset: Preset::Is(Value::Integer(defaults::SESSION_LIMIT)),
                about: "Sessions at most, those that a server has yet to cancel included. In a \
                        full table a new one takes the place of one that is an hour old and has no \
                        byte; else it is answered 503, and the client tries again later. A session \
                        takes about 200 bytes.",
            },
            Key {
                name: "limit_per_client",
                kind: Kind::Integer { min: 0, max: 100_000_000 },
                preset: Preset::Unset {
                    meaning: "a quarter of `limit`, and only while more than three quarters of \
                              the table are taken",
                    sample: "1000",
                },
                about: "Sessions at once of one client address, or of one IPv6 network of 64 \
                        bits. Further Create-Sessions are answered 503 with `Retry-After`. A \
                        number that is set counts always; 0 is no limit. What \
                        `http.trusted_proxies` open for themselves is not counted. Counted from \
                        the start of the process.",
            },
            Key {
                name: "bind",
                kind: word::<Bind>(),
                preset: Preset::Is(Value::Word("none")),
                about: "What a client needs, beside the id, to go on with an upload. To anybody \
                        else the session does not exist. Sessions that are open when this is set \
                        stay unbound. Every listener must have `client_auth = \"required\"` then.",
            },
            Key {
                name: "unknown",
                kind: word::<UnknownSession>(),
                preset: Preset::Is(Value::Word("ask")),
                about: "What becomes of an upload whose session is not in the gateway's table.",
            },
            Key {
                name: "ask_rate",
                kind: Kind::Integer { min: 1, max: 10_000 },
                preset: Preset::Is(Value::Integer(defaults::ASK_RATE)),
                about: "How many times a second each backend is asked at most for `unknown = \
                        \"ask\"`, and as many at once; a tenth of it for one client address, or one \
                        IPv6 network of 64 bits. Packets beyond it wait for `failover.hold`, \
                        and are then answered 503.",
            },
            Key {
                name: "ask_patience",
                kind: Kind::Duration {
                    min: Duration::ZERO,
                    max: Duration::from_secs(365 * 24 * 60 * 60),
                    whole_seconds: false,
                },
                preset: span(defaults::ASK_PATIENCE),
                about: "A server that is up and gives unclear answers for that long when it is \
                        asked for a session counts as one that does not have it. Until then the \
                        client is answered 503. One that is away counts by `[failover]`.",
            },
            Key {
                name: "shared_farm",
                kind: Kind::Bool,
                preset: Preset::Is(Value::Bool(false)),
                about: "Whether other gateways, with tables of their own, serve the same backends. \
                        A session that another one opened then goes on here before it has a byte; \
                        and as this gateway is not told of ends elsewhere, a full table drops the \
                        pin that was silent the longest, in place of refusing a new session. \
                        See docs/pair.md.",
            },
            Key {
                name: "lost_close",
                kind: word::<LostClose>(),
                preset: Preset::Is(Value::Word("verify")),
                about: "What becomes of a Close-Session whose server does not know the session, \
                        although all of its file had arrived: either the server closed it and \
                        the answer was lost, or it lost the file.",
            },
            Key {
                name: "lost_close_after",
                kind: TIMEOUT,
                preset: span(defaults::LOST_CLOSE_AFTER),
                about: "With `lost_close = \"verify\"`, a client whose server does not tell whether \
                        it has the file starts over after that time; `operations.md` says which \
                        servers do not.",
            },
        ],
        later: &[],
    },
    store::SECTION,
    Section {
        name: "placement",
        shape: Shape::Once,
        about: "Which backend gets a new upload.",
        keys: &[
            Key {
                name: "policy",
                kind: word::<Placement>(),
                preset: Preset::Is(Value::Word("least-sessions")),
                about: "How a backend is chosen.",
            },
            Key {
                name: "hash_key",
                kind: word::<HashKey>(),
                preset: Preset::Is(Value::Word("target")),
                about: "What `policy = \"hash\"` looks at.",
            },
        ],
        later: &[],
    },
    Section {
        name: "failover",
        shape: Shape::Once,
        about: "What happens to an upload while the server that has its file is away.",
        keys: &[
            Key {
                name: "hold",
                kind: Kind::Duration {
                    min: Duration::ZERO,
                    max: Duration::from_secs(100),
                    whole_seconds: false,
                },
                preset: span(defaults::HOLD),
                about: "A packet waits that long in the gateway for its server to come back, with \
                        its body unread; then it is answered 503, and the client keeps its place.",
            },
            Key {
                name: "restart_after",
                kind: Kind::Duration {
                    min: Duration::ZERO,
                    max: Duration::from_secs(365 * 24 * 60 * 60),
                    whole_seconds: false,
                },
                preset: span(defaults::RESTART_AFTER),
                about: "With `then = \"restart\"`: a server that has been away for that long is \
                        given up, and its uploads start over on another one. `bits-gateway \
                        backends lost NAME` gives one up at once that is gone for good.",
            },
            Key {
                name: "reassign_after",
                kind: Kind::Duration {
                    min: Duration::ZERO,
                    max: Duration::from_secs(365 * 24 * 60 * 60),
                    whole_seconds: false,
                },
                preset: span(defaults::REASSIGN_AFTER),
                about: "With `then = \"reassign\"`: from when a server went away until its uploads \
                        go on at another one.",
            },
            Key {
                name: "then",
                kind: word::<Then>(),
                preset: Preset::Is(Value::Word("restart")),
                about: "What becomes of the uploads of a server that was given up.",
            },
        ],
        later: &["replay"],
    },
    Section {
        name: "backends",
        shape: Shape::Listed,
        about: "The upload servers. At least one.",
        keys: &[
            Key {
                name: "name",
                kind: Kind::Name,
                preset: Preset::Required { sample: "\"up01\"" },
                about: "A short name, for logs, metrics and `host_id_domain`. \
                        Keep it when the server moves: sessions belong to the name.",
            },
            Key {
                name: "address",
                kind: Kind::HostPort,
                preset: Preset::Required { sample: "\"10.0.0.11:80\"" },
                about: "Host name or IP address, and port. An IPv6 address stands in brackets.",
            },
            Key {
                name: "weight",
                kind: Kind::Integer { min: 1, max: 1000 },
                preset: Preset::Is(Value::Integer(defaults::WEIGHT)),
                about: "Its share of new uploads, relative to the other backends.",
            },
            Key {
                name: "host_id",
                kind: Kind::Host,
                preset: Preset::Depends {
                    on: "`<name>.<host_id_domain>` when that is set, else none",
                    sample: "\"up01.uploads.example.com\"",
                },
                about: "The name that stands for this backend in `BITS-Host-Id`. \
                        It leads to the gateways, not to the backend.",
            },
            Key {
                name: "public_name",
                kind: Kind::Host,
                preset: Preset::Unset {
                    meaning: "needed for `host_id = \"direct\"`",
                    sample: "\"up01.example.com\"",
                },
                about: "The name under which clients reach this backend without the gateway.",
            },
            Key {
                name: "connections",
                kind: word::<BackendConnections>(),
                preset: Preset::Is(Value::Word("shared")),
                about: "Whose connections to this backend are.",
            },
            health::KIND,
            health::PATH,
            health::HOST,
            health::INTERVAL_OWN,
            health::TIMEOUT_OWN,
            health::RISE,
            health::FALL,
            tls::BACKEND_VERIFY,
            tls::BACKEND_NAME,
            tls::BACKEND_CA,
            tls::BACKEND_CERTIFICATE,
            tls::BACKEND_KEY,
        ],
        later: &["max_connections"],
    },
    health::SECTION,
    super::http::HTTP,
    super::limits::LIMITS,
    super::waits::TIMEOUTS,
    Section {
        name: "ops",
        shape: Shape::Once,
        about: "The listener for operators: `/metrics`, `/livez`, `/readyz`, `/health`, `/version`. \
                It is read-only and asks for no password.",
        keys: &[
            Key {
                name: "address",
                kind: Kind::WordOr(NO_LISTENER, &Kind::Socket),
                preset: Preset::Is(Value::Socket(defaults::OPS_ADDRESS)),
                about: "The IP address and port to listen on.",
            },
            Key {
                name: "public",
                kind: Kind::Bool,
                preset: Preset::Is(Value::Bool(false)),
                about: "Whether the listeners for clients answer GET and HEAD of `/livez` and \
                        `/readyz` too, for balancers that can only ask where they send requests. \
                        No backend gets these requests then. See docs/behind-a-balancer.md.",
            },
        ],
        later: &["tls"],
    },
    Section {
        name: "admin",
        shape: Shape::Once,
        about: "The listener for changes: `bits-gateway status`, `sessions`, `backends` and \
                `reload` speak to it, over the socket or the address. Without either there is \
                none.",
        keys: &[
            Key {
                name: "socket",
                kind: Kind::Path,
                preset: Preset::Unset {
                    meaning: "no such listener",
                    sample: "\"/run/bits-gateway/admin.sock\"",
                },
                about: "A Unix socket, at most 100 bytes of path. Who may write to the file may \
                        change everything; no token is asked for.",
            },
            Key {
                name: "socket_mode",
                kind: word::<SocketMode>(),
                preset: Preset::Is(Value::Word("0600")),
                about: "The permissions of the socket.",
            },
            Key {
                name: "address",
                kind: Kind::WordOr(NO_LISTENER, &Kind::Socket),
                preset: Preset::Is(Value::Word("off")),
                about: "An address and a port, such as `127.0.0.1:9081`, for the page in a browser \
                        and for commands. Needs `token_file`, and `tls.certificate` where it is \
                        no loopback address.",
            },
            tls::ADMIN_CERTIFICATE,
            tls::LISTENER_KEY,
            Key {
                name: "hosts",
                kind: Kind::Hosts,
                preset: Preset::Is(Value::Texts(Vec::new())),
                about: "Names by which browsers and commands reach this listener, beyond loopback \
                        names and its own address. Requests for other names are refused.",
            },
            Key {
                name: "token_file",
                kind: Kind::Path,
                preset: Preset::Unset {
                    meaning: "needed for `address`",
                    sample: "\"/etc/bits-gateway/admin-token\"",
                },
                about: "A file with the token that requests to `address` must bring: 32 to 4096 \
                        visible characters, on one line. Others must not be able to read it.",
            },
            Key {
                name: "viewer_token_file",
                kind: Kind::Path,
                preset: Preset::Unset {
                    meaning: "everybody who gets in may change everything",
                    sample: "\"/etc/bits-gateway/viewer-token\"",
                },
                about: "The same for whoever may look at everything and change nothing.",
            },
        ],
        later: &[],
    },
    Section {
        name: "log",
        shape: Shape::Once,
        about: "The log goes to standard error; the access log has a line per request and one \
                per ended upload.",
        keys: &[
            Key {
                name: "level",
                kind: word::<Level>(),
                preset: Preset::Is(Value::Word("info")),
                about: "The least that is logged.",
            },
            Key {
                name: "format",
                kind: word::<LogFormat>(),
                preset: Preset::Is(Value::Word("json")),
                about: "The form of the log; the access log is always JSON. Where this is not given and \
                        the log goes to a terminal, it is text.",
            },
            Key {
                name: "access",
                kind: Kind::WordOr(ACCESS, &Kind::Path),
                preset: Preset::Is(Value::Word("stdout")),
                about: "Where the access log goes. A path has a slash in it.",
            },
            Key {
                name: "access_filter",
                kind: word::<AccessFilter>(),
                preset: Preset::Is(Value::Word("all")),
                about: "Which requests have a line in the access log. A terabyte in Fragments of \
                        4 MiB is 250,000 of them.",
            },
        ],
        later: &[],
    },
    process::SECTION,
];
