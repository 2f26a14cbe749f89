//! The section `[listeners.NAME]`.

use std::net::SocketAddr;

use gateway_core::protocol::access::Access;

use super::draft::{Broken, SectionValues};
use super::keys::{Applies, DefaultValue, Key, Section, Shape};
use super::kind::Kind;
use super::tls::ProxyProtocol;
use super::{access, tls};
use crate::tls::settings::ListenerTlsSettings;

pub const SECTION: Section = Section {
    name: "listeners",
    shape: Shape::Named,
    about: "Where clients connect. At least one; the name appears in logs and metrics.",
    keys: &[
        Key {
            name: "address",
            kind: Kind::Socket,
            default: DefaultValue::Required { sample: "\"[::]:8080\"" },
            applies: Applies::Restart,
            about: "The IP address and port to listen on. \
                    `[::]` is every address, IPv4 included; port 0 is any free port.",
        },
        tls::LISTENER_CERTIFICATE,
        tls::LISTENER_KEY,
        tls::LISTENER_CERTIFICATES,
        tls::CLIENT_AUTH,
        tls::CLIENT_CA,
        tls::TRUSTED,
        tls::REQUIRED,
        access::ALLOW,
        access::DENY,
        access::ANSWER,
    ],
    later: &[],
};

#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub name: String,
    /// Port 0 means any free port.
    pub address: SocketAddr,
    pub tls: Option<ListenerTlsSettings>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub access: Access,
}

pub(super) fn build(table: &SectionValues) -> Result<Listener, Broken> {
    Ok(Listener {
        name: table.name.clone(),
        address: table.get("address")?,
        tls: tls::build_listener(table)?,
        proxy_protocol: tls::build_proxy_protocol(table)?,
        access: access::build(table)?,
    })
}
