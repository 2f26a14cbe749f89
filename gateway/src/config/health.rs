//! How backends are probed, and what else speaks for or against them: `[health]`, and the table
//! `health` of a backend that differs.

use std::time::Duration;

use gateway_core::farm::FolderRules;

use super::defaults;
use super::draft::{Broken, Draft, Table};
use super::keys::{Key, Preset, Section, Shape};
use super::kind::{Kind, Value};
use super::names::Named;
use super::sections::{MILLISECOND, PERIOD, SECOND, TIMEOUT, span, word};

/// What counts for all backends alike.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthConfig {
    /// 0 for never.
    pub passive_failures: u32,
    /// 0 for never.
    pub passive_errors: u32,
    pub retry_after: Duration,
    pub slow_start: Duration,
    pub disk_full_for: Duration,
    pub create_wait: Duration,
    pub ping_folders: bool,
    pub resolve: Duration,
}

/// How one backend is probed.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeConfig {
    pub kind: ProbeKind,
    /// Begins with a slash.
    pub path: String,
    /// The `Host` of the probe, where it is not the one that requests have.
    pub host: Option<String>,
    pub interval: Duration,
    pub timeout: Duration,
    /// At least 1.
    pub rise: u32,
    /// At least 1.
    pub fall: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    Tcp,
    Http,
    BitsPing,
    Off,
}

/// The most probes in a row that anybody could mean.
const COUNT: Kind = Kind::Integer { min: 1, max: 100 };
const COUNT_OR_NEVER: Kind = Kind::Integer { min: 0, max: 1000 };
/// Shorter intervals would be a load of their own.
const INTERVAL: Kind =
    Kind::Duration { min: Duration::from_millis(10), max: DAY, whole_seconds: false };
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub const SECTION: Section = Section {
    name: "health",
    shape: Shape::Once,
    about: "Whether backends can take requests. They are probed, and a backend that does not \
            answer gets no requests until it does. Requests have a say as well. \
            What is said here about probes counts for every backend that has no `health` of its \
            own: `health = { kind = \"http\", path = \"/alive\" }`.",
    keys: &[
        Key {
            name: "kind",
            kind: word::<ProbeKind>(),
            preset: Preset::Is(Value::Word("tcp")),
            about: "What a probe is. \"bits-ping\" sees the most: also a web server that listens \
                    while its uploads are switched off; it needs the `path` of a folder that \
                    takes uploads.",
        },
        Key {
            name: "path",
            kind: Kind::UrlPath,
            preset: Preset::Is(Value::Text(std::borrow::Cow::Borrowed("/"))),
            about: "What an HTTP or BITS probe asks for.",
        },
        Key {
            name: "host",
            kind: Kind::Host,
            preset: Preset::Unset {
                meaning: "the host that requests have: the first of `http.hosts`, or the \
                          backend's `address`",
                sample: "\"uploads.example.com\"",
            },
            about: "The `Host` of an HTTP or BITS probe.",
        },
        Key {
            name: "interval",
            kind: INTERVAL,
            preset: span(defaults::PROBE_INTERVAL),
            about: "From probe to probe, give or take a tenth. While probes contradict the state, \
                    and while requests wait for the backend, it is a fifth of that.",
        },
        Key {
            name: "timeout",
            kind: TIMEOUT,
            preset: span(defaults::PROBE_TIMEOUT),
            about: "For a whole probe, from the connection to the answer.",
        },
        Key {
            name: "rise",
            kind: COUNT,
            preset: Preset::Is(Value::Integer(defaults::PROBE_RISE)),
            about: "Probes in a row that must pass before a backend that is down counts as up.",
        },
        Key {
            name: "fall",
            kind: COUNT,
            preset: Preset::Is(Value::Integer(defaults::PROBE_FALL)),
            about: "Probes in a row that must fail before a backend that is up counts as down.",
        },
        Key {
            name: "passive_failures",
            kind: COUNT_OR_NEVER,
            preset: Preset::Is(Value::Integer(defaults::PASSIVE_FAILURES)),
            about: "Connections for requests that fail in a row before a backend counts as down, \
                    until probes pass. 0 leaves that to the probes.",
        },
        Key {
            name: "passive_errors",
            kind: COUNT_OR_NEVER,
            preset: Preset::Is(Value::Integer(defaults::PASSIVE_ERRORS)),
            about: "Packets in a row that are answered 500, 502, 503 or 504 in no words of the \
                    protocol before a backend gets no new uploads, if another can have them. \
                    It keeps the uploads it has. 0 is never.",
        },
        Key {
            name: "retry_after",
            kind: Kind::Duration { min: MILLISECOND, max: DAY, whole_seconds: false },
            preset: span(defaults::RETRY_AFTER),
            about: "How long `passive_errors` lasts, and `passive_failures` where there are no \
                    probes. Also how long a backend gets no new uploads of a folder after it has \
                    refused, or not answered, Create-Sessions there that others accepted; then it \
                    gets one at a time, until it accepts one.",
        },
        Key {
            name: "slow_start",
            kind: PERIOD,
            preset: span(Duration::ZERO),
            about: "How long a backend that comes up, or joins at a reload, gets fewer new \
                    uploads than its weight says: a tenth at first, then more and more.",
        },
        Key {
            name: "disk_full_for",
            kind: PERIOD,
            preset: span(defaults::DISK_FULL_FOR),
            about: "How long a backend that said its disk is full gets no new uploads of that \
                    folder, if another can have them. It keeps the uploads it has.",
        },
        Key {
            name: "create_wait",
            kind: Kind::Duration { min: MILLISECOND, max: DAY, whole_seconds: false },
            preset: span(defaults::CREATE_WAIT),
            about: "A Create-Session that has waited for so long, while other backends have \
                    answered later ones of its folder, speaks against its backend: after two of \
                    them, it gets one at a time. The Create-Session goes on waiting.",
        },
        Key {
            name: "ping_folders",
            kind: Kind::Bool,
            preset: Preset::Is(Value::Bool(true)),
            about: "Whether a probe of `kind` \"tcp\" or \"http\" that passes is followed by Pings, \
                    in the folders of which the backend has opened uploads: the last four, for \
                    all backends. One that fails `fall` of them in a row gets no new uploads of \
                    that folder, until `rise` have passed or it opens one; it is not down, and \
                    keeps the uploads it has.",
        },
        Key {
            name: "resolve",
            kind: Kind::Duration { min: SECOND, max: DAY, whole_seconds: false },
            preset: span(defaults::RESOLVE),
            about: "How often the names of backends are looked up. An address that has \
                    acknowledged a packet is left for another one only when probes fail there and \
                    a probe of the other passes. For this time after a move, a session that is \
                    not found keeps its place (503).",
        },
    ],
    later: &[],
};

