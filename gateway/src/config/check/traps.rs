//! What is legal, and surprises whoever meets it on the first day.

use std::path::PathBuf;
use std::time::Duration;

use super::Checked;
use crate::config::draft::Draft;
use crate::config::health::ProbeKind;
use crate::config::kind::Value;
use crate::config::report::{Finding, Report};
use crate::config::syntax::show_duration;

pub fn hold_outlasts_the_wait(draft: &Draft, report: &mut Report) -> Checked {
    let failover = draft.once("failover");
    let (hold, restart): (Duration, Duration) =
        (failover.get("hold")?, failover.get("restart_after")?);
    if hold > restart {
        let finding = Finding::warning("a packet is held for longer than its server is waited for")
            .at(failover.near("hold"), format!("`hold` is {}", show_duration(hold)))
            .at(
                failover.place_of("restart_after"),
                format!("`restart_after` is {}", show_duration(restart)),
            );
        let help = "`restart_after` ends the hold: its uploads start over then";
        report.add(finding.help(help.to_owned()));
    }
    Ok(())
}

/// Few servers take uploads into their root.
pub fn ping_of_the_root(draft: &Draft, report: &mut Report) -> Checked {
    let common = draft.once("health");
    let mut said = Vec::new();
    for table in draft.all("backends") {
        let own_kind: Option<ProbeKind> = table.find("health.kind")?;
        let own_path: Option<String> = table.find("health.path")?;
        let kind = own_kind.map_or_else(|| common.get("kind"), Ok)?;
        let path = own_path.map_or_else(|| common.get::<String>("path"), Ok)?;
        if kind != ProbeKind::BitsPing || path != "/" {
            continue;
        }
        let places =
            [(table, "health.path"), (table, "health.kind"), (common, "path"), (common, "kind")];
        let place = places.into_iter().find_map(|(table, key)| table.place_of(key));
        // What is said for all is told once.
        if said.contains(&place) {
            continue;
        }
        let message = "the probe is a Ping to `/`, where few servers take uploads";
        let finding = Finding::warning(message).at(place.clone(), "the root of the server");
        let help = "name a folder into which clients upload: path = \"/uploads/\"; a server that \
                    refuses the Ping counts as down";
        report.add(finding.help(help.to_owned()));
        said.push(place);
    }
    Ok(())
}

/// Only a warning: a service manager may make the folder.
pub fn folder_of_the_access_log(draft: &Draft, report: &mut Report) {
    let log = draft.once("log");
    let Ok(Some(Value::Path(path))) = log.value("access") else { return };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder: PathBuf = folder.map_or_else(|| ".".into(), Into::into);
    if !folder.is_dir() {
        let message = format!("there is no folder {} for the access log", folder.display());
        let finding = Finding::warning(message);
        let finding = finding.at(log.near("access"), "the gateway would not start");
        let help =
            format!("make it, for the user who runs the gateway: mkdir -p {}", folder.display());
        report.add(finding.help(help));
    }
}
