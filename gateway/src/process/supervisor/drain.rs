//! The end of a running process, in order.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::RunError;
use super::group::Group;
use super::running::Running;
use super::shutdown::Shutdown;
use super::told::Told;

/// After the last request, connections get this long to close. Idle ones do at once; one whose client
/// is still sending must be read on until it has the answer, for which the connection guard takes
/// 30 s at most.
const CLOSING: Duration = Duration::from_secs(30);
/// Tasks have this long to end after they are told (the last rows of a store, an answer to a
/// scrape).
const TASKS_END: Duration = Duration::from_secs(10);
const SIDES_END: Duration = Duration::from_secs(2);
const RUNTIMES_END: Duration = Duration::from_secs(1);

/// After a hand-over: a connection accepted in the last moment is counted once its task has run.
const LAST_ACCEPTED: Duration = Duration::from_secs(1);

/// How it is to end.
pub(super) struct Drain {
    pub left: Left,
    pub told: Told,
    pub shutdown_state: Shutdown,
    /// A successor serves: there is no hurry, and nobody must ask us any more.
    pub handed_over: bool,
    pub linger: Duration,
    pub delay: Duration,
    pub limit: Duration,
}

/// What a drain waits for.
#[derive(Clone)]
pub(super) struct Left {
    pub requests: TaskTracker,
    pub connections: TaskTracker,
}

impl Drain {
    /// Returns how many requests were cut.
    ///
    /// # Errors
    /// The first task that failed on the way; the drain went on to its end.
    pub async fn run(
        self,
        running: &mut Running,
        draining: impl FnOnce(),
    ) -> Result<usize, RunError> {
        let mut result = Ok(());
        if self.handed_over {
            result = end(&mut running.sides, SIDES_END).await;
        }
        draining();
        sleep(self.delay).await;
        self.left.close();
        running.stop_traffic();
        if self.handed_over {
            self.shutdown_state.leave();
            let connections = self.left.connections.len();
            tracing::info!(connections, "accepting no more, each connection has one more answer");
            self.linger().await;
        }
        self.shutdown_state.close_idle();
        let Left { requests, .. } = &self.left;
        let in_time = timeout(self.limit, async {
            let joined = running.traffic.join().await;
            tracing::info!(
                requests = requests.len(),
                "listeners are closed, requests are finishing"
            );
            self.left.idle().await;
            joined
        })
        .await;
        let mut cut = 0;
        match in_time {
            Ok(joined) => result = result.and(joined),
            Err(_) => cut = requests.len(),
        }
        if cut > 0 {
            tracing::warn!(requests = cut, "the time to drain is over, requests were cut");
            let message = format!("the time to drain is over, {cut} requests were cut");
            self.told.warn("requests_cut", message);
        }
        // Before the tasks end, so that no request under way finds them gone.
        running.end_traffic(RUNTIMES_END).await;
        result = result.and(end(&mut running.tasks, TASKS_END).await);
        result = result.and(end(&mut running.sides, SIDES_END).await);
        running.end_others(RUNTIMES_END).await;
        result.map(|()| cut)
    }

    async fn linger(&self) {
        let connections = &self.left.connections;
        let last_one = async {
            sleep(LAST_ACCEPTED).await;
            none(connections).await;
        };
        tokio::select! {
            _ = timeout(self.linger, last_one) => {}
            () = self.shutdown_state.closes_idle() => {}
        }
        tracing::info!(connections = connections.len(), "idle connections are closing");
    }
}

impl Left {
    /// From here on the last one to go wakes whoever waits. More may come all the same.
    fn close(&self) {
        self.requests.close();
        self.connections.close();
    }

    /// Returns when no request is under way and none can begin.
    async fn idle(&self) {
        loop {
            none(&self.requests).await;
            // A connection accepted in the last moment may turn out to carry a request, and one
            // that is closing may hold the end of an answer that its client has not read. One that
            // does neither (a TLS handshake that does not get on) is not waited for to its end.
            let _ = timeout(CLOSING, none(&self.connections)).await;
            if self.requests.is_empty() {
                return;
            }
        }
    }
}

/// Returns when nothing is counted. The tracker's own wait ends with the first fall to none, though
/// more may have begun before the waiter runs.
async fn none(tracker: &TaskTracker) {
    while !tracker.is_empty() {
        tracker.wait().await;
    }
}

async fn end(group: &mut Group, limit: Duration) -> Result<(), RunError> {
    group.stop();
    match timeout(limit, group.join()).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!(
                tasks = group.left().join(", "),
                "tasks did not end when told, giving up on them"
            );
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_begins_before_the_waiter_runs_is_waited_for() {
        let tracker = TaskTracker::new();
        tracker.close();
        let first = tracker.token();
        let waiter = tokio::spawn({
            let tracker = tracker.clone();
            async move { none(&tracker).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        let second = tracker.token();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!waiter.is_finished());
        drop(second);
        waiter.await.expect("no panic");
    }
}
