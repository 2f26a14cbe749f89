//! `bits-gateway backends list`, `ready`, `drain`, `maint` and `lost`.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value as Json, json};

use super::client::{Client, ClientError, Connection, fail, segment};
use super::table::{Column, plural, printable, size, span, table};
use super::{print, print_error, to_text};
use crate::clock;
use crate::exit::Exit;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the upload servers
    List(ListArgs),
    /// Give a backend no new uploads; those it has go on to their end
    Drain(DrainArgs),
    /// Give a backend new uploads again
    Ready(OneArgs),
    /// Send a backend nothing at all, not even packets of its uploads
    Maint(OneArgs),
    /// Give a backend up that is gone for good: its uploads start over on the others
    Lost(LostArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Clone, clap::Args)]
pub struct OneArgs {
    /// The backend
    pub name: String,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Clone, clap::Args)]
pub struct LostArgs {
    /// The backend
    pub name: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Clone, clap::Args)]
pub struct DrainArgs {
    /// The backend
    pub name: String,
    /// Wait until it has no uploads left
    #[arg(long)]
    pub wait: bool,
    /// After so long, have the clients of the uploads that are left start over elsewhere
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = humantime::parse_duration)]
    pub deadline: Option<Duration>,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    pub interval: Duration,
    #[command(flatten)]
    pub connection: Connection,
}

/// As long as a gateway may take to come back: its states are durable, so a wait outlives it.
const ABSENCE: Duration = Duration::from_secs(60);

/// Between two lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

pub fn backends(command: &Command) -> Exit {
    match command {
        Command::List(args) => args.connection.run(|client| client.get("backends"), show_all),
        Command::Ready(args) => set(args, "ready"),
        Command::Maint(args) => set(args, "maint"),
        Command::Lost(args) => args.connection.run(|client| lose(client, args), changed),
        Command::Drain(args) if !args.wait => {
            let path = path(&args.name, "drain");
            args.connection.run(|client| client.post(&path), changed)
        }
        Command::Drain(args) => drain(args),
    }
}

fn set(args: &OneArgs, state: &str) -> Exit {
    let path = path(&args.name, state);
    args.connection.run(|client| client.post(&path), changed)
}

/// Says what it costs, and asks.
fn lose(client: &Client, args: &LostArgs) -> Result<Json, ClientError> {
    if !args.yes {
        let backend = client.get(&format!("backends/{}", segment(&args.name)))?;
        let number = |name: &str| backend[name].as_u64().unwrap_or_default();
        let name = printable(backend["name"].as_str().unwrap_or("-"));
        print_error(&format!(
            "{name} has {}, and {} of them; with failover.then = \"restart\" these start over on \
             other backends.\nIs {name} gone for good? [y/N] ",
            plural(number("sessions"), "upload"),
            size(number("bytes_received")),
        ));
        let mut answer = String::new();
        // What cannot be read is no yes.
        let _ = std::io::stdin().lock().read_line(&mut answer);
        if !["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
            let message = "nothing was changed; --yes does it without a question".to_owned();
            let (code, exit) = ("not_confirmed", Exit::Failure);
            return Err(ClientError::Failed { code, message, exit });
        }
    }
    client.post(&path(&args.name, "lost"))
}

fn path(name: &str, what: &str) -> String {
    format!("backends/{}/{what}", segment(name))
}

fn show_all(answer: &Json) -> String {
    let columns = [
        Column::Cut("NAME"),
        Column::Left("STATE"),
        Column::Left("HEALTH"),
        Column::Right("FOR"),
        Column::Right("UPLOADS"),
        Column::Right("LEFT"),
        Column::Cut("ADDRESS"),
    ];
    let text = |value: &Json| value.as_str().unwrap_or("-").to_owned();
    let number = |value: &Json| value.as_u64().unwrap_or_default();
    let row = |backend: &Json| {
        let removed = backend["configured"].as_bool() == Some(false);
        [
            text(&backend["name"]),
            if removed { "gone".to_owned() } else { text(&backend["admin_state"]) },
            text(&backend["health"]),
            backend["seconds_in_state"].as_u64().map_or("-".to_owned(), span),
            number(&backend["sessions"]).to_string(),
            size(number(&backend["bytes_left"])),
            text(&backend["address"]),
        ]
    };
    let backends = answer["backends"].as_array();
    let rows: Vec<[String; 7]> = backends.into_iter().flatten().map(row).collect();
    let mut shown = table(columns, &rows);
    for backend in backends.into_iter().flatten() {
        if let Some(reason) = backend["health_reason"].as_str() {
            let name = text(&backend["name"]);
            shown.push_str(&format!("{}: {}\n", printable(&name), printable(reason)));
        }
    }
    for backend in backends.into_iter().flatten() {
        for barred in backend["barred_folders"].as_array().into_iter().flatten() {
            let why = match barred["reason"].as_str() {
                Some("refuses") => "it refuses what others accept",
                Some("silent") => "it does not answer while others do",
                Some("full") => "its disk is full",
                _ => "it is left out",
            };
            let (name, folder) = (text(&backend["name"]), text(&barred["folder"]));
            let (name, folder) = (printable(&name), printable(&folder));
            shown.push_str(&format!("{name}: no new uploads of {folder}: {why}\n"));
        }
    }
    shown
}

