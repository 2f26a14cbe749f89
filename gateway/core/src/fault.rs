//! Every answer that the gateway gives to a packet by itself, in one table.
//!
//! The statuses are few because the client reads them harshly: any 4xx but 408, 409 and 413, any
//! redirect, 501 and 505 end an upload for good. "Not now" is therefore always 502, 503 or 504
//! without an error code. Only 500 with [`HResult::SESSION_NOT_FOUND`] makes a client start over;
//! 500 with [`HResult::TOO_LARGE`] fails its job. 403 fails it too, and is sent only where the
//! operator chose that ([`Denial::Forbidden`](crate::protocol::access::Denial::Forbidden)).

use http::{HeaderValue, StatusCode};

use crate::protocol::headers::{self, Field};
use crate::protocol::{HResult, SessionId};

/// Why the gateway answers instead of forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No fault: a Close or Cancel whose Ack got lost comes again, and hears the same again.
    AlreadyEnded,
    /// The packet breaks a rule of the protocol or of HTTP.
    BadRequest,
    /// A request that is no packet, by a method that the operator does not let pass.
    MethodNotServed,
    /// The request is for a host that is not one of ours.
    UnknownHost,
    /// The listener does not serve the client's address, and the operator wants to say so; else the
    /// connection ends without an answer.
    AccessDenied,
    /// A body without a length.
    LengthRequired,
    /// The Fragment is larger than this gateway takes; the client sends smaller ones.
    FragmentTooLarge,
    /// No pin, no alias, or a path that is not the session's.
    UnknownSession,
    /// The same, where the operator lets such clients wait.
    SessionNotHere,
    /// The session's backend does not know the session that is to be closed, and whether it has
    /// delivered the file is not known.
    CloseUnverified,
    /// The session's backend is no longer part of the farm.
    BackendRemoved,
    /// The session's backend has been away for too long.
    BackendGivenUp,
    /// The connection to the backend broke.
    BackendFailed,
    /// The backend opened a session and did not say which.
    BackendAnswer,
    /// The session's backend cannot be reached now.
    BackendDown,
    /// As many connections to the backend are open as may be, and none became free.
    BackendBusy,
    /// The session is not at the address to which its backend came a moment ago.
    BackendMoved,
    /// No backend takes a new session now.
    NoBackend,
    /// The session table is full.
    TableFull,
    /// The client has as many sessions as one client may.
    ClientSessions,
    /// The file is larger than this gateway takes.
    UploadTooLarge,
    /// As many connections are logged in as may be.
    LoginsFull,
    /// The connection to the backend on which this client had logged in is gone. Written only where
    /// a proxy is in front: else the client's connection ends instead, or a login would go on where
    /// it did not begin.
    LoginLost,
    /// The server offers no login but those that count for a connection, and the client's carries
    /// the requests of others too.
    LoginShared,
    /// The store cannot say, or cannot keep, what it must.
    StoreDown,
    /// A newer request of the same session took this one's place.
    Superseded,
    /// The client stopped in the middle of a body.
    ClientStalled,
    /// The request has passed this gateway before: a backend leads back to it.
    Loop,
    /// The gateway itself failed.
    Internal,
    /// The backend did not answer in time.
    BackendTimeout,
}

/// Who should look at it; the shell maps this to its log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The client's business.
    Info,
    /// The operator may want to know.
    Warn,
    /// The operator must act.
    Error,
}

/// What goes over the wire, and what the operator reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub status: StatusCode,
    /// Written under both names of the error header, with context 0x5.
    pub hresult: Option<HResult>,
    /// Metric label and log word.
    pub label: &'static str,
    pub severity: Severity,
}

