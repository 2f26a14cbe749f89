//! TLS towards clients and towards backends, and the PROXY protocol: the tables `tls` and
//! `proxy_protocol` of a listener, and `tls` of a backend.

use gateway_core::protocol::network::Network;

use super::draft::{Broken, Draft, SectionValues};
use super::keys::{Applies, DefaultValue, Key, word};
use super::kind::{Kind, Value};
use super::names::{Named, named};
use crate::tls::settings::{BackendTlsSettings, CertificateFiles, ListenerTlsSettings, Verify};

/// Whether clients must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    Off,
    Required,
}

/// Who may say for whom it speaks.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyProtocol {
    /// At least one.
    pub trusted: Vec<Network>,
    /// A trusted source that says nothing is refused.
    pub required: bool,
}

pub const LISTENER_CERTIFICATE: Key = Key {
    name: "tls.certificate",
    kind: Kind::Path,
    default: DefaultValue::Unset {
        meaning: "the listener speaks plain HTTP",
        sample: "\"/etc/bits-gateway/tls/fullchain.pem\"",
    },
    applies: Applies::Restart,
    about: "The certificate and its intermediate certificates, as PEM. It is read again when \
            the file changes. With it the listener speaks TLS and nothing else.",
};
pub const ADMIN_CERTIFICATE: Key = Key {
    default: DefaultValue::Unset {
        meaning: "the listener speaks plain HTTP, on a loopback address only",
        sample: "\"/etc/bits-gateway/tls/fullchain.pem\"",
    },
    ..LISTENER_CERTIFICATE
};
pub const LISTENER_KEY: Key = Key {
    name: "tls.key",
    kind: Kind::Path,
    default: DefaultValue::Unset {
        meaning: "needed for `tls.certificate`",
        sample: "\"/etc/bits-gateway/tls/key.pem\"",
    },
    applies: Applies::Restart,
    about: "Its private key, as PEM and not encrypted. Others must not be able to read it.",
};
pub const LISTENER_CERTIFICATES: Key = Key {
    name: "tls.certificates",
    kind: Kind::Certificates,
    default: DefaultValue::Unset {
        meaning: "there is only `tls.certificate`",
        sample: "[{ certificate = \"/etc/bits-gateway/tls/other.pem\", \
                 key = \"/etc/bits-gateway/tls/other-key.pem\" }]",
    },
    applies: Applies::Restart,
    about: "More certificates. A client gets the first one that is for the name it asks for, or \
            else the first of all.",
};
pub const CLIENT_AUTH: Key = Key {
    name: "tls.client_auth",
    kind: word::<ClientAuth>(),
    default: DefaultValue::Depends {
        on: "\"required\" with `tls.client_ca`, else \"off\"",
        sample: "\"required\"",
    },
    applies: Applies::Restart,
    about: "Whether clients must show a certificate.",
};
pub const CLIENT_CA: Key = Key {
    name: "tls.client_ca",
    kind: Kind::Path,
    default: DefaultValue::Unset {
        meaning: "needed for `tls.client_auth = \"required\"`",
        sample: "\"/etc/bits-gateway/tls/clients-ca.pem\"",
    },
    applies: Applies::Restart,
    about: "The authorities whose certificates clients may show, as PEM.",
};
pub const TRUSTED: Key = Key {
    name: "proxy_protocol.trusted",
    kind: Kind::Networks { least: 1 },
    default: DefaultValue::Unset {
        meaning: "no PROXY protocol",
        sample: "[\"10.0.0.0/8\", \"2001:db8::7\"]",
    },
    applies: Applies::Restart,
    about: "Balancers in front that begin each connection with a PROXY protocol header, version 1 \
            or 2. The address in it counts as the client's. A header from any other address is refused.",
};
pub const REQUIRED: Key = Key {
    name: "proxy_protocol.required",
    kind: Kind::Bool,
    default: DefaultValue::Depends { on: "true", sample: "true" },
    applies: Applies::Restart,
    about: "Whether a connection from a trusted address without a header is refused.",
};

