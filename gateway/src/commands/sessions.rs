//! `bits-gateway sessions list`, `show` and `forget`.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::client::{Client, ClientError, Connection, fail, segment};
use super::stored;
use super::table::{Column, pairs, printable, size, span, table};
use super::{print, to_text};
use crate::exit::Exit;
use crate::sessions::view::Mark;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List uploads, a page at a time
    List(ListArgs),
    /// Show one upload
    Show(ShowArgs),
    /// Forget an upload: its client starts it over
    Forget(OneArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Only those of this backend
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Go on behind an earlier page
    #[arg(long, value_name = "REF")]
    pub after: Option<Mark>,
    /// All pages
    #[arg(long, conflicts_with = "after")]
    pub all: bool,
    /// Read the durable table of a gateway that is stopped
    #[arg(long, value_name = "PATH", conflicts_with_all = ["admin", "token_file"])]
    pub store: Option<PathBuf>,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Clone, clap::Args)]
pub struct OneArgs {
    /// Its whole id, or what `list` shows under REF
    #[arg(value_name = "ID|REF")]
    pub id: String,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub one: OneArgs,
    /// Read the durable table of a gateway that is stopped
    #[arg(long, value_name = "PATH", conflicts_with_all = ["admin", "token_file"])]
    pub store: Option<PathBuf>,
}

/// Rows that are asked for at once when all are wanted.
const BATCH: u32 = 5_000;

pub fn sessions(command: &Command) -> Exit {
    match command {
        Command::List(args) => list(args),
        Command::Show(ShowArgs { one, store: Some(path) }) => {
            local(stored::one(path, &one.id), one.connection.json, show)
        }
        Command::Show(ShowArgs { one, store: None }) => {
            let path = format!("sessions/{}", segment(&one.id));
            one.connection.run(|client| client.get(&path), show)
        }
        Command::Forget(args) => {
            let path = format!("sessions/{}", segment(&args.id));
            args.connection.run(|client| client.delete(&path), forgotten)
        }
    }
}

fn list(args: &ListArgs) -> Exit {
    match &args.store {
        Some(path) => local(stored::page(path, args), args.connection.json, show_page),
        None => args.connection.run(|client| pages(client, args), show_page),
    }
}

/// Prints what was found without asking a gateway.
fn local(found: Result<Json, ClientError>, json: bool, text: fn(&Json) -> String) -> Exit {
    match found {
        Ok(found) if json => print(&to_text(&found)),
        Ok(found) => print(&text(&found)),
        Err(error) => fail(&error, json),
    }
}

/// A page, or all of them as one.
fn pages(client: &Client, args: &ListArgs) -> Result<Json, ClientError> {
    let mut after = args.after.map(|mark| mark.to_string());
    let limit = if args.all { BATCH } else { args.limit };
    let mut rows = Vec::new();
    loop {
        let mut path = format!("sessions?limit={limit}");
        for (name, value) in [("after", after.as_ref()), ("backend", args.backend.as_ref())] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", segment(value)));
            }
        }
        let mut page = client.get(&path)?;
        if !args.all {
            return Ok(page);
        }
        if let Json::Array(more) = page["sessions"].take() {
            rows.extend(more);
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(json!({ "sessions": rows, "next": null })),
        }
    }
}

fn show_page(page: &Json) -> String {
    let columns = [
        Column::Left("REF"),
        Column::Left("SESSION"),
        Column::Cut("BACKEND"),
        Column::Right("SIZE"),
        Column::Right("DONE"),
        Column::Right("IDLE"),
        Column::Right("AGE"),
    ];
    let text = |value: &Json| value.as_str().unwrap_or("-").to_owned();
    let since = |value: &Json| value.as_u64().map_or("-".to_owned(), span);
    let rows: Vec<[String; 7]> = page["sessions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            [
                text(&row["ref"]),
                text(&row["id"]),
                text(&row["backend"]),
                row["total"].as_u64().map_or("-".to_owned(), size),
                done(row),
                since(&row["idle_seconds"]),
                since(&row["age_seconds"]),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "no sessions\n".to_owned();
    }
    let mut shown = table(columns, &rows);
    if let Some(next) = page["next"].as_str() {
        shown.push_str(&format!("there are more: --after {}\n", printable(next)));
    }
    shown
}

fn done(row: &Json) -> String {
    match (row["next_offset"].as_u64(), row["total"].as_u64()) {
        // Rounded down: 100% is when nothing is missing.
        (Some(at), Some(total)) if total > 0 => {
            format!("{}%", u128::from(at.min(total)) * 100 / u128::from(total))
        }
        _ => "-".to_owned(),
    }
}

fn show(row: &Json) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
    let ago = |at: &str, seconds: &str| match row[seconds].as_u64() {
        Some(seconds) => format!("{} ({} ago)", text(at), span(seconds)),
        None => text(at),
    };
    let next = row["next_offset"].as_u64().unwrap_or_default();
    let progress = match row["total"].as_u64() {
        Some(total) => format!("{next} of {total} bytes ({})", done(row)),
        None => "unknown until the next Fragment".to_owned(),
    };
    let mut lines = vec![
        ("session", text("id")),
        ("ref", text("ref")),
        ("backend", text("backend")),
        ("progress", progress),
        ("last seen", ago("seen", "idle_seconds")),
        ("created", ago("created", "age_seconds")),
    ];
    if row["backend_session"].is_string() {
        lines.push(("id at the backend", text("backend_session")));
    }
    pairs(&lines)
}

fn forgotten(answer: &Json) -> String {
    let row = &answer["forgotten"];
    let text = |name: &str| printable(row[name].as_str().unwrap_or("-"));
    format!(
        "session {} on {} is forgotten: its client will start over\n",
        text("id"),
        text("backend")
    )
}
