//! The closed sets that labels take their values from.
//!
//! A label value comes from the configuration or from an enum in here, never from a request: the
//! number of series is fixed once the configuration is read.

use gateway_core::farm::{AdminState, Sign};
use gateway_core::protocol::{Ack, HResult, PacketType};
use gateway_core::session::EndReason;

pub use super::rejection::Rejection;

/// An enum whose values index an array of counters.
pub(super) trait Label: Copy + 'static {
    const ALL: &'static [Self];
    fn label(self) -> &'static str;
    /// Position in `ALL`.
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$arm_doc:meta])* $arm:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$arm_doc])* $arm,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$arm,)*];

            pub fn label(self) -> &'static str {
                match self { $(Self::$arm => $label,)* }
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = $name::ALL;
            fn label(self) -> &'static str { $name::label(self) }
            fn index(self) -> usize { self as usize }
        }
    };
}

labels! {
    /// What a request was.
    PacketLabel {
        CreateSession = "create_session",
        Ping = "ping",
        Fragment = "fragment",
        CloseSession = "close_session",
        CancelSession = "cancel_session",
        /// A BITS_POST that is none of the five packets, or breaks their rules.
        Unknown = "unknown",
        /// Any other HTTP request, or none that could be read.
        Other = "other",
    }
}

labels! {
    /// What carried a request between its client and a backend.
    Carrier {
        /// The gateway's own, which carries all packets.
        Relay = "relay",
        /// Pingora's, which carries plain HTTP.
        Proxy = "proxy",
    }
}

impl From<PacketType> for PacketLabel {
    fn from(packet: PacketType) -> Self {
        match packet {
            PacketType::CreateSession => Self::CreateSession,
            PacketType::Ping => Self::Ping,
            PacketType::Fragment => Self::Fragment,
            PacketType::CloseSession => Self::CloseSession,
            PacketType::CancelSession => Self::CancelSession,
        }
    }
}

labels! {
    /// The status a client was sent: the codes that upload servers and the gateway use, and the
    /// class of any other, so that `code=~"5.."` counts every server error.
    StatusLabel {
        Ok = "200",
        Created = "201",
        OtherSuccess = "2xx",
        Redirect = "3xx",
        BadRequest = "400",
        Unauthorized = "401",
        Forbidden = "403",
        NotFound = "404",
        Conflict = "409",
        LengthRequired = "411",
        TooLarge = "413",
        Range = "416",
        OtherClientError = "4xx",
        InternalError = "500",
        NotImplemented = "501",
        BadGateway = "502",
        Unavailable = "503",
        GatewayTimeout = "504",
        OtherServerError = "5xx",
        /// The client was gone before it had an answer, or what it was sent is no status.
        None = "none",
    }
}

impl StatusLabel {
    pub fn of(status: u16) -> Self {
        match status {
            200 => Self::Ok,
            201 => Self::Created,
            202..=299 => Self::OtherSuccess,
            300..=399 => Self::Redirect,
            400 => Self::BadRequest,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict,
            411 => Self::LengthRequired,
            413 => Self::TooLarge,
            416 => Self::Range,
            402..=499 => Self::OtherClientError,
            500 => Self::InternalError,
            501 => Self::NotImplemented,
            502 => Self::BadGateway,
            503 => Self::Unavailable,
            504 => Self::GatewayTimeout,
            505..=599 => Self::OtherServerError,
            _ => Self::None,
        }
    }
}

labels! {
    /// What somebody asks of the admin listener.
    AdminAction {
        /// Any question that changes nothing.
        Read = "read",
        BackendReady = "backend_ready",
        BackendDrain = "backend_drain",
        BackendMaintenance = "backend_maintenance",
        BackendLost = "backend_lost",
        BackendMove = "backend_move",
        SessionForget = "session_forget",
        Reload = "reload",
        /// No call of ours.
        Unknown = "unknown",
    }
}

labels! {
    /// What came of it.
    AdminResult {
        Ok = "ok",
        /// Not allowed: token, Host or Origin.
        Refused = "refused",
        NotFound = "not_found",
        /// A mistake of the caller.
        Invalid = "invalid",
        /// A trouble of ours.
        Failed = "failed",
    }
}

labels! {
    /// The class of a backend's status. Exact codes times 200 backends would be too many series;
    /// [`ProtocolError`] tells the interesting ones apart.
    StatusClass {
        Success = "2xx",
        Redirect = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
        /// The connection ended before an answer came.
        None = "none",
    }
}

impl StatusClass {
    pub fn of(status: Option<u16>) -> Self {
        match status {
            Some(200..=299) => Self::Success,
            Some(300..=399) => Self::Redirect,
            Some(400..=499) => Self::ClientError,
            Some(500..=599) => Self::ServerError,
            _ => Self::None,
        }
    }
}

labels! {
    /// Why a TLS handshake with a client came to nothing.
    HandshakeFailure {
        /// It did not end in time.
        Timeout = "timeout",
        /// The client went away.
        Closed = "closed",
        /// No certificate, or one that is not to be trusted.
        ClientCertificate = "client_certificate",
        /// No version, cipher or protocol in common.
        Incompatible = "incompatible",
        /// The client did not like ours: mostly it does not trust the certificate.
        Alert = "alert",
        Other = "other",
    }
}

