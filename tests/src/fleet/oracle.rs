//! What must be true of every upload, whatever happened to its farm.

use crate::client::Report;
use crate::data::Content;
use crate::farm::Farm;

/// One upload that has ended.
pub struct Done {
    pub path: String,
    pub content: Content,
    pub report: Report,
    /// Where a session went behind an offset that it had acknowledged.
    pub lost: Vec<String>,
}

/// All uploads of a fleet.
pub struct Outcome {
    pub uploads: Vec<Done>,
}

impl Outcome {
    /// Every upload is complete, its file lies whole on one backend, nothing acknowledged was lost, no packet reached a
    /// backend that does not own its session, nothing panicked.
    #[track_caller]
    pub fn expect_whole(&self, farm: &Farm) -> &Self {
        for Done { path, content, report, lost } in &self.uploads {
            report.expect_complete();
            assert!(lost.is_empty(), "{path} lost acknowledged bytes: {lost:?}\n{report}");
            farm.expect_stored(path, content);
        }
        farm.expect_healthy();
        self
    }

    /// # Panics
    /// With the history of the first upload that started over more often than allowed.
    #[track_caller]
    pub fn expect_restarts(&self, allowed: u32) -> &Self {
        for Done { path, report, .. } in &self.uploads {
            assert!(report.restarts <= allowed, "{path} started over\n{report}");
        }
        self
    }

    pub fn restarts(&self) -> u32 {
        self.uploads.iter().map(|done| done.report.restarts).sum()
    }

    pub fn retries(&self) -> u32 {
        self.uploads.iter().map(|done| done.report.retries).sum()
    }

    /// Body bytes that clients handed to their sockets, over the bytes of the files.
    pub fn bytes_sent_per_byte(&self) -> f64 {
        let sent: u64 = self.uploads.iter().map(|done| done.report.bytes_sent).sum();
        let files: u64 = self.uploads.iter().map(|done| done.content.len()).sum();
        sent as f64 / files.max(1) as f64
    }
}
