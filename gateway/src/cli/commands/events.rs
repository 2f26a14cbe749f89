//! `bits-gateway events`.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use gateway_core::events::{Kind, LIMIT};
use serde_json::{Value as Json, json};

use super::client::{Client, ClientError, Connection, fail, segment};
use super::colour::{Colour, Painter};
use super::stored::must_exist;
use super::table::printable;
use super::{print, print_error, to_text};
use crate::base::clock;
use crate::process::exit::Exit;
use crate::sessions::store;
use crate::telemetry::events::wire;

/// Asked again this often.
const POLL: Duration = Duration::from_secs(1);

/// Events that are asked for at once by whoever follows.
const BATCH: usize = 1_000;

/// Ids of events that were printed; after a restart of the gateway some come again.
const PRINTED: usize = 2 * BATCH;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only events of the last TIME, such as 8h [default: the last 50 events]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub since: Option<Duration>,
    /// Only these kinds: process, admin, backend, session, reload, certificate, store
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    pub kind: Vec<Kind>,
    /// At most NUMBER, the newest
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=LIMIT as i64))]
    pub limit: Option<u32>,
    /// Continue with new events, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Read the store of a gateway that is stopped
    #[arg(long, value_name = "DIR", conflicts_with_all = ["admin", "token_file", "follow"])]
    pub store: Option<PathBuf>,
    #[command(flatten)]
    pub connection: Connection,
}

fn kind(label: &str) -> Result<Kind, String> {
    let known = || format!("there are {}", Kind::ALL.map(Kind::label).join(", "));
    Kind::parse(label).ok_or_else(known)
}

/// Shows what happened.
pub fn events(args: &Args) -> Exit {
    let json = args.connection.json;
    let painter = Painter::for_stdout();
    if let Some(path) = &args.store {
        return match stored(path, args) {
            Ok(page) if json => print(&to_text(&page)),
            Ok(page) => print(&lines(&page, painter)),
            Err(error) => fail(&error, json),
        };
    }
    let client = match args.connection.client() {
        Ok(client) => client,
        Err(error) => return fail(&error, json),
    };
    let page = match client.get(&first(args)) {
        Ok(page) => page,
        Err(error) => return fail(&error, json),
    };
    if let Some(notice) = notice(&page) {
        print_error(&notice);
    }
    match (args.follow, json) {
        (true, _) => follow(&client, args, page, painter),
        (false, true) => print(&to_text(&page)),
        (false, false) => print(&lines(&page, painter)),
    }
}

/// Without a time, the last few; with one, all since then.
fn limit(args: &Args) -> usize {
    match (args.limit, args.since) {
        (Some(limit), _) => limit as usize,
        (None, Some(_)) => LIMIT,
        (None, None) => 50,
    }
}

fn first(args: &Args) -> String {
    let mut path = format!("events?limit={}{}", limit(args), kinds(args));
    if let Some(since) = args.since {
        path.push_str(&format!("&since={}ms", since.as_millis()));
    }
    path
}

fn kinds(args: &Args) -> String {
    let kinds: Vec<&str> = args.kind.iter().map(|kind| kind.label()).collect();
    if kinds.is_empty() { String::new() } else { format!("&kind={}", kinds.join(",")) }
}

/// What is to be known of events that are not, or not yet, on the disk.
fn notice(page: &Json) -> Option<String> {
    let unwritten = page["unwritten"].as_u64().unwrap_or_default();
    if page["durable"] == false {
        let text =
            "note: events are kept in memory only, and a restart of the gateway forgets them\n";
        return Some(text.to_owned());
    }
    // The last moment always waits.
    (unwritten > 100).then(|| format!("note: {unwritten} events wait for the session store\n"))
}

/// Prints what happens until nobody reads any more.
fn follow(client: &Client, args: &Args, mut page: Json, painter: Painter) -> Exit {
    let mut printed = Printed::default();
    let mut away = false;
    loop {
        if let Json::Array(events) = page["events"].take() {
            let new = events.into_iter().filter(|event| printed.is_new(event));
            let text: String = match args.connection.json {
                true => new.map(|event| format!("{event}\n")).collect(),
                false => new.map(|event| line(&event, painter)).collect(),
            };
            if !text.is_empty() {
                match print(&text) {
                    Exit::Ok => {}
                    exit => return exit,
                }
            }
        }
        let next = page["next"].as_str().unwrap_or_default().to_owned();
        let path = format!("events?limit={BATCH}{}&after={}", kinds(args), segment(&next));
        page = loop {
            thread::sleep(POLL);
            match client.get(&path) {
                Ok(page) => {
                    away = false;
                    break page;
                }
                Err(error) if error.may_pass() => {
                    if !std::mem::replace(&mut away, true) {
                        print_error(&format!("note: {error}; waiting for it\n"));
                    }
                }
                Err(error) => return fail(&error, args.connection.json),
            }
        };
    }
}

