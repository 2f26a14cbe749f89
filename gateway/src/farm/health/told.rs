//! What people are told of backends: in the log, and as events.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_core::events::{Event, Kind, Level};
use gateway_core::farm::Condition;
use humantime::format_duration;

use super::state::{BackendHealth, HealthState};

impl BackendHealth {
    /// Its state is another one.
    pub(super) fn say(&self, before: &HealthState, after: &HealthState) {
        let (backend, reason) = (&*self.name, after.reason);
        match (before.condition, after.condition) {
            (before, after) if before == after => {}
            (_, Condition::Down) => {
                let uploads = self.shared.uploads.get().map(|count| count(self.id));
                tracing::warn!(backend, %reason, uploads, "a backend is down");
                let wait = match uploads.unwrap_or_default() {
                    0 => "no upload waits for it".to_owned(),
                    1 => "1 upload waits for it".to_owned(),
                    uploads => format!("{uploads} uploads wait for it"),
                };
                self.event("down", Level::Warning, format!("{backend} is down: {reason}; {wait}"));
            }
            (Condition::Down, _) => {
                let down = after.since.since(before.since);
                let down_ms = down.as_millis() as u64;
                tracing::info!(backend, %reason, down_ms, "a backend is up");
                let message = format!(
                    "{backend} is up again after {}: {reason}",
                    format_duration(Duration::from_secs(down.as_secs()))
                );
                self.event("up", Level::Info, message);
            }
            (_, Condition::Failing) => {
                tracing::warn!(backend, "a backend answers with errors, others get new sessions");
                let message = format!("{backend} answers with errors, others get new uploads");
                self.event("spared", Level::Warning, message);
            }
            (_, Condition::Up) => {
                tracing::info!(backend, "a backend gets new sessions again");
                self.event(
                    "spared_no_more",
                    Level::Info,
                    format!("{backend} gets new uploads again"),
                );
            }
        }
    }

    /// It is at another address from now on.
    pub(super) fn say_moved(&self, address: SocketAddr) {
        let backend = &*self.name;
        match self.address() {
            Some(from) => {
                tracing::info!(backend, %from, to = %address, "a backend has moved");
                let message = format!("{backend} has moved from {from} to {address}");
                self.event("moved", Level::Info, message);
            }
            None => tracing::info!(backend, %address, "the name of a backend has an address"),
        }
    }

    fn event(&self, name: &'static str, level: Level, message: String) {
        let event = Event::new(Kind::Backend, name, level, message).backend(&self.name);
        self.shared.events.tell(event);
    }
}
