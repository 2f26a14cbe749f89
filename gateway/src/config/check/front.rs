//! Proxies and balancers in front: what they are believed, and what they rely on.

use std::time::Duration;

use gateway_core::protocol::network::Network;

use super::Checked;
use crate::config::draft::{Broken, Draft, SectionValues};
use crate::config::kind::Value;
use crate::config::report::{Finding, Report};
use crate::config::tls::{REQUIRED, TRUSTED};

/// How long proxies in front keep a connection that they do not use: nginx, Squid and Varnish by
/// default, Apache as our documentation has it.
const PROXY_KEEP_ALIVE: Duration = Duration::from_secs(60);

pub fn trust_in_everybody(draft: &Draft, report: &mut Report) -> Checked {
    let http = [(draft.once("http"), "trusted_proxies")];
    for (table, key) in http.into_iter().chain(balancers(draft)) {
        if networks(table, key)?.iter().any(Network::is_everything) {
            let message = format!("`{}` trusts every address", table.key_path(key));
            let finding = Finding::warning(message);
            let finding = finding.at(table.place_of(key), "clients may call themselves anybody");
            report.add(finding.help("list the proxies alone".to_owned()));
        }
    }
    Ok(())
}

/// The other end of a connection that has a PROXY protocol header is the client, not the balancer.
pub fn trust_without_effect(draft: &Draft, report: &mut Report) -> Checked {
    let http = draft.once("http");
    let mut named = Vec::new();
    for table in draft.all("listeners") {
        let required = table.find(REQUIRED.name)?.unwrap_or(true);
        let trusted = networks(table, TRUSTED.name)?;
        named.push((table, if required { trusted } else { Vec::new() }));
    }
    for proxy in networks(http, "trusted_proxies")? {
        let covered =
            |(_, networks): &(_, Vec<Network>)| networks.iter().any(|one| one.covers(&proxy));
        if let Some((table, _)) = named.first()
            && named.iter().all(covered)
        {
            let message = format!("{proxy} in `http.trusted_proxies` has no effect");
            let finding = Finding::warning(message);
            let finding = finding
                .at(http.place_of("trusted_proxies"), "believed about `X-Forwarded-For`")
                .at(table.place_of(TRUSTED.name), "its PROXY protocol names the client already");
            let help = "take it out of `http.trusted_proxies`, and let it send the PROXY protocol \
                        alone";
            report.add(finding.help(help.to_owned()));
        }
    }
    Ok(())
}

pub fn kept_connections(draft: &Draft, report: &mut Report) -> Checked {
    let (http, timeouts) = (draft.once("http"), draft.once("timeouts"));
    let idle: Duration = timeouts.get("client_idle")?;
    if idle <= PROXY_KEEP_ALIVE && !networks(http, "trusted_proxies")?.is_empty() {
        let message = "a proxy may send a packet on a connection that is being closed";
        let finding = Finding::warning(message)
            .at(timeouts.place_of("client_idle"), "not above 60 s")
            .at(http.place_of("trusted_proxies"), "their kept connections");
        let help = "nginx, Squid and Varnish keep an unused connection for 60 s: set \
                    `client_idle` above that, or their time below it";
        report.add(finding.help(help.to_owned()));
    }
    Ok(())
}

pub fn readiness(draft: &Draft, report: &mut Report) -> Checked {
    let (timeouts, ops) = (draft.once("timeouts"), draft.once("ops"));
    let delay: Duration = timeouts.get("shutdown_delay")?;
    let here = match ops.value("address")? {
        Some(Value::Socket(address)) => address.ip().is_loopback(),
        _ => false,
    };
    let mut in_front = networks(draft.once("http"), "trusted_proxies")?;
    for (table, key) in balancers(draft) {
        in_front.extend(networks(table, key)?);
    }
    let elsewhere = !in_front.is_empty() && !in_front.iter().any(Network::is_loopback);
    let public: bool = ops.get("public")?;
    if !delay.is_zero() && here && elsewhere && !public {
        let finding = Finding::warning("balancers cannot ask `/readyz`")
            .at(timeouts.place_of("shutdown_delay"), "time for them to see that this one stops");
        let finding = match ops.place_of("address") {
            Some(place) => finding.at(place, "only this machine can ask here"),
            None => finding,
        };
        let help = "set `ops.address` to an address that the balancers reach, and no client does \
                    (127.0.0.1 is the default), or let them ask at the listeners for clients \
                    with `ops.public = true`";
        report.add(finding.help(help.to_owned()));
    }
    Ok(())
}

/// Where balancers are listed that speak the PROXY protocol.
fn balancers(draft: &Draft) -> Vec<(&SectionValues, &'static str)> {
    let listeners = draft.all("listeners").map(|table| (table, TRUSTED.name));
    listeners.filter(|(table, key)| table.is_given(key)).collect()
}

pub(super) fn networks(table: &SectionValues, key: &str) -> Result<Vec<Network>, Broken> {
    let written: Vec<String> = table.find(key)?.unwrap_or_default();
    Ok(written.iter().filter_map(|network| network.parse().ok()).collect())
}
