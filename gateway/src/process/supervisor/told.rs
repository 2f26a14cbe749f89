//! What operators are told of the life of the process.

use gateway_core::events::{Event, Kind, Level};

use crate::telemetry::events::Events;

/// Tells it.
#[derive(Clone, Debug)]
pub(crate) struct Told(pub Events);

impl Told {
    pub fn info(&self, name: &'static str, message: impl Into<String>) {
        self.tell(name, Level::Info, message);
    }

    pub fn warn(&self, name: &'static str, message: impl Into<String>) {
        self.tell(name, Level::Warning, message);
    }

    pub fn error(&self, name: &'static str, message: impl Into<String>) {
        self.tell(name, Level::Error, message);
    }

    /// An upgrade has failed, and this process serves on.
    pub fn no_upgrade(&self, why: String) {
        self.error("upgrade_failed", format!("the upgrade has failed, serving on: {why}"));
    }

    fn tell(&self, name: &'static str, level: Level, message: impl Into<String>) {
        self.0.tell(Event::new(Kind::Process, name, level, message));
    }
}
