//! The result, for programs and for people.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use crate::engine::Tally;
use crate::error::{UploadError, chain};

/// How an upload ended. Printed as one JSON object with `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub status: Status,
    pub file: String,
    pub url: String,
    /// Bytes that the server has confirmed; all of the file's after a success.
    pub bytes: u64,
    /// Of the file, after a success.
    pub sha256: Option<String>,
    pub seconds: f64,
    pub fragments: u64,
    pub restarts: u32,
    pub retries: u32,
    pub resumed_at: Option<u64>,
    /// The first characters of the session's id; a whole id is a secret.
    pub session: Option<String>,
    pub host_ids: Vec<String>,
    /// True: the same command goes on where this one stopped.
    pub resumable: bool,
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Complete,
    /// `--cancel` found a session and ended it.
    Cancelled,
    /// `--cancel` found none.
    NothingToCancel,
    Interrupted,
    Failed,
}

impl Report {
    /// A report of nothing so far.
    pub fn new(file: &Path, url: &str) -> Self {
        Self {
            status: Status::Failed,
            file: file.display().to_string(),
            url: url.to_owned(),
            bytes: 0,
            sha256: None,
            seconds: 0.0,
            fragments: 0,
            restarts: 0,
            retries: 0,
            resumed_at: None,
            session: None,
            host_ids: Vec::new(),
            resumable: false,
            error: None,
        }
    }

    pub fn count(&mut self, tally: &Tally) {
        self.fragments = tally.fragments;
        self.restarts = tally.restarts;
        self.retries = tally.retries;
        self.resumed_at = tally.resumed_at;
        self.session.clone_from(&tally.session);
        self.host_ids.clone_from(&tally.host_ids);
    }

    pub fn fail(&mut self, error: &UploadError) {
        self.status = match error {
            UploadError::Interrupted => Status::Interrupted,
            _ => Status::Failed,
        };
        self.error = Some(chain(error));
    }

    pub fn took(&mut self, time: Duration) {
        self.seconds = (time.as_secs_f64() * 1000.0).round() / 1000.0;
    }

    /// The result in a sentence or two.
    pub fn words(&self) -> String {
        let bytes = ByteSize(self.bytes);
        match self.status {
            Status::Complete => format!(
                "uploaded {bytes} in {:.1} s to {}\nsha256 {}",
                self.seconds,
                self.url,
                self.sha256.as_deref().unwrap_or("unknown")
            ),
            Status::Cancelled => "the session was ended; nothing of it is left".to_owned(),
            Status::NothingToCancel => "no session of this file and URL is open".to_owned(),
            Status::Interrupted | Status::Failed => {
                let error = self.error.as_deref().unwrap_or("unknown error");
                if self.resumable {
                    format!(
                        "{error}\n{bytes} are safe on the server; give the same command again to go \
                         on, or with --cancel to drop them"
                    )
                } else {
                    error.to_owned()
                }
            }
        }
    }
}
