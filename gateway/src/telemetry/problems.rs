//! What is the matter with the gateway as a whole: what `bits-gateway health` and `status` say.
//!
//! A judgement over facts that others have gathered, so that each of them has its row in a table.

use std::fmt;
use std::sync::Arc;

use gateway_core::session::Timestamp;
use serde::Serialize;

/// How bad it is, as a monitoring plugin means it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warning,
    Critical,
}

/// One thing that is the matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub level: Level,
    /// For programs: `store`, `no_backend`, `draining`, `starting`, `config`, `restart`,
    /// `certificate`.
    pub code: &'static str,
    /// For people, on one line.
    pub message: String,
}

/// All that is the matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub status: Level,
    /// The worst first.
    pub problems: Vec<Problem>,
    pub backends: usize,
    pub eligible: usize,
    pub sessions: u64,
}

/// Gathers the facts and judges them. It may block, on a disk for one.
#[derive(Clone)]
pub struct Judge(Arc<dyn Fn() -> Verdict + Send + Sync>);

impl Judge {
    pub fn new(judge: impl Fn() -> Verdict + Send + Sync + 'static) -> Self {
        Self(Arc::new(judge))
    }

    /// How it is now.
    pub fn verdict(&self) -> Verdict {
        self.0()
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}

/// What the verdict rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Not every listener accepts yet.
    pub is_starting: bool,
    /// The process is about to stop.
    pub is_draining: bool,
    /// What keeps the store from taking writes.
    pub store: Option<String>,
    /// Whether new uploads are accepted all the same (`store.on_error = "accept"`).
    pub accepts_without_store: bool,
    pub backends: usize,
    /// Of them may get new uploads.
    pub eligible: usize,
    pub sessions: u64,
    pub config: Option<ConfigTrouble>,
    pub certificates: Vec<Certificate>,
    /// Why new certificate files are not in use.
    pub unusable: Option<String>,
}

/// How the file on disk differs from the configuration in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigTrouble {
    pub path: String,
    pub what: ConfigState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigState {
    /// It cannot be read.
    Unread(String),
    /// It has so many mistakes.
    Broken(usize),
    /// These keys differ, and a reload was not asked for, or refused it.
    Differs(Vec<String>),
    /// These keys wait for a restart.
    NeedsRestart(Vec<String>),
}

/// A certificate file and the end of what is in it, in Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub path: String,
    pub ends: i64,
}

/// Whoever renews certificates by hand needs so many days; a program renews them earlier.
const SOON_DAYS: i64 = 14;

const DAY: i64 = 24 * 60 * 60;

/// More keys are counted only.
const KEYS_SHOWN: usize = 3;

/// Judges the facts at `now`.
pub fn judge(facts: &Facts, now: Timestamp) -> Verdict {
    let mut problems = Vec::new();
    let mut add = |level, code, message| problems.push(Problem { level, code, message });
    if facts.is_starting {
        add(Level::Warning, "starting", "it has not begun to serve".to_owned());
    }
    if facts.is_draining {
        add(Level::Warning, "draining", "it is stopping and takes nothing new".to_owned());
    }
    match &facts.store {
        Some(message) if facts.accepts_without_store => {
            let message = format!("new uploads are not stored: {message}");
            add(Level::Warning, "store", message);
        }
        Some(message) => {
            let message = format!("new uploads are refused, the store takes no writes: {message}");
            add(Level::Critical, "store", message);
        }
        None => {}
    }
    if facts.eligible == 0 {
        let message = match facts.backends {
            1 => "the one backend takes no new uploads".to_owned(),
            backends => format!("none of {backends} backends takes new uploads"),
        };
        add(Level::Critical, "no_backend", message);
    }
    for certificate in &facts.certificates {
        let left = certificate.ends.saturating_sub_unsigned(now.0 / 1000);
        let path = &certificate.path;
        if left < 0 {
            add(Level::Critical, "certificate", format!("the certificate {path} has expired"));
        } else if left < SOON_DAYS * DAY {
            let when = match left / DAY {
                0 => "within a day".to_owned(),
                1 => "in 1 day".to_owned(),
                days => format!("in {days} days"),
            };
            add(Level::Warning, "certificate", format!("the certificate {path} expires {when}"));
        }
    }
    if let Some(error) = &facts.unusable {
        let message = format!("new certificates are not in use: {error}");
        add(Level::Warning, "certificate", message);
    }
    if let Some(trouble) = &facts.config {
        let (code, message) = trouble.told();
        add(Level::Warning, code, message);
    }
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.level));
    let status = problems.first().map_or(Level::Ok, |problem| problem.level);
    let Facts { backends, eligible, sessions, .. } = *facts;
    Verdict { status, problems, backends, eligible, sessions }
}

