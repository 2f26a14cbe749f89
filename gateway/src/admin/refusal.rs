//! Every "no" of the interface.

use http::StatusCode;
use serde_json::Value as Json;

use super::control::ActionError;
use crate::telemetry::metrics::AdminResult;

/// An answer that is an error: a status, a word for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    /// Several lines for people, such as the picture of a mistake in a file.
    pub details: Option<String>,
    /// For 422: what `check --json` finds in the file.
    pub findings: Option<Box<Json>>,
    /// For 405: the methods that are allowed.
    pub allow: Option<&'static str>,
    pub result: AdminResult,
}

impl Refusal {
    fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        result: AdminResult,
    ) -> Self {
        let (details, findings, allow) = (None, None, None);
        Self { status, code, message: message.into(), details, findings, allow, result }
    }

    /// 403: the request could come from a page in a browser.
    pub fn foreign(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message, AdminResult::Refused)
    }

    /// 401.
    pub fn unauthorized(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message, AdminResult::Refused)
    }

    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message, AdminResult::NotFound)
    }

    /// 400: the request itself is wrong.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message, AdminResult::Invalid)
    }

    /// 409: right in itself, but not as things are.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message, AdminResult::Invalid)
    }

    pub fn method(allow: &'static str) -> Self {
        let message = format!("this path takes {allow}");
        let refusal = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
            AdminResult::Invalid,
        );
        Self { allow: Some(allow), ..refusal }
    }

    /// 503: there is no place at this moment.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message, AdminResult::Invalid)
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message, AdminResult::Failed)
    }
}

impl From<ActionError> for Refusal {
    fn from(error: ActionError) -> Self {
        let message = error.to_string();
        match error {
            ActionError::Config { report, findings, .. } => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let refusal = Self::new(status, "config_invalid", message, AdminResult::Invalid);
                Self { details: Some(report), findings: Some(Box::new(findings)), ..refusal }
            }
            ActionError::Store { .. } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "store_unavailable", message, AdminResult::Failed)
            }
            ActionError::Busy { .. } => Self::conflict("busy", message),
            ActionError::Other { .. } => Self::failed(message),
        }
    }
}
