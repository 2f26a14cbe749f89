//! What operators are told of sessions that were lost or moved.

use gateway_core::events::{Event, Kind, Level};
use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionKey;
use gateway_core::session::EndReason;

use super::report::Reporter;
use crate::sessions::Ended;
use crate::sessions::view::Mark;

/// Why a client has to start over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its backend was away for too long, or an operator has said that it is lost.
    GivenUp,
    /// Its backend says that there is no such session.
    NotFound,
    /// Its backend has given the id to another upload.
    Reissued,
}

impl Reporter {
    /// A session is lost.
    pub fn lost(&self, ended: &Ended, loss: Loss) {
        let (backend, key) = (self.name(ended.pin.backend), ended.key.short());
        let (name, what) = match loss {
            Loss::GivenUp => (
                "given_up",
                format!("session {key} is given up, {backend} is lost or was away for too long"),
            ),
            Loss::NotFound => ("lost", format!("{backend} does not know session {key} any more")),
            Loss::Reissued => (
                "reissued",
                format!("{backend} has given the id of session {key} to another upload"),
            ),
        };
        let bytes = ended.progress.next_offset;
        let message = format!("{what}: its client starts over, {bytes} bytes had arrived");
        self.tell_of(&ended.key, ended.pin.backend, name, Level::Warning, message);
    }

    /// A session goes on at another backend, which has its file.
    pub fn moved(&self, key: &SessionKey, from: BackendId, to: BackendId) {
        let (before, after) = (self.name(from), self.name(to));
        let message =
            format!("session {} goes on at {after}, because {before} stays away", key.short());
        self.tell_of(key, from, "moved", Level::Warning, message);
    }

    /// A session has ended, by no word of its client or its backend.
    pub(super) fn tell_ended(&self, ended: &Ended) {
        let (backend, key) = (self.name(ended.pin.backend), ended.key.short());
        let (name, level, what) = match ended.reason {
            // The first two are what a session is for, and who knows of a loss tells why.
            EndReason::Closed | EndReason::Cancelled | EndReason::Lost => return,
            EndReason::Expired => {
                ("expired", Level::Info, "was silent for sessions.idle_timeout and is forgotten")
            }
            EndReason::Admin => (
                "forgotten",
                Level::Warning,
                "was forgotten by an operator: its client starts over",
            ),
            EndReason::Evicted => {
                ("evicted", Level::Warning, "gave way to another one, for the table was full")
            }
        };
        let message = format!("session {key} on {backend} {what}");
        self.tell_of(&ended.key, ended.pin.backend, name, level, message);
    }

    fn tell_of(
        &self,
        key: &SessionKey,
        backend: BackendId,
        name: &'static str,
        level: Level,
        message: String,
    ) {
        let event = Event::new(Kind::Session, name, level, message);
        self.events.tell(event.backend(self.name(backend)).session(Mark::of(key)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gateway_core::protocol::SessionId;
    use gateway_core::session::{Binding, Pin, Progress, TargetHash, Timestamp};

    use super::*;
    use crate::base::backend_ids::BackendIds;
    use crate::telemetry::access_log::AccessLog;
    use crate::telemetry::events::Events;
    use crate::telemetry::metrics::Metrics;

    const ID: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";

    fn ended(reason: EndReason) -> Ended {
        let key = SessionId::parse(ID).expect("an id").key().clone();
        let pin = Pin {
            backend: BackendId(0),
            backend_session: None,
            binding: Binding::unspelled(TargetHash(7)),
            created: Timestamp(1),
            subject: None,
        };
        let progress = Progress { next_offset: 5, ..Progress::default() };
        Ended { key, pin, progress, reason }
    }

    /// What was told.
    fn told(tell: impl FnOnce(&Reporter)) -> Vec<Event> {
        let (ids, events) = (Arc::new(BackendIds::of(["up01", "up02"])), Events::default());
        let metrics = Metrics::new(&[], &[]);
        tell(&Reporter::new(metrics, AccessLog::off(), ids, events.clone()));
        events.all()
    }

    #[test]
    fn each_loss_says_why_and_names_no_whole_id() {
        for (loss, name) in
            [(Loss::GivenUp, "given_up"), (Loss::NotFound, "lost"), (Loss::Reissued, "reissued")]
        {
            let events = told(|reporter| reporter.lost(&ended(EndReason::Lost), loss));
            let [event] = &events[..] else { panic!("{events:?}") };
            assert_eq!((&*event.name, event.backend.as_deref()), (name, Some("up01")));
            assert!(event.message.contains("3f9c1e52"), "{event:?}");
            assert!(event.message.ends_with("5 bytes had arrived"), "{event:?}");
            assert!(event.session.as_ref().is_some_and(|mark| mark.starts_with('@')));
            assert!(!format!("{event:?}").to_lowercase().contains("7b0d"), "{event:?}");
        }
    }

    #[test]
    fn good_ends_are_no_events() {
        for (reason, name) in [
            (EndReason::Closed, None),
            (EndReason::Cancelled, None),
            (EndReason::Lost, None),
            (EndReason::Expired, Some("expired")),
            (EndReason::Admin, Some("forgotten")),
            (EndReason::Evicted, Some("evicted")),
        ] {
            let events = told(|reporter| reporter.tell_ended(&ended(reason)));
            assert_eq!(events.first().map(|event| &*event.name), name, "{reason:?}");
        }
    }

    #[test]
    fn a_move_names_both_backends() {
        let key = ended(EndReason::Lost).key;
        let events = told(|reporter| reporter.moved(&key, BackendId(0), BackendId(1)));
        assert_eq!(events[0].message, "session 3f9c1e52 goes on at up02, because up01 stays away");
    }
}
