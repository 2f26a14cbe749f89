//! `bits-gateway sessions list`, `show` and `forget`.

use std::path::{Path, PathBuf};

use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::{Progress, Timestamp};
use serde_json::{Value as Json, json};

use super::client::{Client, ClientError, Connection, fail, segment};
use super::table::{Column, pairs, printable, size, span, table};
use super::{print, to_text};
use crate::clock;
use crate::exit::Exit;
use crate::sessions::view::{Mark, Pager};
use crate::telemetry::rfc3339;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List uploads, a page at a time
    List(ListArgs),
    /// Show one upload
    Show(OneArgs),
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

/// A session as a durable table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub key: SessionKey,
    pub backend: String,
    pub backend_session: Option<String>,
    pub created: Timestamp,
    /// `None` where the table does not have it.
    pub progress: Option<Progress>,
}

/// Hands every session of a durable table to a function, in any order.
///
/// # Errors
/// What is the matter with the file, in a sentence.
pub type ReadStore = fn(&Path, &mut dyn FnMut(Stored)) -> Result<(), String>;

/// How `--store` reads.
const READ_STORE: Option<ReadStore> = None;

/// Rows that are asked for at once when all are wanted.
const BATCH: u32 = 5_000;

pub fn sessions(command: &Command) -> Exit {
    match command {
        Command::List(args) => list(args),
        Command::Show(args) => {
            let path = format!("sessions/{}", segment(&args.id));
            args.connection.run(|client| client.get(&path), show)
        }
        Command::Forget(args) => {
            let path = format!("sessions/{}", segment(&args.id));
            args.connection.run(|client| client.delete(&path), forgotten)
        }
    }
}

fn list(args: &ListArgs) -> Exit {
    match &args.store {
        Some(path) => match stored(path, args) {
            Ok(page) if args.connection.json => print(&to_text(&page)),
            Ok(page) => print(&show_page(&page)),
            Err(error) => fail(&error, args.connection.json),
        },
        None => args.connection.run(|client| pages(client, args), show_page),
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

/// The same shape as the gateway's own answer.
fn stored(path: &Path, args: &ListArgs) -> Result<Json, ClientError> {
    let failed = |message: String, exit| ClientError::Failed { code: "store", message, exit };
    let Some(read) = READ_STORE else {
        let message = "this version keeps no durable table".to_owned();
        return Err(failed(message, Exit::Unavailable));
    };
    let limit = if args.all { usize::MAX - 1 } else { args.limit as usize };
    let mut pager = Pager::new(args.after, limit);
    let now = clock::now();
    let mut take = |stored: Stored| {
        let wanted = args.backend.as_ref();
        if wanted.is_none_or(|name| name.eq_ignore_ascii_case(&stored.backend)) {
            pager.offer(&stored.key, || row(&stored, now));
        }
    };
    read(path, &mut take).map_err(|message| failed(message, Exit::Io))?;
    let (rows, next) = pager.finish();
    Ok(json!({ "sessions": rows, "next": next.map(|mark| mark.to_string()) }))
}

fn row(stored: &Stored, now: Timestamp) -> Json {
    let short = |id: &String| SessionId::parse(id).map(|id| id.key().short().to_string());
    let progress = stored.progress.unwrap_or_default();
    let seen = stored.progress.map(|progress| progress.seen);
    json!({
        "ref": Mark::of(&stored.key).to_string(),
        "id": stored.key.short().to_string(),
        "backend": stored.backend,
        "backend_session": stored.backend_session.as_ref().and_then(short),
        "created": rfc3339(stored.created).to_string(),
        "age_seconds": now.since(stored.created).as_secs(),
        "seen": seen.map(|seen| rfc3339(seen).to_string()),
        "idle_seconds": seen.map(|seen| now.since(seen).as_secs()),
        "next_offset": stored.progress.map(|progress| progress.next_offset),
        "total": (progress.total > 0).then_some(progress.total),
    })
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
        None => "no Fragment yet".to_owned(),
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