pub const BACKEND_VERIFY: Key = Key {
    name: "tls.verify",
    kind: word::<Verify>(),
    default: DefaultValue::Depends {
        on: "\"name\" with a table `tls`, which may be empty; else plain HTTP is spoken",
        sample: "\"name\"",
    },
    applies: Applies::Reload,
    about: "What is demanded of the certificate of the backend.",
};
pub const BACKEND_NAME: Key = Key {
    name: "tls.name",
    kind: Kind::Host,
    default: DefaultValue::Unset {
        meaning: "the host of `address`",
        sample: "\"up01.internal.example.com\"",
    },
    applies: Applies::Reload,
    about: "The name that the certificate must be for; also sent as SNI.",
};
pub const BACKEND_CA: Key = Key {
    name: "tls.ca",
    kind: Kind::Path,
    default: DefaultValue::Unset {
        meaning: "the authorities that the system trusts",
        sample: "\"/etc/bits-gateway/tls/backends-ca.pem\"",
    },
    applies: Applies::Reload,
    about: "The authorities to trust in place of the system's, as PEM.",
};
pub const BACKEND_CERTIFICATE: Key = Key {
    name: "tls.certificate",
    kind: Kind::Path,
    default: DefaultValue::Unset {
        meaning: "none is shown",
        sample: "\"/etc/bits-gateway/tls/gateway.pem\"",
    },
    applies: Applies::Reload,
    about: "The gateway's own certificate, for backends that ask for one.",
};
pub const BACKEND_KEY: Key = Key {
    name: "tls.key",
    kind: Kind::Path,
    default: DefaultValue::Unset {
        meaning: "needed for `tls.certificate`",
        sample: "\"/etc/bits-gateway/tls/gateway-key.pem\"",
    },
    applies: Applies::Reload,
    about: "Its private key. Others must not be able to read it.",
};

/// Whether a listener or backend speaks TLS, or is meant to.
pub fn is_on(table: &SectionValues) -> bool {
    table.has_group("tls")
}

/// An empty table speaks for itself, but a dump could not show it.
pub fn resolve_defaults(draft: &mut Draft) {
    for backend in draft.all_mut("backends") {
        if is_on(backend) && !backend.is_given(BACKEND_VERIFY.name) {
            backend.resolve(BACKEND_VERIFY.name, Value::Word(Verify::Name.name()));
        }
    }
}

pub fn build_listener(table: &SectionValues) -> Result<Option<ListenerTlsSettings>, Broken> {
    let mut certificates: Vec<CertificateFiles> = identity(table)?.into_iter().collect();
    let more: Option<Vec<CertificateFiles>> = table.find(LISTENER_CERTIFICATES.name)?;
    certificates.extend(more.into_iter().flatten());
    if certificates.is_empty() {
        return Ok(None);
    }
    let required = client_auth(table)? == ClientAuth::Required;
    let client_ca = table.find(CLIENT_CA.name)?.filter(|_| required);
    Ok(Some(ListenerTlsSettings { certificates, client_ca }))
}

/// As given, or else by whether there is an authority for it.
pub fn client_auth(table: &SectionValues) -> Result<ClientAuth, Broken> {
    let given = table.find(CLIENT_AUTH.name)?;
    let has_ca = table.is_given(CLIENT_CA.name);
    Ok(given.unwrap_or(if has_ca { ClientAuth::Required } else { ClientAuth::Off }))
}

/// Nobody is asked for a certificate there.
pub fn build_admin(table: &SectionValues) -> Result<Option<ListenerTlsSettings>, Broken> {
    let tls = |files| ListenerTlsSettings { certificates: vec![files], client_ca: None };
    Ok(identity(table)?.map(tls))
}

pub fn build_proxy_protocol(table: &SectionValues) -> Result<Option<ProxyProtocol>, Broken> {
    let Some(trusted) = table.find::<Vec<String>>(TRUSTED.name)? else { return Ok(None) };
    let trusted = trusted.iter().filter_map(|text| text.parse().ok()).collect();
    let required = table.find(REQUIRED.name)?.unwrap_or(true);
    Ok(Some(ProxyProtocol { trusted, required }))
}

pub fn build_backend(table: &SectionValues) -> Result<Option<BackendTlsSettings>, Broken> {
    if !is_on(table) {
        return Ok(None);
    }
    Ok(Some(BackendTlsSettings {
        name: table.find(BACKEND_NAME.name)?,
        ca: table.find(BACKEND_CA.name)?,
        identity: identity(table)?,
        verify: table.find(BACKEND_VERIFY.name)?.unwrap_or(Verify::Name),
    }))
}

fn identity(table: &SectionValues) -> Result<Option<CertificateFiles>, Broken> {
    let certificate = table.find(LISTENER_CERTIFICATE.name)?;
    let key = table.find(LISTENER_KEY.name)?;
    Ok(certificate.zip(key).map(|(certificate, key)| CertificateFiles { certificate, key }))
}

named!(ClientAuth {
    Off = "off": "they are not asked for one",
    Required = "required": "without a certificate of `tls.client_ca` the handshake fails",
});

named!(Verify {
    Name = "name": "it is valid, of a trusted authority, and for the backend's name",
    Off = "off": "nothing: anybody on the way can read and change what is sent",
});
