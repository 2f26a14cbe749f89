//! How long a request waits for its body, and for its answer.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::conn::Conn;
use crate::base::clock;
use crate::base::deadline::Deadline;

/// One timer for both: they do not wait at the same time.
#[derive(Default)]
pub(super) struct Stall {
    deadline: Deadline,
    /// By the steady clock, while an answer is awaited.
    due: Option<Duration>,
}

impl Stall {
    /// For the next request.
    pub fn stop(&mut self) {
        self.deadline.stop();
        self.due = None;
    }

    /// Part of a body, or the end of the time in which it has to come.
    pub fn part(
        &mut self,
        cx: &mut Context<'_>,
        conn: &Conn,
        polled: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if polled.is_ready() {
            self.stop();
            return polled;
        }
        let Some(patience) = conn.body_patience() else { return Poll::Pending };
        ready!(self.deadline.poll(cx, || patience));
        self.stop();
        conn.body_is_overdue();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Pending until the answer, or its next part, is overdue.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>, conn: &Conn) -> Poll<io::Result<()>> {
        let due = conn.answer_due();
        if self.due != due {
            self.deadline.stop();
            self.due = due;
        }
        let Some(due) = due else { return Poll::Pending };
        ready!(self.deadline.poll_until(cx, || clock::at(due)));
        self.stop();
        conn.answer_is_overdue();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}
