//! `bits-gateway sessions list`, `show` and `forget`.

mod list;
mod show;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::client::{Client, ClientError, Connection, fail, segment};
use super::confirm::confirm;
use super::stored;
use super::table::{plural, printable};
use super::{print, to_text};
use crate::process::exit::Exit;
pub use list::{ListArgs, now};
pub use show::show;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List uploads, those that move first, a page at a time
    List(ListArgs),
    /// Show one upload
    Show(ShowArgs),
    /// Forget an upload, or many: their clients start over
    Forget(ForgetArgs),
}

/// Which uploads are meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Which {
    /// active: data moves; waiting: blocked by something other than the client; idle: silent for
    /// 5 minutes
    #[arg(long, value_enum)]
    pub state: Option<State>,
    /// Only those of this backend
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Only those of this client
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<IpAddr>,
    /// Only uploads whose path contains this text. After a restart, paths are known only with
    /// `store.names`
    #[arg(long, value_name = "TEXT")]
    pub path: Option<String>,
    /// Only those without progress for so long, such as 30d
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub idle_for: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum State {
    Active,
    Waiting,
    Idle,
    All,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ForgetArgs {
    /// Its whole id, or what `list` shows under REF
    #[arg(value_name = "ID|REF", required_unless_present = "all")]
    pub id: Option<String>,
    /// Every upload that matches the filters; at least one filter is required
    #[arg(long, conflicts_with = "id", requires = "Which")]
    pub all: bool,
    /// Do not ask, however many they are
    #[arg(long, requires = "all")]
    pub yes: bool,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ShowArgs {
    /// Its whole id, or what `list` shows under REF
    #[arg(value_name = "ID|REF")]
    pub id: String,
    /// Read the session store of a gateway that is stopped
    #[arg(long, value_name = "DIR", conflicts_with_all = ["admin", "token_file"])]
    pub store: Option<PathBuf>,
    #[command(flatten)]
    pub connection: Connection,
}

pub fn sessions(command: &Command) -> Exit {
    match command {
        Command::List(args) => list::list(args),
        Command::Show(ShowArgs { id, store: Some(path), connection }) => {
            local(stored::one(path, id), connection.json, show)
        }
        Command::Show(ShowArgs { id, store: None, connection }) => {
            let path = format!("sessions/{}", segment(id));
            connection.run(|client| client.get(&path), show)
        }
        Command::Forget(ForgetArgs { id: Some(id), connection, .. }) => {
            let path = format!("sessions/{}", segment(id));
            connection.run(|client| client.delete(&path), forgotten)
        }
        Command::Forget(args) => {
            args.connection.run(|client| forget_all(client, args), all_forgotten)
        }
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

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
            Self::All => "all",
        }
    }
}

impl Which {
    /// As parameters of a call.
    fn parameters(&self) -> Vec<String> {
        let Self { state, backend, client, path, idle_for } = self;
        let idle_for = idle_for.map(|span| format!("{}ms", span.as_millis()));
        let said = [
            ("state", state.map(|state| state.word().to_owned())),
            ("backend", backend.clone()),
            ("client", client.map(|client| client.to_string())),
            ("path", path.clone()),
            ("idle_for", idle_for),
        ];
        let said = said.into_iter().filter_map(|(name, value)| Some((name, value?)));
        said.map(|(name, value)| format!("{name}={}", segment(&value))).collect()
    }
}

fn forget_all(client: &Client, args: &ForgetArgs) -> Result<Json, ClientError> {
    let which = args.which.parameters().join("&");
    if !args.yes {
        let page = client.get(&format!("sessions?limit=1&{which}"))?;
        let matching = page["matching"].as_u64().unwrap_or_default();
        if matching == 0 {
            return Ok(serde_json::json!({ "forgotten": 0 }));
        }
        confirm(&format!(
            "{} will be forgotten: whichever of these clients comes back starts over and sends \
             every byte again. Go on?",
            plural(matching, "upload")
        ))?;
    }
    client.delete(&format!("sessions?{which}"))
}

fn all_forgotten(answer: &Json) -> String {
    match answer["forgotten"].as_u64().unwrap_or_default() {
        0 => "no upload is meant, and none was forgotten\n".to_owned(),
        count => format!("forgotten: {}\n", plural(count, "upload")),
    }
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

/// How much of the file has come.
pub fn done(row: &Json) -> String {
    percent(row).map_or("-".to_owned(), |percent| format!("{percent}%"))
}

/// Rounded down: 100% is when nothing is missing.
pub fn percent(row: &Json) -> Option<u64> {
    let here = row["bytes_received"].as_u64().or(row["next_offset"].as_u64())?;
    let total = row["total"].as_u64().filter(|total| *total > 0)?;
    u64::try_from(u128::from(here.min(total)) * 100 / u128::from(total)).ok()
}
