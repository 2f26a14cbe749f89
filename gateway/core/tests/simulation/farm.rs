//! The servers, the links to them, and what is true of their sessions.

use std::collections::{BTreeMap, BTreeSet};

use gateway_core::farm::{AdminState, BackendId};
use gateway_core::session::Timestamp;
use gateway_core::session::lost_close::FileHead;

use crate::gateway::{Fate, Network, Slot};
use crate::rng::Rng;
use crate::server::{Deed, Mood, Request, Server, Tag, header};
use crate::world::{Counts, SECOND};

/// Marks the question of a gateway that looks for the owner of a session.
pub const ASKED: &str = "Asked";

/// What is true of one Create-Session, whoever knows it.
pub struct Truth {
    pub path: String,
    pub file: Vec<u8>,
    pub delivered: bool,
    /// The gateway has seen the Ack of the end, and nothing since could have made it forget.
    pub sealed: bool,
}

/// The servers and the links to them.
pub struct Farm {
    pub servers: Vec<Server>,
    pub slots: Vec<Slot>,
    pub truth: BTreeMap<Tag, Truth>,
    pub loss: u32,
    /// Whether tables are lost.
    pub lossy: bool,
    /// Sessions whose pin was dropped for a reason that the rules know. They may start over.
    pub excused: BTreeSet<Tag>,
    pub storage: Storage,
    /// When each server was last seen alive by a probe.
    pub seen_alive: Vec<u64>,
}

/// Where the servers keep their sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Each on its own disk.
    Own,
    /// All on one: a server may take over from one that has been away for so many steps.
    Shared { after: u64 },
}

/// One request's way to the servers.
pub struct Link<'a> {
    pub farm: &'a mut Farm,
    pub counts: &'a mut Counts,
    pub now: u64,
    /// Where the table or the alias says that the session is.
    pub pinned: Option<BackendId>,
    /// A server came back while the request was held.
    pub came_back: bool,
}

impl Network for Link<'_> {
    fn send(&mut self, backend: BackendId, request: &Request, rng: &mut Rng) -> Fate {
        self.farm.take_over(backend, request, self.pinned, self.now, self.counts);
        self.farm.send(backend, request, rng, self.counts, self.now)
    }

    fn look(&mut self, backend: BackendId, request: &Request, rng: &mut Rng) -> Option<FileHead> {
        let server = &self.farm.servers[backend.0 as usize];
        if !server.alive || rng.chance(self.farm.loss) {
            return None;
        }
        // Its clock is right, whatever the gateway's says.
        Some(server.look(request, Timestamp(self.now * SECOND)))
    }

    fn comes_back(&mut self, backend: BackendId, rng: &mut Rng) -> bool {
        let server = &mut self.farm.servers[backend.0 as usize];
        server.alive |= rng.chance(40);
        if server.alive {
            self.farm.seen_alive[backend.0 as usize] = self.now;
            self.counts.add("held until it came back");
        }
        self.came_back |= server.alive;
        server.alive
    }
}

impl Farm {
    /// Where a session lives, and under which id.
    pub fn owner(&self, tag: Tag) -> Option<(BackendId, &str)> {
        let servers = (0u32..).map(BackendId).zip(&self.servers);
        let mut owners = servers.filter_map(|(id, server)| Some((id, server.find(tag)?.0)));
        owners.next()
    }

    /// With a shared storage a session goes on at another server, once its own was given up.
    fn take_over(
        &mut self,
        backend: BackendId,
        request: &Request,
        pinned: Option<BackendId>,
        now: u64,
        counts: &mut Counts,
    ) {
        let Storage::Shared { after } = self.storage else { return };
        let Some((owner, id)) = self.owner(request.tag) else { return };
        let kind = header(request, "BITS-Packet-Type");
        if kind == "Create-Session" || kind == "Ping" {
            return;
        }
        if owner == backend || !self.servers[backend.0 as usize].alive {
            return;
        }
        // That the owner is another one by now, the gateway cannot know when an Ack was lost.
        let known = pinned.expect("a packet goes where a pin or an alias leads");
        let away = now - self.seen_alive[known.0 as usize];
        let missing = !self.slots[known.0 as usize].configured;
        let given_up = missing || away >= after;
        assert!(known == backend || given_up, "{known:?} passed over after {away} steps");
        let id = id.to_owned();
        let upload = self.servers[owner.0 as usize].uploads.remove(&id).expect("just seen");
        self.servers[backend.0 as usize].uploads.insert(id, upload);
        counts.add("taken over");
    }

    /// Whether the file of a session lies at its destination, be it from an earlier try of its client.
    pub fn is_delivered(&self, tag: Tag) -> bool {
        let file = &self.truth[&tag];
        let same = |(other, truth): (&Tag, &Truth)| {
            let same = other.client == tag.client && truth.path == file.path;
            same && truth.file == file.file && truth.delivered
        };
        self.truth.iter().any(same)
    }

    /// How many bytes of a session lie at its owner.
    pub fn stored(&self, tag: Tag) -> usize {
        let uploads = self.servers.iter().filter_map(|server| server.find(tag));
        uploads.map(|(_, upload)| upload.data.len()).next().unwrap_or(0)
    }

    fn send(
        &mut self,
        backend: BackendId,
        request: &Request,
        rng: &mut Rng,
        counts: &mut Counts,
        now: u64,
    ) -> Fate {
        let number = backend.0 as usize;
        let slot = self.slots[number];
        assert!(
            slot.configured && slot.admin != AdminState::Maintenance,
            "{backend:?} serves nothing"
        );
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
        match server.mood {
            Mood::Refuses if create => {
                counts.add("create refused");
                return Fate::Answered(server.hiccup(rng));
            }
            Mood::Hangs if create => {
                counts.add("create hung");
                return Fate::Silent;
            }
            _ => {}
        }
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
            let path = request.head.uri.path().to_owned();
            server.files.insert(path, (file.len(), Timestamp(now * SECOND)));
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
        let server = &self.servers[backend.0 as usize];
        // An id that was given out again leads to nothing under another path.
        if let Some(named) = server.uploads.get(id)
            && server.knows(id, request.head.uri.path())
        {
            assert_eq!(named.tag, request.tag, "a packet for another client's session");
        }
        // Without the pin, the alias of an earlier session may mislead. The server then says so.
        if self.excused.contains(&request.tag) {
            return;
        }
        if let Some((owner, owned)) = self.owner(request.tag) {
            assert_eq!(owner, backend, "a packet at a server that does not own its session");
            assert!(owned == id || self.lossy, "a packet under an id that its server cannot know");
        }
    }
}