fn changed(answer: &Json) -> String {
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
fn left(counts: &Json) -> String {
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

fn drain(args: &DrainArgs) -> Exit {
    let progress = Progress::new(args.connection.json);
    let drained = args.connection.client().and_then(|client| wait(&client, args, &progress));
    progress.finish();
    match drained {
        Ok(result) if args.connection.json => print(&to_text(&result)),
        Ok(result) => {
            let name = printable(result["name"].as_str().unwrap_or("-"));
            let moved = result["moved"].as_u64().unwrap_or_default();
            let moved = match moved {
                0 => String::new(),
                moved => format!("; the clients of {} start over", plural(moved, "upload")),
            };
            print(&format!("{name} is empty{moved}\n"))
        }
        Err(error) => fail(&error, args.connection.json),
    }
}

/// Drains, and looks again and again until nothing is left.
fn wait(client: &Client, args: &DrainArgs, progress: &Progress) -> Result<Json, ClientError> {
    let begun = clock::steady();
    let answer = client.post(&path(&args.name, "drain"))?;
    if let Some(warning) = answer["warning"].as_str() {
        progress.warn(warning);
    }
    let (mut moved, mut is_moved) = (0, false);
    let mut answered = clock::steady();
    let mut shown = None;
    loop {
        let now = clock::steady();
        match client.get(&path(&args.name, "drain")) {
            Ok(counts) => {
                answered = now;
                if counts["empty"] == true {
                    let seconds = now.saturating_sub(begun).as_secs();
                    let name = &counts["name"];
                    let result = json!({
                        "name": name, "empty": true, "moved": moved, "waited_seconds": seconds,
                    });
                    return Ok(result);
                }
                if counts["admin_state"] == "ready" {
                    let message = format!("somebody set {} to ready meanwhile", args.name);
                    let (code, exit) = ("not_draining", Exit::Failure);
                    return Err(ClientError::Failed { code, message, exit });
                }
                let late = args.deadline.is_some_and(|limit| now.saturating_sub(begun) >= limit);
                if late && !is_moved {
                    let answer = client.post(&path(&args.name, "move"))?;
                    moved = answer["moved"].as_u64().unwrap_or_default();
                    is_moved = true;
                    continue;
                }
                progress.show(&args.name, &counts, now, &mut shown);
            }
            Err(error) if error.may_pass() && now.saturating_sub(answered) < ABSENCE => {}
            Err(error) => return Err(error),
        }
        let until = args.deadline.filter(|_| !is_moved);
        let rest = until.map_or(args.interval, |limit| {
            (begun + limit).saturating_sub(clock::steady()).max(Duration::from_millis(1))
        });
        std::thread::sleep(args.interval.min(rest));
    }
}

/// Progress on standard error: a line that is renewed, or a line now and then.
enum Progress {
    Bar(ProgressBar),
    Lines,
    Quiet,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {wide_msg}");
        bar.set_style(style.expect("the template is right"));
        Self::Bar(bar)
    }

    fn show(&self, name: &str, counts: &Json, now: Duration, shown: &mut Option<Duration>) {
        let mut text = format!("{}: {}", printable(name), left(counts));
        if let Some(seconds) = counts["seconds_left"].as_u64() {
            text.push_str(&format!(", about {}", span(seconds)));
        } else if counts["bytes_per_second"] == 0 {
            text.push_str(", nothing moves");
        }
        match self {
            Self::Bar(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            Self::Lines => {
                if shown.is_none_or(|shown| now.saturating_sub(shown) >= LINE_EVERY) {
                    *shown = Some(now);
                    print_error(&format!("{text}\n"));
                }
            }
            Self::Quiet => {}
        }
    }

    fn warn(&self, warning: &str) {
        if !matches!(self, Self::Quiet) {
            print_error(&format!("warning: {}\n", printable(warning)));
        }
    }

    fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(10) {
        return Err("at least 10ms".to_owned());
    }
    Ok(interval)
}
