//! `bits-gateway completions`, `man` and `version`: what the program says about itself.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use serde_json::json;

use super::{print, print_error, to_text};
use crate::base::build_info::{REVISION, RUSTC, VERSION, VERSION_AND_REVISION};
use crate::cli::{Cli, Json};
use crate::process::exit::Exit;

pub fn completions(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bits-gateway", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints the page of the program, or writes one for every command.
pub fn man(directory: Option<&Path>) -> Exit {
    match directory {
        Some(directory) => match clap_mangen::generate_to(Cli::command(), directory) {
            Ok(()) => Exit::Ok,
            Err(error) => {
                print_error(&format!("error: cannot write to {}: {error}\n", directory.display()));
                if error.kind() == io::ErrorKind::PermissionDenied {
                    Exit::Permission
                } else {
                    Exit::Io
                }
            }
        },
        None => {
            let mut page = Vec::new();
            match clap_mangen::Man::new(Cli::command()).render(&mut page) {
                Ok(()) => print(&String::from_utf8_lossy(&page)),
                Err(_) => Exit::Failure,
            }
        }
    }
}

pub fn version(args: Json) -> Exit {
    match args.json {
        true => print(&to_text(&json!({
            "name": "bits-gateway",
            "version": VERSION,
            "revision": REVISION,
            "rustc": RUSTC,
        }))),
        false => print(&format!("bits-gateway {VERSION_AND_REVISION}\n")),
    }
}
