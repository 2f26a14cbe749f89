//! Somebody who knows something of a session that is another client's.

use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionId;
use gateway_core::routing::Lookup;
use gateway_core::session::Subject;
use gateway_core::session::lost_close::FileHead;

use crate::farm::ASKED;
use crate::gateway::{Connection, Fate, Network};
use crate::rng::Rng;
use crate::server::{Request, Tag};
use crate::world::World;

/// Behind a gateway that must not pass anything on. A session that it does not know may be asked
/// for, though not at a server that has it.
struct Nobody {
    never: Option<BackendId>,
}

impl Network for Nobody {
    fn send(&mut self, backend: BackendId, request: &Request, _: &mut Rng) -> Fate {
        assert!(request.head.headers.contains_key(ASKED), "the intruder gets through");
        assert_ne!(Some(backend), self.never, "a question reaches the session");
        let answer = http::Response::builder().status(500).header("BITS-Error", "0x8020001F");
        Fate::Answered(answer.body(()).expect("legal head").into_parts().0)
    }

    fn look(&mut self, _: BackendId, _: &Request, _: &mut Rng) -> Option<FileHead> {
        None
    }

    fn comes_back(&mut self, _: BackendId, _: &mut Rng) -> bool {
        false
    }
}

impl World<'_> {
    pub fn pry(&mut self) {
        let victim = self.rng.below(self.clients.len());
        let gateway = self.rng.below(self.gateways.len());
        let Some(session) = self.clients[victim].session.clone() else { return };
        let own = Some(self.clients[victim].subject.clone());
        let other = Some(Subject::new([0; 16]));
        let path = self.clients[victim].path.clone();
        // Knows the id, though not to where it uploads.
        self.intrude(gateway, &session.id, "/other", "up.test", &own, None);
        self.counts.add("intruder refused");
        let table = &self.tables[if self.farm.lossy { gateway } else { 0 }];
        let Some(id) = SessionId::parse(&session.id) else { return };
        let Lookup::Pinned(pin) = table.find(Some(&id)) else { return };
        let alias = format!("up{}.test", pin.backend.0);
        let host = if self.rng.chance(50) { "up.test" } else { &alias };
        if self.scenario.binds {
            // Knows all, and has a certificate of its own.
            self.intrude(gateway, &session.id, &path, host, &other, Some(pin.backend));
            self.intrude(gateway, &session.id, &path, host, &None, Some(pin.backend));
            self.counts.add("other certificate refused");
        }
        let table = &self.tables[if self.farm.lossy { gateway } else { 0 }];
        let Some(hidden) = pin.backend_session else { return };
        let Some(id) = SessionId::parse(&*hidden) else { return };
        if table.find(Some(&id)) == Lookup::Unknown {
            self.intrude(gateway, &hidden, &path, host, &own, Some(pin.backend));
            self.counts.add("intruder with a hidden id refused");
        }
    }

    /// Sends what would end the session, and expects that it reaches no server.
    fn intrude(
        &mut self,
        gateway: usize,
        id: &str,
        path: &str,
        host: &str,
        subject: &Option<Subject>,
        never: Option<BackendId>,
    ) {
        let time = self.time();
        let table = &mut self.tables[if self.farm.lossy { gateway } else { 0 }];
        let nobody = Tag { client: usize::MAX, attempt: 0 };
        for kind in ["Cancel-Session", "Close-Session"] {
            let request = http::Request::builder()
                .method("BITS_POST")
                .uri(path)
                .header("Host", host)
                .header("BITS-Packet-Type", kind)
                .header("BITS-Session-Id", id);
            let head = request.body(()).expect("legal head").into_parts().0;
            let subject = subject.clone();
            let request = Request { head, body: Vec::new(), tag: nobody, subject };
            let mut connection = Connection::default();
            let mut nobody = Nobody { never };
            let gateway = &mut self.gateways[gateway];
            let answer =
                gateway.handle(&request, &mut connection, table, &mut self.rng, time, &mut nobody);
            let answer = answer.expect("nothing is written for an intruder");
            assert!([500, 503].contains(&answer.status.as_u16()), "{answer:?}");
            for note in std::mem::take(&mut gateway.notes) {
                self.counts.add(note);
            }
        }
    }
}
