//! The side of the new process: sockets from the one that runs.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, Message, VERSION};
use super::handover_socket::{HandoverSocket, HandoverSocketError, check_directory, connect_to};
use crate::process::exit::Exit;
use crate::process::supervisor::bind::BindError;

/// The running process answers between two signals; this is for one that is stuck.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    #[error(transparent)]
    HandoverSocket(#[from] HandoverSocketError),
    #[error("the process behind {} refuses to hand over: {reason}", path.display())]
    Refused { path: PathBuf, reason: String },
    #[error("the process behind {} does not answer", path.display())]
    Silent { path: PathBuf },
    #[error("the hand-over by the process behind {} failed", path.display())]
    Broken { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl TakeOverError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::HandoverSocket(error) => error.exit(),
            Self::Bind(error) => error.exit(),
            _ => Exit::Unavailable,
        }
    }
}

/// What the running process has handed over.
#[derive(Debug)]
pub(crate) struct Claim {
    pub sockets: Vec<(String, TcpListener)>,
    /// Of what we share with it.
    pub lock: Option<OwnedFd>,
    pub predecessor: Predecessor,
}

/// The process whose sockets we have. It serves until we are ready and drains then.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel,
    older_processes: Vec<Channel>,
    pub handover_socket: Option<HandoverSocket>,
    gone: CancellationToken,
}

/// Tells when every older process has ended: from then on nobody else writes what we share.
#[derive(Debug, Clone)]
pub struct OldGone(CancellationToken);

impl OldGone {
    /// For a process that has taken over from nobody.
    pub fn already() -> Self {
        let gone = CancellationToken::new();
        gone.cancel();
        Self(gone)
    }

    pub fn is_gone(&self) -> bool {
        self.0.is_cancelled()
    }

    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}

/// Asks the process behind `path` for its sockets. Must be called inside a runtime.
pub(crate) async fn claim(path: &Path) -> Result<Claim, TakeOverError> {
    check_directory(path)?;
    let socket = connect_to(path)?;
    match timeout(ANSWER, talk(socket, path)).await {
        Ok(claim) => claim,
        Err(_) => Err(TakeOverError::Silent { path: path.to_owned() }),
    }
}

async fn talk(socket: OwnedFd, path: &Path) -> Result<Claim, TakeOverError> {
    let broken = |source| TakeOverError::Broken { path: path.to_owned(), source };
    let strange = || broken(io::Error::other("not what a predecessor says"));
    let channel = Channel::new(socket).map_err(broken)?;
    let question = Message::Ask { version: VERSION, pid: std::process::id() };
    channel.send(&question, None).await.map_err(broken)?;
    let (mut sockets, mut older_processes, mut handover_socket) = (Vec::new(), Vec::new(), None);
    let lock = loop {
        match channel.receive().await.map_err(broken)? {
            Some((Message::Socket { listener }, Some(descriptor))) => {
                sockets.push((listener, TcpListener::from(descriptor)));
            }
            Some((Message::HandoverSocket, Some(descriptor))) => {
                handover_socket = Some(HandoverSocket::adopt(descriptor, path).map_err(broken)?);
            }
            Some((Message::Elder, Some(descriptor))) => {
                older_processes.push(Channel::new(descriptor).map_err(broken)?);
            }
            Some((Message::Sent, lock)) => break lock,
            Some((Message::Refused { reason }, _)) => {
                return Err(TakeOverError::Refused { path: path.to_owned(), reason });
            }
            Some(_) => return Err(strange()),
            None => {
                let source = io::Error::other("it ended in the middle");
                return Err(broken(source));
            }
        }
    };
    let gone = CancellationToken::new();
    Ok(Claim {
        sockets,
        lock,
        predecessor: Predecessor { channel, older_processes, handover_socket, gone },
    })
}

impl Predecessor {
    pub fn gone(&self) -> OldGone {
        OldGone(self.gone.clone())
    }

    /// Tells it that we accept connections, and returns when it drains. An error leaves us with
    /// the sockets and without a predecessor: it has died, and the work is ours anyway.
    pub async fn relieve(&self) -> io::Result<()> {
        self.channel.send(&Message::Ready, None).await?;
        match timeout(ANSWER, self.channel.receive()).await {
            Ok(Ok(Some((Message::Yours, _)))) => Ok(()),
            Ok(Ok(Some(_))) => Err(io::Error::other("not what a predecessor says")),
            Ok(Ok(None)) => Err(io::Error::other("it has ended")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("it does not answer")),
        }
    }

    /// For those who come after us: they have to wait for our older processes too.
    pub fn older_processes(&self) -> io::Result<Vec<OwnedFd>> {
        let all = std::iter::once(&self.channel).chain(&self.older_processes);
        all.map(|channel| channel.as_fd().try_clone_to_owned()).collect()
    }

    /// Returns when all older processes have ended.
    pub async fn watch(self) {
        self.channel.closed().await;
        for older in &self.older_processes {
            older.closed().await;
        }
        self.gone.cancel();
    }
}
