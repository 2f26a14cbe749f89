//! What is told of a request when it is over: metrics and one log line. And what is told of sessions,
//! connections and refused heads.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::chunked::ChunkError;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::head::find_field;
use gateway_core::protocol::headers;
use gateway_core::protocol::packet::Hidden;
use gateway_core::protocol::trace_context::TraceParent;
use uuid::Uuid;

use crate::base::backend_ids::BackendIds;
use crate::base::clock;
use crate::guard::{Conn, ConnectionEvents, Refusal, RejectedConnection};
use crate::sessions::Ended;
use crate::telemetry::access_log::{AccessLog, RequestLine, UploadLine};
use crate::telemetry::events::Events;
use crate::telemetry::log::{NowAndThen, Untrusted};
use crate::telemetry::metrics::{
    LostCloseResult, Metrics, OrphanResult, Outcome, PacketLabel, Rejection,
};
use crate::telemetry::warned::Hourly;

use super::Exchange;
use super::arrival::Arrival;
use super::forwarding::Forwarding;
use super::state::{Admitted, Answered, Attempt, Findings, Tried};

/// What the client was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// `None` if it was gone before, or the process ended.
    pub status: Option<u16>,
    /// Of the answer's body.
    pub bytes: u64,
    /// Of the request's body, to the backend.
    pub bytes_forwarded: u64,
    /// By the steady clock: the end of the answer, where somebody has looked.
    pub ended: Option<Duration>,
}

/// Bytes of the request's body that the metrics have counted while it passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    pub received: u64,
    pub forwarded: u64,
}

/// A request that is over.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    pub head: &'a RequestHead,
    pub arrival: &'a Arrival,
    pub admitted: &'a Admitted,
    pub tries: &'a Tried,
    pub attempt: &'a Attempt,
    pub answered: &'a Answered,
    pub findings: &'a Findings,
    pub sent: Sent,
    pub counted: Counted,
}

/// Where the gateway says what it did.
#[derive(Clone)]
pub struct Reporter {
    pub metrics: Arc<Metrics>,
    pub access: AccessLog,
    /// Half of every request id: random, so that ids of two processes differ.
    process: u64,
    pub ids: Arc<BackendIds>,
    pub events: Events,
    hidden: Arc<NowAndThen>,
    refusals: Arc<NowAndThen>,
    denials: Arc<NowAndThen>,
    unknown_hosts: Arc<NowAndThen>,
    loops: Arc<NowAndThen>,
    shared_logins: Arc<Hourly>,
}

impl Reporter {
    pub fn new(
        metrics: Arc<Metrics>,
        access: AccessLog,
        ids: Arc<BackendIds>,
        events: Events,
    ) -> Self {
        let process = Uuid::new_v4().as_u64_pair().0;
        Self {
            metrics,
            access,
            process,
            ids,
            events,
            hidden: Arc::default(),
            refusals: Arc::default(),
            denials: Arc::default(),
            unknown_hosts: Arc::default(),
            loops: Arc::default(),
            shared_logins: Arc::default(),
        }
    }

    /// Counts what has come, and gone on, of a body of which more follows: it may take hours.
    pub fn count_body(&self, exchange: &mut Exchange) {
        let Exchange { arrival, admitted, attempt, sent, counted, .. } = exchange;
        let listener = arrival.conn.as_ref().map_or(0, |conn| conn.listener);
        self.metrics.received(listener, attempt.bytes_in.saturating_sub(counted.received));
        counted.received = counted.received.max(attempt.bytes_in);
        let forwarded = sent.bytes_forwarded.saturating_sub(counted.forwarded);
        if let Some(backend) = admitted.backend.filter(|_| forwarded > 0) {
            self.metrics.uploaded(backend, forwarded);
            counted.forwarded = sent.bytes_forwarded;
        }
    }

    pub(super) fn request_id(&self, request: u64) -> Uuid {
        Uuid::from_u64_pair(self.process, request)
    }

    /// A request that a server might take for a packet has been refused. Any client can send one, so
    /// the log tells of it now and then; the access log has a line for each.
    pub fn note_hidden(&self, hidden: Hidden) {
        if !self.hidden.is_due(clock::steady()) {
            return;
        }
        match hidden {
            Hidden::Override { allowable: true } => tracing::warn!(
                reason = %hidden,
                "a packet under another method was refused; http.method_override = true makes \
                 packets of such requests"
            ),
            _ => tracing::warn!(
                reason = %hidden,
                "a packet under another method was refused; no key lets it pass"
            ),
        }
    }

