//! Certificates that are replaced while the gateway runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::events::{Event, Kind, Level};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::contents::{Contents, Stamp, stamps};
use super::files::TlsError;
use crate::process::supervisor::TaskResult;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;

/// A certificate that was replaced is to be served within a second.
const CHECK_EVERY: Duration = Duration::from_millis(400);

/// So many looks after files could not be used they are tried again, some ten seconds: what was the
/// matter may have passed without a change of any file.
const RETRY: u32 = 25;

/// Something made of files.
pub trait Reloadable: Send + Sync {
    /// For the log: "listener public".
    fn title(&self) -> String;
    fn files(&self) -> Vec<PathBuf>;
    /// Makes it anew of what is in the files now, if that is something else than there was
    /// `before`. After an error it is what it was.
    fn reload(&self, before: &Contents) -> Result<Contents, TlsError>;
}

/// Looks after everything that is made of certificate files. Clones are one and the same.
#[derive(Clone)]
pub struct CertificateWatcher(Arc<Inner>);

struct Inner {
    metrics: Arc<Metrics>,
    events: Events,
    watched: Mutex<Vec<Watched>>,
}

struct Watched {
    thing: Arc<dyn Reloadable>,
    /// What the files were like when they were last read.
    seen: Vec<Stamp>,
    /// What it is made of.
    contents: Contents,
    /// Since they cannot be used.
    failing: Option<Failing>,
}

struct Failing {
    error: TlsError,
    /// What the log has of it.
    said: Option<String>,
    /// Whether it was ever said: until then the other half of a pair may be on its way.
    counts: bool,
    looks: u32,
}

impl CertificateWatcher {
    pub fn new(metrics: Arc<Metrics>, events: Events) -> Self {
        Self(Arc::new(Inner { metrics, events, watched: Mutex::default() }))
    }

    /// Looks after these from now on, and after nothing else. Each comes with what it was first
    /// made of, which says nothing of what it was made anew of since.
    pub fn watch(&self, things: impl IntoIterator<Item = (Arc<dyn Reloadable>, Contents)>) {
        let mut watched = self.0.watched.lock();
        let mut before = std::mem::take(&mut *watched);
        let watch = |(thing, contents): (Arc<dyn Reloadable>, Contents)| {
            let known = before.iter().position(|each| Arc::ptr_eq(&each.thing, &thing));
            known.map(|at| before.swap_remove(at)).unwrap_or_else(|| {
                // Not those of now: what was changed after it was read is news.
                let seen = contents.stamps.clone();
                Watched { thing, seen, contents, failing: None }
            })
        };
        *watched = things.into_iter().map(watch).collect();
        self.0.tell(&watched);
    }

    /// Reads all files again, changed or not. The ones that cannot be used are said in the log,
    /// and what is there goes on being used.
    pub fn reload_certificates(&self) -> Result<(), String> {
        let mut watched = self.0.watched.lock();
        for each in watched.iter_mut() {
            each.seen = stamps(&each.thing.files());
            each.forget();
            each.reload(&self.0.events);
            each.complain(&self.0.events);
        }
        self.0.tell(&watched);
        let failing = watched.iter().find_map(|each| each.failing.as_ref());
        failing.map_or(Ok(()), |failing| Err(failing.text()))
    }

    /// When files end to be of use, in Unix seconds, and why new ones cannot be used. Blocks while
    /// files are read.
    pub fn state(&self) -> (Vec<(PathBuf, i64)>, Option<String>) {
        let watched = self.0.watched.lock();
        let failing = watched.iter().filter_map(|each| each.failing.as_ref());
        let failing = failing.filter(|failing| failing.counts).map(Failing::text).next();
        (expiries(&watched).into_iter().collect(), failing)
    }

    /// Looks at the files until told to stop.
    pub async fn run(self, stop: CancellationToken) -> TaskResult {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(CHECK_EVERY) => {}
            }
            let certificate_watcher = self.clone();
            // Files may lie on a disk that takes its time.
            let looked = tokio::task::spawn_blocking(move || certificate_watcher.0.look()).await;
            if let Err(error) = looked {
                tracing::error!(%error, "the certificate files could not be looked at");
            }
        }
    }
}

impl Inner {
    fn look(&self) {
        let mut watched = self.watched.lock();
        let mut changed = false;
        for each in watched.iter_mut() {
            changed |= each.look(&self.events);
        }
        if changed {
            self.tell(&watched);
        }
    }

    fn tell(&self, watched: &[Watched]) {
        let ends: Vec<_> =
            expiries(watched).iter().map(|(path, at)| (path.display().to_string(), *at)).collect();
        self.metrics.set_certificate_expiries(&ends);
        let counts = |each: &Watched| each.failing.as_ref().is_some_and(|failing| failing.counts);
        self.metrics.set_certificates_usable(!watched.iter().any(counts));
    }
}

/// The file that several share stands once, with the earliest end.
fn expiries(watched: &[Watched]) -> BTreeMap<PathBuf, i64> {
    let mut ends: BTreeMap<PathBuf, i64> = BTreeMap::new();
    for expiry in watched.iter().flat_map(|each| each.contents.expiries()) {
        let end = ends.entry(expiry.path).or_insert(expiry.at);
        *end = expiry.at.min(*end);
    }
    ends
}

impl Watched {
    /// Whether there is something to tell.
    fn look(&mut self, events: &Events) -> bool {
        let now = stamps(&self.thing.files());
        if now != self.seen {
            self.seen = now;
            self.forget();
            // Certificate and key are replaced one after the other: what is wrong counts when it
            // stays so.
            return self.reload(events);
        }
        let Some(failing) = &mut self.failing else { return false };
        failing.looks += 1;
        let renewed = failing.looks >= RETRY && self.reload(events);
        self.complain(events) || renewed
    }

