//! The program of its own; the gateway's demo runs the same.

use std::process::ExitCode;

use backend_stub::options::Options;
use clap::Parser;

fn main() -> ExitCode {
    backend_stub::main(Options::parse())
}
