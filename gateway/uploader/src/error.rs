//! Every way in which an upload ends badly.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::connect::TrustError;
use crate::source::SourceError;
use crate::state::StateError;
use crate::target::TargetError;

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    State(#[from] StateError),
    /// The server said no, and no retry helps.
    #[error("{host} {words}")]
    Refused { host: String, words: String },
    /// Errors that might have passed did not pass in time.
    #[error("{why}{}", given_up(*after))]
    GaveUp { why: String, after: Duration },
    #[error("cannot write the reply to {}", file.display())]
    Reply {
        file: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("interrupted")]
    Interrupted,
}

impl UploadError {
    /// What the failure to produce a Fragment's body means.
    pub fn from_body(path: &Path, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            SourceError::Changed(path.to_owned()).into()
        } else {
            SourceError::Read(path.to_owned(), error).into()
        }
    }

    /// 1 failure, 2 usage, 74 a local file that cannot be read or written.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Target(_) => 2,
            Self::Source(SourceError::Changed(_)) => 1,
            Self::State(StateError::Locked(_) | StateError::Foreign { .. }) => 1,
            Self::Source(_) | Self::State(_) | Self::Trust(_) | Self::Reply { .. } => 74,
            Self::Refused { .. } | Self::GaveUp { .. } | Self::Interrupted => 1,
        }
    }
}

fn given_up(after: Duration) -> String {
    match humantime::format_duration(after) {
        _ if after.is_zero() => String::new(),
        time => format!("; given up after {time} without progress"),
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
