//! The closed sets that labels take their values from.
//!
//! A label value comes from the configuration or from an enum in here, never from a request: the
//! number of series is fixed once the configuration is read.

use gateway_core::farm::AdminState;
use gateway_core::fault::Fault;
use gateway_core::protocol::head::HeadError;
use gateway_core::protocol::{Ack, HResult, PacketType};
use gateway_core::session::EndReason;

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
        BackendMaint = "backend_maint",
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

/// Why the gateway answered a request itself, or cut it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// A row of the fault table.
    Fault(Fault),
    /// The method is not served here.
    Method,
    /// Too many bytes or fields in the head.
    HeaderLimit,
    /// The head was not complete in time.
    HeadTimeout,
    /// No room for one more connection.
    ConnectionLimit,
    /// The client has as many connections as one may.
    AddressLimit,
}

const REJECTIONS: [Rejection; Fault::ALL.len() + 5] = {
    let mut all = [Rejection::ConnectionLimit; Fault::ALL.len() + 5];
    let mut at = 0;
    while at < Fault::ALL.len() {
        all[at] = Rejection::Fault(Fault::ALL[at]);
        at += 1;
    }
    all[at] = Rejection::Method;
    all[at + 1] = Rejection::HeaderLimit;
    all[at + 2] = Rejection::HeadTimeout;
    all[at + 4] = Rejection::AddressLimit;
    all
};

impl Label for Rejection {
    const ALL: &'static [Self] = &REJECTIONS;

    fn label(self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.label(),
            Self::Method => "method",
            Self::HeaderLimit => "header_limit",
            Self::HeadTimeout => "head_timeout",
            Self::ConnectionLimit => "connection_limit",
            Self::AddressLimit => "address_limit",
        }
    }

    fn index(self) -> usize {
        match self {
            // The order of `Fault::ALL` is that of the enum; a test holds it to that.
            Self::Fault(fault) => fault as usize,
            Self::Method => Fault::ALL.len(),
            Self::HeaderLimit => Fault::ALL.len() + 1,
            Self::HeadTimeout => Fault::ALL.len() + 2,
            Self::ConnectionLimit => Fault::ALL.len() + 3,
            Self::AddressLimit => Fault::ALL.len() + 4,
        }
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<HeadError> for Rejection {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Method => Self::Method,
            HeadError::LineTooLong | HeadError::TooManyFields | HeadError::TooLong => {
                Self::HeaderLimit
            }
            _ => Self::Fault(Fault::BadRequest),
        }
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
        Connect = "connect",
    }
}

labels! {
    /// Who was asked where a packet belongs.
    LookupSource {
        Memory = "memory",
        HostId = "host_id",
    }
}

labels! {
    LookupResult {
        Hit = "hit",
        Miss = "miss",
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
            AdminState::Maint => Self::Maintenance,
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
    /// What keeps pins beyond the process.
    StoreKind {
        Sqlite = "sqlite",
    }
}

labels! {
    /// Nothing is read while requests are served: what is stored is in memory too.
    StoreOperation {
        Put = "put",
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

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
