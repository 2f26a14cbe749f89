//! `bits-gateway backends drain --wait`.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value as Json, json};

use super::names::{Names, each, resolve, suggest, together};
use super::{left, path};
use crate::base::clock;
use crate::cli::commands::client::{Client, ClientError, Connection, fail, segment};
use crate::cli::commands::confirm::confirm;
use crate::cli::commands::table::{plural, printable, size, span};
use crate::cli::commands::{print, print_error, to_text};
use crate::process::exit::Exit;

#[derive(Debug, Clone, clap::Args)]
pub struct DrainArgs {
    #[command(flatten)]
    pub names: Names,
    /// Wait until they have no uploads left
    #[arg(long)]
    pub wait: bool,
    /// After this time, have the clients of the uploads that are left start over elsewhere
    /// (requires --wait)
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = humantime::parse_duration)]
    pub deadline: Option<Duration>,
    /// Do not ask, however many uploads the deadline may cost
    #[arg(long)]
    pub yes: bool,
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

/// So many uploads are not started over by a slip.
const MANY: u64 = 100;

pub fn drain(args: &DrainArgs) -> Exit {
    let progress = Progress::new(args.connection.json);
    let drained = args.connection.client().and_then(|client| wait(&client, args, &progress));
    progress.finish();
    match drained {
        Ok(result) if args.connection.json => print(&to_text(&result)),
        Ok(result) => print(&each(&result).into_iter().map(drained_one).collect::<String>()),
        Err(error) => fail(&error, args.connection.json),
    }
}

fn drained_one(result: &Json) -> String {
    let name = printable(result["name"].as_str().unwrap_or("-"));
    let moved = match result["moved"].as_u64().unwrap_or_default() {
        0 => String::new(),
        moved => format!("; the clients of {} start over", plural(moved, "upload")),
    };
    format!("{name} is empty{moved}\n")
}

/// Drains all, and waits for one after the other; the deadline is the same for each.
fn wait(client: &Client, args: &DrainArgs, progress: &Progress) -> Result<Json, ClientError> {
    let names = resolve(client, &args.names.names, args.names.all)?;
    if let Some(deadline) = args.deadline.filter(|_| !args.yes) {
        ask(client, &names, deadline)?;
    }
    let begun = clock::steady();
    for name in &names {
        let answer = client.post(&path(name, "drain"));
        let answer = answer.map_err(|error| suggest(client, name, error))?;
        if let Some(warning) = answer["warning"].as_str() {
            progress.warn(warning);
        }
    }
    let results = names.iter().map(|name| wait_for(client, name, begun, args, progress));
    Ok(together(results.collect::<Result<_, _>>()?))
}

/// Asks before a deadline that may cost many uploads what they have sent.
fn ask(client: &Client, names: &[String], deadline: Duration) -> Result<(), ClientError> {
    let (mut uploads, mut bytes) = (0, 0);
    for name in names {
        let backend = client.get(&format!("backends/{}", segment(name)));
        let backend = backend.map_err(|error| suggest(client, name, error))?;
        uploads += backend["sessions"].as_u64().unwrap_or_default();
        // A client may say what it likes of its offsets.
        bytes = backend["bytes_received"].as_u64().unwrap_or_default().saturating_add(bytes);
    }
    if uploads < MANY {
        return Ok(());
    }
    let after = span(deadline.as_secs());
    confirm(&format!(
        "There are {} with {} received. What is left of them after {after} starts over elsewhere \
         with its first byte.\nGo on?",
        plural(uploads, "upload"),
        size(bytes),
    ))
}

/// Looks again and again until nothing is left on one of them.
fn wait_for(
    client: &Client,
    name: &str,
    begun: Duration,
    args: &DrainArgs,
    progress: &Progress,
) -> Result<Json, ClientError> {
    let (mut moved, mut is_moved) = (0, false);
    let mut answered = clock::steady();
    let mut shown = None;
    loop {
        let now = clock::steady();
        match client.get(&path(name, "drain")) {
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
                    let message = format!("{} was set to ready meanwhile", name);
                    let (code, exit) = ("not_draining", Exit::Failure);
                    return Err(ClientError::Failed { code, message, exit });
                }
                let late = args.deadline.is_some_and(|limit| now.saturating_sub(begun) >= limit);
                if late && !is_moved {
                    let answer = client.post(&path(name, "move"))?;
                    moved = answer["moved"].as_u64().unwrap_or_default();
                    is_moved = true;
                    continue;
                }
                progress.show(name, &counts, now, &mut shown);
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
