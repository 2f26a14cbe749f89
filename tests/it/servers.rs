//! Uploads to every kind of server that the field knows (servers P1 to P9 of the conformance material): the whole way,
//! resumed in the middle, refused, and in a farm of two alike.

mod errors;
mod farms;
mod uploads;

use e2e_tests::client::{AckRules, Client, FragmentSizes};
use e2e_tests::farm::{Farm, FarmBuilder};

/// One server's habits as far as tests have to know them.
#[derive(Clone, Copy, Debug)]
pub struct Flavour {
    pub name: &'static str,
    /// A session exists only on the connection that created it. The gateway shares its connections among clients, so
    /// that a session survives as long as one client, on one connection, is alone; this client ignores its host id.
    pub one_connection: bool,
    /// Two servers give the same id for the same path.
    pub same_ids: bool,
    /// Its Acks break rules that clients do not mind.
    pub odd_acks: bool,
}

const fn flavour(name: &'static str) -> Flavour {
    Flavour { name, one_connection: false, same_ids: false, odd_acks: false }
}

pub const FLAVOURS: [Flavour; 9] = [
    flavour("iis"),
    // A Ping acknowledged with an error code.
    Flavour { one_connection: true, same_ids: true, odd_acks: true, ..flavour("simplebits") },
    Flavour { same_ids: true, odd_acks: true, ..flavour("simplebits-py3") },
    flavour("gobits"),
    flavour("transfervm"),
    flavour("usis"),
    // A body in the Ack of a Close-Session.
    Flavour { odd_acks: true, ..flavour("onedrive") },
    Flavour { same_ids: true, ..flavour("path-id") },
    flavour("lab"),
];

/// Small enough for several fragments per file. Above 64 KiB they share the gateway's connections with Create-Session,
/// which a server with sessions per connection needs.
pub const PIECES: u64 = 100_000;

impl Flavour {
    pub fn farm(&self, stubs: usize) -> FarmBuilder {
        Farm::of_stubs(stubs).each_stub(&["--flavour", self.name])
    }

    pub fn client(&self, farm: &Farm) -> Client {
        farm.client().with(|o| {
            o.fragments = FragmentSizes::Fixed(PIECES);
            o.ignore_host_id = self.one_connection;
            o.acks = match self.odd_acks {
                true => AckRules::off(),
                // The gateway adds the right name to the misspelt one of GoBITS.
                false => AckRules::farm().allow("BITS-Recieved-Content-Range"),
            };
        })
    }
}
