//! Limits and timeouts: their order, and what the other side expects.

use std::time::Duration;

use super::Checked;
use crate::config::draft::{Draft, SectionValues};
use crate::config::report::{Finding, Report};
use crate::config::syntax::{show_duration, show_size};

/// What an application behind a server may take (IIS `BITSServerNotificationTimeout`).
const APPLICATION_TIME: Duration = Duration::from_secs(5 * 60);

/// The time after which IIS closes an idle connection.
const BACKEND_KEEP_ALIVE: Duration = Duration::from_secs(120);

pub fn line_fits_the_head(draft: &Draft, report: &mut Report) -> Checked {
    let limits = draft.once("limits");
    let (line, head): (u64, u64) = (limits.get("line")?, limits.get("head")?);
    if line > head {
        let finding = Finding::error("the request line is longer than the head it is part of");
        report.add(pair(finding, limits, ("line", "head"), show_size, (line, head)));
    }
    Ok(())
}

pub fn answer_outlasts_the_body(draft: &Draft, report: &mut Report) -> Checked {
    let timeouts = draft.once("timeouts");
    let (answer, body): (Duration, Duration) =
        (timeouts.get("answer_long")?, timeouts.get("client_body")?);
    if answer <= body {
        let message = "`timeouts.answer_long` must be longer than `timeouts.client_body`";
        let finding = Finding::error(message);
        let keys = ("answer_long", "client_body");
        let finding = pair(finding, timeouts, keys, show_duration, (answer, body));
        report.add(finding.help(
            "it also runs while the gateway waits for the client's body, and a slow client would \
             be taken for a dead backend"
                .to_owned(),
        ));
    }
    Ok(())
}

pub fn answer_outlasts_the_application(draft: &Draft, report: &mut Report) -> Checked {
    let timeouts = draft.once("timeouts");
    let answer: Duration = timeouts.get("answer_long")?;
    if answer < APPLICATION_TIME {
        let finding = Finding::warning("the gateway may give up on an upload that succeeds");
        report.add(
            finding.at(timeouts.place_of("answer_long"), "shorter than 5 minutes").help(
                "IIS gives the application behind it 5 minutes to take a file; a 504 before \
                     that makes the client repeat the last packet"
                    .to_owned(),
            ),
        );
    }
    Ok(())
}

pub fn answers_in_order(draft: &Draft, report: &mut Report) -> Checked {
    let timeouts = draft.once("timeouts");
    let (short, long): (Duration, Duration) =
        (timeouts.get("answer")?, timeouts.get("answer_long")?);
    if short > long {
        let message = "a Ping may take longer than a Fragment: `answer` is above `answer_long`";
        let finding = Finding::warning(message);
        let keys = ("answer", "answer_long");
        report.add(pair(finding, timeouts, keys, show_duration, (short, long)));
    }
    Ok(())
}

pub fn backend_idle(draft: &Draft, report: &mut Report) -> Checked {
    let timeouts = draft.once("timeouts");
    let idle: Duration = timeouts.get("backend_idle")?;
    if idle >= BACKEND_KEEP_ALIVE {
        let finding = Finding::warning("packets may go out on connections that are being closed");
        report.add(
            finding
                .at(timeouts.place_of("backend_idle"), "not below 120 s")
                .help("IIS closes an idle connection after 120 s".to_owned()),
        );
    }
    Ok(())
}

pub fn shutdown(draft: &Draft, report: &mut Report) -> Checked {
    let timeouts = draft.once("timeouts");
    let (shutdown, delay): (Duration, Duration) =
        (timeouts.get("shutdown")?, timeouts.get("shutdown_delay")?);
    if shutdown < delay {
        let message = "more of a shutdown goes into waiting for balancers than into requests";
        let finding = Finding::warning(message);
        let keys = ("shutdown_delay", "shutdown");
        report.add(pair(finding, timeouts, keys, show_duration, (delay, shutdown)));
    } else if shutdown.is_zero() && timeouts.is_given("shutdown") {
        let finding = Finding::warning("a stop cuts every request under way");
        report.add(
            finding
                .at(timeouts.place_of("shutdown"), "no time to finish")
                .help("clients repeat the packet after 10 minutes".to_owned()),
        );
    }
    Ok(())
}

/// Shows two values of one table, of which at least one was given.
fn pair<T>(
    finding: Finding,
    table: &SectionValues,
    (first, second): (&str, &str),
    show: impl Fn(T) -> String,
    (one, two): (T, T),
) -> Finding {
    let label = |key: &str, value: T| {
        let default = if table.is_given(key) { "" } else { " by default" };
        format!("`{key}` is {}{default}", show(value))
    };
    let (one, two) = (label(first, one), label(second, two));
    match (table.place_of(first), table.place_of(second)) {
        (Some(place), Some(other)) => finding.at(place, one).at(other, two),
        (Some(place), None) => finding.at(place, format!("{one}, and {two}")),
        (None, place) => finding.at(place, format!("{two}, and {one}")),
    }
}
