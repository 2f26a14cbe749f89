//! A BITS upload server (MC-BUP) for Linux, which can also misbehave on demand.
//!
//! Reading order: `server` takes connections, `request` leads each request through its life; `packet` reads what a request
//! asks for; `uploads` does it; `upload` holds the rules of one upload without any I/O; `disk` keeps sessions and
//! files; `ack` writes the answer in the manner of a `flavour`. `faults` and `control` serve tests. The header names
//! are written out here and shared with no other package, so that a mistake cannot hide behind common code.

pub mod ack;
pub mod body;
pub mod clock;
pub mod conn;
pub mod control;
pub mod created;
pub mod disk;
pub mod faults;
pub mod files;
pub mod flavour;
pub mod http;
pub mod log;
pub mod notify;
pub mod options;
pub mod packet;
pub mod paths;
pub mod records;
pub mod refusal;
pub mod request;
pub mod server;
pub mod sessions;
pub mod transport;
pub mod upload;
pub mod uploads;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::log::Level;
use crate::options::Options;

/// Why the server could not start or go on.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] transport::TlsError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error(transparent)]
    Folder(#[from] disk::OpenError),
    #[error("cannot read the sessions: {0}")]
    Sessions(io::Error),
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
    #[error("{0}")]
    Internal(io::Error),
}

/// `SIGXFSZ` on Linux. Watching it turns its default, the end of the process, into EFBIG from the write, which is
/// then answered as "too large".
const FILE_SIZE_SIGNAL: i32 = 25;

/// An address, a folder or an output that cannot be used, as in sysexits.h.
const EX_IOERR: u8 = 74;

/// Runs the server as a process does, to its exit code.
pub fn main(options: Options) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&RunError::Internal(error)),
    };
    let result = runtime.block_on(run(options));
    // Connections that are still open after a second signal are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &RunError) -> ExitCode {
    log::line(Level::Error, "failed", format_args!("error={:?}", error.to_string()));
    match error {
        RunError::Internal(_) | RunError::Signals(_) => ExitCode::FAILURE,
        _ => ExitCode::from(EX_IOERR),
    }
}

/// Runs the server until SIGTERM or SIGINT. A second signal does not wait for requests in flight.
pub async fn run(options: Options) -> Result<(), RunError> {
    let mut signals = Signals::watch().map_err(RunError::Signals)?;
    let options = Arc::new(options);
    let disk = disk::Disk::open(&options.root)?;
    let uploads = uploads::Uploads::new(Arc::clone(&options), disk).map_err(RunError::Sessions)?;
    let tls = transport::acceptor(&options)?;
    let listener = bind(&options.listen).await?;
    let control = match &options.control {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    announce(&options, &listener, control.as_ref()).map_err(RunError::Stdout)?;

    let (server, gate) = server::Server::new(Arc::clone(&options), uploads, tls);
    let control =
        control.map(|listener| tokio::spawn(control::serve(listener, Arc::clone(&server))));
    let sweeper = tokio::spawn(sweep(Arc::clone(&server)));
    let (stop, stopped) = watch::channel(false);
    let mut running = tokio::spawn(Arc::clone(&server).run(listener, gate, stopped));
    tokio::select! {
        ended = &mut running => return flatten(ended),
        () = signals.next() => {}
    }
    log::line(Level::Info, "ending", format_args!("name={:?}", options.name));
    let _ = stop.send(true);
    let result = tokio::select! {
        ended = &mut running => flatten(ended),
        () = signals.next() => Ok(()),
    };
    sweeper.abort();
    if let Some(control) = control {
        control.abort();
    }
    result
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    _file_size: Signal,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_size: signal(SignalKind::from_raw(FILE_SIZE_SIGNAL))?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn bind(address: &str) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address: address.to_owned(), source })
}

/// Prints the one line on stdout by which a parent process learns the ports.
fn announce(
    options: &Options,
    listener: &TcpListener,
    control: Option<&TcpListener>,
) -> io::Result<()> {
    #[derive(serde::Serialize)]
    struct Listening<'a> {
        event: &'static str,
        name: &'a str,
        address: String,
        control: Option<String>,
    }
    let line = serde_json::to_string(&Listening {
        event: "listening",
        name: &options.name,
        address: listener.local_addr()?.to_string(),
        control: match control {
            Some(control) => Some(control.local_addr()?.to_string()),
            None => None,
        },
    })
    .map_err(io::Error::other)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Drops sessions whose time is over. A packet checks the time for itself as well, so that this only frees space.
async fn sweep(server: Arc<server::Server>) {
    let pause = (server.options.session_timeout / 10)
        .clamp(Duration::from_millis(100), Duration::from_secs(60));
    loop {
        tokio::time::sleep(pause).await;
        server.uploads.sweep(clock::now_ms()).await;
    }
}

fn flatten(ended: Result<io::Result<()>, tokio::task::JoinError>) -> Result<(), RunError> {
    match ended {
        Ok(result) => result.map_err(RunError::Internal),
        Err(error) => Err(RunError::Internal(io::Error::other(error))),
    }
}
