//! What a decision rests on.

use std::sync::atomic::Ordering;

use gateway_core::farm::{BackendId, Barred};
use gateway_core::protocol::PacketType;
use gateway_core::routing::{Evidence, Lookup};
use gateway_core::session::fnv1a;

use super::{Ctx, Gateway};
use crate::config::HashKey;
use crate::guard::Bond;

impl Gateway {
    pub(super) fn evidence<'a>(
        &self,
        ctx: &'a Ctx,
        lookup: &'a Lookup,
        alias: Option<BackendId>,
        barred: &'a [Barred],
    ) -> Evidence<'a> {
        let hash = match ctx.arrival.farm.hash_key {
            HashKey::Target => ctx.arrival.target.hash().0,
            HashKey::Client => ctx.arrival.client.map_or(0, |ip| match ip {
                std::net::IpAddr::V4(ip) => fnv1a(&ip.octets()),
                std::net::IpAddr::V6(ip) => fnv1a(&ip.octets()),
            }),
        };
        let bond = ctx.admitted.login.bond.as_deref();
        let last = ctx.arrival.conn.as_ref().and_then(|conn| conn.backend());
        let connection = bond.and_then(Bond::backend).or(last);
        let login =
            |backend| bond.is_some_and(|bond| bond.has(backend) || bond.pending() == Some(backend));
        Evidence {
            lookup,
            target: ctx.arrival.target,
            total: ctx.admitted.total,
            alias,
            connection,
            login: connection.is_some_and(login),
            room: ctx.admitted.place.is_some(),
            avoid: &ctx.attempt.avoid,
            barred,
            refused: !ctx.admitted.creating.refusers.is_empty(),
            hash,
            turn: match ctx.admitted.kind {
                Some(PacketType::CreateSession) => self.creates.fetch_add(1, Ordering::Relaxed),
                _ => ctx.arrival.id,
            },
        }
    }
}