/// The keys of a backend's own `health`; those of `[health]` where they are not given.
pub const KIND: Key = own("health.kind", word::<ProbeKind>(), "\"bits-ping\"", "What a probe is.");
pub const PATH: Key =
    own("health.path", Kind::UrlPath, "\"/\"", "What an HTTP or BITS probe asks for.");
pub const HOST: Key = own(
    "health.host",
    Kind::Host,
    "\"uploads.example.com\"",
    "The `Host` of an HTTP or BITS probe.",
);
pub const INTERVAL_OWN: Key = own("health.interval", INTERVAL, "\"5s\"", "From probe to probe.");
pub const TIMEOUT_OWN: Key = own("health.timeout", TIMEOUT, "\"2s\"", "For a whole probe.");
pub const RISE: Key = own("health.rise", COUNT, "2", "Probes in a row that must pass.");
pub const FALL: Key = own("health.fall", COUNT, "3", "Probes in a row that must fail.");

const OWN: &[Key] = &[KIND, PATH, HOST, INTERVAL_OWN, TIMEOUT_OWN, RISE, FALL];

const fn own(name: &'static str, kind: Kind, sample: &'static str, about: &'static str) -> Key {
    Key { name, kind, preset: Preset::Depends { on: "as in `[health]`", sample }, about }
}

/// Gives every backend what `[health]` says and it does not.
pub fn settle(draft: &mut Draft) -> Result<(), Broken> {
    let common = draft.once(SECTION.name).clone();
    for backend in draft.all_mut("backends") {
        for key in OWN {
            let same = key.name.trim_start_matches("health.");
            if !backend.is_given(key.name)
                && let Some(value) = common.value(same)?
            {
                backend.settle(key.name, value.clone());
            }
        }
    }
    Ok(())
}

pub fn build(table: &Table) -> Result<HealthConfig, Broken> {
    Ok(HealthConfig {
        passive_failures: table.get("passive_failures")?,
        passive_errors: table.get("passive_errors")?,
        retry_after: table.get("retry_after")?,
        slow_start: table.get("slow_start")?,
        disk_full_for: table.get("disk_full_for")?,
        create_wait: table.get("create_wait")?,
        ping_folders: table.get("ping_folders")?,
        resolve: table.get("resolve")?,
    })
}

impl HealthConfig {
    /// The numbers of the rule about new sessions of a folder.
    pub fn folder_rules(&self) -> FolderRules {
        FolderRules {
            retry_after: self.retry_after,
            full_for: self.disk_full_for,
            create_wait: self.create_wait,
        }
    }
}

pub fn build_own(backend: &Table) -> Result<ProbeConfig, Broken> {
    Ok(ProbeConfig {
        kind: backend.get(KIND.name)?,
        path: backend.get(PATH.name)?,
        host: backend.find(HOST.name)?,
        interval: backend.get(INTERVAL_OWN.name)?,
        timeout: backend.get(TIMEOUT_OWN.name)?,
        rise: backend.get(RISE.name)?,
        fall: backend.get(FALL.name)?,
    })
}

impl ProbeKind {
    /// Whether the probe is a request, and not just a connection.
    pub fn asks(self) -> bool {
        matches!(self, Self::Http | Self::BitsPing)
    }

    pub fn word(self) -> &'static str {
        self.name()
    }
}
