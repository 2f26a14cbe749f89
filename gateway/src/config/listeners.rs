//! The section `[listeners.NAME]`.

use super::keys::{Key, Preset, Section, Shape};
use super::kind::Kind;
use super::{access, tls};

pub const SECTION: Section = Section {
    name: "listeners",
    shape: Shape::Named,
    about: "Where clients connect. At least one; the name appears in logs and metrics.",
    keys: &[
        Key {
            name: "address",
            kind: Kind::Socket,
            preset: Preset::Required { sample: "\"[::]:8080\"" },
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
