//! From the first accepted connection to the last joined task.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bind::Listening;
use super::drain::{Drain, Left};
use super::group::Chain;
use super::handover::{Handover, HandoverSocket, Offer, Predecessor, Successor};
use super::plan::{Hooks, MakeCommand, Plan, Waits};
use super::running::Running;
use super::shutdown::Shutdown;
use super::signals::{Request, Signals};
use super::told::Told;
use super::{RunError, Stop, successor, watchdog};
use crate::process::notify_systemd::{self, Notifier};
use crate::process::ready_file::{self, ReadyFile};

/// With a listener or a task lost, requests under way get this long: enough for most, and the
/// restart is near.
const FAILURE_DRAIN: Duration = Duration::from_secs(10);
/// What the process starts with, besides its plan.
pub(super) struct Start {
    pub listening: Vec<Listening>,
    /// Of all listening sockets, for a successor.
    pub copies: Vec<(String, TcpListener)>,
    pub predecessor: Option<Predecessor>,
    pub notifier: Notifier,
}

/// Why a process stops.
enum Why {
    Signal,
    Successor(Successor),
}

pub(super) async fn live(
    running: &mut Running,
    signals: &mut Signals,
    plan: Plan,
    start: Start,
) -> Result<Stop, RunError> {
    let Plan {
        requests,
        connections,
        shutdown_delay,
        shutdown_timeout,
        shutdown_state,
        linger,
        waits,
        ready_file,
        upgrade_socket,
        successor,
        mut handover,
        lock,
        old_gone,
        hooks,
        events,
        ..
    } = plan;
    let Start { listening, copies, mut predecessor, notifier } = start;
    if let Some(limit) = notify_systemd::watchdog() {
        tokio::spawn(watchdog::feed(notifier.clone(), running.runtimes(), limit));
    }
    if predecessor.is_none() {
        running.open_sides();
    }
    let told = Told(events.clone());
    let awaits_successor = upgrade_socket.is_some();
    let mut signal_loop =
        SignalLoop { signals, hooks, successor, awaits_successor, told: told.clone() };

    let (mut ours, mut offer) = (None, None);
    let begin =
        begin(running, ready_file, upgrade_socket.as_deref(), &listening, &mut predecessor, &told);
    let begun = tokio::select! {
        biased;
        begun = begin => begun.map(Some),
        () = signal_loop.asked_to_stop() => Ok(None),
    };
    if let Some(predecessor) = predecessor {
        let told = told.clone();
        tokio::spawn(async move {
            predecessor.watch().await;
            tracing::info!("the predecessor has gone");
            told.info("predecessor_gone", "the process before has gone");
            old_gone();
        });
    }
    let begun = begun.map(|begun| begun.map(|begun| (begun, copies)));
    // Without an offer the copies of the sockets are closed by now, as they must be in a drain.
    let why = match begun {
        Err(error) => Err(error),
        Ok(None) => Ok(Why::Signal),
        Ok(Some((begun, copies))) => {
            ours = begun.ready_file;
            (signal_loop.hooks.ready)(&listening);
            running.open_sides();
            notifier.unmute();
            notifier.ready(&status(&listening));
            let offer = offer.insert(Offer::new(
                begun.handover_socket,
                copies,
                begun.older_processes,
                lock,
                told.clone(),
            ));
            serve(running, &mut signal_loop, offer, &mut *handover, &notifier).await
        }
    };
    if let Err(error) = &why {
        tracing::error!(error = %Chain(error), "stopping after a failure");
        told.error("failure", format!("stopping after a failure: {}", Chain(error)));
    }

    let handed_over = matches!(why, Ok(Why::Successor(_)));
    if let Some(offer) = offer {
        offer.withdraw(handed_over);
    }
    if !handed_over {
        notifier.stopping("draining");
    }
    let left = Left { requests, connections };
    let fixed = Waits { shutdown_delay, shutdown_timeout, linger };
    let Waits { shutdown_delay, shutdown_timeout, linger } = waits.map_or(fixed, |waits| waits());
    let drain = Drain {
        told,
        left: left.clone(),
        shutdown_state: shutdown_state.clone(),
        handed_over,
        linger,
        // A balancer in front notices nothing of a hand-over, and a failure does not wait for it.
        delay: if matches!(why, Ok(Why::Signal)) { shutdown_delay } else { Duration::ZERO },
        limit: if why.is_err() { shutdown_timeout.min(FAILURE_DRAIN) } else { shutdown_timeout },
    };
    let draining = std::mem::replace(&mut signal_loop.hooks.draining, Box::new(|| ()));
    let stopped = tokio::select! {
        biased;
        () = signal_loop.forced(handed_over.then_some(&shutdown_state)) => {
            let cut = left.requests.len();
            tracing::warn!(requests = cut, "stopped at once by a second signal, requests were cut");
            Ok(Stop::Forced { cut })
        }
        drained = drain.run(running, draining) => drained.map(|cut| {
            if handed_over { Stop::HandedOver { cut } } else { Stop::Drained { cut } }
        }),
    };
    if let Why::Successor(successor) = why? {
        successor.see_us_go();
    }
    if let (Ok(Stop::Drained { .. } | Stop::HandedOver { .. }), Some(file)) = (&stopped, ours)
        && let Err(error) = file.remove_if_ours()
    {
        tracing::warn!(%error, "cannot remove the ready file");
    }
    stopped
}

struct Begun {
    ready_file: Option<ReadyFile>,
    handover_socket: Option<HandoverSocket>,
    /// The channels to all older processes.
    older_processes: Vec<std::os::fd::OwnedFd>,
}