labels! {
    /// What a backend complained about.
    ProtocolError {
        SessionNotFound = "session_not_found",
        AccessDenied = "access_denied",
        InvalidArgument = "invalid_argument",
        TooLarge = "too_large",
        DiskFull = "disk_full",
        /// 416: the Fragment does not start where the backend wants to go on.
        Range = "range",
        /// Context 0x7: the application behind the server failed.
        RemoteApplication = "remote_application",
        Other = "other",
    }
}

impl ProtocolError {
    /// `None` for a success, and for plain HTTP errors that say nothing in terms of the protocol.
    pub fn of(ack: &Ack<'_>) -> Option<Self> {
        if ack.status.is_success() {
            // SimpleBITSServer sends an error code with Acks of success.
            return None;
        }
        match ack.error {
            Some(HResult::SESSION_NOT_FOUND) => return Some(Self::SessionNotFound),
            Some(code) if code.is_disk_full() => return Some(Self::DiskFull),
            _ if ack.error_context == Some(HResult(7)) => return Some(Self::RemoteApplication),
            Some(HResult::ACCESS_DENIED) => return Some(Self::AccessDenied),
            Some(HResult::INVALID_ARGUMENT) => return Some(Self::InvalidArgument),
            Some(HResult::TOO_LARGE) => return Some(Self::TooLarge),
            _ => {}
        }
        match ack.status.as_u16() {
            416 => Some(Self::Range),
            _ => ack.is_protocol().then_some(Self::Other),
        }
    }
}

labels! {
    /// Why a connection to a backend could not be made.
    ConnectError {
        Timeout = "timeout",
        Refused = "refused",
        Reset = "reset",
        Other = "other",
    }
}

labels! {
    /// Why a request went on to another backend.
    FailoverReason {
        /// It could not be connected to, or has been away for too long.
        Connect = "connect",
    }
}

labels! {
    /// Who was asked where a packet belongs.
    LookupSource {
        Memory = "memory",
        HostId = "host_id",
        Ask = "ask",
    }
}

labels! {
    LookupResult {
        Hit = "hit",
        Miss = "miss",
    }
}

labels! {
    /// What became of the wish to ask the backends for a session.
    AskResult {
        /// One backend was asked.
        Sent = "sent",
        /// A packet was answered without asking: too many questions are waiting.
        Limited = "limited",
    }
}

labels! {
    /// What became of a Close whose session its backend does not know.
    LostCloseResult {
        /// The file is at its destination: acknowledged.
        Delivered = "delivered",
        /// Acknowledged unseen, as configured.
        Acknowledged = "acknowledged",
        /// The file is not there: the client starts over.
        NotDelivered = "not_delivered",
        /// Not all of the file had arrived: the client starts over.
        Incomplete = "incomplete",
        /// The client starts over, as configured.
        Restarted = "restarted",
        /// The backend does not tell: the client comes again.
        Unclear = "unclear",
        /// The backend did not tell for so long that the client starts over.
        Unverified = "unverified",
    }
}

labels! {
    /// What became of a Create-Session that its backend refused.
    RefusedCreate {
        /// Another backend was asked.
        Moved = "moved",
        /// Its client got the refusal, or hears of it from the gateway.
        Final = "final",
    }
}

labels! {
    /// What became of a session that a backend opened for nobody.
    OrphanResult {
        Cancelled = "cancelled",
        /// The backend answered something else.
        Refused = "refused",
        /// No answer.
        Failed = "failed",
        /// Too many are waiting to be cancelled.
        Dropped = "dropped",
    }
}

labels! {
    /// How a probe ended.
    CheckResult {
        Success = "success",
        Failure = "failure",
    }
}

labels! {
    /// What may be asked of a backend.
    BackendState {
        Ready = "ready",
        Drain = "drain",
        Maintenance = "maintenance",
        Down = "down",
    }
}

impl From<AdminState> for BackendState {
    fn from(state: AdminState) -> Self {
        match state {
            AdminState::Ready => Self::Ready,
            AdminState::Drain => Self::Drain,
            // Nothing is sent to either, and a series each would be one more for every backend.
            AdminState::Maintenance | AdminState::Lost => Self::Maintenance,
        }
    }
}

labels! {
    SessionState {
        Active = "active",
        Idle = "idle",
    }
}

labels! {
    LogLevel {
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

labels! {
    /// How an attempt to load the configuration again went.
    ReloadResult {
        Success = "success",
        Failure = "failure",
    }
}

labels! {
    /// What keeps pins beyond the process.
    StoreKind {
        Sqlite = "sqlite",
    }
}

labels! {
    /// Nothing is read while requests are served: what is stored is in memory too.
    StoreOperation {
        Put = "put",
        /// How far an upload is: its first byte, the size of its file.
        Progress = "progress",
        Delete = "delete",
    }
}

labels! {
    StoreResult {
        Ok = "ok",
        Error = "error",
        /// Nobody waited any longer.
        Timeout = "timeout",
    }
}

labels! {
    /// Which of the two logs.
    LogName {
        Operational = "operational",
        Access = "access",
    }
}

impl Label for EndReason {
    const ALL: &'static [Self] = &EndReason::ALL;

    fn label(self) -> &'static str {
        EndReason::label(self)
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Sign {
    const ALL: &'static [Self] = &Sign::ALL;

    fn label(self) -> &'static str {
        Sign::label(self)
    }

    fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
