//! Whom listeners serve: lists that contradict each other.

use super::Checked;
use super::front::networks;
use crate::config::access::{self, ALLOW, DENY};
use crate::config::draft::Draft;
use crate::config::report::{Finding, Report};

pub fn serves_somebody(draft: &Draft, report: &mut Report) -> Checked {
    for table in draft.all("listeners") {
        if access::build(table)?.is_shut() {
            let finding = Finding::error(format!("`{}` serves no client", table.path()))
                .at(table.place_of(ALLOW.name), "all of these")
                .at(table.place_of(DENY.name), "are denied here");
            let help = "`access.deny` counts before `access.allow`: leave out of it whom the \
                        listener is to serve";
            report.add(finding.help(help.to_owned()));
        }
    }
    Ok(())
}

pub fn listed_once(draft: &Draft, report: &mut Report) -> Checked {
    for table in draft.all("listeners") {
        let access = access::build(table)?;
        if access.is_shut() {
            continue;
        }
        for network in access.allow.iter().flatten().filter(|one| access.deny.contains(one)) {
            let (allow, deny) = (table.key_path(ALLOW.name), table.key_path(DENY.name));
            let message = format!("{network} stands in `{allow}` and in `{deny}`");
            let finding = Finding::warning(message)
                .at(table.place_of(ALLOW.name), "has no effect here")
                .at(table.place_of(DENY.name), "counts");
            report.add(finding.help("take it out of one of the two".to_owned()));
        }
    }
    Ok(())
}

/// A trusted proxy speaks for clients, whose addresses count in place of its own.
pub fn proxies_apart(draft: &Draft, report: &mut Report) -> Checked {
    let http = draft.once("http");
    for proxy in networks(http, "trusted_proxies")? {
        for table in draft.all("listeners") {
            let access = access::build(table)?;
            let (allow, deny) = (table.key_path(ALLOW.name), table.key_path(DENY.name));
            let trusted = http.place_of("trusted_proxies");
            if access.deny.iter().any(|one| one.covers(&proxy) || proxy.covers(one)) {
                let message = format!("`{deny}` does not keep out all of {proxy}");
                let finding = Finding::warning(message)
                    .at(table.place_of(DENY.name), "denied by its own address")
                    .at(trusted, "believed about the addresses of others");
                let help = "what is to be denied is no trusted proxy: list the proxies alone";
                report.add(finding.help(help.to_owned()));
            } else if access.allow.iter().flatten().any(|one| one.covers(&proxy)) {
                let message =
                    format!("`{allow}` serves everybody for whom {proxy} names no address");
                let finding = Finding::warning(message)
                    .at(table.place_of(ALLOW.name), "holds the proxy")
                    .at(trusted, "speaks for clients");
                let help = "leave the proxies out of the list: clients are judged by the addresses \
                            that they name";
                report.add(finding.help(help.to_owned()));
            }
        }
    }
    Ok(())
}