/// Returns when every listener accepts and the predecessor, if there is one, drains.
async fn begin(
    running: &mut Running,
    ready_file: Option<PathBuf>,
    upgrade_socket: Option<&Path>,
    listening: &[Listening],
    predecessor: &mut Option<Predecessor>,
    told: &Told,
) -> Result<Begun, RunError> {
    running.started().await?;
    let handover_socket =
        match (upgrade_socket, predecessor.as_mut().and_then(|old| old.handover_socket.take())) {
            (None, _) => None,
            (Some(path), Some(theirs)) if theirs.path() == path => Some(theirs),
            (Some(path), _) => Some(HandoverSocket::open(path).map_err(RunError::UpgradeSocket)?),
        };
    // All that can fail comes before the predecessor is relieved.
    let ready_file = ready_file.map(|path| write_ready_file(path, listening)).transpose()?;
    let mut older_processes = Vec::new();
    if let Some(predecessor) = predecessor {
        older_processes = predecessor.older_processes().map_err(RunError::Copy)?;
        match predecessor.relieve().await {
            Ok(()) => {
                tracing::info!("taken over, the predecessor is draining");
                told.info("took_over", "taken over from the process before, which drains");
            }
            Err(error) => {
                tracing::warn!(%error, "the predecessor was lost, serving without it");
                told.warn("predecessor_lost", format!("the process before was lost: {error}"));
            }
        }
    }
    Ok(Begun { ready_file, handover_socket, older_processes })
}

fn write_ready_file(path: PathBuf, listening: &[Listening]) -> Result<ReadyFile, RunError> {
    let listeners = listening.iter().map(|listening| (listening.name.as_str(), listening.address));
    ready_file::write(&path, std::process::id(), listeners)
        .map_err(|source| RunError::ReadyFile { path, source })
}

async fn serve(
    running: &mut Running,
    signal_loop: &mut SignalLoop<'_>,
    offer: &Offer,
    handover: &mut dyn FnMut(Handover),
    notifier: &Notifier,
) -> Result<Why, RunError> {
    loop {
        let successor = tokio::select! {
            error = running.failed() => return Err(error),
            () = signal_loop.asked_to_stop() => return Ok(Why::Signal),
            successor = offer.accepted(handover) => successor,
        };
        match replaced_by(&successor, notifier).await {
            Ok(()) => {
                handover(Handover::Done);
                tracing::info!(pid = successor.pid, "a successor has taken over, draining");
                let message = format!("process {} has taken over, draining", successor.pid);
                signal_loop.told.info("handed_over", message);
                return Ok(Why::Successor(successor));
            }
            Err(error) => {
                // It hears of us over a stream that only its end can break.
                handover(Handover::Ended);
                tracing::warn!(%error, "the successor was lost when it was ready, serving on");
                signal_loop
                    .told
                    .no_upgrade(format!("the new process was lost when it was ready: {error}"));
            }
        }
    }
}

async fn replaced_by(successor: &Successor, notifier: &Notifier) -> io::Result<()> {
    // Before it knows: what it says next must be believed.
    notifier.main_pid(successor.pid);
    let told = successor.yours().await;
    match told {
        Ok(()) => notifier.mute(),
        Err(_) => notifier.main_pid(std::process::id()),
    }
    told
}

fn status(listening: &[Listening]) -> String {
    let one = |listening: &Listening| format!("{} {}", listening.name, listening.address);
    let all: Vec<String> = listening.iter().map(one).collect();
    format!("serving on {}", all.join(", "))
}

/// Hears signals.
struct SignalLoop<'s> {
    signals: &'s mut Signals,
    hooks: Hooks,
    successor: Option<MakeCommand>,
    awaits_successor: bool,
    told: Told,
}

impl SignalLoop<'_> {
    /// Tools that move log files away send SIGHUP by habit.
    fn reload(&mut self) {
        (self.hooks.reopen_logs)();
        (self.hooks.reload)();
    }

    /// Returns when a signal asks for a drain.
    async fn asked_to_stop(&mut self) {
        let signal = loop {
            match self.signals.next().await {
                Request::Stop(signal) => break signal,
                Request::Quit if self.awaits_successor => {
                    tracing::info!("serving until a successor asks for the sockets and is ready");
                }
                Request::Quit => break "SIGQUIT",
                Request::Reload => self.reload(),
                Request::ReopenLogs => (self.hooks.reopen_logs)(),
                Request::Upgrade => match &mut self.successor {
                    Some(command) if self.awaits_successor => {
                        successor::start(command(), &self.told);
                    }
                    _ => tracing::warn!("there is no upgrade socket, no successor can take over"),
                },
            }
        };
        tracing::info!(signal, "draining");
        self.told.info("draining", format!("draining after {signal}"));
    }

    /// Returns when a signal says that the drain has lasted long enough. After a hand-over, which
    /// no signal has asked for, the first one only ends the patience with idle connections.
    async fn forced(&mut self, mut patience: Option<&Shutdown>) {
        loop {
            match self.signals.next().await {
                Request::Stop(_) => match patience.take() {
                    Some(shutdown_state) => shutdown_state.close_idle(),
                    None => return,
                },
                Request::Quit => tracing::info!(signal = "SIGQUIT", "already draining"),
                Request::Upgrade => tracing::info!(signal = "SIGUSR2", "already draining"),
                Request::Reload => self.reload(),
                Request::ReopenLogs => (self.hooks.reopen_logs)(),
            }
        }
    }
}
