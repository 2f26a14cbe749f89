//! What `check` finds outside of the file: names in the DNS, the limits of the process.
//!
//! Not at a start or a reload: these must not wait for a name server, and the limits of who checks
//! need not be those of the service.

use std::net::ToSocketAddrs;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::app::descriptors::Shares;
use crate::base::clock;
use crate::config::report::{Finding, Place};
use crate::config::{Config, HostIdMode, Loaded, show_duration};

/// Names that are looked up at most; one of many host ids stands for the others.
const NAMES: usize = 16;

/// Longer than a name server takes that answers at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Adds what is found to the report.
pub fn look(loaded: &mut Loaded) {
    names(loaded);
    let most = getrlimit(Resource::Nofile).maximum;
    let most = most.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
    open_files(loaded, most);
    loaded.report.sort();
}

fn names(loaded: &mut Loaded) {
    let Loaded { config, report, draft } = loaded;
    let hosts: Vec<String> = config.http.hosts.iter().take(NAMES).cloned().collect();
    let told = told_names(config);
    let missing = missing(hosts.iter().chain(&told).cloned().collect());
    let place = draft.once("http").place_of("hosts");
    for host in hosts.iter().filter(|host| missing.contains(host)) {
        let message = format!("the name {host} of `http.hosts` has no address here");
        let finding = Finding::warning(message).at(place.clone(), "not found in the DNS");
        let help = "clients that look for it in the same DNS do not find the gateway".to_owned();
        report.add(finding.help(help));
    }
    let lost: Vec<&String> = told.iter().filter(|name| missing.contains(name)).collect();
    if let [first, more @ ..] = lost.as_slice() {
        let and_more = match more.len() {
            0 => String::new(),
            more => format!(" and {more} more of {}", told.len()),
        };
        let fallback = show_duration(config.affinity.fallback_timeout);
        let affinity = draft.once("affinity");
        let keys = ["host_id_domain", "gateway_name", "host_id"];
        let place: Option<Place> = keys.iter().find_map(|key| affinity.place_of(key));
        let place =
            place.or_else(|| draft.all("backends").find_map(|table| table.place_of("host_id")));
        let message = format!("the host id {first}{and_more} has no address here");
        let finding = Finding::warning(message).at(place, "clients are told this name");
        report.add(finding.help(format!(
            "each upload stands still for {fallback} (affinity.fallback_timeout) until its client \
             gives the name up: put a wildcard into the DNS that leads to the gateways, or write \
             host_id = \"none\""
        )));
    }
}

/// What `BITS-Host-Id` may say.
fn told_names(config: &Config) -> Vec<String> {
    let backends = config.backends.iter();
    let names: Vec<String> = match config.affinity.host_id {
        HostIdMode::Backend => backends.filter_map(|backend| backend.alias.clone()).collect(),
        HostIdMode::Direct => backends.filter_map(|backend| backend.public_name.clone()).collect(),
        HostIdMode::Gateway => config.affinity.gateway_name.iter().cloned().collect(),
        HostIdMode::None => Vec::new(),
    };
    names.into_iter().take(NAMES).collect()
}

/// Those that have no address, or of which nothing is heard in time. All are asked at once.
fn missing(names: Vec<String>) -> Vec<String> {
    let (tell, told) = channel();
    for name in names.clone() {
        let tell = tell.clone();
        std::thread::spawn(move || {
            let bare = name.trim_matches(['[', ']']);
            let found = (bare, 0).to_socket_addrs().is_ok_and(|mut found| found.next().is_some());
            // Whoever asked may have stopped listening.
            let _ = tell.send((name, found));
        });
    }
    drop(tell);
    let begun = clock::steady();
    let mut found = Vec::new();
    while let Ok((name, is_found)) =
        told.recv_timeout(PATIENCE.saturating_sub(clock::steady() - begun))
    {
        if is_found {
            found.push(name);
        }
    }
    names.into_iter().filter(|name| !found.contains(name)).collect()
}

fn open_files(loaded: &mut Loaded, most: Option<usize>) {
    let Loaded { config, report, draft } = loaded;
    let shares = Shares::of(config, most);
    let (Some(most), wanted) = (most, config.limits.connections) else { return };
    if shares.connections >= wanted {
        return;
    }
    let limits = draft.once("limits");
    let message = "the limit on open files is too low for `limits.connections`";
    let label = format!("{most} files here are enough for {} clients", shares.connections);
    let finding = match limits.near("connections") {
        Some(place) => Finding::warning(message).at(place, label),
        None => Finding::warning(format!("{message}, which is {wanted} by default: {label}")),
    };
    report.add(finding.help(
        "raise it (LimitNOFILE of the service, `ulimit -Hn`), or lower `limits.connections`; a \
         service may have another limit than this shell"
            .to_owned(),
    ));
}
