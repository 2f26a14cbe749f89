//! What is true before a request, and what must be true after its answer.

use gateway_core::farm::BackendId;
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::routing::UnknownSession;
use gateway_core::session::Target;

use crate::client::{Event, Kind};
use crate::farm::Storage;
use crate::server::{Request, header, range};
use crate::world::World;

impl World<'_> {
    /// What is so before a request is handled.
    pub fn facts(&self, request: &Request, gateway: usize) -> Facts {
        let owner = self.farm.owner(request.tag);
        let table = if self.farm.lossy { gateway } else { 0 };
        let key = SessionId::parse(header(request, "BITS-Session-Id")).map(|id| id.key().clone());
        let pin = key.and_then(|key| self.tables[table].pins.get_key_value(&key));
        // Of another target it is another session's, to whom the id was given later.
        let target = Target::of(request.head.uri.path().as_bytes());
        let pin =
            pin.filter(|(_, (pin, _))| !self.tables[table].down && target.is(pin.binding.target));
        let pin_backend = pin.map(|(_, (pin, _))| pin.backend);
        Facts {
            owner: owner.as_ref().map(|(backend, _)| *backend),
            alias: self.gateways[gateway].alias(request),
            table,
            pinned: pin.is_some(),
            pin: pin.map(|(key, (pin, _))| (key.clone(), self.gateways[gateway].has(pin.backend))),
            translated: owner.is_some_and(|(_, id)| id != header(request, "BITS-Session-Id")),
            stored: self.farm.stored(request.tag),
            configured: owner.is_some_and(|(backend, _)| self.gateways[gateway].has(backend)),
            reachable: owner.is_some_and(|(backend, _)| {
                self.farm.servers[backend.0 as usize].alive
                    && self.gateways[gateway].reaches(backend)
            }),
            pinned_at: pin_backend,
        }
    }

    pub fn check(
        &mut self,
        number: usize,
        kind: Kind,
        request: &Request,
        event: Event,
        facts: &Facts,
    ) {
        match event {
            Event::Acknowledged(offset) => self.check_stored(request, offset, facts),
            Event::Restarted => {
                // Only the table knew better than the alias, or that there was a session at all.
                let lost = self.farm.lossy && !facts.pinned;
                let asked = self.scenario.policy.unknown == UnknownSession::Ask;
                let found = asked
                    && facts.alias.is_none()
                    && facts.stored > 0
                    && !self.is_whole(kind, request);
                let misled = (facts.alias != facts.owner && !found) || facts.translated;
                let excused = self.farm.excused.contains(&request.tag);
                // Where servers share a storage, the pin may name another than its owner.
                let removed = !facts.configured || matches!(facts.pin, Some((_, false)));
                assert!(
                    facts.owner.is_none() || removed || (lost && misled) || excused,
                    "told to start over without need: {facts:?}"
                );
                let truth = &self.farm.truth[&request.tag];
                assert!(
                    kind != Kind::Close || !truth.sealed,
                    "told to start over what is delivered: {facts:?}"
                );
                if let Some((key, true)) = &facts.pin {
                    let pins = &self.tables[facts.table].pins;
                    assert!(!pins.contains_key(key), "a pin outlives its session: {facts:?}");
                }
            }
            Event::Opened => self.check_opened(number),
            Event::Finished => {
                assert!(self.farm.is_delivered(request.tag), "finished and not delivered");
            }
            _ => {}
        }
        if matches!(event, Event::Finished | Event::Cancelled | Event::GivesUp) {
            let shared = self.scenario.shares_paths();
            self.clients[number].next_upload(shared, &mut self.rng);
        }
        if !self.farm.lossy {
            self.check_pin(number);
        }
    }

    /// Whether a client whose gateways share a farm sends its file, or all but a byte of it, in a first
    /// Fragment. That alone is what a new start costs it, and not every server can be asked for it.
    fn is_whole(&self, kind: Kind, request: &Request) -> bool {
        self.scenario.shared_farm && kind == Kind::Fragment && {
            let (first, last, total) = range(request);
            first == 0 && last as u64 + 2 >= total
        }
    }

    /// Every byte that was acknowledged lies at the server that owns the session.
    fn check_stored(&self, request: &Request, offset: u64, facts: &Facts) {
        let (owner, _) = self.farm.owner(request.tag).expect("an acknowledged session lives");
        let (_, upload) = self.farm.servers[owner.0 as usize].find(request.tag).expect("its owner");
        let file = &self.farm.truth[&request.tag].file;
        assert_eq!(upload.data.len() as u64, offset, "another offset than the server's");
        assert!(file.starts_with(&upload.data), "stored other bytes than were sent");
        let id = SessionId::parse(header(request, "BITS-Session-Id")).expect("a legal id");
        let table = &self.tables[facts.table];
        // What a disk did not take when the session moved is found out by the next packet.
        if !table.down && !table.disk.as_ref().is_some_and(|disk| disk.refuses) {
            let (pin, progress) =
                table.pins.get(id.key()).expect("what was seen to live is pinned");
            assert_eq!((pin.backend, progress.next_offset), (owner, offset));
            assert_eq!(progress.seen, self.time().wall);
            // Not known where nothing but a 416 has been seen.
            assert!([0, file.len() as u64].contains(&progress.total), "{}", progress.total);
        }
    }

    fn check_opened(&mut self, number: usize) {
        let session = self.clients[number].session.clone().expect("just opened");
        let key = SessionId::parse(&session.id).expect("a legal id").key().clone();
        let (owner, id) = self.farm.owner(session.tag).expect("just opened");
        if id != session.id {
            self.counts.add("minted");
        }
        if let Some(id) = SessionId::parse(id) {
            let holders = self.tables.iter().map(|table| table.holders(owner, &id).count());
            assert!(holders.into_iter().all(|count| count <= 1), "two pins for one session");
        }
        let gateway = self.tables.iter().filter_map(|table| table.pins.get(&key));
        let known = gateway.filter(|(pin, _)| {
            pin.backend == owner && pin.backend_session.as_deref().unwrap_or(&session.id) == id
        });
        assert_eq!(known.count(), 1, "the client knows of a session that no table has");
        for (_, other) in self.clients.iter().enumerate().filter(|(n, _)| *n != number) {
            if let Some(other) = &other.session {
                let same = SessionId::parse(&other.id).is_some_and(|id| *id.key() == key);
                assert!(!same || self.farm.owner(other.tag).is_none(), "one id for two sessions");
            }
        }
    }

    /// A pin that was handed out stays for as long as its session does.
    fn check_pin(&self, number: usize) {
        let Some(session) = &self.clients[number].session else { return };
        let Some((owner, backend_id)) = self.farm.owner(session.tag) else { return };
        if self.farm.excused.contains(&session.tag) {
            return;
        }
        let key = SessionId::parse(&session.id).expect("a legal id").key().clone();
        let (pin, _) = self.tables[0].pins.get(&key).expect("a pin that was handed out is gone");
        // Where all servers have all sessions, one may have taken it over and its Ack been lost.
        assert!(pin.backend == owner || self.farm.storage != Storage::Own, "{pin:?}, {owner:?}");
        assert_eq!(pin.backend_session.as_deref().unwrap_or(&session.id), backend_id);
    }
}

#[derive(Debug)]
pub struct Facts {
    /// Where the session lives, if it does.
    pub owner: Option<BackendId>,
    pub alias: Option<BackendId>,
    /// Number of the table of the gateway asked.
    pub table: usize,
    /// Whether that has its pin.
    pub pinned: bool,
    /// The pin's key, and whether its server is in the gateway's configuration.
    pub pin: Option<(SessionKey, bool)>,
    /// How many bytes of it its server has.
    pub stored: usize,
    /// Whether its server knows it by another id.
    pub translated: bool,
    /// Where that says it is.
    pub pinned_at: Option<BackendId>,
    /// Whether the gateway asked has its server in its configuration.
    pub configured: bool,
    /// Whether its server lives, and the gateway asked thinks that it serves the sessions it has.
    pub reachable: bool,
}
