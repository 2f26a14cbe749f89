//! Where sessions are kept.

use super::Checked;
use crate::config::StoreKind;
use crate::config::draft::Draft;
use crate::config::report::{Finding, Report};
use crate::config::settle::store_kind;

pub fn sqlite_has_its_place(draft: &Draft, report: &mut Report) -> Checked {
    let store = draft.once("store");
    if store_kind(draft)? == StoreKind::Sqlite && !store.is_given("path") {
        let finding = Finding::error("`store.path` is missing")
            .at(store.near("kind"), "this keeps sessions in a directory");
        report.add(finding.help("add path = \"/var/lib/bits-gateway\"".to_owned()));
    }
    Ok(())
}

pub fn memory_keeps_nothing(draft: &Draft, report: &mut Report) -> Checked {
    let store = draft.once("store");
    if store_kind(draft)? == StoreKind::Memory {
        for key in ["path", "sync", "on_error"] {
            if let Some(place) = store.place_of(key) {
                let finding = Finding::warning(format!("`store.{key}` has no effect"));
                let label = "this is for kind = \"sqlite\", and kind is \"memory\"";
                report.add(finding.at(place, label));
            }
        }
    }
    Ok(())
}