/// What was printed last.
#[derive(Debug, Default)]
struct Printed {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Printed {
    fn is_new(&mut self, event: &Json) -> bool {
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        if !self.known.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > PRINTED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// What lies on the disk, in the shape of the gateway's own answer.
fn stored(path: &Path, args: &Args) -> Result<Json, ClientError> {
    must_exist(path)?;
    let rows = store::read_events(path).map_err(|error| {
        let message = format!("{error}; {}", error.help());
        ClientError::Failed { code: "store", message, exit: error.exit() }
    })?;
    let mut events = wire::read_rows(&rows);
    let since = args.since.map(|since| clock::now().before(since)).unwrap_or_default();
    events.retain(|event| {
        event.at >= since && (args.kind.is_empty() || args.kind.contains(&event.kind))
    });
    events.sort_unstable_by_key(|event| event.order());
    let newest = events.split_off(events.len().saturating_sub(limit(args)));
    let shown: Vec<Json> = newest.iter().map(wire::shown).collect();
    Ok(json!({ "events": shown, "next": null, "durable": true, "unwritten": 0 }))
}

fn lines(page: &Json, painter: Painter) -> String {
    let events = page["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    if events.is_empty() {
        return "no events\n".to_owned();
    }
    events.iter().map(|event| line(event, painter)).collect()
}

/// `2026-03-01T08:00:00Z  WARN   backend  up02 is down: ... (by uid 0)`.
fn line(event: &Json, painter: Painter) -> String {
    let text = |name: &str| printable(event[name].as_str().unwrap_or("-"));
    // Whoever wants milliseconds has the JSON.
    let time = text("time");
    let time = time.split_once('.').map_or(time.clone(), |(seconds, _)| format!("{seconds}Z"));
    let (level, colour) = match event["level"].as_str() {
        Some("error") => ("ERROR", Some(Colour::Red)),
        Some("warning") => ("WARN", Some(Colour::Yellow)),
        _ => ("INFO", None),
    };
    let by = event["by"].as_str().map(|by| format!(" (by {})", printable(by))).unwrap_or_default();
    let line = format!("{time}  {level:<5}  {:<7}  {}{by}", text("kind"), text("message"));
    format!("{}\n", painter.paint(colour, &line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(level: &str, by: Option<&str>) -> Json {
        json!({
            "id": "1-1", "time": "2026-03-01T08:00:00.123Z", "kind": "backend", "name": "down",
            "level": level, "count": 1, "backend": "up02", "session": null, "by": by,
            "message": "up02 is down\u{1b}[2J",
        })
    }

    #[test]
    fn an_event_is_one_line() {
        let plain = Painter::for_none();
        assert_eq!(
            line(&event("warning", None), plain),
            "2026-03-01T08:00:00Z  WARN   backend  up02 is down\u{fffd}[2J\n"
        );
        assert_eq!(
            line(&event("info", Some("uid 0")), plain),
            "2026-03-01T08:00:00Z  INFO   backend  up02 is down\u{fffd}[2J (by uid 0)\n"
        );
        assert_eq!(lines(&json!({ "events": [] }), plain), "no events\n");
    }

    #[test]
    fn what_was_printed_is_not_printed_again() {
        let mut printed = Printed::default();
        assert!(printed.is_new(&event("info", None)));
        assert!(!printed.is_new(&event("info", None)));
        for number in 0..PRINTED {
            assert!(printed.is_new(&json!({ "id": number.to_string() })));
        }
        assert_eq!(printed.known.len(), PRINTED, "bounded");
    }

    #[test]
    fn who_asks_is_told_of_events_that_may_be_lost() {
        let page =
            |durable: bool, unwritten: u64| json!({ "durable": durable, "unwritten": unwritten });
        assert_eq!(notice(&page(true, 3)), None);
        assert!(notice(&page(true, 300)).is_some_and(|text| text.contains("300 events wait")));
        assert!(notice(&page(false, 0)).is_some_and(|text| text.contains("in memory only")));
    }
}
