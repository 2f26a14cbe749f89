//! The words of the file for the values of our enums.

use gateway_core::protocol::ChunkedMode;
use gateway_core::routing::{Placement, UnknownSession};
use gateway_core::session::lost_close::LostClose;
use gateway_core::session::opening::IdPolicy;

use super::{
    AccessFilter, BackendConnections, Bind, ClientAuth, Denial, ForwardedMode, HashKey, HostIdMode,
    Level, LogFormat, ProbeKind, RawPath, ReplyUrl, RequestId, SocketMode, StoreKind, Then,
    UpstreamHost,
};
use crate::sessions::names::NamesMode;
use crate::sessions::store::{OnError, SyncMode};
use crate::tls::settings::Verify;

/// A legal word and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    pub name: &'static str,
    pub about: &'static str,
}

/// An enum whose values are words in the file.
pub trait Named: Copy + 'static {
    const CHOICES: &'static [Choice];
    /// In the order of [`Named::CHOICES`].
    const VALUES: &'static [Self];

    fn name(self) -> &'static str;

    fn from_name(name: &str) -> Option<Self> {
        Self::VALUES.iter().copied().find(|value| value.name() == name)
    }
}

macro_rules! named {
    ($type:ident { $($variant:ident = $name:literal: $about:literal,)+ }) => {
        impl Named for $type {
            const CHOICES: &'static [Choice] =
                &[$(Choice { name: $name, about: $about }),+];
            const VALUES: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

named!(HostIdMode {
    Backend = "backend": "the name that stands for the backend: `host_id`, or `<name>.<host_id_domain>`; these names resolve to the gateways",
    Gateway = "gateway": "`gateway_name`, this gateway's own name, for several gateways without wildcard DNS",
    Direct = "direct": "`public_name` of the backend, so that later packets bypass the gateway on purpose",
    None = "none": "nothing: no `BITS-Host-Id` is sent",
});

named!(IdPolicy {
    Backend = "backend": "the backend's own id; a fresh one only where that is taken or unusable",
    Minted = "minted": "always a fresh id of the gateway, translated both ways",
});

named!(Bind {
    None = "none": "nothing: whoever knows its id and its URL goes on with it",
    Certificate = "certificate": "the certificate of the client that opened it, or a renewed one: same issuer and same subject",
});

named!(UnknownSession {
    Ask = "ask": "the backends are asked, and the one that has the session goes on with it; if none has, as \"restart\", and while that is not clear, as \"wait\"",
    Restart = "restart": "session not found: the client starts the upload again at once",
    Wait = "wait": "503: the client comes back later, in case somebody restores the table",
});

named!(LostClose {
    Verify = "verify": "its server is asked for the file: 200 if it is there, is as large as the client said and is not older than the session; starting over if it is not there or is another one; 503 while that is not clear",
    Ack = "ack": "200: what had arrived counts as delivered; for servers whose application takes files away",
    Restart = "restart": "session not found: the client starts the upload again",
});

named!(Denial {
    Close = "close": "the end of its connection, before TLS where its address is known by then: BITS waits and comes again",
    Forbidden = "403": "403, which ends an upload for good",
});

named!(RequestId {
    Own = "own": "the gateway's id of the request, which is `request_id` in the access log, in place of a client's",
    Pass = "pass": "what the client or a proxy in front has said; nothing is added",
});

named!(AccessFilter {
    All = "all": "every request",
    SkipSuccessfulFragments = "skip-successful-fragments": "every request but the Fragments that a server took at the first try",
});

named!(StoreKind {
    Sqlite = "sqlite": "a database in the directory `path`, for one gateway; it can be read with `sqlite3`",
    Memory = "memory": "nowhere else: a restart forgets every session",
});

named!(NamesMode {
    Off = "off": "nothing: paths and clients are in memory, and those that an earlier setting kept are deleted at the start",
    Hashed = "hashed": "a keyed digest of each: `--path` and `--client` find an upload by the exact value, and nothing of it is shown; the key is in `names.key` beside the database, and in no copy that `store backup` makes",
    On = "on": "as they are",
});

named!(SyncMode {
    Power = "power": "on the disk before the client hears of the session: survives a power cut",
    Crash = "crash": "with the system before the client hears of it: survives the death of the gateway, and a power cut may take the last moment",
});

named!(OnError {
    Refuse = "refuse": "503: the client tries again later; sessions that are known go on",
    Accept = "accept": "it goes on, and a restart before the disk is back forgets it",
});

named!(Then {
    Restart = "restart": "session not found: the clients start over on another server",
    Reassign = "reassign": "another server goes on with them; only for servers that share one storage",
});

named!(Placement {
    LeastSessions = "least-sessions": "the backend with the fewest sessions for its weight",
    LeastBytesLeft = "least-bytes-left": "the backend whose uploads have the fewest bytes still to come for its weight",
    RoundRobin = "round-robin": "one after the other, a backend of weight 3 three times a round",
    Hash = "hash": "the same `hash_key` goes to the same backend while that is not much fuller than its share",
});

named!(HashKey {
    Target = "target": "path and query of the request",
    Client = "client": "the client's IP address",
});

named!(ProbeKind {
    Tcp = "tcp": "a connection is made",
    Http = "http": "a GET is answered 200 to 399, or 401",
    BitsPing = "bits-ping": "a Ping of the upload protocol is answered by an Ack, or 401",
    Off = "off": "there are none, and only requests show whether the backend is up",
});

named!(UpstreamHost {
    Origin = "origin": "the first name in `hosts`; without one, as \"preserve\"",
    Preserve = "preserve": "as the client sent it",
    Backend = "backend": "the backend's `address`",
});

named!(RawPath {
    Refuse = "refuse": "the request is answered 400",
    Escape = "escape": "each byte is percent-encoded, where the path is UTF-8",
});

named!(ReplyUrl {
    Pass = "pass": "it passes as the backend wrote it",
    Rewrite = "rewrite": "one at the backend itself gets the scheme and the name of the client's URL",
});

named!(BackendConnections {
    Shared = "shared": "every client's, but for those that log in by NTLM or Negotiate",
    PerClient = "per-client": "one client connection's each, for servers such as SimpleBITSServer that tie a session to the connection",
});

named!(ForwardedMode {
    XForwardedFor = "x-forwarded-for": "`X-Forwarded-For`, the address of the client",
    XForwarded = "x-forwarded": "`X-Forwarded-For`, `-Host`, `-Port` and `-Proto`",
    Forwarded = "forwarded": "`Forwarded` (RFC 7239)",
    Both = "both": "`x-forwarded` and `forwarded`",
    Off = "off": "none of these",
});

named!(ChunkedMode {
    Refuse = "refuse": "411, as the protocol requires a Content-Length",
    Forward = "forward": "Fragments are passed to the backend in chunks, which it has to read; other \
                          packets are answered 411",
    Length = "length": "Fragments go on with the length of their `Content-Range`, as IIS needs it; a \
                        body of another length is answered 400. Other packets may come in empty chunks",
});

named!(Level {
    Error = "error": "what lost or refused an upload for a reason of ours",
    Warn = "warn": "what somebody should look at",
    Info = "info": "starts, stops and changes",
    Debug = "debug": "where each request goes, and why",
    Trace = "trace": "every step, for development",
});

named!(LogFormat {
    Json = "json": "one JSON object a line",
    Text = "text": "for reading in a terminal",
});

named!(SocketMode {
    Owner = "0600": "the user that runs the gateway, and root",
    Group = "0660": "its group as well",
});

named!(ClientAuth {
    Off = "off": "they are not asked for one",
    Required = "required": "without a certificate of `tls.client_ca` the handshake fails",
});

named!(Verify {
    Name = "name": "it is valid, of a trusted authority, and for the backend's name",
    Off = "off": "nothing: anybody on the way can read and change what is sent",
});
