//! The section `[admin]`: the listener for changes.

use std::net::SocketAddr;
use std::path::PathBuf;

use gateway_core::protocol::host::key_of;

use super::draft::{Broken, SectionValues};
use super::keys::{Applies, DefaultValue, Key, NO_LISTENER, Section, Shape, word};
use super::kind::{Kind, Value};
use super::names::named;
use super::tls;
use crate::tls::settings::ListenerTlsSettings;

/// The longest path of a socket. The kernel takes 107 bytes, and the socket begins its life under
/// another name beside its own, up to 7 bytes longer.
pub const SOCKET_PATH_LIMIT: usize = 100;

pub const SECTION: Section = Section {
    name: "admin",
    shape: Shape::Once,
    about: "The listener for changes: `bits-gateway status`, `sessions`, `backends` and \
            `reload` speak to it, over the socket or the address. Without either there is \
            none.",
    keys: &[
        Key {
            name: "socket",
            kind: Kind::Path,
            default: DefaultValue::Unset {
                meaning: "no such listener",
                sample: "\"/run/bits-gateway/admin.sock\"",
            },
            applies: Applies::Restart,
            about: "A Unix socket, at most 100 bytes of path. Who may write to the file may \
                    change everything; no token is asked for.",
        },
        Key {
            name: "socket_mode",
            kind: word::<SocketMode>(),
            default: DefaultValue::word("0600"),
            applies: Applies::Restart,
            about: "The permissions of the socket.",
        },
        Key {
            name: "address",
            kind: Kind::WordOr(NO_LISTENER, &Kind::Socket),
            default: DefaultValue::word("off"),
            applies: Applies::Restart,
            about: "An address and a port, such as `127.0.0.1:9081`, for the page in a browser \
                    and for commands. Needs `token_file`, and `tls.certificate` where it is \
                    no loopback address.",
        },
        tls::ADMIN_CERTIFICATE,
        tls::LISTENER_KEY,
        Key {
            name: "hosts",
            kind: Kind::Hosts,
            default: DefaultValue::Is(Value::Texts(Vec::new())),
            applies: Applies::Restart,
            about: "Names by which browsers and commands reach this listener, beyond loopback \
                    names and its own address. Requests for other names are refused.",
        },
        Key {
            name: "token_file",
            kind: Kind::Path,
            default: DefaultValue::Unset {
                meaning: "needed for `address`",
                sample: "\"/etc/bits-gateway/admin-token\"",
            },
            applies: Applies::Restart,
            about: "A file with the token that requests to `address` must bring: 32 to 4096 \
                    visible characters, on one line. Others must not be able to read it.",
        },
        Key {
            name: "viewer_token_file",
            kind: Kind::Path,
            default: DefaultValue::Unset {
                meaning: "everybody who gets in may change everything",
                sample: "\"/etc/bits-gateway/viewer-token\"",
            },
            applies: Applies::Restart,
            about: "A file with the token of viewers, who see everything and change nothing. It is written like `token_file`.",
        },
    ],
    later: &[],
};

/// Without socket and address there is no such listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// At most [`SOCKET_PATH_LIMIT`] bytes.
    pub socket: Option<PathBuf>,
    pub socket_mode: SocketMode,
    /// Loopback, but with TLS.
    pub address: Option<SocketAddr>,
    pub tls: Option<ListenerTlsSettings>,
    /// In the form of [`gateway_core::protocol::host::key_of`].
    pub hosts: Vec<String>,
    /// Always there with `address`. What is in it has not been looked at; see
    /// [`check::files`](super::check::files).
    pub token_file: Option<PathBuf>,
    pub viewer_token_file: Option<PathBuf>,
}

pub(super) fn build(table: &SectionValues) -> Result<Admin, Broken> {
    Ok(Admin {
        socket: table.find("socket")?,
        socket_mode: table.get("socket_mode")?,
        address: table.unless_off("address")?,
        tls: tls::build_admin(table)?,
        hosts: table.get::<Vec<String>>("hosts")?.iter().filter_map(|host| key_of(host)).collect(),
        token_file: table.find("token_file")?,
        viewer_token_file: table.find("viewer_token_file")?,
    })
}

/// Who may use the admin socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketMode {
    Owner,
    Group,
}

impl SocketMode {
    /// As `chmod` takes it.
    pub fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

named!(SocketMode {
    Owner = "0600": "the user that runs the gateway, and root",
    Group = "0660": "its group as well",
});
