//! Listeners and backends, and who gets new uploads.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use gateway_core::routing::Placement;

use super::Checked;
use crate::config::draft::{Draft, Table};
use crate::config::kind::Value;
use crate::config::names::Named;
use crate::config::report::{Finding, Place, Report};
use crate::config::{BackendAddress, Config};

pub fn listener_addresses(draft: &Draft, report: &mut Report) -> Checked {
    let listeners = draft.all("listeners");
    let mut seen: HashMap<SocketAddr, Place> = HashMap::new();
    for table in listeners.chain([draft.once("admin"), draft.once("ops")]) {
        // The address of [ops] and [admin] may be off, which is a word and no address.
        let address = match table.value("address") {
            Ok(Some(Value::Socket(address))) if address.port() != 0 => *address,
            _ => continue,
        };
        let place = table.place_of("address");
        match (seen.get(&address), &place) {
            (Some(first), _) => {
                let default = format!("`{}` by default", table.key_path("address"));
                let message = match place {
                    Some(_) => format!("two listeners have the address {address}"),
                    None => format!("the address {address} is also {default}"),
                };
                let finding = match place {
                    Some(place) => {
                        Finding::error(message).at(place, "again").at(first.clone(), "here first")
                    }
                    None => Finding::error(message).at(first.clone(), "this address"),
                };
                report.add(finding.help("give each its own port".to_owned()));
            }
            (None, Some(place)) => {
                seen.insert(address, place.clone());
            }
            (None, None) => {}
        }
    }
    Ok(())
}

pub fn backend_names(draft: &Draft, report: &mut Report) -> Checked {
    let mut seen: HashMap<String, Place> = HashMap::new();
    for table in draft.all("backends") {
        let (Ok(name), Some(place)) = (table.get::<String>("name"), table.place_of("name")) else {
            continue;
        };
        match seen.get(&name.to_ascii_lowercase()) {
            Some(first) => {
                let finding = Finding::error(format!("two backends are named \"{name}\""))
                    .at(place, "again")
                    .at(first.clone(), "here first");
                report.add(
                    finding.help(
                        "sessions belong to the name, so it must be one of its kind \
                     (capitals do not count)"
                            .to_owned(),
                    ),
                );
            }
            None => {
                seen.insert(name.to_ascii_lowercase(), place);
            }
        }
    }
    Ok(())
}

pub fn backend_addresses(draft: &Draft, report: &mut Report) -> Checked {
    let mut seen: HashMap<String, Place> = HashMap::new();
    for table in draft.all("backends") {
        let Ok(address) = table.get::<BackendAddress>("address") else { continue };
        let Some(place) = table.place_of("address") else { continue };
        let key = address.to_string().to_ascii_lowercase();
        match seen.get(&key) {
            Some(first) => {
                let finding = Finding::warning(format!("two backends have the address {address}"));
                let finding = finding.at(place, "again").at(first.clone(), "here first");
                report.add(finding.help("one server under two names gets two shares".to_owned()));
            }
            None => {
                seen.insert(key, place);
            }
        }
    }
    Ok(())
}

/// A backend whose address is one of the gateway's own would get its requests back for ever.
///
/// Where a name leads may change while the gateway runs, so that is a warning. A request that comes
/// back is ended in any case.
pub fn backends_lead_elsewhere(config: &Config, draft: &Draft, report: &mut Report) {
    let listeners = own_listeners(draft);
    for (backend, table) in config.backends.iter().zip(draft.all("backends")) {
        let address = &backend.address;
        let by_number = address.host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        // A name that does not resolve has messages of its own.
        let found = address.to_string().to_socket_addrs().into_iter().flatten();
        let Some((own, place)) = found
            .into_iter()
            .find_map(|found| listeners.iter().find(|(own, _)| is_own(found, *own)).cloned())
        else {
            continue;
        };
        let message =
            format!("the backend at {address} is this gateway itself, which listens on {own}");
        let finding = if by_number { Finding::error(message) } else { Finding::warning(message) };
        let finding = finding
            .at(table.place_of("address"), "leads back here")
            .at(place, "the gateway listens here");
        report.add(finding.help("name the address of the upload server".to_owned()));
    }
}

fn own_listeners(draft: &Draft) -> Vec<(SocketAddr, Place)> {
    let tables = draft.all("listeners");
    let address = |table: &Table| match table.value("address") {
        Ok(Some(Value::Socket(address))) if address.port() != 0 => {
            Some((*address, table.place_of("address")?))
        }
        _ => None,
    };
    tables.filter_map(address).collect()
}

/// Whether a connection to `address` reaches a listener at `own`.
fn is_own(address: SocketAddr, own: SocketAddr) -> bool {
    if address.port() != own.port() {
        return false;
    }
    let (to, at) = (address.ip().to_canonical(), own.ip().to_canonical());
    // A listener on IPv6 with no address of its own takes IPv4 as well.
    let any = at.is_unspecified() && (own.is_ipv6() || to.is_ipv4());
    // An address is this machine's if a socket can have it.
    to == at
        || (any && (to.is_loopback() || to.is_unspecified() || UdpSocket::bind((to, 0)).is_ok()))
}

pub fn hash_key(draft: &Draft, report: &mut Report) -> Checked {
    let placement = draft.once("placement");
    let policy = placement.get::<Placement>("policy")?;
    if policy != Placement::Hash
        && let Some(place) = placement.place_of("hash_key")
    {
        let label = format!("the policy is \"{}\"", policy.name());
        let finding = Finding::warning("`placement.hash_key` does nothing").at(place, label);
        report.add(finding.help("it is for policy = \"hash\"".to_owned()));
    }
    Ok(())
}