impl Fault {
    pub const ALL: [Self; 30] = [
        Self::AlreadyEnded,
        Self::BadRequest,
        Self::MethodNotServed,
        Self::UnknownHost,
        Self::AccessDenied,
        Self::LengthRequired,
        Self::FragmentTooLarge,
        Self::UnknownSession,
        Self::SessionNotHere,
        Self::CloseUnverified,
        Self::BackendRemoved,
        Self::BackendGivenUp,
        Self::BackendFailed,
        Self::BackendAnswer,
        Self::BackendDown,
        Self::BackendBusy,
        Self::BackendMoved,
        Self::NoBackend,
        Self::TableFull,
        Self::ClientSessions,
        Self::UploadTooLarge,
        Self::LoginsFull,
        Self::LoginLost,
        Self::LoginShared,
        Self::StoreDown,
        Self::Superseded,
        Self::ClientStalled,
        Self::Loop,
        Self::Internal,
        Self::BackendTimeout,
    ];

    #[rustfmt::skip]
    pub fn row(self) -> Row {
        use Severity::{Error, Info, Warn};
        const INVALID: Option<HResult> = Some(HResult::INVALID_ARGUMENT);
        const NOT_FOUND: Option<HResult> = Some(HResult::SESSION_NOT_FOUND);
        const TOO_LARGE: Option<HResult> = Some(HResult::TOO_LARGE);
        const DENIED: Option<HResult> = Some(HResult::ACCESS_DENIED);
        let row = |status, hresult, label, severity| Row { status, hresult, label, severity };
        match self {
            Self::AlreadyEnded     => row(StatusCode::OK,                    None,      "already_ended",      Info),
            Self::BadRequest       => row(StatusCode::BAD_REQUEST,           INVALID,   "bad_request",        Info),
            Self::MethodNotServed  => row(StatusCode::BAD_REQUEST,           INVALID,   "method_not_served",  Info),
            Self::UnknownHost      => row(StatusCode::BAD_REQUEST,           INVALID,   "unknown_host",       Warn),
            Self::AccessDenied     => row(StatusCode::FORBIDDEN,             DENIED,    "access_denied",      Info),
            Self::LengthRequired   => row(StatusCode::LENGTH_REQUIRED,       INVALID,   "length_required",    Info),
            Self::FragmentTooLarge => row(StatusCode::PAYLOAD_TOO_LARGE,     None,      "fragment_too_large", Info),
            Self::UnknownSession   => row(StatusCode::INTERNAL_SERVER_ERROR, NOT_FOUND, "unknown_session",    Warn),
            Self::SessionNotHere   => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "session_not_here",   Warn),
            Self::CloseUnverified  => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "close_unverified",   Warn),
            Self::BackendRemoved   => row(StatusCode::INTERNAL_SERVER_ERROR, NOT_FOUND, "backend_removed",    Warn),
            Self::BackendGivenUp   => row(StatusCode::INTERNAL_SERVER_ERROR, NOT_FOUND, "backend_given_up",   Warn),
            Self::BackendFailed    => row(StatusCode::BAD_GATEWAY,           None,      "backend_failed",     Warn),
            Self::BackendAnswer    => row(StatusCode::BAD_GATEWAY,           None,      "backend_answer",     Warn),
            Self::BackendDown      => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "backend_down",       Warn),
            Self::BackendBusy      => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "backend_busy",       Warn),
            Self::BackendMoved     => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "backend_moved",      Warn),
            Self::NoBackend        => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "no_backend",         Error),
            Self::TableFull        => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "table_full",         Error),
            Self::ClientSessions   => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "client_sessions",    Warn),
            Self::UploadTooLarge   => row(StatusCode::INTERNAL_SERVER_ERROR, TOO_LARGE, "upload_too_large",   Info),
            Self::LoginsFull       => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "logins_full",        Error),
            Self::LoginLost        => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "login_lost",         Info),
            Self::LoginShared      => row(StatusCode::BAD_GATEWAY,           None,      "login_shared",       Warn),
            Self::StoreDown        => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "store_down",         Error),
            Self::Superseded       => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "superseded",         Info),
            Self::ClientStalled    => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "client_stalled",     Info),
            Self::Loop             => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "loop",               Error),
            Self::Internal         => row(StatusCode::SERVICE_UNAVAILABLE,   None,      "internal",           Error),
            Self::BackendTimeout   => row(StatusCode::GATEWAY_TIMEOUT,       None,      "backend_timeout",    Warn),
        }
    }

    pub fn label(self) -> &'static str {
        self.row().label
    }

    /// Seconds after which another try may fare better, for what only others can change.
    ///
    /// A Windows client waits for its own 10 minutes; programs that read the header need not.
    pub fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::TableFull | Self::ClientSessions | Self::LoginsFull => Some("60"),
            // Too many ask, or somebody may bring the session back.
            Self::SessionNotHere => Some("60"),
            // A server that restarts is probed and back within that time.
            Self::NoBackend | Self::BackendDown | Self::BackendMoved => Some("30"),
            // Others have it to themselves by then, or have gone.
            Self::BackendBusy => Some("30"),
            // Its server may answer for the file then.
            Self::CloseUnverified => Some("60"),
            _ => None,
        }
    }
}

