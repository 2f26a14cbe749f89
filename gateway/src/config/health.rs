//! How backends are probed, and what else speaks for or against them: `[health]`, and the table
//! `health` of a backend that differs.

use std::time::Duration;

use gateway_core::farm::FolderRules;

use super::draft::{Broken, Draft, SectionValues};
use super::keys::{Applies, DAY, DefaultValue, Key, MILLISECOND, PERIOD, SECOND, TIMEOUT, word};
use super::kind::Kind;
use super::names::{Named, named};
use super::section::section;

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

section! {
    /// What counts for all backends alike.
    pub struct HealthConfig in "health";
    about: "Whether backends can take requests. They are probed, and a backend that does not \
            answer gets no requests until it does. Requests have a say as well. What is said here \
            about probes counts for every backend that has no `health` of its own: `health = { \
            kind = \"http\", path = \"/alive\" }`.";
    later: &[];

    kind {
        kind: word::<ProbeKind>(),
        default: DefaultValue::word("tcp"),
        applies: Reload,
        about: "What a probe is. \"bits-ping\" sees the most: also a web server that listens while \
                its uploads are switched off; it needs the `path` of a folder that takes uploads.",
    }

    path {
        kind: Kind::UrlPath,
        default: DefaultValue::text("/"),
        applies: Reload,
        about: "What an HTTP or BITS probe asks for.",
    }

    host {
        kind: Kind::Host,
        default: DefaultValue::Unset {
            meaning: "the host that requests have: the first of `http.hosts`, or the \
                      backend's `address`",
            sample: "\"uploads.example.com\"",
        },
        applies: Reload,
        about: "The `Host` of an HTTP or BITS probe.",
    }

    interval {
        kind: INTERVAL,
        // A backend that dies without a word is found out within 15 s: three probes, the last two
        // of them sooner.
        default: DefaultValue::seconds(5),
        applies: Reload,
        about: "From probe to probe, give or take a tenth. While probes contradict the state, and \
                while requests wait for the backend, it is a fifth of that.",
    }

    timeout {
        kind: TIMEOUT,
        // A server that needs longer to say hello has no time for uploads either.
        default: DefaultValue::seconds(2),
        applies: Reload,
        about: "For a whole probe, from the connection to the answer.",
    }

    rise {
        kind: COUNT,
        // One lucky answer of a server that is still starting is not enough.
        default: DefaultValue::integer(2),
        applies: Reload,
        about: "Probes in a row that must pass before a backend that is down counts as up.",
    }

    fall {
        kind: COUNT,
        // A lost packet, and then another, is no dead server.
        default: DefaultValue::integer(3),
        applies: Reload,
        about: "Probes in a row that must fail before a backend that is up counts as down.",
    }

    /// 0 for never.
    passive_failures: u32 {
        kind: COUNT_OR_NEVER,
        // As many tries as one packet of a session makes.
        default: DefaultValue::integer(3),
        applies: Reload,
        about: "Connections for requests that fail in a row before a backend counts as down, until \
                probes pass. 0 leaves that to the probes.",
    }

    /// 0 for never.
    passive_errors: u32 {
        kind: COUNT_OR_NEVER,
        // A stopped application pool answers everything alike, so a few are enough to tell; and a
        // few clients more with an odd URL do not matter, because another backend takes the next
        // upload.
        default: DefaultValue::integer(5),
        applies: Reload,
        about: "Packets in a row that are answered 500, 502, 503 or 504 in no words of the \
                protocol before a backend gets no new uploads, if another can have them. It keeps \
                the uploads it has. 0 is never.",
    }

    retry_after: Duration {
        kind: Kind::Duration { min: MILLISECOND, max: DAY, whole_seconds: false },
        // Long enough for a service to restart.
        default: DefaultValue::seconds(30),
        applies: Reload,
        about: "How long `passive_errors` lasts, and `passive_failures` where there are no probes. \
                Also how long a backend gets no new uploads of a folder after it has refused, or \
                not answered, Create-Sessions there that others accepted; then it gets one at a \
                time, until it accepts one.",
    }

    slow_start: Duration {
        kind: PERIOD,
        default: DefaultValue::seconds(0),
        applies: Reload,
        about: "How long a backend that comes up, or joins at a reload, gets fewer new uploads \
                than its weight says: a tenth at first, then more and more.",
    }

    disk_full_for: Duration {
        kind: PERIOD,
        // Somebody has to make room, which does not happen within seconds; the next refusal renews
        // it.
        default: DefaultValue::seconds(60),
        applies: Reload,
        about: "How long a backend that said its disk is full gets no new uploads of that folder, \
                if another can have them. It keeps the uploads it has.",
    }

    create_wait: Duration {
        kind: Kind::Duration { min: MILLISECOND, max: DAY, whole_seconds: false },
        // A server opens a session within milliseconds. One that is busy for so long has enough to
        // do.
        default: DefaultValue::seconds(3),
        applies: Reload,
        about: "A Create-Session that has waited for so long, while other backends have answered \
                later ones of its folder, speaks against its backend: after two of them, it gets \
                one at a time. The Create-Session goes on waiting.",
    }

    ping_folders: bool {
        kind: Kind::Bool,
        default: DefaultValue::bool(true),
        applies: Reload,
        about: "Whether a probe of `kind` \"tcp\" or \"http\" that passes is followed by Pings, in \
                the folders of which the backend has opened uploads: the last four, for all \
                backends. One that fails `fall` of them in a row gets no new uploads of that \
                folder, until `rise` have passed or it opens one; it is not down, and keeps the \
                uploads it has.",
    }

    resolve: Duration {
        kind: Kind::Duration { min: SECOND, max: DAY, whole_seconds: false },
        // The time to live that a record has when somebody expects to move it.
        default: DefaultValue::seconds(30),
        applies: Reload,
        about: "How often the names of backends are looked up. An address that has acknowledged a \
                packet is left for another one only when probes fail there and a probe of the \
                other passes. For this time after a move, a session that is not found keeps its \
                place (503).",
    }
}

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
    let default = DefaultValue::Depends { on: "as in `[health]`", sample };
    Key { name, kind, default, applies: Applies::Reload, about }
}

/// Gives every backend what `[health]` says and it does not.
pub fn resolve_defaults(draft: &mut Draft) -> Result<(), Broken> {
    let common = draft.once(SECTION.name).clone();
    for backend in draft.all_mut("backends") {
        for key in OWN {
            let same = key.name.trim_start_matches("health.");
            if !backend.is_given(key.name)
                && let Some(value) = common.value(same)?
            {
                backend.resolve(key.name, value.clone());
            }
        }
    }
    Ok(())
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

pub fn build_own(backend: &SectionValues) -> Result<ProbeConfig, Broken> {
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

named!(ProbeKind {
    Tcp = "tcp": "a connection is made",
    Http = "http": "a GET is answered 200 to 399, or 401",
    BitsPing = "bits-ping": "a Ping of the upload protocol is answered by an Ack, or 401",
    Off = "off": "there are none, and only requests show whether the backend is up",
});
