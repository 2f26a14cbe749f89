//! The side of the running process: sockets for whoever succeeds it.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::time::timeout;

use super::Handover;
use super::channel::{Channel, Message, VERSION};
use super::handover_socket::HandoverSocket;
use crate::process::supervisor::told::Told;

/// A process that knocks asks at once. A silent one must not keep others out.
const QUESTION: Duration = Duration::from_secs(5);

const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What a successor gets.
pub(crate) struct Offer {
    handover_socket: Option<HandoverSocket>,
    sockets: Vec<(String, TcpListener)>,
    older_processes: Vec<OwnedFd>,
    lock: MakeLock,
    told: Told,
}

/// Copies the descriptor of a lock that a successor is to share.
pub(crate) type MakeLock = Box<dyn Fn() -> Option<OwnedFd>>;

/// A process that has said that it accepts connections.
#[derive(Debug)]
pub(crate) struct Successor {
    channel: Channel,
    pub pid: u32,
}

impl Offer {
    /// `older_processes` are the channels to older processes that may still be there.
    pub fn new(
        handover_socket: Option<HandoverSocket>,
        sockets: Vec<(String, TcpListener)>,
        older_processes: Vec<OwnedFd>,
        lock: MakeLock,
        told: Told,
    ) -> Self {
        Self { handover_socket, sockets, older_processes, lock, told }
    }

    /// Waits for a successor to get ready; those that give up on the way are forgotten. `hook` is
    /// called whenever one asks for the sockets, and when such a one has ended.
    pub async fn accepted(&self, hook: &mut dyn FnMut(Handover)) -> Successor {
        let Some(handover_socket) = &self.handover_socket else {
            return std::future::pending().await;
        };
        loop {
            let channel = next(handover_socket).await;
            let ready = tokio::select! {
                ready = self.serve(&channel, hook) => ready,
                () = turn_away(handover_socket) => unreachable!("it never ends"),
            };
            match ready {
                Ok(Some(pid)) => return Successor { channel, pid },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "the successor was lost before it was ready, serving on");
                    self.told.no_upgrade(format!("the new process did not get ready: {error}"));
                }
            }
        }
    }

    /// Nothing is offered any more. The socket stays where it is if a successor has it.
    pub fn withdraw(self, handed_over: bool) {
        match self.handover_socket {
            Some(handover_socket) if !handed_over => handover_socket.remove(),
            _ => {}
        }
    }

    /// Returns the process id of a successor that is ready; `None` did not want anything.
    async fn serve(
        &self,
        channel: &Channel,
        hook: &mut dyn FnMut(Handover),
    ) -> io::Result<Option<u32>> {
        let Ok(question) = timeout(QUESTION, channel.receive()).await else { return Ok(None) };
        let pid = match question? {
            None => return Ok(None),
            Some((Message::Ask { version: VERSION, pid }, _)) => pid,
            Some((Message::Ask { version, .. }, _)) => {
                let reason =
                    format!("it speaks version {version} of the hand-over, we speak {VERSION}");
                refuse(channel, &reason).await;
                return Err(io::Error::other(reason));
            }
            Some(_) => return Err(io::Error::other("not a question of ours")),
        };
        hook(Handover::Asked);
        let ready = self.until_ready(channel, pid).await;
        if ready.as_ref().is_err_and(has_ended) {
            hook(Handover::Ended);
        }
        ready.map(|()| Some(pid))
    }

    /// Gives it the sockets, and waits until it accepts connections.
    async fn until_ready(&self, channel: &Channel, pid: u32) -> io::Result<()> {
        for (name, socket) in &self.sockets {
            let message = Message::Socket { listener: name.clone() };
            channel.send(&message, Some(socket.as_fd())).await?;
        }
        if let Some(handover_socket) = &self.handover_socket {
            channel.send(&Message::HandoverSocket, Some(handover_socket.as_fd())).await?;
        }
        for older in &self.older_processes {
            channel.send(&Message::Elder, Some(older.as_fd())).await?;
        }
        // With a message that takes no descriptor: an older successor drops it.
        let lock = (self.lock)();
        channel.send(&Message::Sent, lock.as_ref().map(AsFd::as_fd)).await?;
        drop(lock);
        tracing::info!(pid, "a successor has the sockets, serving until it is ready");
        // As long as it takes: a big table takes its time, and a dead process ends the stream.
        match channel.receive().await? {
            Some((Message::Ready, _)) => Ok(()),
            Some(_) => Err(io::Error::other("not what a successor says")),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended")),
        }
    }
}

/// Only the end of a process ends its stream. What another error is of may still be there.
fn has_ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

impl Successor {
    /// Tells it that it is on its own now.
    ///
    /// # Errors
    /// It has gone: we are on our own.
    pub async fn yours(&self) -> io::Result<()> {
        self.channel.send(&Message::Yours, None).await
    }

    /// Keeps the channel open to the exit of the process, which the successor sees by its end.
    pub fn see_us_go(self) {
        std::mem::forget(self.channel);
    }
}

/// The next process that asks. It is of our user or of root's: others cannot connect.
async fn next(handover_socket: &HandoverSocket) -> Channel {
    loop {
        match handover_socket.accept().await {
            Ok(channel) => return channel,
            Err(error) => {
                tracing::warn!(%error, "the upgrade socket cannot accept");
                // Out of descriptors, most likely: others need time to give some back.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers others while one is being served. Never ends.
async fn turn_away(handover_socket: &HandoverSocket) {
    loop {
        let channel = next(handover_socket).await;
        // To close on an unread question would destroy the answer.
        let _ = timeout(QUESTION, channel.receive()).await;
        refuse(&channel, "another process is about to take over").await;
    }
}

async fn refuse(channel: &Channel, reason: &str) {
    // It may have gone, and then there is nobody to be told.
    let _ = channel.send(&Message::Refused { reason: reason.to_owned() }, None).await;
}
