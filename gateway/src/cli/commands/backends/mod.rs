//! `bits-gateway backends list`, `ready`, `drain`, `maintenance` and `lost`.

mod drain;
mod list;
mod names;

use gateway_core::farm::AdminState;
use serde_json::{Value as Json, json};

use super::client::{Client, ClientError, Connection, segment};
use super::colour::Painter;
use super::confirm::confirm;
use super::print_error;
use super::table::{plural, printable, size};
use crate::process::exit::Exit;
pub use drain::DrainArgs;
pub use list::{barred, colour, reason, row};
use names::{Names, each, resolve, suggest, together};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the upload servers
    List(ListArgs),
    /// Give a backend no new uploads; those it has go on to their end
    Drain(DrainArgs),
    /// Give a backend new uploads again
    Ready(SomeArgs),
    /// Send a backend nothing at all, not even packets of its uploads
    #[command(alias = "maint")]
    Maintenance(SomeArgs),
    /// Give a backend up that is gone for good: its uploads start over on the others
    Lost(LostArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Only these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Clone, clap::Args)]
pub struct SomeArgs {
    #[command(flatten)]
    pub names: Names,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Clone, clap::Args)]
pub struct LostArgs {
    /// The backends
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub connection: Connection,
}

pub fn backends(command: &Command) -> Exit {
    match command {
        Command::List(args) => {
            let show = |answer: &Json| list::show(answer, Painter::for_stdout());
            args.connection.run(|client| listed(client, &args.names), show)
        }
        Command::Ready(args) => set(args, "ready"),
        Command::Maintenance(args) => set(args, AdminState::Maintenance.word_of_all_versions()),
        Command::Lost(args) => args.connection.run(|client| lose(client, args), changed),
        Command::Drain(args) if !args.wait => {
            args.connection.run(|client| set_each(client, &args.names, "drain"), changed)
        }
        Command::Drain(args) => drain::drain(args),
    }
}

fn set(args: &SomeArgs, state: &str) -> Exit {
    args.connection.run(|client| set_each(client, &args.names, state), changed)
}

/// Sets them one after the other. What was done before one fails is shown.
fn set_each(client: &Client, names: &Names, state: &str) -> Result<Json, ClientError> {
    let mut answers = Vec::new();
    for name in resolve(client, &names.names, names.all)? {
        match client.post(&path(&name, state)) {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                print_error(&answers.iter().map(changed_one).collect::<String>());
                return Err(suggest(client, &name, error));
            }
        }
    }
    Ok(together(answers))
}

/// Says what it costs, and asks.
fn lose(client: &Client, args: &LostArgs) -> Result<Json, ClientError> {
    let names = resolve(client, &args.names, false)?;
    if !args.yes {
        let mut said = String::new();
        for name in &names {
            let backend = client.get(&format!("backends/{}", segment(name)));
            let backend = backend.map_err(|error| suggest(client, name, error))?;
            let number = |name: &str| backend[name].as_u64().unwrap_or_default();
            said.push_str(&format!(
                "{} has {}, and {} of them; with failover.then = \"restart\" these start over on \
                 other backends.\n",
                printable(backend["name"].as_str().unwrap_or("-")),
                plural(number("sessions"), "upload"),
                size(number("bytes_received")),
            ));
        }
        let names: Vec<String> = names.iter().map(|name| printable(name)).collect();
        let are = if names.len() == 1 { "Is" } else { "Are" };
        confirm(&format!("{said}{are} {} gone for good?", names.join(", ")))?;
    }
    set_each(client, &Names { names, all: false }, "lost")
}

fn path(name: &str, what: &str) -> String {
    format!("backends/{}/{what}", segment(name))
}

/// All of them, or those with these names.
fn listed(client: &Client, names: &[String]) -> Result<Json, ClientError> {
    if names.is_empty() {
        return client.get("backends");
    }
    let one = |name: &String| {
        let found = client.get(&format!("backends/{}", segment(name)));
        found.map_err(|error| suggest(client, name, error))
    };
    let backends: Vec<Json> = names.iter().map(one).collect::<Result<_, _>>()?;
    Ok(json!({ "backends": backends }))
}

fn changed(answer: &Json) -> String {
    each(answer).into_iter().map(changed_one).collect()
}

/// What has become of a backend.
pub fn changed_one(answer: &Json) -> String {
    let backend = &answer["backend"];
    let name = printable(backend["name"].as_str().unwrap_or("-"));
    let state = match backend["admin_state"].as_str() {
        Some("ready") => "takes new uploads",
        Some("drain") => "takes no new uploads",
        Some("lost") => "is given up",
        _ => "is sent nothing",
    };
    let before = if answer["changed"] == false { ", as before" } else { "" };
    if backend["admin_state"] == "lost" {
        let uploads = plural(backend["sessions"].as_u64().unwrap_or_default(), "upload");
        let received = size(backend["bytes_received"].as_u64().unwrap_or_default());
        let text = format!("{name} {state}{before}; {uploads} leave it, {received} received\n");
        return text + &warning(answer);
    }
    let mut text = format!("{name} {state}{before}; {}\n", left(backend));
    text.push_str(&warning(answer));
    text
}

fn warning(answer: &Json) -> String {
    let warning = answer["warning"].as_str();
    warning.map(|text| format!("warning: {}\n", printable(text))).unwrap_or_default()
}

/// "3 uploads left, 1.2 GiB".
pub fn left(counts: &Json) -> String {
    let number = |name: &str| counts[name].as_u64().unwrap_or_default();
    let mut text = format!("{} left", plural(number("sessions"), "upload"));
    if number("bytes_left") > 0 {
        text.push_str(&format!(", {}", size(number("bytes_left"))));
    }
    let notes = [("of_unknown_size", "of unknown size"), ("idle", "idle")];
    let notes: Vec<String> = notes
        .iter()
        .filter(|(name, _)| number(name) > 0)
        .map(|(name, note)| format!("{} {note}", number(name)))
        .collect();
    if !notes.is_empty() {
        text.push_str(&format!(" ({})", notes.join(", ")));
    }
    text
}