/// The head of the Ack that tells a client of a fault, in the order in which it is written.
///
/// `session` is the id that the packet had, which the Ack repeats.
///
/// # Source
/// MC-BUP 2.2.1.2 for the error headers; either name, since the official texts disagree on it.
pub fn ack_headers(
    fault: Fault,
    session: Option<&SessionId>,
) -> impl Iterator<Item = (&'static Field, HeaderValue)> {
    let fixed = HeaderValue::from_static;
    let session = session.and_then(|id| HeaderValue::from_str(id.as_str()).ok());
    let session = session.map(|id| (&headers::SESSION_ID, id));
    let error = fault.row().hresult.map(HResult::to_header);
    let errors = error.into_iter().flat_map(move |code| {
        [
            (&headers::ERROR, code.clone()),
            (&headers::ERROR_CODE, code),
            (&headers::ERROR_CONTEXT, fixed("0x5")),
        ]
    });
    let ack = [(&headers::PACKET_TYPE, fixed("Ack"))];
    let later = fault.retry_after().map(|seconds| (&headers::RETRY_AFTER, fixed(seconds)));
    let length = [(&headers::CONTENT_LENGTH, fixed("0"))];
    ack.into_iter().chain(session).chain(errors).chain(later).chain(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::read_ack;

    #[test]
    fn no_answer_of_ours_ends_an_upload_that_could_go_on() {
        let chosen = |fault: &Fault| *fault == Fault::AccessDenied;
        for fault in Fault::ALL.into_iter().filter(|fault| !chosen(fault)) {
            let row = fault.row();
            let code = row.status.as_u16();
            assert!([200, 400, 411, 413, 500, 502, 503, 504].contains(&code), "{fault:?}");
            let refusal = [400, 411].contains(&code);
            assert_eq!(row.hresult == Some(HResult::INVALID_ARGUMENT), refusal, "{fault:?}");
            let over = match fault {
                Fault::UploadTooLarge => HResult::TOO_LARGE,
                _ => HResult::SESSION_NOT_FOUND,
            };
            assert_eq!(code == 500, row.hresult == Some(over), "{fault:?}");
            let not_now = [502, 503, 504].contains(&code);
            assert!(row.hresult.is_none() || !not_now, "{fault:?}");
            assert_eq!(code == 200, fault == Fault::AlreadyEnded, "{fault:?}");
            assert_eq!(code == 413, fault == Fault::FragmentTooLarge, "{fault:?}");
            assert!(fault.retry_after().is_none() || code == 503, "{fault:?}");
        }
    }

    #[test]
    fn labels_are_unique() {
        let mut labels: Vec<_> = Fault::ALL.iter().map(|fault| fault.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Fault::ALL.len());
    }

    fn status_and_code(fault: Fault) -> (u16, Option<HResult>) {
        (fault.row().status.as_u16(), fault.row().hresult)
    }

    #[test]
    fn every_answer_makes_the_client_do_the_right_thing() {
        let invalid = Some(HResult::INVALID_ARGUMENT);
        let restart = Some(HResult::SESSION_NOT_FOUND);
        for (fault, status, code) in [
            // Fatal: no honest client sends such a thing.
            (Fault::BadRequest, 400, invalid),
            (Fault::LengthRequired, 411, invalid),
            (Fault::AccessDenied, 403, Some(HResult::ACCESS_DENIED)),
            // Smaller fragments.
            (Fault::FragmentTooLarge, 413, None),
            // Starts over.
            (Fault::UnknownSession, 500, restart),
            (Fault::BackendRemoved, 500, restart),
            // Fatal: no try will be smaller.
            (Fault::UploadTooLarge, 500, Some(HResult::TOO_LARGE)),
            // Comes back with its offset.
            (Fault::SessionNotHere, 503, None),
            (Fault::CloseUnverified, 503, None),
            (Fault::BackendFailed, 502, None),
            (Fault::BackendAnswer, 502, None),
            (Fault::BackendDown, 503, None),
            (Fault::BackendBusy, 503, None),
            (Fault::BackendMoved, 503, None),
            (Fault::NoBackend, 503, None),
            (Fault::TableFull, 503, None),
            (Fault::ClientSessions, 503, None),
            (Fault::LoginsFull, 503, None),
            (Fault::LoginLost, 503, None),
            (Fault::LoginShared, 502, None),
            (Fault::StoreDown, 503, None),
            (Fault::Superseded, 503, None),
            (Fault::ClientStalled, 503, None),
            (Fault::Internal, 503, None),
            (Fault::BackendTimeout, 504, None),
        ] {
            assert_eq!(status_and_code(fault), (status, code), "{fault:?}");
        }
    }

    #[test]
    fn an_ack_of_ours_is_read_as_what_it_means() {
        let session = SessionId::parse("{x}");
        for fault in Fault::ALL {
            for session in [None, session.as_ref()] {
                let mut answer = http::Response::builder().status(fault.row().status);
                for (field, value) in ack_headers(fault, session) {
                    answer = answer.header(&field.name, value);
                }
                let head = answer.body(()).unwrap().into_parts().0;
                let ack = read_ack(head.status, &head.headers);
                assert_eq!((ack.status.as_u16(), ack.error), status_and_code(fault), "{fault:?}");
                assert!(ack.is_ack, "{fault:?}");
                assert_eq!(ack.is_success(), fault == Fault::AlreadyEnded, "{fault:?}");
                assert_eq!(ack.error_context, ack.error.map(|_| HResult(5)), "{fault:?}");
                assert_eq!(ack.session_id.as_deref(), session.map(SessionId::as_str));
                assert_eq!(ack.next_offset, None);
            }
        }
    }

    #[test]
    fn an_ack_of_ours_has_the_spelling_of_the_specification() {
        let lines = |fault| {
            let fields = ack_headers(fault, None);
            let lines = fields.map(|(f, v)| format!("{}: {}", f.wire, v.to_str().unwrap()));
            lines.collect::<Vec<_>>()
        };
        assert_eq!(lines(Fault::BackendFailed), ["BITS-Packet-Type: Ack", "Content-Length: 0"]);
        for fault in [Fault::NoBackend, Fault::BackendDown, Fault::BackendMoved] {
            let ack = ["BITS-Packet-Type: Ack", "Retry-After: 30", "Content-Length: 0"];
            assert_eq!(lines(fault), ack, "{fault:?}");
        }
        assert_eq!(
            lines(Fault::TableFull),
            ["BITS-Packet-Type: Ack", "Retry-After: 60", "Content-Length: 0"]
        );
        assert_eq!(
            lines(Fault::UnknownSession),
            [
                "BITS-Packet-Type: Ack",
                "BITS-Error: 0x8020001F",
                "BITS-Error-Code: 0x8020001F",
                "BITS-Error-Context: 0x5",
                "Content-Length: 0",
            ]
        );
    }
}
