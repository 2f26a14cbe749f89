//! `bits-gateway status`.

use gateway_core::farm::AdminState;
use serde_json::Value as Json;

use super::client::{Client, Connection};
use super::table::{pairs, printable, span};
use crate::process::exit::Exit;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub connection: Connection,
}

/// Says how the gateway is.
pub fn status(args: &Args) -> Exit {
    args.connection.run(|client: &Client| client.get("status"), show)
}

fn show(status: &Json) -> String {
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let number = |value: &Json| value.as_u64().unwrap_or_default();
    let (sessions, store) = (&status["sessions"], &status["store"]);
    let backends = &status["backends"];
    let store = match (store["ok"].as_bool(), store["message"].as_str()) {
        (Some(true), None) => format!("{}, good", text(&store["kind"])),
        (_, message) => format!("{}: {}", text(&store["kind"]), message.unwrap_or("in trouble")),
    };
    let count = |state: AdminState| {
        // A gateway of an earlier version has the other word.
        let count = backends.get(state.word());
        number(count.unwrap_or(&backends[state.word_of_all_versions()]))
    };
    let states = AdminState::ALL.map(|state| (state.word(), count(state)));
    let states: Vec<String> = states
        .into_iter()
        .filter(|(state, count)| *state != "lost" || *count > 0)
        .chain([("down", number(&backends["down"]))])
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let problems = status["health"]["problems"].as_array();
    let problems: String = problems
        .into_iter()
        .flatten()
        .map(|problem| {
            let (level, message) = (text(&problem["level"]), text(&problem["message"]));
            format!("{}: {}\n", printable(&level), printable(&message))
        })
        .collect();
    format!(
        "bits-gateway {} is {}, up {}\n{}{problems}",
        printable(&text(&status["version"])),
        printable(&text(&status["phase"])),
        span(number(&status["uptime_seconds"])),
        pairs(&[
            (
                "sessions",
                format!("{} of {}", number(&sessions["count"]), number(&sessions["limit"]))
            ),
            ("store", store),
            (
                "backends",
                format!(
                    "{} of {} take new uploads ({})",
                    number(&backends["eligible"]),
                    number(&backends["total"]),
                    states.join(", ")
                )
            ),
        ])
    )
}
