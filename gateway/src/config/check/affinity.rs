//! The names that lead to backends, and how long they are remembered.

use std::collections::HashMap;
use std::time::Duration;

use super::{Checked, key};
use crate::config::affinity::HostIdMode;
use crate::config::draft::{Draft, SectionValues};
use crate::config::http::UpstreamHost;
use crate::config::names::Named;
use crate::config::report::{Finding, Place, Report};
use crate::config::resolve::{alias, host_id_mode};
use crate::config::syntax::{self, show_duration};

/// Days without progress after which a Windows job gives up; no timeout of ours needs to be longer,
/// and a shorter memory of sessions than that costs uploads.
const JOB_LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// An alias must lead to one backend and to nothing else.
pub fn aliases(draft: &Draft, report: &mut Report) -> Checked {
    let affinity = draft.once("affinity");
    let http = draft.once("http");
    let mut taken: HashMap<String, (&str, Option<Place>)> = HashMap::new();
    for host in http.get::<Vec<String>>("hosts").unwrap_or_default() {
        taken.insert(key(&host), ("is also in `http.hosts`", http.place_of("hosts")));
    }
    if let Ok(Some(name)) = affinity.find::<String>("gateway_name") {
        let what = "is also the `gateway_name`";
        taken.insert(key(&name), (what, affinity.place_of("gateway_name")));
    }
    for table in draft.all("backends") {
        let Ok(Some(alias)) = alias(affinity, table) else { continue };
        let place = table.place_of("host_id").or_else(|| table.near("name"));
        if let Err(refusal) = syntax::host(&alias) {
            // Only a derived name can be wrong here: the others were checked as they were read.
            let message =
                format!("\"{alias}\", the host id of `{}`, is no host name", table.path());
            report.add(
                Finding::error(message)
                    .at(place, refusal.label)
                    .at(affinity.place_of("host_id_domain"), "derived from this"),
            );
            continue;
        }
        match taken.get(&key(&alias)) {
            Some((what, other)) => {
                let message = format!("the host id \"{alias}\" {what}");
                let finding = Finding::error(message)
                    .at(place, "a host id must stand for one backend alone")
                    .at(other.clone(), "the same name");
                report.add(finding.help("give every backend a name of its own".to_owned()));
            }
            None => {
                taken.insert(key(&alias), ("stands for two backends", place));
            }
        }
    }
    Ok(())
}

pub fn public_names(draft: &Draft, report: &mut Report) -> Checked {
    let mut seen: HashMap<String, Place> = HashMap::new();
    for table in draft.all("backends") {
        let Ok(Some(name)) = table.find::<String>("public_name") else { continue };
        let Some(place) = table.place_of("public_name") else { continue };
        match seen.get(&key(&name)) {
            Some(first) => {
                let message = format!("two backends have the public name \"{name}\"");
                let finding = Finding::error(message).at(place, "again");
                report.add(finding.at(first.clone(), "here first"));
            }
            None => {
                seen.insert(key(&name), place);
            }
        }
    }
    Ok(())
}

pub fn host_id_has_its_names(draft: &Draft, report: &mut Report) -> Checked {
    let affinity = draft.once("affinity");
    let mode = host_id_mode(draft)?;
    let place = affinity.near("host_id");
    match mode {
        HostIdMode::None => {}
        HostIdMode::Gateway => {
            if affinity.find::<String>("gateway_name")?.is_none() {
                let finding =
                    Finding::error("`host_id = \"gateway\"` needs the name of the gateway")
                        .at(place, "this announces `gateway_name`, which is not set");
                report.add(finding.help("add gateway_name = \"gw1.example.com\"".to_owned()));
            }
        }
        HostIdMode::Backend => {
            for table in draft.all("backends") {
                if matches!(alias(affinity, table), Ok(None)) {
                    let finding = Finding::error(format!("`{}` has no host id", table.path()))
                        .at(table.near("name"), "no `host_id` here")
                        .at(affinity.place_of("host_id"), "this announces one for each backend");
                    report.add(
                        finding.help(
                            "add host_id here, or host_id_domain = \"uploads.example.com\" in \
                         [affinity] for all backends"
                                .to_owned(),
                        ),
                    );
                }
            }
        }
        HostIdMode::Direct => {
            for table in draft.all("backends") {
                if matches!(table.find::<String>("public_name"), Ok(None)) {
                    let finding = Finding::error(format!("`{}` has no public name", table.path()))
                        .at(table.near("name"), "no `public_name` here")
                        .at(affinity.place_of("host_id"), "this announces one for each backend");
                    report.add(finding.help("add public_name = \"up01.example.com\"".to_owned()));
                }
            }
        }
    }
    Ok(())
}