impl ConfigTrouble {
    fn told(&self) -> (&'static str, String) {
        let path = &self.path;
        match &self.what {
            ConfigState::Unread(error) => {
                ("config", format!("{path} is not the configuration in force: {error}"))
            }
            ConfigState::Broken(mistakes) => {
                let mistakes = match mistakes {
                    1 => "1 error".to_owned(),
                    mistakes => format!("{mistakes} errors"),
                };
                let message =
                    format!("{path} is not the configuration in force: it has {mistakes}");
                ("config", message)
            }
            ConfigState::Differs(keys) => {
                let keys = some(keys);
                (
                    "config",
                    format!("{path} is not the configuration in force: other values of {keys}"),
                )
            }
            ConfigState::NeedsRestart(keys) => {
                ("restart", format!("{path} waits for a restart: {}", some(keys)))
            }
        }
    }
}

/// The first few of them.
fn some(keys: &[String]) -> String {
    let shown = keys[..keys.len().min(KEYS_SHOWN)].join(", ");
    match keys.len().saturating_sub(KEYS_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn good() -> Facts {
        Facts {
            is_starting: false,
            is_draining: false,
            sessions: 0,
            store: None,
            accepts_without_store: false,
            backends: 3,
            eligible: 2,
            config: None,
            certificates: vec![ending(SOON_DAYS)],
            unusable: None,
        }
    }

    fn ending(days: i64) -> Certificate {
        let ends = (NOW.0 / 1000) as i64 + days * DAY;
        Certificate { path: "/tls/a.pem".to_owned(), ends }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Facts), level: Level, code: &str, said: &str) {
        let mut facts = good();
        change(&mut facts);
        let verdict = judge(&facts, NOW);
        assert_eq!(verdict.status, level);
        let [problem] = &verdict.problems[..] else { panic!("{verdict:?}") };
        assert_eq!((problem.level, problem.code), (level, code));
        assert_eq!(problem.message, said);
    }

    #[test]
    fn nothing_is_the_matter() {
        let verdict = judge(&good(), NOW);
        assert_eq!((verdict.status, verdict.problems), (Level::Ok, vec![]));
    }

    #[test]
    fn each_fact_has_its_problem() {
        use Level::{Critical, Warning};
        let full = || Some("the disk is full".to_owned());
        check(|f| f.is_starting = true, Warning, "starting", "it has not begun to serve");
        check(
            |f| f.is_draining = true,
            Warning,
            "draining",
            "it is stopping and takes nothing new",
        );
        check(
            |f| f.store = full(),
            Critical,
            "store",
            "new uploads are refused, the store takes no writes: the disk is full",
        );
        check(
            |f| (f.store, f.accepts_without_store) = (full(), true),
            Warning,
            "store",
            "new uploads are not stored: the disk is full",
        );
        check(|f| f.eligible = 0, Critical, "no_backend", "none of 3 backends takes new uploads");
        check(
            |f| (f.eligible, f.backends) = (0, 1),
            Critical,
            "no_backend",
            "the one backend takes no new uploads",
        );
        for (days, level, said) in [
            (-1, Critical, "the certificate /tls/a.pem has expired"),
            (0, Warning, "the certificate /tls/a.pem expires within a day"),
            (1, Warning, "the certificate /tls/a.pem expires in 1 day"),
            (13, Warning, "the certificate /tls/a.pem expires in 13 days"),
        ] {
            check(|f| f.certificates = vec![ending(days)], level, "certificate", said);
        }
        check(
            |f| f.unusable = Some("no key".to_owned()),
            Warning,
            "certificate",
            "new certificates are not in use: no key",
        );
    }

    #[test]
    fn the_file_on_disk_is_told_of() {
        let key = |name: &str| name.to_owned();
        for (what, code, said) in [
            (ConfigState::Broken(1), "config", "is not the configuration in force: it has 1 error"),
            (
                ConfigState::Unread(key("there is no such file")),
                "config",
                "is not the configuration in force: there is no such file",
            ),
            (
                ConfigState::Differs(vec![key("a.b"), key("c.d"), key("e.f"), key("g.h")]),
                "config",
                "is not the configuration in force: other values of a.b, c.d, e.f and 1 more",
            ),
            (
                ConfigState::NeedsRestart(vec![key("process.threads")]),
                "restart",
                "waits for a restart: process.threads",
            ),
        ] {
            let config = Some(ConfigTrouble { path: key("gw.toml"), what });
            let said = format!("gw.toml {said}");
            check(|f| f.config = config, Level::Warning, code, &said);
        }
    }

    #[test]
    fn the_worst_stands_first() {
        let mut facts = good();
        (facts.is_draining, facts.eligible) = (true, 0);
        let codes: Vec<&str> =
            judge(&facts, NOW).problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, ["no_backend", "draining"]);
    }
}