    /// A request for a name that is not configured has been refused.
    pub fn note_unknown_host(&self, host: &str) {
        if self.unknown_hosts.is_due(clock::steady()) {
            tracing::warn!(
                host = %Untrusted(host.as_bytes()),
                "a request for a host that is not in http.hosts was refused; a client whose URL has \
                 this name gives its upload up"
            );
        }
    }

    /// A request came back by `backend`.
    pub fn note_loop(&self, backend: BackendId) {
        if self.loops.is_due(clock::steady()) {
            let backend = self.name(backend);
            tracing::error!(
                backend,
                "a request came back to this gateway: the address of the backend leads to one of \
                 its own listeners, perhaps through another proxy"
            );
        }
    }

    /// A login by NTLM or Negotiate was taken out of an answer over this connection.
    pub fn note_shared_login(&self, conn: &Conn, forwarding: &Forwarding<'_>) {
        let Some(peer) = conn.client.map(|client| client.ip()) else { return };
        self.shared_logins.warn(|| {
            if forwarding.trusts(peer) {
                tracing::warn!(
                    %peer,
                    "NTLM and Negotiate were taken out of a server's 401: a proxy of \
                     http.trusted_proxies sent a request without the address of one client of its \
                     own; it has to name each client, and what is in front of it has to stand in \
                     http.trusted_proxies too"
                );
            } else {
                tracing::warn!(
                    %peer,
                    "NTLM and Negotiate were taken out of a server's 401: this address is a proxy \
                     with many clients and does not stand in http.trusted_proxies, so a login \
                     could serve another client"
                );
            }
        });
    }

    /// What became of a session that nobody can know of.
    pub fn orphaned(&self, backend: BackendId, result: OrphanResult) {
        self.metrics.orphan(result);
        let (backend, result) = (self.name(backend), result.label());
        tracing::info!(backend, result, "a session that no client will use");
    }

    /// A backend does not know the session that a client closes.
    pub fn lost_close(&self, backend: BackendId, result: LostCloseResult) {
        self.metrics.lost_close(result);
        let (backend, result) = (self.name(backend), result.label());
        tracing::info!(backend, result, "a server does not know the session that a client closes");
    }

    pub fn name(&self, backend: BackendId) -> &str {
        self.ids.name(backend)
    }

    /// `by` and `target` are those of the request that ended it; a sweep has neither.
    pub fn ended(&self, ended: &Ended, by: Option<(&Arrival, &[u8])>) {
        let Ended { key, pin, progress, reason } = ended;
        self.tell_ended(ended);
        let now = clock::now();
        let age = now.since(pin.created);
        self.metrics.session_ended(pin.backend, *reason, age, progress.total);
        self.access.upload_end(&UploadLine {
            ts: now,
            request_id: by.map(|(by, _)| self.request_id(by.id)),
            session: key,
            client: by.and_then(|(by, _)| by.client),
            target: by.map(|(_, target)| target),
            backend: self.name(pin.backend),
            reason: *reason,
            bytes: progress.next_offset,
            total: progress.total,
            age,
        });
    }

    /// What became of a request: one update of the metrics and one line.
    pub fn tell(&self, report: &Report<'_>) {
        let Report { head, arrival, admitted, tries, attempt, answered, findings, .. } = *report;
        let Report { sent, counted, .. } = *report;
        let ended = sent.ended.unwrap_or_else(clock::steady);
        let total = ended.saturating_sub(arrival.started);
        let sent_whole = attempt.body_done.unwrap_or(arrival.started);
        let backend_time = answered.first_byte.map(|first| first.saturating_sub(sent_whole));
        let packet = match admitted.kind() {
            Some(kind) => kind.into(),
            None if arrival.is_packet => PacketLabel::Unknown,
            None => PacketLabel::Other,
        };
        let went_out = tries.backend_request.is_some();
        self.metrics.record(&Outcome {
            status: sent.status.unwrap_or(0),
            fault: findings.fault,
            foreign: findings.foreign,
            carrier: Some(arrival.carrier),
            backend: admitted.backend.filter(|_| went_out),
            backend_status: answered.backend_status,
            protocol_error: answered.protocol_error,
            pin_found: findings.pin_found,
            alias_found: findings.alias_found,
            owner_found: findings.owner_found,
            range: admitted.range(),
            bytes_in: attempt.bytes_in.saturating_sub(counted.received),
            bytes_out: sent.bytes,
            bytes_forwarded: sent.bytes_forwarded.saturating_sub(counted.forwarded),
            total,
            backend_wait: backend_time,
            ..Outcome::new(arrival.conn.as_ref().map_or(0, |conn| conn.listener), packet)
        });
        self.access.request(|| RequestLine {
            ts: clock::now(),
            request_id: self.request_id(arrival.id),
            session: admitted.key.as_ref(),
            packet,
            method: head.method(),
            host: head.first(&headers::HOST),
            target: head.target(),
            client: arrival.client,
            tls_version: arrival.conn.as_ref().and_then(|conn| conn.tls_version()),
            backend: admitted.backend.map(|id| self.name(id)),
            carrier: Some(arrival.carrier),
            pin_source: admitted.why,
            status: sent.status,
            bits_error: answered
                .backend_error
                .or(findings.fault.and_then(|fault| fault.row().hresult)),
            fault: findings.fault,
            rule: arrival
                .conn
                .as_ref()
                .and_then(|conn| conn.malformed_body())
                .map(ChunkError::label),
            bytes_in: attempt.bytes_in,
            bytes_out: sent.bytes,
            range: admitted.range(),
            total_time: total,
            backend_time,
            retries: tries.count.saturating_sub(1),
            conn_reused: went_out.then_some(tries.reused),
            user_agent: head.first(&headers::USER_AGENT),
            traceparent: TraceParent::of(head).valid(),
        });
    }
}

