//! Probes that cannot do what they are meant to.

use std::time::Duration;

use super::Checked;
use crate::config::draft::{Broken, Draft, SectionValues};
use crate::config::health::ProbeKind;
use crate::config::kind::FromValue;
use crate::config::names::Named;
use crate::config::report::{Finding, Report};
use crate::config::syntax::show_duration;

pub fn probes_end_before_the_next(draft: &Draft, report: &mut Report) -> Checked {
    let common = draft.once("health");
    let check = |table: &SectionValues, report: &mut Report| -> Checked {
        let interval: Duration = probe(table, common, "interval")?;
        let timeout: Duration = probe(table, common, "timeout")?;
        let places = ["timeout", "interval"].map(|key| table.place_of(&name(table, key)));
        if timeout > interval && places.iter().any(Option::is_some) {
            let [first, second] = places;
            let (timeout, interval) = (show_duration(timeout), show_duration(interval));
            let finding = Finding::warning("a probe may take longer than the interval of probes");
            report.add(
                finding
                    .at(first, format!("waits {timeout}, and the interval is {interval}"))
                    .at(second, format!("every {interval}, and the timeout is {timeout}"))
                    .help("a backend that hangs is then found out later".to_owned()),
            );
        }
        Ok(())
    };
    check(common, report)?;
    draft.all("backends").try_for_each(|backend| check(backend, report))
}

pub fn probes_that_ask_nothing(draft: &Draft, report: &mut Report) -> Checked {
    let common = draft.once("health");
    for table in draft.all("backends").chain([common]) {
        let kind: ProbeKind = probe(table, common, "kind")?;
        // What is said for all counts for those that do ask.
        let asked = |backend: &SectionValues| {
            probe(backend, common, "kind").is_ok_and(|kind: ProbeKind| kind.asks())
        };
        let elsewhere = table.section.name == "health" && draft.all("backends").any(asked);
        if kind.asks() || elsewhere {
            continue;
        }
        for key in ["path", "host"] {
            if let Some(place) = table.place_of(&name(table, key)) {
                let path = table.key_path(&name(table, key));
                let finding = Finding::warning(format!("`{path}` does nothing"));
                let label = format!("probes are of the kind \"{}\"", kind.name());
                let help = "it is for kind = \"http\" and kind = \"bits-ping\"".to_owned();
                report.add(finding.at(place, label).help(help));
            }
        }
    }
    Ok(())
}

/// What counts for a backend, or for those that say nothing of their own.
fn probe<T: FromValue>(
    table: &SectionValues,
    common: &SectionValues,
    key: &str,
) -> Result<T, Broken> {
    match table.find(&name(table, key))? {
        Some(own) => Ok(own),
        None => common.get(key),
    }
}

fn name(table: &SectionValues, key: &str) -> String {
    if table.section.name == "health" { key.to_owned() } else { format!("health.{key}") }
}
