//! Why the gateway said no.

use gateway_core::fault::Fault;
use gateway_core::protocol::head::HeadError;

use super::labels::Label;

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
    /// Something else than TLS came to a listener that speaks it.
    PlainOnTls,
    /// TLS came to a listener that does not speak it.
    TlsOnPlain,
    /// The header of the PROXY protocol was missing, wrong or late.
    ProxyProtocol,
    /// The session is bound to another client's certificate; it hears what an unknown one hears.
    ForeignSession,
}

const REJECTIONS: [Rejection; Fault::ALL.len() + 9] = {
    let mut all = [Rejection::ConnectionLimit; Fault::ALL.len() + 9];
    let mut at = 0;
    while at < Fault::ALL.len() {
        all[at] = Rejection::Fault(Fault::ALL[at]);
        at += 1;
    }
    all[at] = Rejection::Method;
    all[at + 1] = Rejection::HeaderLimit;
    all[at + 2] = Rejection::HeadTimeout;
    all[at + 4] = Rejection::PlainOnTls;
    all[at + 5] = Rejection::TlsOnPlain;
    all[at + 6] = Rejection::ProxyProtocol;
    all[at + 7] = Rejection::AddressLimit;
    all[at + 8] = Rejection::ForeignSession;
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
            Self::PlainOnTls => "plain_on_tls",
            Self::TlsOnPlain => "tls_on_plain",
            Self::ProxyProtocol => "proxy_protocol",
            Self::ForeignSession => "foreign_session",
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
            Self::PlainOnTls => Fault::ALL.len() + 4,
            Self::TlsOnPlain => Fault::ALL.len() + 5,
            Self::ProxyProtocol => Fault::ALL.len() + 6,
            Self::AddressLimit => Fault::ALL.len() + 7,
            Self::ForeignSession => Fault::ALL.len() + 8,
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
            HeadError::LineTooLong
            | HeadError::TooManyFields
            | HeadError::TooLong
            | HeadError::NameTooLong
            | HeadError::ValueTooLong => Self::HeaderLimit,
            _ => Self::Fault(Fault::BadRequest),
        }
    }
}
