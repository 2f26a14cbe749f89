//! Tasks that are stopped and joined together.

use std::collections::HashMap;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::plan::TaskResult;

/// A set rather than a tracker: whoever joins a task hears how it ended.
pub(super) struct Group {
    tasks: JoinSet<TaskResult>,
    names: HashMap<Id, String>,
    stop: CancellationToken,
}

/// Resolves when a task has run up to its first wait. An error means that it never got there.
pub(super) type Started = oneshot::Receiver<()>;

impl Group {
    pub fn new() -> Self {
        Self { tasks: JoinSet::new(), names: HashMap::new(), stop: CancellationToken::new() }
    }

    /// What tells the tasks to stop.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub fn spawn_on(
        &mut self,
        name: &str,
        task: impl Future<Output = TaskResult> + Send + 'static,
        runtime: &Handle,
    ) -> Started {
        let (started, wait) = oneshot::channel();
        let task = self.tasks.spawn_on(announcing(task, started), runtime);
        self.names.insert(task.id(), name.to_owned());
        wait
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for a task to end and tells why that is wrong. Never returns when there are none.
    pub async fn ended(&mut self) -> RunError {
        match self.tasks.join_next_with_id().await {
            None => pending().await,
            Some(Ok((id, result))) => RunError::Ended { task: self.name(id), cause: result.err() },
            Some(Err(error)) => self.failed(error),
        }
    }

    /// Joins all, after `stop`. An end is no error then, a failure is; the first is returned, all
    /// are logged.
    pub async fn join(&mut self) -> Result<(), RunError> {
        let mut first = Ok(());
        while let Some(joined) = self.tasks.join_next_with_id().await {
            let error = match joined {
                Ok((id, Ok(()))) => {
                    self.names.remove(&id);
                    continue;
                }
                Ok((id, Err(cause))) => RunError::Ended { task: self.name(id), cause: Some(cause) },
                Err(error) => self.failed(error),
            };
            tracing::error!(error = %Chain(&error), "a task failed while stopping");
            first = first.and(Err(error));
        }
        first
    }

    /// The names of those not joined.
    pub fn left(&self) -> Vec<&str> {
        self.names.values().map(String::as_str).collect()
    }

    fn name(&mut self, id: Id) -> String {
        self.names.remove(&id).unwrap_or_else(|| "a task".to_owned())
    }

    fn failed(&mut self, error: JoinError) -> RunError {
        let task = self.name(error.id());
        match error.try_into_panic() {
            Ok(panic) => RunError::Panicked { task, message: message(&*panic) },
            // Only a runtime that ends under its tasks cancels them.
            Err(_) => RunError::Ended { task, cause: None },
        }
    }
}

/// An error with its causes, on one line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

async fn announcing<T: Future>(task: T, started: oneshot::Sender<()>) -> T::Output {
    let mut task = pin!(task);
    let mut started = Some(started);
    poll_fn(|context| {
        let poll = task.as_mut().poll(context);
        if let Some(started) = started.take()
            && poll.is_pending()
        {
            // Nobody waits any more when another task has failed first.
            let _ = started.send(());
        }
        poll
    })
    .await
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
