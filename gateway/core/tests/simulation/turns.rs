//! Requests that their clients have given up and their gateways have not, and what a newer request of
//! the session does about them.

use gateway_core::fault::Fault;
use gateway_core::protocol::{ChunkedMode, RequestPacket, read_ack, read_request};
use gateway_core::routing::ownership::visible_to;
use gateway_core::routing::ownership::{self, Identity, Order, Shared, may_speak, order, shared};
use http::response;

use crate::client::Kind;
use crate::farm::Link;
use crate::gateway::{Connection, Gateway, answer_of};
use crate::server::Request;
use crate::table::{Stop, Table};
use crate::world::World;

/// A request that is under way at a gateway.
#[derive(Debug, Clone)]
pub struct UnderWay {
    kind: Kind,
    request: Request,
    pub connection: Connection,
    /// All of its body has come.
    whole: bool,
}

impl Gateway {
    /// What a packet is, if it must not reach a server twice; `None` if it takes no turn at all.
    fn takes_turn(&self, request: &Request, table: &Table) -> Option<Option<Identity>> {
        let packet = read_request(&request.head.headers, ChunkedMode::Refuse)
            .expect("an honest client is understood");
        let asker = self.asker(request);
        let lookup = visible_to(&asker, table.find(packet.session()));
        let speaks = may_speak(packet.packet_type(), &lookup, asker.target, self.alias(request));
        speaks.then(|| self.identity(&packet, request))
    }

    fn identity(&self, packet: &RequestPacket, request: &Request) -> Option<Identity> {
        Identity::of(packet, request.target(), request.subject.as_ref(), [], None)
    }
}

impl World<'_> {
    /// The connection of a client has died behind a request.
    pub fn leave_under_way(
        &mut self,
        number: usize,
        kind: Kind,
        request: &Request,
        connection: Connection,
    ) {
        if self.rng.chance(70) && self.clients[number].under_way.is_none() {
            let whole = request.body.is_empty() || self.rng.chance(50);
            let request = request.clone();
            self.clients[number].under_way = Some(UnderWay { kind, request, connection, whole });
        }
    }

    /// Does what the rules say about the older request of a client. Returns its answer, if the newer
    /// one gets that too.
    pub fn settle_older(
        &mut self,
        number: usize,
        newer: &Request,
        gateway: usize,
    ) -> Option<response::Parts> {
        let older = self.clients[number].under_way.take()?;
        let same = older.connection.gateway == gateway && older.request.tag == newer.tag;
        let table = &self.tables[if self.farm.lossy { gateway } else { 0 }];
        let turns = |request| self.gateways[gateway].takes_turn(request, table);
        let turns = turns(&older.request).filter(|_| same).zip(turns(newer));
        let Some((packet, identity)) = turns else {
            // Nothing waits for it, so it ends some time.
            if self.rng.chance(50) {
                self.clients[number].under_way = Some(older);
            } else if older.whole {
                self.complete(&older);
            }
            return None;
        };
        let under_way = ownership::UnderWay { packet: packet.as_ref(), whole: older.whole };
        match order(under_way, identity.as_ref()) {
            Order::Cancel => {
                self.counts.add("superseded");
                None
            }
            Order::Join => {
                let answer = self.complete(&older)?;
                match shared(
                    &packet.expect("it was joined"),
                    &read_ack(answer.status, &answer.headers),
                    false,
                ) {
                    Shared::End => {
                        self.counts.add("joined an end");
                        Some(answer_of(Fault::AlreadyEnded, newer))
                    }
                    Shared::Answer => {
                        self.counts.add("joined a final fragment");
                        Some(answer)
                    }
                    Shared::Nothing => None,
                }
            }
            Order::Wait => {
                self.counts.add("waited for an older request");
                self.complete(&older);
                None
            }
            Order::WaitBriefly => {
                // Its server takes it or hangs.
                self.counts.add("waited briefly");
                if self.rng.chance(70) {
                    self.complete(&older);
                }
                None
            }
        }
    }

    /// The request reaches its server, and its client is not there any more. `None` if there is no
    /// answer.
    fn complete(&mut self, older: &UnderWay) -> Option<response::Parts> {
        let gateway = older.connection.gateway;
        let facts = self.facts(&older.request, gateway);
        let passed = self.pass(older.kind, &older.request, older.connection, &facts);
        let pinned = facts.pinned_at.or(facts.alias);
        let (now, farm) = (self.now, &mut self.farm);
        let mut link = Link { farm, counts: &mut self.counts, now, pinned, came_back: false };
        let table = &mut self.tables[facts.table];
        let ended = self.gateways[gateway].cancel_undelivered(
            &older.request,
            table,
            &mut self.rng,
            &mut link,
        );
        self.take_notes(gateway);
        self.trace.note(format!("{now}: late {:?} {:?}", older.request.tag, older.kind));
        if passed.died || ended == Err(Stop::Died) {
            self.counts.add("died over a row");
            self.kill();
            return None;
        }
        passed.made
    }
}
