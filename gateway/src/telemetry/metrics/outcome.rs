//! What became of a request, and what that moves.

use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::ContentRange;
use gateway_core::protocol::head::HeadError;

use super::Metrics;
use super::labels::{
    Carrier, LookupResult, LookupSource, PacketLabel, ProtocolError, Rejection, StatusClass,
    StatusLabel,
};

/// What became of one request.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Position among the listeners that [`Metrics::new`] was given.
    pub listener: usize,
    pub packet: PacketLabel,
    /// `None` for a head that was refused.
    pub carrier: Option<Carrier>,
    /// What the client was sent; 0 if it was gone before.
    pub status: u16,
    /// The gateway answered by itself, for this reason.
    pub fault: Option<Fault>,
    /// And that was because the session is bound to another client.
    pub foreign: bool,
    /// The head was refused before anything else looked at it.
    pub head_refused: Option<HeadError>,
    /// Where the request went last, once its first byte may have left.
    pub backend: Option<BackendId>,
    /// What that backend answered; `None` if it did not.
    pub backend_status: Option<u16>,
    pub protocol_error: Option<ProtocolError>,
    /// Whether the session table knew the session; `None` if the packet named none.
    pub pin_found: Option<bool>,
    /// Whether the Host stood for a backend; `None` if that was not looked up.
    pub alias_found: Option<bool>,
    /// Whether asking the backends found the session; `None` if they were not asked.
    pub owner_found: Option<bool>,
    /// Of a Fragment.
    pub range: Option<ContentRange>,
    /// Body bytes read from the client that are not counted yet.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// Body bytes that went on to the backend and are not counted yet.
    pub bytes_forwarded: u64,
    /// From the head to the last byte of the answer.
    pub total: Duration,
    /// From the last byte of the request to the first one of the backend's answer.
    pub backend_wait: Option<Duration>,
}

impl Outcome {
    /// A request about which nothing is known yet.
    pub fn new(listener: usize, packet: PacketLabel) -> Self {
        Self {
            listener,
            packet,
            carrier: None,
            status: 0,
            fault: None,
            foreign: false,
            head_refused: None,
            backend: None,
            backend_status: None,
            protocol_error: None,
            pin_found: None,
            alias_found: None,
            owner_found: None,
            range: None,
            bytes_in: 0,
            bytes_out: 0,
            bytes_forwarded: 0,
            total: Duration::ZERO,
            backend_wait: None,
        }
    }
}

pub(super) fn record(metrics: &Metrics, outcome: &Outcome) {
    if let Some(listener) = metrics.listeners.get(outcome.listener) {
        let code = StatusLabel::of(outcome.status);
        listener.requests.of(outcome.packet).of(code).inc();
        listener.received_bytes.inc_by(outcome.bytes_in);
        listener.sent_bytes.inc_by(outcome.bytes_out);
        if let Some(range) = outcome.range {
            listener.fragment_bytes.observe(range.len() as f64);
        }
    }
    let gateway = &metrics.gateway;
    if let Some(carrier) = outcome.carrier {
        gateway.carried.of(carrier).of(outcome.packet).inc();
    }
    // A refused head never became a request that could have taken time.
    if outcome.head_refused.is_none() {
        gateway.request_seconds.of(outcome.packet).observe(outcome.total.as_secs_f64());
    }
    let rejection = outcome.head_refused.map(Rejection::from).or(outcome
        .fault
        .map(|fault| if outcome.foreign { Rejection::ForeignSession } else { fault.into() }));
    if let Some(rejection) = rejection {
        gateway.rejected.of(rejection).inc();
    }
    for (source, found) in [
        (LookupSource::Memory, outcome.pin_found),
        (LookupSource::HostId, outcome.alias_found),
        (LookupSource::Ask, outcome.owner_found),
    ] {
        if let Some(found) = found {
            let result = if found { LookupResult::Hit } else { LookupResult::Miss };
            gateway.lookups.of(source).of(result).inc();
        }
    }
    if let Some(backend) = outcome.backend.and_then(|id| metrics.backend(id)) {
        backend.requests.of(StatusClass::of(outcome.backend_status)).inc();
        backend.upload_bytes.inc_by(outcome.bytes_forwarded);
        if let Some(error) = outcome.protocol_error {
            backend.protocol_errors.of(error).inc();
        }
        if let Some(wait) = outcome.backend_wait {
            backend.response_seconds.observe(wait.as_secs_f64());
        }
    }
}
