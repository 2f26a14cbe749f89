//! The session of an upload: begun, kept in the state file, taken up again, forgotten.

use std::time::Duration;

use gateway_core::protocol::SessionId;

use super::{Event, SMALLEST_FRAGMENT, Upload};
use crate::clock;
use crate::error::UploadError;
use crate::fallback::Affinity;
use crate::state::{Record, VERSION};

impl Upload {
    pub(super) fn load(&mut self) -> Result<Option<Record>, UploadError> {
        let url = self.client.target().to_string();
        match &mut self.state {
            Some(state) => Ok(state.load(&url)?),
            None => Ok(None),
        }
    }

    pub(super) async fn resume(&mut self) -> Result<(), UploadError> {
        let Some(record) = self.load()? else { return Ok(()) };
        let fresh = record.identity == self.source.identity();
        self.adopt(record);
        if fresh && self.offset <= self.source.size() {
            self.tally.resumed_at = Some(self.offset);
            self.tell(&Event::Resumed { offset: self.offset });
            self.tell(&Event::Confirmed(self.offset));
            return Ok(());
        }
        self.tell(&Event::Restarting { why: "the file has changed since the last attempt" });
        // Politeness: without it the server keeps the old session until it times out.
        let _ = self.cancel_once().await;
        self.forget_session()
    }

    pub(super) fn adopt(&mut self, record: Record) {
        let now = clock::steady();
        let before = record
            .fallback_since_ms
            .map(|since| Duration::from_millis(clock::now().0.saturating_sub(since)));
        if let Some(host) = record.host_id {
            self.affinity = Affinity::name(host, record.fallback_timeout_s).resume(before, now);
        }
        self.name_session(&record.session);
        self.session = Some(record.session);
        self.offset = record.offset;
        self.reply_url = record.reply_url;
        // A limit learned by 413 holds; a smaller wish of today's caller too.
        self.fragment_bytes = self.fragment_bytes.min(record.fragment_bytes.max(SMALLEST_FRAGMENT));
    }

    pub(super) fn save(&mut self) -> Result<(), UploadError> {
        let (Some(state), Some(session)) = (&mut self.state, &self.session) else { return Ok(()) };
        let running = self.affinity.running_for(clock::steady());
        let started = running.map(|for_| {
            clock::now().0.saturating_sub(u64::try_from(for_.as_millis()).unwrap_or(u64::MAX))
        });
        state.save(&Record {
            version: VERSION,
            url: self.client.target().to_string(),
            file: self.source.path().to_owned(),
            identity: self.source.identity(),
            session: session.clone(),
            offset: self.offset,
            fragment_bytes: self.fragment_bytes,
            host_id: self.affinity.host().map(str::to_owned),
            fallback_timeout_s: self.affinity.timeout_s(),
            fallback_since_ms: started,
            reply_url: self.reply_url.clone(),
        })?;
        Ok(())
    }

    pub(super) fn forget_session(&mut self) -> Result<(), UploadError> {
        self.session = None;
        self.affinity = Affinity::default();
        self.offset = 0;
        self.reply_url = None;
        self.tell(&Event::Confirmed(0));
        if let Some(state) = &mut self.state {
            state.clear()?;
        }
        Ok(())
    }

    /// Remembers the short form of an id and returns whether it is one.
    pub(super) fn name_session(&mut self, id: &str) -> bool {
        let Some(id) = SessionId::parse(id) else { return false };
        let short = id.key().short().to_string();
        self.tell(&Event::Session { short: &short, host_id: self.affinity.host() });
        self.tally.session = Some(short);
        if let Some(host) = self.affinity.host()
            && !self.tally.host_ids.iter().any(|known| known == host)
        {
            self.tally.host_ids.push(host.to_owned());
        }
        true
    }
}
