//! Signs of life for the service manager, for as long as there is life.

use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, Sleep, interval, sleep};

use crate::process::notify_systemd::Notifier;

/// A runtime that has to show that it runs tasks.
struct Pulse {
    name: String,
    runtime: Handle,
    /// One that has not come back is not asked again: a stuck runtime must not fill up.
    asked: Option<JoinHandle<()>>,
}

impl Pulse {
    fn ask(&mut self) {
        self.asked.get_or_insert_with(|| self.runtime.spawn(async {}));
    }

    /// Whether the answer came before the deadline.
    async fn has_answered(&mut self, deadline: Pin<&mut Sleep>) -> bool {
        let Some(asked) = &mut self.asked else { return true };
        tokio::select! {
            biased;
            // An error means that the runtime has ended, which is the supervisor's affair.
            _ = asked => {
                self.asked = None;
                true
            }
            () = deadline => false,
        }
    }
}

/// Tells the service manager that we are alive, more often than every `limit`, as long as every
/// runtime takes up a task and ends it. Never returns.
pub(super) async fn feed(notifier: Notifier, runtimes: Vec<(String, Handle)>, limit: Duration) {
    let pulse = |(name, runtime)| Pulse { name, runtime, asked: None };
    let mut pulses: Vec<Pulse> = runtimes.into_iter().map(pulse).collect();
    // A round may last as long as the time between two, so two signs are at most two thirds of
    // the limit apart.
    let period = limit / 3;
    let mut rounds = interval(period);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        pulses.iter_mut().for_each(Pulse::ask);
        let mut deadline = pin!(sleep(period));
        let mut stuck = Vec::new();
        for pulse in &mut pulses {
            if !pulse.has_answered(deadline.as_mut()).await {
                stuck.push(pulse.name.as_str());
            }
        }
        if stuck.is_empty() {
            notifier.watchdog();
        } else {
            tracing::warn!(
                runtimes = stuck.join(", "),
                "no progress, the service manager gets no sign of life"
            );
        }
    }
}
