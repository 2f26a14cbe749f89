//! The section `[affinity]`: how packets find the server that has their file.

use std::time::Duration;

use super::HostIdMode;
use super::defaults;
use super::keys::{Key, Preset, Section, Shape};
use super::kind::Kind;
use super::sections::{SECOND, span, word};

pub const SECTION: Section = Section {
    name: "affinity",
    shape: Shape::Once,
    about: "How later packets of an upload find the server that has the file. \
            The gateway remembers every session anyway; with a host id the address of a packet \
            says it too, and that survives a lost memory.",
    keys: &[
        Key {
            name: "host_id",
            kind: word::<HostIdMode>(),
            preset: Preset::Depends {
                on: "\"backend\" when `host_id_domain` or the `host_id` of a backend is set, \
                 else \"none\"",
                sample: "\"backend\"",
            },
            about: "What the gateway announces as `BITS-Host-Id` in the answer to a \
                    Create-Session, and thereby the host to which the client sends the rest.",
        },
        Key {
            name: "host_id_domain",
            kind: Kind::Host,
            preset: Preset::Unset {
                meaning: "no names are derived",
                sample: "\"uploads.example.com\"",
            },
            about: "Gives backend `up01` the name `up01.<host_id_domain>`. \
                    A wildcard DNS record has to lead these names to the gateways.",
        },
        Key {
            name: "gateway_name",
            kind: Kind::Host,
            preset: Preset::Unset {
                meaning: "needed for `host_id = \"gateway\"`",
                sample: "\"gw1.example.com\"",
            },
            about: "This gateway's own public name.",
        },
        Key {
            name: "fallback_timeout",
            kind: Kind::Duration {
                min: SECOND,
                max: Duration::from_secs(u32::MAX as u64),
                whole_seconds: true,
            },
            preset: span(defaults::FALLBACK_TIMEOUT),
            about: "How long a client that cannot reach the announced host tries, before it \
                    goes back to the host of its URL. Sent with every host id.",
        },
    ],
    later: &[],
};
