//! Arguments and exit codes.

use std::process::ExitCode;

use backend_stub::options::Options;
use backend_stub::{RunError, log};
use clap::Parser;

/// An address, a folder or an output that cannot be used, as in sysexits.h.
const EX_IOERR: u8 = 74;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&RunError::Internal(error)),
    };
    let result = runtime.block_on(backend_stub::run(options));
    // Connections that are still open after a second signal are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &RunError) -> ExitCode {
    log::line(log::Level::Error, "failed", format_args!("error={:?}", error.to_string()));
    match error {
        RunError::Internal(_) | RunError::Signals(_) => ExitCode::FAILURE,
        _ => ExitCode::from(EX_IOERR),
    }
}
