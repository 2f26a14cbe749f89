//! `bits-gateway sessions list`.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::{Which, done, local};
use crate::cli::commands::client::{Client, ClientError, Connection, segment};
use crate::cli::commands::stored;
use crate::cli::commands::table::{Column, plain_size, printable, span, table};
use crate::process::exit::Exit;
use crate::sessions::listing::ListCursor;

#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub which: Which,
    /// At most NUMBER
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Continue after PLACE, printed at the end of the previous page
    #[arg(long, value_name = "PLACE")]
    pub after: Option<ListCursor>,
    /// All pages
    #[arg(long, conflicts_with = "after")]
    pub all: bool,
    /// Read the session store of a gateway that is stopped
    #[arg(long, value_name = "DIR", conflicts_with_all = ["admin", "token_file", "state", "client", "path", "idle_for"])]
    pub store: Option<PathBuf>,
    #[command(flatten)]
    pub connection: Connection,
}

/// Rows that are asked for at once when all are wanted.
const BATCH: u32 = 5_000;

pub fn list(args: &ListArgs) -> Exit {
    match &args.store {
        Some(path) => local(stored::page(path, args), args.connection.json, show_page),
        None => args.connection.run(|client| pages(client, args), show_page),
    }
}

/// A page, or all of them as one.
fn pages(client: &Client, args: &ListArgs) -> Result<Json, ClientError> {
    let mut after = args.after.map(|cursor| cursor.to_string());
    let limit = if args.all { BATCH } else { args.limit };
    let mut rows = Vec::new();
    loop {
        let mut parameters = args.which.parameters();
        parameters.push(format!("limit={limit}"));
        parameters.extend(after.as_ref().map(|after| format!("after={}", segment(after))));
        let mut page = client.get(&format!("sessions?{}", parameters.join("&")))?;
        if !args.all {
            return Ok(page);
        }
        if let Json::Array(more) = page["sessions"].take() {
            rows.extend(more);
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => {
                let matching = page["matching"].take();
                return Ok(json!({ "sessions": rows, "next": null, "matching": matching }));
            }
        }
    }
}

fn show_page(page: &Json) -> String {
    let columns = [
        Column::Left("REF"),
        Column::Right("NOW"),
        Column::Right("DONE"),
        Column::Right("IDLE"),
        Column::Cut("BACKEND"),
        Column::Cut("CLIENT"),
        Column::Tail("PATH"),
    ];
    let text = |value: &Json| value.as_str().unwrap_or("-").to_owned();
    let rows: Vec<[String; 7]> = page["sessions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            [
                text(&row["ref"]),
                now(row),
                done(row),
                row["idle_seconds"].as_u64().map_or("-".to_owned(), span),
                text(&row["backend"]),
                text(&row["client"]),
                text(&row["path"]),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "no sessions\n".to_owned();
    }
    let mut shown = table(columns, &rows);
    if let Some(next) = page["next"].as_str() {
        let matching = page["matching"].as_u64();
        let of = matching.map(|matching| format!(" of {matching}")).unwrap_or_default();
        let next = printable(next);
        shown.push_str(&format!("{}{of}; there are more: --after {next}\n", rows.len()));
    }
    shown
}

/// What it waits for, or bytes a second.
pub fn now(row: &Json) -> String {
    match (row["state"].as_str(), row["waits_for"].as_str()) {
        (Some("waiting"), Some(what)) => what.to_owned(),
        (Some("active"), _) => row["bytes_per_second"].as_u64().map_or("-".to_owned(), plain_size),
        _ => "-".to_owned(),
    }
}
