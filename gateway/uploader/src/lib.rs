//! A BITS client for any platform: what `bits-gateway upload` and the uploads of its demo are.
//!
//! `engine` is the state machine and asks `verdict` (what does this answer mean?) and
//! `fallback` (which host?), both pure. `client` writes packets, `exchange` is HTTP,
//! `connect` the network, `source` the file, `state` what survives an interruption;
//! `progress` and `report` are for people.

mod args;
mod client;
mod clock;
mod connect;
pub mod engine;
mod error;
mod exchange;
mod fallback;
mod pace;
pub mod progress;
mod reply;
mod report;
mod source;
mod state;
pub mod target;
mod verdict;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::sign::CertifiedKey;

pub use args::{Args, size as parse_size};
pub use error::UploadError;
pub use report::{Report, Status};

use client::Client;
use connect::{Connector, TrustError};
use engine::{Listener, Settings, Upload};
use exchange::Patience;
use progress::Display;
use source::Source;
use state::StateFile;
use target::{Mapping, Target};

/// Reads a certificate with its chain, and its key, from two files. The program around this client
/// decides what it asks of such files.
pub type LoadIdentity =
    fn(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, Box<dyn Error + Send + Sync>>;

/// Runs the command to its end and prints what came of it.
pub fn run(args: Args, load_identity: LoadIdentity) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bits-gateway upload: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (report, code) = runtime.block_on(execute(&args, load_identity));
    // A read that hangs on a dead disk must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(if print(&args, &report) { code } else { code.max(EX_IOERR) })
}

/// Does what the command says, short of printing the result. Returns the exit code with it.
///
/// Dropping the future is an interruption like any other: the state file is up to date.
pub async fn execute(args: &Args, load_identity: LoadIdentity) -> (Report, u8) {
    let started = clock::steady();
    let mut report = Report::new(&args.file, &args.url);
    let ended = command(args, load_identity, &mut report).await;
    report.took(clock::steady().saturating_sub(started));
    if let Err(error) = &ended {
        report.fail(error);
    }
    (report, ended.map_or_else(|error| error.exit_code(), |()| 0))
}

/// A local file that cannot be read or written, as in sysexits.h.
const EX_IOERR: u8 = 74;

/// Uploads one file without a state file, for programs that are a part of this one.
pub async fn upload(
    file: &Path,
    url: &str,
    settings: Settings,
    mappings: Vec<Mapping>,
    listener: Listener,
) -> Report {
    let started = clock::steady();
    let mut report = Report::new(file, url);
    let ended = async {
        let target = Target::parse(url, "")?;
        let connector = Connector::new(&target, mappings, None, None)?;
        let patience = Patience { send: Duration::from_secs(60), answer: Duration::from_secs(60) };
        let client = Client::new(target, connector, Vec::new(), None, patience);
        let mut upload = Upload::new(client, Source::open(file).await?, settings, None, listener);
        let ended = upload.run().await;
        settle(&mut report, &upload, ended)
    };
    if let Err(error) = ended.await {
        report.fail(&error);
    }
    report.took(clock::steady().saturating_sub(started));
    report
}

async fn command(
    args: &Args,
    load_identity: LoadIdentity,
    report: &mut Report,
) -> Result<(), UploadError> {
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    let target = Target::parse(&args.url, &name)?;
    report.url = target.to_string();
    let source =
        if args.cancel { Source::absent(&args.file) } else { Source::open(&args.file).await? };
    let own = match args.identity() {
        Some((certificate, key)) if target.tls => {
            Some(load_identity(certificate, key).map_err(TrustError::Own)?)
        }
        _ => None,
    };
    let connector = Connector::new(&target, args.resolve.clone(), args.ca.as_deref(), own)?;
    let state = match &args.state {
        Some(path) => path.clone(),
        None => state::default_path(&args.file, &report.url),
    };
    let state = StateFile::open(&state)?;
    let credentials = args.credentials()?;
    let display = Display::new(args.quiet, &name, source.size());
    let client = Client::new(target, connector, args.header.clone(), credentials, args.patience());
    let mut upload = Upload::new(client, source, args.settings(), Some(state), display.listener());
    if args.cancel {
        let found = tokio::select! {
            found = upload.cancel() => found?,
            () = interrupted() => return Err(UploadError::Interrupted),
        };
        report.status = if found { Status::Cancelled } else { Status::NothingToCancel };
        return Ok(());
    }
    let ended = tokio::select! {
        ended = upload.run() => ended,
        () = interrupted() => Err(UploadError::Interrupted),
    };
    display.finish();
    settle(report, &upload, ended)
}

fn settle(
    report: &mut Report,
    upload: &Upload,
    ended: Result<String, UploadError>,
) -> Result<(), UploadError> {
    report.count(upload.tally());
    report.bytes = upload.offset();
    let sha256 = ended.inspect_err(|_| report.resumable = upload.is_resumable())?;
    report.sha256 = Some(sha256);
    report.status = Status::Complete;
    Ok(())
}

/// False if standard output did not take it.
fn print(args: &Args, report: &Report) -> bool {
    use std::io::Write;
    let failed = matches!(report.status, Status::Failed | Status::Interrupted);
    if failed {
        eprintln!("bits-gateway upload: {}", report.words());
    }
    let text = if args.json {
        serde_json::to_string(report).expect("a report is plain data")
    } else if failed || args.quiet {
        return true;
    } else {
        report.words()
    };
    writeln!(std::io::stdout(), "{text}").is_ok()
}

/// Ends when somebody wants the program to stop.
pub async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| async move {
            match signal(kind) {
                Ok(mut signal) => signal.recv().await.unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = listen(SignalKind::interrupt()) => {}
            () = listen(SignalKind::terminate()) => {}
            () = listen(SignalKind::hangup()) => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
