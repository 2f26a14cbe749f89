//! What no single key can be wrong about: missing parts, clashes, orders, odd combinations.
//!
//! Every rule is a function that gives up with [`Broken`] when a value it needs was wrong by
//! itself, so that one mistake is told once.

mod access;
mod admin;
mod affinity;
mod bounds;
mod farm;
mod front;
mod health;
mod sessions;
pub mod store;
mod tls;
mod traps;

use gateway_core::protocol::host::key_of;

use super::Config;
use super::draft::{Broken, Draft};
use super::keys::{DefaultValue, Shape};
use super::report::{Finding, Report};
use super::sections::SECTIONS;

type Checked = Result<(), Broken>;

/// Applies every rule to the draft.
pub fn check(draft: &Draft, report: &mut Report) {
    required(draft, report);
    let rules: &[fn(&Draft, &mut Report) -> Checked] = &[
        farm::listener_addresses,
        farm::backend_names,
        farm::backend_addresses,
        affinity::aliases,
        affinity::public_names,
        affinity::host_id_has_its_names,
        affinity::host_id_leads_somewhere,
        affinity::unused_names,
        affinity::hosts,
        affinity::forwarded_host,
        affinity::backends_see_the_alias,
        farm::hash_key,
        health::probes_end_before_the_next,
        health::probes_that_ask_nothing,
        affinity::fallback_timeout,
        affinity::idle_timeout,
        tls::pairs,
        tls::listeners,
        tls::bound_sessions,
        tls::proxies,
        tls::unverified,
        access::serves_somebody,
        access::listed_once,
        access::proxies_apart,
        front::trust_in_everybody,
        front::trust_without_effect,
        front::kept_connections,
        front::readiness,
        sessions::shared_farm,
        store::memory_keeps_nothing,
        admin::address,
        admin::token,
        admin::socket,
        bounds::line_fits_the_head,
        bounds::answer_outlasts_the_body,
        bounds::answer_outlasts_the_application,
        bounds::answers_in_order,
        bounds::backend_idle,
        bounds::shutdown,
        traps::hold_outlasts_the_wait,
        traps::ping_of_the_root,
    ];
    for rule in rules {
        // What is broken has been reported, and the other rules go on.
        let _ = rule(draft, report);
    }
}

/// Applies the rules about `[admin]` alone.
pub fn admin(draft: &Draft, report: &mut Report) {
    for rule in [admin::address, admin::token, admin::socket] {
        // What is broken has been reported.
        let _ = rule(draft, report);
    }
}

/// Looks at the files that a configuration without mistakes names.
pub fn files(config: &Config, draft: &Draft, report: &mut Report) {
    admin::files(draft, report);
    farm::where_backends_lead(config, draft, report);
    let _ = store::place(draft, report);
    traps::folder_of_the_access_log(draft, report);
    tls::files(config, draft, report);
}

/// Looks whether the files that a draft names can be read, whatever else is wrong with it.
pub fn unread(draft: &Draft, report: &mut Report) {
    let _ = tls::unread(draft, report);
}

fn required(draft: &Draft, report: &mut Report) {
    for section in SECTIONS.iter().filter(|section| section.shape != Shape::Once) {
        if !draft.has(section.name) {
            let (what, help) = match section.shape {
                Shape::Named => ("listener", "[listeners.public] with address = \"[::]:8080\""),
                _ => {
                    ("backend", "[[backends]] with name = \"up01\" and address = \"10.0.0.11:80\"")
                }
            };
            let finding = Finding::error(format!("there is no {what}"));
            report.add(finding.help(format!("add {help}")));
        }
        for table in draft.all(section.name) {
            for key in section.keys {
                if matches!(key.default, DefaultValue::Required { .. }) && !table.is_given(key.name)
                {
                    let message = format!("`{}` is missing", table.key_path(key.name));
                    let help = format!("add {} = {}", key.name, key.sample());
                    let label = format!("no `{}` here", key.name);
                    report.add(Finding::error(message).at(table.place.clone(), label).help(help));
                }
            }
        }
    }
}

/// The form in which names are compared.
fn key(name: &str) -> String {
    key_of(name).unwrap_or_else(|| name.to_ascii_lowercase())
}
