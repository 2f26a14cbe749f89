//! The servers, the links to them, and what is true of their sessions.

use std::collections::BTreeMap;

use gateway_core::farm::{AdminState, BackendId};

use crate::gateway::{Fate, Slot};
use crate::rng::Rng;
use crate::server::{Deed, Request, Server, Tag, header};
use crate::world::Counts;

/// Marks the question of a gateway that looks for the owner of a session.
pub const ASKED: &str = "Asked";

/// What is true of one Create-Session, whoever knows it.
pub struct Truth {
    pub file: Vec<u8>,
    pub delivered: bool,
}

/// The servers and the links to them.
pub struct Farm {
    pub servers: Vec<Server>,
    pub slots: Vec<Slot>,
    pub truth: BTreeMap<Tag, Truth>,
    pub loss: u32,
    /// Whether tables are lost.
    pub lossy: bool,
}

impl Farm {
    /// Where a session lives, and under which id.
    pub fn owner(&self, tag: Tag) -> Option<(BackendId, &str)> {
        let servers = (0u32..).map(BackendId).zip(&self.servers);
        let mut owners = servers.filter_map(|(id, server)| Some((id, server.find(tag)?.0)));
        owners.next()
    }

    /// How many bytes of a session lie at its owner.
    pub fn stored(&self, tag: Tag) -> usize {
        let uploads = self.servers.iter().filter_map(|server| server.find(tag));
        uploads.map(|(_, upload)| upload.data.len()).next().unwrap_or(0)
    }

    pub fn send(
        &mut self,
        backend: BackendId,
        request: &Request,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Fate {
        let number = backend.0 as usize;
        let slot = self.slots[number];
        assert!(slot.configured && slot.admin != AdminState::Maint, "{backend:?} serves nothing");
        let create = header(request, "BITS-Packet-Type") == "Create-Session";
        assert!(!create || slot.admin == AdminState::Ready, "a session placed on {backend:?}");
        if !self.servers[number].alive {
            counts.add("unreachable");
            return Fate::Unreachable;
        }
        let broken = |rng: &mut Rng| Fate::Broken { reused: rng.chance(50) };
        if rng.chance(self.loss) {
            return broken(rng);
        }
        self.check_owner(backend, request);
        let server = &mut self.servers[number];
        if rng.chance(self.loss) {
            server.take_part(request, rng);
            server.alive = !rng.chance(10);
            return Fate::Broken { reused: false };
        }
        if rng.chance(self.loss / 2) {
            counts.add("hiccup");
            return Fate::Answered(server.hiccup(rng));
        }
        let (answer, deed) = server.answer(request, rng);
        if let Deed::Delivered(file) = deed {
            let truth = self.truth.get_mut(&request.tag).expect("every session was created");
            assert_eq!(file, truth.file, "the file delivered is not the file sent");
            truth.delivered = true;
        }
        if rng.chance(self.loss) {
            counts.add("ack lost");
            server.alive = !rng.chance(10);
            return broken(rng);
        }
        Fate::Answered(answer)
    }

    /// No packet of a session reaches a server that does not own it.
    fn check_owner(&self, backend: BackendId, request: &Request) {
        let kind = header(request, "BITS-Packet-Type");
        let id = header(request, "BITS-Session-Id");
        if kind == "Create-Session" || kind == "Ping" || request.head.headers.contains_key(ASKED) {
            return;
        }
        if let Some(named) = self.servers[backend.0 as usize].uploads.get(id) {
            assert_eq!(named.tag, request.tag, "a packet for another client's session");
        }
        if let Some((owner, owned)) = self.owner(request.tag) {
            assert_eq!(owner, backend, "a packet at a server that does not own its session");
            assert!(owned == id || self.lossy, "a packet under an id that its server cannot know");
        }
    }
}
