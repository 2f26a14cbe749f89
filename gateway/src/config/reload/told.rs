//! What is told of a reload afterwards.

use gateway_core::events::{Event, Kind, Level};

use super::Reload;

/// Keys that are named; more are counted.
const KEYS: usize = 5;

/// One event for one attempt.
pub(super) fn event(reload: &Reload) -> Event {
    let trigger = reload.trigger;
    let by = |name, level, message| Event::new(Kind::Reload, name, level, message).by(trigger);
    if let Some(error) = &reload.error {
        let error = error.lines().next().unwrap_or_default();
        // The first of the mistakes says more than that there are some.
        let mistakes = reload.findings.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut mistakes = mistakes.iter().filter(|one| one["severity"] == "error");
        let first = mistakes.next().and_then(|one| one["message"].as_str());
        let first = first.map(|first| format!(", {first}")).unwrap_or_default();
        let more = match mistakes.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message =
            format!("the new configuration is refused, the old one stays: {error}{first}{more}");
        return by("refused", Level::Error, message);
    }
    let done = reload.changed.iter().filter(|change| !change.needs_restart);
    let changed: Vec<String> = done.map(ToString::to_string).collect();
    let waiting: Vec<&str> = reload.needs_restart.iter().map(|change| &*change.key).collect();
    let changed = match changed.is_empty() {
        true => "nothing has changed".to_owned(),
        false => some(&changed, "; "),
    };
    let mut message = format!("the configuration was read again: {changed}");
    if !waiting.is_empty() {
        message.push_str(&format!("; a restart is needed for {}", some(&waiting, ", ")));
    }
    let level = if waiting.is_empty() { Level::Info } else { Level::Warning };
    by("loaded", level, message)
}

/// The first few, and how many more there are.
fn some<T: std::borrow::Borrow<str>>(all: &[T], between: &str) -> String {
    let shown = all[..all.len().min(KEYS)].join(between);
    match all.len().saturating_sub(KEYS) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diff::Change;
    use crate::config::reload::Trigger;

    fn change(key: &str, needs_restart: bool) -> Change {
        let (before, after) = (Some("1".to_owned()), Some("2".to_owned()));
        Change { key: key.to_owned(), before, after, needs_restart }
    }

    fn reload(error: Option<&str>, changed: &[&str], needs_restart: &[&str]) -> Reload {
        let restart = |keys: &[&str]| keys.iter().map(|key| change(key, true)).collect::<Vec<_>>();
        let mut all: Vec<_> = changed.iter().map(|key| change(key, false)).collect();
        all.extend(restart(needs_restart));
        Reload {
            at: 0,
            trigger: Trigger::Signal,
            error: error.map(str::to_owned),
            changed: all,
            needs_restart: restart(needs_restart),
            warnings: Vec::new(),
            findings: serde_json::Value::Null,
            hash: String::new(),
        }
    }

    #[test]
    fn a_refusal_names_the_first_mistake() {
        let finding = |severity: &str, message: &str| serde_json::json!({ "severity": severity, "message": message });
        let findings = [finding("warning", "w"), finding("error", "unknown key `x`")];
        let mut reload = reload(Some("x.toml cannot be used"), &[], &[]);
        reload.findings = findings.iter().cloned().collect();
        assert!(event(&reload).message.ends_with("cannot be used, unknown key `x`"));
        reload.findings = findings.iter().cloned().chain([finding("error", "y")]).collect();
        assert!(event(&reload).message.ends_with("cannot be used, unknown key `x` and 1 more"));
    }

    #[test]
    fn a_reload_says_what_changed_or_why_not() {
        for (reload, name, said) in [
            (reload(None, &[], &[]), "loaded", "read again: nothing has changed"),
            (reload(None, &["a.b"], &[]), "loaded", "read again: a.b: 1 -> 2"),
            (
                reload(None, &["a.b"], &["c.d"]),
                "loaded",
                "read again: a.b: 1 -> 2; a restart is needed for c.d",
            ),
            (
                reload(None, &["a", "b", "c", "d", "e", "f", "g"], &[]),
                "loaded",
                "e: 1 -> 2 and 2 more",
            ),
            (
                reload(Some("x.toml cannot be used\n  | picture"), &[], &[]),
                "refused",
                "the old one stays: x.toml cannot be used",
            ),
        ] {
            let event = event(&reload);
            assert_eq!(event.name, name);
            assert!(event.message.ends_with(said), "{}", event.message);
            assert_eq!(event.by.as_deref(), Some("signal"));
        }
    }
}
