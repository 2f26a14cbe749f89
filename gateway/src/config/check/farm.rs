//! Listeners and backends, and who gets new uploads.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use gateway_core::routing::Placement;

use super::Checked;
use crate::config::address::BackendAddress;
use crate::config::draft::{Draft, SectionValues};
use crate::config::kind::Value;
use crate::config::names::Named;
use crate::config::report::{Finding, Place, Report};
use crate::config::resolve::Config;

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

/// Looks at where the addresses of backends lead.
///
/// Where a name leads may change while the gateway runs, so that is a warning.
pub fn where_backends_lead(config: &Config, draft: &Draft, report: &mut Report) {
    let listeners = own_listeners(draft);
    for (backend, table) in config.backends.iter().zip(draft.all("backends")) {
        let (address, place) = (&backend.address, table.place_of("address"));
        let by_number = address.host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let found: Vec<_> = address.to_string().to_socket_addrs().into_iter().flatten().collect();
        if !by_number {
            names_one_server(&address.host, &found, place.clone(), report);
        }
        // A backend whose address is one of the gateway's own would get its requests back for ever.
        // A request that comes back is ended in any case.
        let own = |found: &SocketAddr| listeners.iter().find(|(own, _)| is_own(*found, *own));
        if let Some((own, here)) = found.iter().find_map(own) {
            let message =
                format!("the backend at {address} is this gateway itself, which listens on {own}");
            let finding =
                if by_number { Finding::error(message) } else { Finding::warning(message) };
            let finding =
                finding.at(place, "leads back here").at(here.clone(), "the gateway listens here");
            report.add(finding.help("name the address of the upload server".to_owned()));
        }
    }
}

/// Several addresses of one family may be several machines, and an upload lies on one of them.
fn names_one_server(name: &str, found: &[SocketAddr], place: Option<Place>, report: &mut Report) {
    let family = |v4: bool| {
        let addresses: HashSet<IpAddr> =
            found.iter().map(SocketAddr::ip).filter(|ip| ip.is_ipv4() == v4).collect();
        addresses
    };
    let finding = if found.is_empty() {
        Finding::warning(format!("the name {name} has no address now"))
            .at(place, "not found")
            .help("the backend counts as down until it has one".to_owned())
    } else if let Some(several) = [family(true), family(false)].iter().find(|ips| ips.len() > 1) {
        let count = several.len();
        Finding::warning(format!("the name {name} has {count} addresses of one family"))
            .at(place, "several addresses")
            .help("if these are several machines, give each a backend of its own, or uploads start over when the gateway goes from one to another".to_owned())
    } else {
        return;
    };
    report.add(finding);
}

fn own_listeners(draft: &Draft) -> Vec<(SocketAddr, Place)> {
    let tables = draft.all("listeners");
    let address = |table: &SectionValues| match table.value("address") {
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