pub fn host_id_leads_somewhere(draft: &Draft, report: &mut Report) -> Checked {
    let affinity = draft.once("affinity");
    let place = affinity.near("host_id");
    match host_id_mode(draft)? {
        HostIdMode::Gateway if draft.all("backends").nth(1).is_some() => {
            let finding = Finding::warning("Pings cannot be routed by the gateway's name");
            report.add(
                finding
                    .at(place, "a Ping names no session, so only its host could tell the backend")
                    .help(
                        "with NTLM the Ping makes the login; prefer host_id = \"backend\" if \
                         every backend can have a name"
                            .to_owned(),
                    ),
            );
        }
        HostIdMode::Direct => {
            let finding = Finding::warning("clients leave the gateway on purpose");
            report.add(
                finding.at(place, "later packets go to the backends themselves").help(
                    "the gateway sees no progress and no end of these uploads, and retries \
                     nothing"
                        .to_owned(),
                ),
            );
            let hosts = draft.once("http").get::<Vec<String>>("hosts")?;
            for table in draft.all("backends") {
                let Ok(Some(name)) = table.find::<String>("public_name") else { continue };
                if hosts.iter().any(|host| key(host) == key(&name)) {
                    let message = format!("the public name \"{name}\" is also in `http.hosts`");
                    let finding = Finding::warning(message);
                    report.add(
                        finding.at(
                            table.place_of("public_name"),
                            "this name leads back to the gateway",
                        ),
                    );
                }
            }
        }
        _ => {}
    }
    Ok(())
}

pub fn unused_names(draft: &Draft, report: &mut Report) -> Checked {
    let mode = host_id_mode(draft)?;
    let affinity = draft.once("affinity");
    let mut unused = |table: &SectionValues, key: &str, wanted: HostIdMode| {
        if mode != wanted
            && let Some(place) = table.place_of(key)
        {
            let message = format!("`{}` is not announced", table.key_path(key));
            let (wanted, mode) = (wanted.name(), mode.name());
            let label = format!("this is for host_id = \"{wanted}\", and host_id is \"{mode}\"");
            report.add(Finding::warning(message).at(place, label));
        }
    };
    unused(affinity, "gateway_name", HostIdMode::Gateway);
    unused(affinity, "host_id_domain", HostIdMode::Backend);
    for table in draft.all("backends") {
        unused(table, "host_id", HostIdMode::Backend);
        unused(table, "public_name", HostIdMode::Direct);
    }
    Ok(())
}

pub fn hosts(draft: &Draft, report: &mut Report) -> Checked {
    let http = draft.once("http");
    let hosts = http.get::<Vec<String>>("hosts")?;
    for (index, host) in hosts.iter().enumerate() {
        if hosts[..index].iter().any(|other| key(other) == key(host)) {
            let finding = Finding::warning(format!("`http.hosts` names \"{host}\" twice"));
            report.add(finding.at(http.place_of("hosts"), "in this list"));
        }
    }
    Ok(())
}

pub fn forwarded_host(draft: &Draft, report: &mut Report) -> Checked {
    let http = draft.once("http");
    if http.get("forwarded_host")? && http.get::<Vec<String>>("trusted_proxies")?.is_empty() {
        let finding = Finding::warning("`http.forwarded_host` has no effect");
        let finding = finding.at(http.place_of("forwarded_host"), "no proxy is trusted");
        let help = "list the proxies that name the host: trusted_proxies = [\"10.0.0.5\"]";
        report.add(finding.help(help.to_owned()));
    }
    Ok(())
}

pub fn backends_see_the_alias(draft: &Draft, report: &mut Report) -> Checked {
    let http = draft.once("http");
    let affinity = draft.once("affinity");
    let announced = matches!(host_id_mode(draft)?, HostIdMode::Backend | HostIdMode::Gateway);
    let origin = http.get::<UpstreamHost>("upstream_host")? == UpstreamHost::Origin;
    if announced && origin && http.get::<Vec<String>>("hosts")?.is_empty() {
        let by = ["host_id", "host_id_domain", "gateway_name"]
            .iter()
            .find_map(|key| affinity.place_of(key))
            .or_else(|| draft.all("backends").find_map(|table| table.place_of("host_id")));
        let finding = Finding::warning("backends will see the host id as `Host`");
        report.add(
            finding.at(by, "clients send later packets to this name").help(
                "list the public name in [http] hosts, and backends see that one; or set \
                     upstream_host = \"preserve\" if they expect it"
                    .to_owned(),
            ),
        );
    }
    Ok(())
}

pub fn fallback_timeout(draft: &Draft, report: &mut Report) -> Checked {
    let affinity = draft.once("affinity");
    let fallback: Duration = affinity.get("fallback_timeout")?;
    let idle: Duration = draft.once("sessions").get("idle_timeout")?;
    let place = affinity.place_of("fallback_timeout");
    if fallback > JOB_LIFETIME {
        let finding = Finding::warning("clients give up before they fall back");
        let finding = finding.at(place, "longer than 14 days");
        report.add(
            finding.help(
                "a Windows job ends after 14 days without progress; keep the timeout well below"
                    .to_owned(),
            ),
        );
    } else if fallback > idle {
        let message = "the gateway forgets a session before its client falls back";
        let finding = Finding::warning(message)
            .at(place, format!("{}, longer than", show_duration(fallback)))
            .at(
                draft.once("sessions").place_of("idle_timeout"),
                format!("`sessions.idle_timeout`, {}", show_duration(idle)),
            );
        report.add(finding);
    }
    Ok(())
}

pub fn idle_timeout(draft: &Draft, report: &mut Report) -> Checked {
    let sessions = draft.once("sessions");
    let idle: Duration = sessions.get("idle_timeout")?;
    if idle < JOB_LIFETIME {
        let finding = Finding::warning("sessions may be forgotten while their uploads go on");
        report.add(finding.at(sessions.place_of("idle_timeout"), "shorter than 14 days").help(
            "IIS keeps a session, and Windows a job, for 14 days without progress".to_owned(),
        ));
    }
    Ok(())
}
