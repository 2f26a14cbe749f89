//! The habits of the BITS servers seen in the field, by name.
//!
//! A flavour changes what is on the wire and which packets are taken; how bytes are kept on disk is the same for all.

use std::net::IpAddr;

use clap::ValueEnum;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::packet::Kind;
use crate::paths::split_target;

/// Which server to answer like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Flavour {
    /// IIS with the BITS extension: the session id only in the Create-Session Ack
    #[default]
    Iis,
    /// SimpleBITSServer: decimal ids from peer and path, sessions bound to one TCP connection, errors without length
    Simplebits,
    /// Its Python 3 forks: the same ids, no answer at all to anything wrong
    #[value(name = "simplebits-py3")]
    SimplebitsPy3,
    /// GoBITS: ids without braces, code 0, a misspelt header on 416
    Gobits,
    /// Citrix TransferVM, raw mode: takes ids it never issued and parts in any order, at most 100 sessions
    Transfervm,
    /// Citrix TransferVM, VHD mode: one session at a time, 416 with E_INVALIDARG
    TransfervmVhd,
    /// usis.Net.Bits.Server: 400 without error headers, Ping Ack without Content-Length, absolute reply URL
    Usis,
    /// OneDrive's former endpoint: 201, POST with method override, chunked bodies, a body in the Close Ack
    Onedrive,
    /// Servers whose session id is the path of the file; they close the connection after each Ack
    PathId,
    /// A C# lab server: 500 with code 1 for everything wrong
    Lab,
}

/// What a server does with bytes it already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// Stores the new part, answers 200.
    TakeNew,
    /// Writes all of it, answers 200.
    Overwrite,
    /// 416 when nothing in the fragment is new.
    RefuseOld,
    /// 416 unless the fragment starts at the next offset.
    Refuse,
    /// No next offset at all: every part is written where it says.
    AnyOrder,
}

impl Flavour {
    /// A session id as this server makes them.
    pub fn mint_id(self, peer: IpAddr, target: &str) -> String {
        let guid = Uuid::new_v4();
        let path = split_target(target).map_or(target, |(path, _)| path);
        match self {
            Self::Iis | Self::Onedrive => format!("{{{}}}", guid.to_string().to_uppercase()),
            Self::Transfervm | Self::TransfervmVhd | Self::Usis => format!("{{{guid}}}"),
            Self::Gobits | Self::Lab => guid.to_string(),
            Self::Simplebits | Self::SimplebitsPy3 => peer_and_path_hash(peer, path),
            Self::PathId => path.chars().take(99).collect(),
        }
    }

    /// The id as the server reads it from a packet.
    pub fn read_id(self, id: &str) -> String {
        match self {
            Self::Simplebits | Self::SimplebitsPy3 => id.to_lowercase(),
            _ => id.to_owned(),
        }
    }

    pub fn id_is_wellformed(self, id: &str) -> bool {
        let braced = || id.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        self != Self::TransfervmVhd || braced().is_some_and(|guid| Uuid::try_parse(guid).is_ok())
    }

    /// True when later Acks repeat the session id.
    pub fn echoes_id(self) -> bool {
        !matches!(self, Self::Iis | Self::Onedrive)
    }

    /// IIS refuses packets without Content-Length, even those that have no body.
    pub fn requires_length(self) -> bool {
        self == Self::Iis
    }

    pub fn takes_chunked(self) -> bool {
        self == Self::Onedrive
    }

    pub fn takes_method_override(self) -> bool {
        self == Self::Onedrive
    }

    pub fn compares_last_protocol_only(self) -> bool {
        self == Self::Gobits
    }

    pub fn create_status(self) -> u16 {
        if self == Self::Onedrive { 201 } else { 200 }
    }

    pub fn overlap(self) -> Overlap {
        match self {
            Self::Gobits => Overlap::RefuseOld,
            Self::Transfervm => Overlap::AnyOrder,
            _ => Overlap::TakeNew,
        }
    }

    /// True when the Ack names the end of the fragment, whatever was stored before.
    pub fn acknowledges_last_byte(self) -> bool {
        matches!(self, Self::Simplebits | Self::SimplebitsPy3 | Self::Transfervm)
    }

    /// True when a packet with an unknown id starts a session under that id.
    pub fn invents_sessions(self) -> bool {
        self == Self::Transfervm
    }

    /// True when a session exists only on the connection that created it.
    pub fn binds_sessions_to_connection(self) -> bool {
        self == Self::Simplebits
    }

    /// Sessions kept at once; creating one more drops the oldest.
    pub fn session_limit(self) -> Option<usize> {
        match self {
            Self::Transfervm => Some(100),
            Self::TransfervmVhd => Some(1),
            _ => None,
        }
    }

    /// True when a BITS_POST without a packet type ends the connection without an answer.
    pub fn hangs_up_without_type(self) -> bool {
        matches!(self, Self::Simplebits | Self::SimplebitsPy3)
    }

    /// True when the Ack leaves Content-Length out on a connection that stays open.
    pub fn omits_length(self, kind: Kind) -> bool {
        self == Self::Usis && kind == Kind::Ping
    }

    /// The `Connection` header that ends every exchange, if the server does that.
    pub fn closes_with(self) -> Option<&'static str> {
        (self == Self::PathId).then_some("Close")
    }
}

/// Two clients behind one address that upload to one path get one id, as with the original; negative half of the time.
fn peer_and_path_hash(peer: IpAddr, path: &str) -> String {
    let digest = Sha256::digest(format!("{peer} {path}"));
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn mint(flavour: Flavour) -> String {
        flavour.mint_id(PEER, "/in/a%20b.bin?site=7")
    }

    #[test]
    fn ids_have_the_form_of_their_server() {
        let iis = mint(Flavour::Iis);
        assert_eq!(iis.len(), 38);
        assert_eq!(&iis[15..16], "4");
        assert_eq!(iis, iis.to_uppercase());
        assert!(iis.starts_with('{') && iis.ends_with('}'));
        assert_eq!(mint(Flavour::Gobits).len(), 36);
        let usis = mint(Flavour::Usis);
        assert_eq!(usis, usis.to_lowercase());
        assert!(mint(Flavour::Simplebits).parse::<i64>().is_ok());
        assert_eq!(mint(Flavour::PathId), "/in/a%20b.bin");
        assert_eq!(Flavour::PathId.mint_id(PEER, &"/n".repeat(80)).len(), 99);
    }

    #[test]
    fn only_the_naive_servers_repeat_an_id() {
        assert_ne!(mint(Flavour::Iis), mint(Flavour::Iis));
        assert_eq!(mint(Flavour::Simplebits), mint(Flavour::SimplebitsPy3));
        let elsewhere = Flavour::Simplebits.mint_id(PEER, "/in/other.bin");
        assert_ne!(mint(Flavour::Simplebits), elsewhere);
    }

    #[test]
    fn vhd_mode_wants_a_guid_in_braces() {
        let fine = mint(Flavour::TransfervmVhd);
        assert!(Flavour::TransfervmVhd.id_is_wellformed(&fine));
        assert!(!Flavour::TransfervmVhd.id_is_wellformed(&fine[1..37]));
        assert!(Flavour::Transfervm.id_is_wellformed("anything"));
    }
}
