//! `bits-gateway reload`.

use serde_json::Value as Json;

use super::client::Connection;
use super::table::printable;
use crate::exit::Exit;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub connection: Connection,
}

/// Has the gateway read its configuration again: all of it or nothing.
pub fn reload(args: &Args) -> Exit {
    let asked = args.connection.find().and_then(|client| client.post("reload"));
    args.connection.show(asked, show)
}

fn show(answer: &Json) -> String {
    let mut text = String::new();
    for (name, title) in [
        ("changed", "changed"),
        ("needs_restart", "needs a restart, unchanged so far"),
        ("warnings", "warnings"),
    ] {
        let lines: Vec<&str> =
            answer[name].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        if !lines.is_empty() {
            text.push_str(&format!("{title}:\n"));
            text.extend(lines.iter().map(|line| format!("  {}\n", printable(line))));
        }
    }
    if text.is_empty() { "nothing has changed\n".to_owned() } else { text }
}
