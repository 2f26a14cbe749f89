//! Reloads of a file in a folder, applied to nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::*;
use crate::telemetry::problems::ConfigState;

/// Configurations that were put in force: old and new weight of the backend.
type Applied = Arc<Mutex<Vec<(u32, u32)>>>;

struct Bench {
    folder: TempDir,
    metrics: Arc<Metrics>,
    reloader: Reloader,
    applied: Applied,
    /// How often other files were read.
    reread: Arc<AtomicUsize>,
}

fn file(weight: u32, more: &str) -> String {
    format!(
        "[listeners.public]\naddress = \"127.0.0.1:8080\"\n{more}\n\
         [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:9001\"\nweight = {weight}\n"
    )
}

impl Bench {
    /// Weight 13 cannot be applied, weight 14 panics.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("gw.toml");
        fs::write(&path, file(1, "")).expect("written");
        let source = Source { path, text: None, variables: Vec::new() };
        let loaded = source.load().expect("a good file");
        let metrics = Metrics::new(&[], &[]);
        let applied = Applied::default();
        let seen = Arc::clone(&applied);
        let apply: Apply = Box::new(move |old, new, _| {
            match new.backends[0].weight {
                13 => return Err("no such luck".to_owned()),
                14 => panic!("worse"),
                _ => {}
            }
            assert_eq!(old.listeners, new.listeners, "fixed");
            seen.lock().push((old.backends[0].weight, new.backends[0].weight));
            Ok(())
        });
        let counted = Some(Arc::clone(&metrics));
        let reread = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reread);
        let reading: Reread = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Some("not a certificate".to_owned())
        });
        let notifier = Notifier::default();
        let reloader =
            Reloader::new(source, loaded, counted, Events::default(), notifier, apply, reading);
        Self { folder, metrics, reloader: reloader.expect("a thread"), applied, reread }
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("gw.toml"), text).expect("written");
    }

    fn reload(&self, text: &str) -> Arc<Reload> {
        self.write(text);
        self.reloader.reload(Trigger::Signal)
    }

    #[track_caller]
    fn expect_metric(&self, line: &str) {
        let text = self.metrics.encode();
        assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_good_file_is_applied_once() {
    let bench = Bench::new();
    let reload = bench.reload(&file(2, ""));
    assert_eq!(reload.error, None);
    assert_eq!(reload.changed[0].to_string(), "backends.up01.weight: 1 -> 2");
    let again = bench.reloader.reload(Trigger::Admin);
    assert!(again.is_good() && again.changed.is_empty());
    assert_eq!(again.hash, reload.hash);
    assert_eq!(*bench.applied.lock(), [(1, 2)]);
    bench.expect_metric("bitsgw_config_last_reload_successful 1");
    bench.expect_metric("bitsgw_config_reloads_total{result=\"success\"} 2");
    let hash = u64::from_str_radix(&reload.hash, 16).expect("a number");
    bench.expect_metric(&format!("bitsgw_config_hash {hash}"));
}

#[test]
fn other_files_are_read_again_with_every_good_file_and_with_no_other() {
    let bench = Bench::new();
    let reload = bench.reloader.reload(Trigger::Signal);
    assert!(reload.is_good() && reload.changed.is_empty());
    assert_eq!(reload.warnings.last().map(String::as_str), Some("not a certificate"));
    bench.reload(&file(0, ""));
    bench.reload(&file(13, ""));
    assert_eq!(bench.reread.load(Ordering::Relaxed), 1);
    bench.reload(&file(2, ""));
    assert_eq!(bench.reread.load(Ordering::Relaxed), 2);
}

#[test]
fn a_bad_file_changes_nothing_and_shows_every_mistake() {
    let bench = Bench::new();
    bench.reload(&file(2, ""));
    let hash = bench.reloader.last().expect("an attempt").hash.clone();
    let reload = bench.reload(&file(0, "[limits]\nfragments = 3"));
    let error = reload.error.as_deref().expect("it is bad");
    assert!(error.contains("weight") && error.contains("fragments"), "{error}");
    assert!(error.contains("gw.toml:4"), "{error}");
    assert_eq!(reload.hash, hash, "that of what is in force");
    bench.expect_metric("bitsgw_config_last_reload_successful 0");
    bench.expect_metric("bitsgw_config_reloads_total{result=\"failure\"} 1");
    bench.reload(&file(3, ""));
    assert_eq!(*bench.applied.lock(), [(1, 2), (2, 3)]);
    bench.expect_metric("bitsgw_config_last_reload_successful 1");
}

#[test]
fn what_cannot_be_applied_leaves_the_old_one_in_force() {
    let bench = Bench::new();
    for weight in [13, 14] {
        let reload = bench.reload(&file(weight, ""));
        let error = reload.error.as_deref().expect("not applied");
        assert!(error.contains("cannot be applied"), "{error}");
    }
    assert!(bench.reload(&file(5, "")).is_good());
    assert_eq!(*bench.applied.lock(), [(1, 5)]);
}

#[test]
fn what_needs_a_restart_is_not_applied_and_not_forgotten() {
    let bench = Bench::new();
    let reload = bench.reload(&file(1, "[log]\nformat = \"text\""));
    assert!(reload.is_good());
    assert_eq!(reload.needs_restart.len(), 1);
    assert!(bench.applied.lock().is_empty());
    let reload = bench.reload(&file(2, "[log]\nformat = \"text\""));
    assert_eq!(reload.changed.len(), 1, "since the last time");
    assert_eq!(reload.needs_restart[0].key, "log.format", "since the start");
    assert!(bench.reload(&file(2, "")).needs_restart.is_empty(), "taken back");
}

#[test]
fn a_file_that_is_the_same_is_not_tried_again() {
    let bench = Bench::new();
    let tried = || bench.reloader.reload_if_changed(Trigger::File).is_some();
    assert!(!tried());
    bench.write(&file(2, ""));
    assert!(tried() && !tried());
    bench.write("junk");
    assert!(tried() && !tried());
    fs::remove_file(bench.reloader.path()).expect("removed");
    assert!(tried() && !tried());
    assert!(bench.reloader.last().expect("an attempt").error.is_some());
    bench.write(&file(2, ""));
    assert!(tried());
    assert!(bench.reloader.last().expect("an attempt").is_good());
}

#[test]
fn a_result_is_json() {
    let bench = Bench::new();
    let json = serde_json::to_value(&*bench.reload(&file(2, ""))).expect("JSON");
    assert_eq!(json["trigger"], "signal");
    assert_eq!(json["error"], serde_json::Value::Null);
    assert_eq!(json["changed"][0]["key"], "backends.up01.weight");
}

#[track_caller]
fn expect_drift(bench: &Bench, expected: Option<ConfigState>) {
    for _ in 0..2 {
        let drift = bench.reloader.drift();
        assert_eq!(drift.map(|drift| drift.what), expected);
    }
}

#[test]
fn a_file_that_is_not_in_force_is_told_of() {
    let bench = Bench::new();
    expect_drift(&bench, None);
    bench.write(&file(1, "# only a word"));
    expect_drift(&bench, None);
    bench.write(&file(2, ""));
    expect_drift(&bench, Some(ConfigState::Differs(vec!["backends.up01.weight".to_owned()])));
    bench.write(&file(0, "[limits]\nfragments = 3"));
    expect_drift(&bench, Some(ConfigState::Broken(2)));
    assert!(!bench.reloader.reload(Trigger::Signal).is_good());
    expect_drift(&bench, Some(ConfigState::Broken(2)));
    // What cannot be applied is not in force.
    bench.reload(&file(13, ""));
    expect_drift(&bench, Some(ConfigState::Differs(vec!["backends.up01.weight".to_owned()])));
    bench.reload(&file(2, ""));
    expect_drift(&bench, None);
    bench.reload(&file(2, "[log]\nformat = \"text\""));
    expect_drift(&bench, Some(ConfigState::NeedsRestart(vec!["log.format".to_owned()])));
    fs::remove_file(bench.reloader.path()).expect("removed");
    let drift = bench.reloader.drift().expect("it is not there");
    assert!(matches!(drift.what, ConfigState::Unread(_)), "{drift:?}");
    bench.write(&file(2, ""));
    expect_drift(&bench, Some(ConfigState::Differs(vec!["log.format".to_owned()])));
}

#[test]
fn a_preview_says_what_would_come_and_changes_nothing() {
    let bench = Bench::new();
    bench.write(&file(3, "[log]\nformat = \"text\"\n[sessions]\nidle_timeout = \"1d\""));
    let preview = bench.reloader.preview().expect("a good file");
    let keys = |changes: &[Change]| changes.iter().map(|c| c.key.clone()).collect::<Vec<_>>();
    let changed = ["sessions.idle_timeout", "backends.up01.weight", "log.format"];
    assert_eq!(keys(&preview.changed), changed);
    assert_eq!(keys(&preview.needs_restart), ["log.format"]);
    assert_eq!(preview.findings[0]["severity"], "warning", "{}", preview.findings);
    assert!(bench.applied.lock().is_empty() && bench.reloader.last().is_none());
    bench.write(&file(0, ""));
    let refused = bench.reloader.preview().expect_err("a mistake");
    assert!(refused.text.contains("too small"), "{}", refused.text);
    assert_eq!(refused.findings[0]["places"][0]["line"], 7);
    // The same as of a reload.
    assert_eq!(bench.reloader.reload(Trigger::Signal).findings, refused.findings);
}