    fn reload(&mut self, events: &Events) -> bool {
        match self.thing.reload(&self.contents) {
            Ok(contents) => {
                let of = self.thing.title();
                if contents.digest == self.contents.digest {
                    tracing::info!(%of, "certificates read again, nothing has changed");
                } else {
                    tracing::info!(%of, "certificates replaced");
                    let message = format!("new certificates of {of} are in use");
                    events.tell(Event::new(Kind::Certificate, "replaced", Level::Info, message));
                }
                self.contents = contents;
                self.failing = None;
                true
            }
            Err(error) => {
                let before = self.failing.take();
                let counts = before.as_ref().is_some_and(|failing| failing.counts);
                let said = before.and_then(|failing| failing.said);
                self.failing = Some(Failing { error, said, counts, looks: 0 });
                false
            }
        }
    }

    /// There is something new, so that even the same mistake is to be said again.
    fn forget(&mut self) {
        if let Some(failing) = &mut self.failing {
            failing.said = None;
        }
    }

    /// Says what is wrong, if it has not been said; returns whether it did.
    fn complain(&mut self, events: &Events) -> bool {
        let Some(failing) = &mut self.failing else { return false };
        let text = failing.error.to_string();
        if failing.said.as_ref() == Some(&text) {
            return false;
        }
        tracing::error!(
            of = %self.thing.title(),
            error = text,
            help = %failing.error.help(),
            "new certificates cannot be used, the old ones stay"
        );
        let of = self.thing.title();
        let message = format!("new certificates of {of} cannot be used, the old ones stay: {text}");
        events.tell(Event::new(Kind::Certificate, "unusable", Level::Error, message));
        failing.said = Some(text);
        failing.counts = true;
        true
    }
}

impl Failing {
    fn text(&self) -> String {
        format!("{} ({})", self.error, self.error.help())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Default)]
    struct Fake {
        fails_with: Mutex<Option<io::ErrorKind>>,
        /// Another number, and its files have changed.
        stamp: Mutex<usize>,
        tries: Mutex<usize>,
    }

    impl Reloadable for Fake {
        fn title(&self) -> String {
            "fake".to_owned()
        }

        fn files(&self) -> Vec<PathBuf> {
            vec![PathBuf::new(); *self.stamp.lock()]
        }

        fn reload(&self, _: &Contents) -> Result<Contents, TlsError> {
            *self.tries.lock() += 1;
            match *self.fails_with.lock() {
                Some(kind) => Err(TlsError::Read { path: "cert.pem".into(), source: kind.into() }),
                None => Ok(Contents { digest: [7; 32], ..Contents::default() }),
            }
        }
    }

    fn watched(fake: &Arc<Fake>) -> CertificateWatcher {
        let certificate_watcher =
            CertificateWatcher::new(Metrics::new(&[], &[]), Events::default());
        certificate_watcher.watch([(Arc::clone(fake) as Arc<dyn Reloadable>, Contents::default())]);
        certificate_watcher
    }

    fn gauge(certificate_watcher: &CertificateWatcher, name: &str) -> Option<f64> {
        let scrape = certificate_watcher.0.metrics.encode();
        let line = scrape.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    fn look(certificate_watcher: &CertificateWatcher, times: u32) {
        (0..times).for_each(|_| certificate_watcher.0.look());
    }

    #[test]
    fn what_could_not_be_used_is_tried_again_though_no_file_changes() {
        let fake = Arc::new(Fake::default());
        *fake.fails_with.lock() = Some(io::ErrorKind::StorageFull);
        let certificate_watcher = watched(&fake);
        certificate_watcher.reload_certificates().unwrap_err();
        look(&certificate_watcher, RETRY);
        assert_eq!(*fake.tries.lock(), 2);
        look(&certificate_watcher, RETRY - 1);
        assert_eq!(*fake.tries.lock(), 2, "not with every look");
        *fake.fails_with.lock() = None;
        look(&certificate_watcher, 1);
        assert_eq!(*fake.tries.lock(), 3);
        assert_eq!(certificate_watcher.0.watched.lock()[0].contents.digest, [7; 32]);
        look(&certificate_watcher, 3 * RETRY);
        assert_eq!(*fake.tries.lock(), 3, "what is good is not read again");
    }

    #[test]
    fn a_change_between_reading_and_watching_is_seen() {
        let fake = Arc::new(Fake::default());
        *fake.stamp.lock() = 1;
        let certificate_watcher = watched(&fake);
        look(&certificate_watcher, 1);
        assert_eq!(*fake.tries.lock(), 1);
    }

    #[test]
    fn a_gauge_is_0_from_the_complaint_to_the_next_success() {
        let fake = Arc::new(Fake::default());
        let certificate_watcher = watched(&fake);
        let usable = || gauge(&certificate_watcher, "bitsgw_tls_certificates_usable ");
        assert_eq!(usable(), Some(1.0));
        *fake.fails_with.lock() = Some(io::ErrorKind::NotFound);
        *fake.stamp.lock() = 1;
        look(&certificate_watcher, 1);
        assert_eq!(usable(), Some(1.0), "the other half may be on its way");
        look(&certificate_watcher, 1);
        assert_eq!(usable(), Some(0.0));
        *fake.stamp.lock() = 2;
        look(&certificate_watcher, 1);
        assert_eq!(usable(), Some(0.0), "other files that are as bad");
        *fake.fails_with.lock() = None;
        look(&certificate_watcher, RETRY);
        assert_eq!(usable(), Some(1.0));
    }
}
