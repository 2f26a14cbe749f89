//! The section `[affinity]`: how packets find the server that has their file.

use std::time::Duration;

use super::draft::SectionValues;
use super::keys::{DefaultValue, SECOND, word};
use super::kind::Kind;
use super::names::named;
use super::section::section;

section! {
    pub struct Affinity in "affinity";
    about: "How later packets of an upload find the server that has the file. The gateway \
            remembers every session anyway; with a host id the address of a packet says it too, \
            and that survives a lost memory.";
    later: &[];

    host_id: HostIdMode {
        kind: word::<HostIdMode>(),
        default: DefaultValue::Depends {
            on: "\"backend\" when `host_id_domain` or the `host_id` of a backend is set, \
             else \"none\"",
            sample: "\"backend\"",
        },
        applies: Reload,
        about: "What the gateway announces as `BITS-Host-Id` in the answer to a Create-Session, \
                and thereby the host to which the client sends the rest.",
    }

    host_id_domain {
        kind: Kind::Host,
        default: DefaultValue::Unset {
            meaning: "no names are derived",
            sample: "\"uploads.example.com\"",
        },
        applies: Reload,
        about: "Gives backend `up01` the name `up01.<host_id_domain>`. A wildcard DNS record has \
                to lead these names to the gateways.",
    }

    /// Always there in mode [`HostIdMode::Gateway`].
    gateway_name: Option<String> = SectionValues::find {
        kind: Kind::Host,
        default: DefaultValue::Unset {
            meaning: "needed for `host_id = \"gateway\"`",
            sample: "\"gw1.example.com\"",
        },
        applies: Reload,
        about: "This gateway's own public name.",
    }

    /// Whole seconds, 1 to `u32::MAX`: what the header can say.
    fallback_timeout: Duration {
        kind: Kind::Duration {
            min: SECOND,
            max: Duration::from_secs(u32::MAX as u64),
            whole_seconds: true,
        },
        // One and a half of the 10 minutes that a Windows client waits after an error: it meets an
        // unreachable host once or twice before it goes back to the first name. Without a timeout
        // it never would (MC-BUP 3.1.2.3).
        default: DefaultValue::minutes(15),
        applies: Reload,
        about: "How long a client that cannot reach the announced host tries, before it goes back \
                to the host of its URL. Sent with every host id.",
    }
}

/// What `BITS-Host-Id` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostIdMode {
    Backend,
    Gateway,
    Direct,
    None,
}

named!(HostIdMode {
    Backend = "backend": "the name that stands for the backend: `host_id`, or `<name>.<host_id_domain>`; these names resolve to the gateways",
    Gateway = "gateway": "`gateway_name`, this gateway's own name, for several gateways without wildcard DNS",
    Direct = "direct": "`public_name` of the backend, so that later packets bypass the gateway on purpose",
    None = "none": "nothing: no `BITS-Host-Id` is sent",
});
