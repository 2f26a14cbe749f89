//! A request whose head is here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::client::ClientKey;
use gateway_core::routing::ownership::Asker;
use gateway_core::session::{Binding, Pin, Subject, Target, Timestamp};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::config::{Access, Bind};
use crate::farm::Farm;
use crate::guard::{Conn, Reading};
use crate::telemetry::metrics::{Carrier, Gauged};

/// What is known of a request before anything is decided.
pub struct Arrival {
    /// The farm as it was when the request came: one request sees one picture. A request that has
    /// waited looks again.
    pub farm: Arc<Farm>,
    /// Unique for the life of the process.
    pub id: u64,
    pub now: Timestamp,
    /// By the steady clock.
    pub started: Duration,
    pub conn: Option<Arc<Conn>>,
    /// Who carries it.
    pub carrier: Carrier,
    /// The client, behind trusted proxies too.
    pub client: Option<IpAddr>,
    /// Whether the request is a packet, however broken.
    pub is_packet: bool,
    pub has_body: bool,
    pub target: Target,
    /// What was found of the head that this one repeats.
    pub reading: Option<Reading>,
    /// What a session is bound to that has its pin from this packet.
    pub binding: Binding,
    /// Held until the last byte of the answer is out: the process does not end before.
    pub running: Option<TaskTrackerToken>,
    /// Held for the gauge of requests.
    pub request: Option<Gauged>,
}

impl Arrival {
    pub fn new(
        carrier: Carrier,
        farm: Arc<Farm>,
        id: u64,
        now: Timestamp,
        started: Duration,
    ) -> Self {
        Self {
            carrier,
            farm,
            id,
            now,
            started,
            conn: None,
            client: None,
            is_packet: false,
            has_body: false,
            target: Target::default(),
            reading: None,
            binding: Binding::default(),
            running: None,
            request: None,
        }
    }

    /// Whom the listener serves on which it came.
    pub fn access(&self) -> Option<&Access> {
        let listener = self.conn.as_ref()?.listener;
        Some(&self.farm.config.listeners.get(listener)?.access)
    }

    /// Whether the listener serves the client, as far as the head tells who that is.
    pub fn is_admitted(&self) -> bool {
        let admits = |access: &Access| {
            access.is_open() || self.client.is_some_and(|client| access.admits(client))
        };
        self.access().is_none_or(admits)
    }

    /// Who the client is by its certificate.
    pub fn subject(&self) -> Option<&Subject> {
        self.conn.as_ref()?.tls.as_ref()?.subject.as_ref()
    }

    /// Whose share of what all clients share the request is on. Behind a proxy of ours that names
    /// nobody are many clients, of whom none is held to a share.
    pub fn counted_client(&self) -> Option<ClientKey> {
        let trusted = &self.farm.config.http.trusted_proxies;
        let client = self.client?;
        let proxy = trusted.iter().any(|network| network.contains(client));
        (!proxy).then(|| ClientKey::of(client))
    }

    /// The client, as sessions are shown to it.
    pub fn asker(&self) -> Asker<'_> {
        let binds = self.farm.config.sessions.bind == Bind::Certificate;
        Asker { target: self.target, subject: self.subject(), binds }
    }

    /// The pin of a session that this packet opens, or that it has shown to be there.
    pub fn pin(&self, backend: BackendId, backend_session: Option<Box<str>>) -> Pin {
        Pin {
            backend,
            backend_session,
            binding: self.binding.clone(),
            created: self.now,
            subject: self.asker().bound_to(),
        }
    }
}
