//! The section `[[backends]]`: the upload servers.

use super::address::BackendAddress;
use super::draft::{Broken, SectionValues};
use super::health::{self, ProbeConfig};
use super::keys::{Applies, DefaultValue, Key, Section, Shape, word};
use super::kind::Kind;
use super::names::named;
use super::tls;
use crate::tls::settings::BackendTlsSettings;

pub const SECTION: Section = Section {
    name: "backends",
    shape: Shape::Listed,
    about: "The upload servers. At least one.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Name,
            default: DefaultValue::Required { sample: "\"up01\"" },
            applies: Applies::Reload,
            about: "A short name, for logs, metrics and `host_id_domain`. \
                    Keep it when the server moves: sessions belong to the name.",
        },
        Key {
            name: "address",
            kind: Kind::HostPort,
            default: DefaultValue::Required { sample: "\"10.0.0.11:80\"" },
            applies: Applies::Reload,
            about: "Host name or IP address, and port. An IPv6 address stands in brackets.",
        },
        Key {
            name: "weight",
            kind: Kind::Integer { min: 1, max: 1000 },
            // All backends alike.
            default: DefaultValue::integer(1),
            applies: Applies::Reload,
            about: "Its share of new uploads, relative to the other backends.",
        },
        Key {
            name: "host_id",
            kind: Kind::Host,
            default: DefaultValue::Depends {
                on: "`<name>.<host_id_domain>` when that is set, else none",
                sample: "\"up01.uploads.example.com\"",
            },
            applies: Applies::Reload,
            about: "The name that stands for this backend in `BITS-Host-Id`. \
                    It leads to the gateways, not to the backend.",
        },
        Key {
            name: "public_name",
            kind: Kind::Host,
            default: DefaultValue::Unset {
                meaning: "needed for `host_id = \"direct\"`",
                sample: "\"up01.example.com\"",
            },
            applies: Applies::Reload,
            about: "The name under which clients reach this backend without the gateway.",
        },
        Key {
            name: "connections",
            kind: word::<BackendConnections>(),
            default: DefaultValue::word("shared"),
            applies: Applies::Reload,
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
};

#[derive(Debug, Clone, PartialEq)]
pub struct BackendConfig {
    pub name: String,
    pub address: BackendAddress,
    /// 1 to 1000.
    pub weight: u32,
    /// The name that stands for this backend, as written: what `BITS-Host-Id` announces in mode
    /// [`HostIdMode::Backend`](super::affinity::HostIdMode::Backend), where every backend has one.
    pub alias: Option<String>,
    /// The backend's own name, as written; every backend has one in mode
    /// [`HostIdMode::Direct`](super::affinity::HostIdMode::Direct).
    pub public_name: Option<String>,
    pub tls: Option<BackendTlsSettings>,
    pub connections: BackendConnections,
    pub health: ProbeConfig,
}

/// Whose the connections to a backend are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendConnections {
    Shared,
    PerClient,
}

pub(super) fn build(table: &SectionValues) -> Result<BackendConfig, Broken> {
    Ok(BackendConfig {
        name: table.get("name")?,
        address: table.get("address")?,
        weight: table.get("weight")?,
        alias: table.find("host_id")?,
        public_name: table.find("public_name")?,
        tls: tls::build_backend(table)?,
        connections: table.get("connections")?,
        health: health::build_own(table)?,
    })
}

named!(BackendConnections {
    Shared = "shared": "every client's, but for those that log in by NTLM or Negotiate",
    PerClient = "per-client": "one client connection's each, for servers such as SimpleBITSServer that tie a session to the connection",
});
