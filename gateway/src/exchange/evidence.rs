//! What a decision rests on.

use std::sync::atomic::Ordering;

use gateway_core::farm::{BackendId, Barred};
use gateway_core::protocol::PacketType;
use gateway_core::routing::{Evidence, Lookup};
use gateway_core::session::fnv1a;

use super::{Exchange, Gateway};
use crate::config::HashKey;
use crate::guard::Bond;

impl Gateway {
    pub(super) fn evidence<'a>(
        &self,
        exchange: &'a Exchange,
        lookup: &'a Lookup,
        alias: Option<BackendId>,
        barred: &'a [Barred],
    ) -> Evidence<'a> {
        let hash = match exchange.arrival.farm.hash_key {
            HashKey::Target => exchange.arrival.target.hash().0,
            HashKey::Client => exchange.arrival.client.map_or(0, |ip| match ip {
                std::net::IpAddr::V4(ip) => fnv1a(&ip.octets()),
                std::net::IpAddr::V6(ip) => fnv1a(&ip.octets()),
            }),
        };
        let bond = exchange.admitted.login.bond.as_deref();
        let last = exchange.arrival.conn.as_ref().and_then(|conn| conn.backend());
        let connection = bond.and_then(Bond::backend).or(last);
        let login =
            |backend| bond.is_some_and(|bond| bond.has(backend) || bond.pending() == Some(backend));
        Evidence {
            lookup,
            target: exchange.arrival.target,
            total: exchange.admitted.total,
            alias,
            connection,
            login: connection.is_some_and(login),
            room: exchange.admitted.place.is_some(),
            avoid: &exchange.attempt.avoid,
            barred,
            refused: !exchange.admitted.creating.refusers.is_empty(),
            hash,
            turn: match exchange.admitted.kind {
                Some(PacketType::CreateSession) => self.creates.fetch_add(1, Ordering::Relaxed),
                _ => exchange.arrival.id,
            },
        }
    }
}
