//! TLS in front of a farm and inside of it.

use std::net::SocketAddr;
use std::path::Path;

use super::Settings;
use crate::client::Secure;
use crate::client::secure::Known;
use crate::pki;

/// How much of a farm speaks TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    #[default]
    Off,
    /// Clients to the gateway.
    Front,
    /// Clients to the gateway, and the gateway to the stubs.
    Both,
    /// The same, and whoever connects shows a certificate.
    Mutual,
}

impl Tls {
    /// What `E2E_TLS` says, for farms that say nothing themselves.
    ///
    /// # Panics
    /// When it says something else: a slip must not run the suite without TLS.
    pub fn from_environment() -> Self {
        match std::env::var("E2E_TLS").as_deref() {
            Err(_) | Ok("" | "off") => Self::Off,
            Ok("front") => Self::Front,
            Ok("both") => Self::Both,
            Ok("mutual") => Self::Mutual,
            Ok(other) => panic!("E2E_TLS is front, both or mutual, not {other:?}"),
        }
    }

    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    pub fn reaches_stubs(self) -> bool {
        matches!(self, Self::Both | Self::Mutual)
    }

    /// Keys for every listener of the settings that says nothing of TLS itself.
    pub(super) fn secure_listeners(self, settings: &mut Settings, directory: &Path) {
        if !self.is_on() {
            return;
        }
        let files = pki::server().write(directory, "server");
        let text = |path: &Path| format!("{:?}", path.display().to_string());
        for listener in settings.listeners() {
            settings.set(&format!("{listener}.tls.certificate"), &text(&files.certificate));
            settings.set(&format!("{listener}.tls.key"), &text(&files.key));
            if self == Self::Mutual {
                let authority = directory.join("clients-ca.pem");
                pki::write(&authority, &pki::clients().pem(), 0o644);
                settings.set(&format!("{listener}.tls.client_ca"), &text(&authority));
            }
        }
    }

    /// Keys for one backend.
    pub(super) fn secure_backend(self, settings: &mut Settings, name: &str, directory: &Path) {
        if !self.reaches_stubs() {
            return;
        }
        let authority = directory.join("servers-ca.pem");
        pki::write(&authority, &pki::servers().pem(), 0o644);
        settings.set_backend(name, "tls.ca", &format!("{:?}", authority.display().to_string()));
        if self == Self::Mutual {
            let own = pki::client().write(directory, "gateway-as-client");
            let text = |path: &Path| format!("{:?}", path.display().to_string());
            settings.set_backend(name, "tls.certificate", &text(&own.certificate));
            settings.set_backend(name, "tls.key", &text(&own.key));
        }
    }

    /// Arguments for a stub.
    pub(super) fn stub_arguments(self, directory: &Path) -> Vec<String> {
        if !self.reaches_stubs() {
            return Vec::new();
        }
        let text = |path: &Path| path.display().to_string();
        let files = pki::server().write(directory, "stub");
        let mut arguments = vec![
            "--tls-cert".to_owned(),
            text(&files.certificate),
            "--tls-key".to_owned(),
            text(&files.key),
        ];
        if self == Self::Mutual {
            let authority = directory.join("clients-ca.pem");
            pki::write(&authority, &pki::clients().pem(), 0o644);
            arguments.extend(["--tls-client-ca".to_owned(), text(&authority)]);
        }
        arguments
    }

    /// How clients of this farm speak.
    pub fn client(self) -> Secure {
        let own = (self == Self::Mutual).then(pki::client);
        Secure::new(&pki::servers().pem(), super::ORIGIN, own)
    }

    /// Has connections to the gateway speak TLS.
    pub(super) fn know_front(self, address: SocketAddr) -> Option<Known> {
        self.is_on().then(|| Known::new(address, self.client()))
    }

    /// Has connections to a stub speak TLS.
    pub(super) fn know_stub(self, address: SocketAddr) -> Option<Known> {
        self.reaches_stubs().then(|| Known::new(address, self.client()))
    }
}