/// The method and target of a head that may be none, as far as its first line is visible ASCII.
fn request_line(head: &[u8]) -> (&[u8], &[u8]) {
    let visible = |byte: &u8| *byte == b' ' || byte.is_ascii_graphic();
    let line = head.split(|byte| !visible(byte)).next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

impl ConnectionEvents for Reporter {
    fn opened(&self, listener: usize) {
        self.metrics.connection_opened(listener);
    }

    fn closed(&self, listener: usize) {
        self.metrics.connection_closed(listener);
    }

    fn refused(&self, conn: &Conn, refusal: &Refusal, head: &[u8]) {
        let packet = if refusal.packet { PacketLabel::Unknown } else { PacketLabel::Other };
        self.metrics.record(&Outcome {
            status: refusal.status,
            head_refused: Some(refusal.error),
            ..Outcome::new(conn.listener, packet)
        });
        // What the client sent is not a request: these are its words where they would stand in one.
        let (method, target) = request_line(head);
        let host = find_field(head, "host")
            .filter(|host| host.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        self.access.request(|| RequestLine {
            ts: clock::now(),
            request_id: Uuid::new_v4(),
            session: None,
            packet,
            method,
            host: host.map(str::as_bytes),
            target,
            client: conn.client.map(|addr| addr.ip()),
            tls_version: conn.tls_version(),
            backend: None,
            carrier: None,
            pin_source: None,
            status: Some(refusal.status),
            bits_error: None,
            fault: Some(Fault::BadRequest),
            rule: Some(refusal.error.label()),
            bytes_in: 0,
            bytes_out: 0,
            range: None,
            total_time: Duration::ZERO,
            backend_time: None,
            retries: 0,
            conn_reused: None,
            user_agent: None,
            traceparent: None,
        });
        let (reason, client) = (refusal.error, conn.client.map(|addr| addr.ip()));
        tracing::debug!(conn = conn.id, %reason, "a request was refused");
        if refusal.packet && self.refusals.is_due(clock::steady()) {
            let client = client.map(tracing::field::display);
            let host = Untrusted(host.unwrap_or_default().as_bytes());
            let remedy = refusal.error.remedy().map(tracing::field::display);
            tracing::warn!(
                rule = reason.label(), %reason, client, %host, remedy,
                "a packet was refused and its client gives the upload up; more may follow unsaid \
                 for a minute"
            );
        }
    }

    fn turned_away(&self, _listener: usize) {
        self.metrics.rejected(Rejection::ConnectionLimit);
    }

    fn timed_out(&self) {
        self.metrics.rejected(Rejection::HeadTimeout);
    }

    fn connection_rejected(&self, rejected: RejectedConnection) {
        match rejected {
            RejectedConnection::Silent => {}
            RejectedConnection::PlainOnTls => self.metrics.rejected(Rejection::PlainOnTls),
            RejectedConnection::TlsOnPlain => self.metrics.rejected(Rejection::TlsOnPlain),
            RejectedConnection::ProxyProtocol => self.metrics.rejected(Rejection::ProxyProtocol),
            RejectedConnection::Denied(client) => {
                self.metrics.rejected(Fault::AccessDenied.into());
                if self.denials.is_due(clock::steady()) {
                    tracing::info!(
                        %client,
                        "a connection was closed, because `access` of its listener denies the \
                         client; more may follow unsaid for a minute"
                    );
                }
            }
            RejectedConnection::Crowded => self.metrics.rejected(Rejection::AddressLimit),
            RejectedConnection::Handshake(failure) => self.metrics.handshake_failed(failure),
        }
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
