//! Pingora's errors, read as faults.

use gateway_core::fault::Fault;
use pingora::{Error, ErrorSource, ErrorType};

use crate::exchange::failure::ConnectFailure;
use crate::telemetry::metrics::ConnectError;
use crate::tls::{NO_PLACE, is_backends_fault};

/// Ends a request whose answer from the backend does not go on; what the client hears instead is
/// in the context or written already.
pub const REFUSED_ANSWER: ErrorType = ErrorType::Custom("the backend's answer was refused");

/// The fault to answer with, or `None` where there is nobody left to answer.
pub fn fault(error: &Error) -> Option<Fault> {
    use ErrorType as T;
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, T::InvalidHTTPHeader | T::HTTPStatus(_)) => {
            Some(Fault::BadRequest)
        }
        (ErrorSource::Downstream, _) => None,
        (ErrorSource::Upstream, T::ReadTimedout | T::WriteTimedout) => Some(Fault::BackendTimeout),
        (ErrorSource::Upstream, T::InvalidHTTPHeader) => Some(Fault::BackendAnswer),
        (ErrorSource::Upstream, _) => Some(Fault::BackendFailed),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Fault::Internal),
    }
}

/// Why there is no connection to a backend.
pub fn connect_failure(error: &Error) -> ConnectFailure {
    ConnectFailure {
        error: connect_error(error),
        by_backend: is_backends_fault(error),
        distrust: *error.etype() == ErrorType::InvalidCert,
        busy: *error.etype() == NO_PLACE,
    }
}

fn connect_error(error: &Error) -> ConnectError {
    match error.etype() {
        ErrorType::ConnectTimedout => ConnectError::Timeout,
        ErrorType::ConnectRefused => ConnectError::Refused,
        ErrorType::ConnectionClosed | ErrorType::SocketError => ConnectError::Reset,
        _ => ConnectError::Other,
    }
}
