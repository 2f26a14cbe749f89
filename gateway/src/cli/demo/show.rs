//! What a person sees of the demo.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytesize::ByteSize;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use serde::Serialize;

use super::farm::Farm;
use super::files::{Arrival, Sample};
use bits_uploader::Report;
use bits_uploader::engine::{Event, Listener};
use bits_uploader::progress::{self, Look};

/// Text and progress bars, without one spoiling the other.
pub struct Stage {
    bars: MultiProgress,
    /// Standard output belongs to the JSON object.
    to_stderr: bool,
    steps: AtomicUsize,
}

/// One upload as the demo follows it.
pub struct Track {
    stage: Arc<Stage>,
    name: String,
    bar: Option<ProgressBar>,
    size: u64,
    confirmed: AtomicU64,
    host: Mutex<Option<String>>,
    waiting: AtomicBool,
    /// Its server has been killed and is not back.
    away: AtomicBool,
    /// Its packet is on its way to a server that is away: the gateway holds it.
    held: AtomicBool,
    times_held: AtomicU32,
    finished: AtomicBool,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub file: String,
    /// Where the file lies; several names would mean that the upload was split.
    pub servers: Vec<String>,
    pub bytes: u64,
    pub sha256_sent: String,
    pub sha256_arrived: Option<String>,
    pub equal: bool,
    /// Packets that the gateway held until their server was back.
    pub held: u32,
    /// Times that the client waited and tried again.
    pub retries: u32,
    /// Times that the upload began anew.
    pub restarts: u32,
    pub error: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub ok: bool,
    pub seconds: f64,
    pub seed: u64,
    /// The server that was killed on the way.
    pub killed: Option<String>,
    pub files: Vec<Row>,
    /// Where everything is kept, with `--keep`.
    pub folder: Option<String>,
}

/// Columns of a terminal that nobody has made larger.
const WIDTH: usize = 80;

const INTRODUCTION: &str = "\
BITS is how Windows machines upload files in the background: in small pieces, \
over hours or days. The half-written file lies on one server. Behind an ordinary \
load balancer the next piece may reach another server, which knows nothing of it, \
and the upload starts over. bits-gateway sends every piece to the server that has \
the others, also after that server was away for a while.
";

impl Stage {
    pub fn new(to_stderr: bool) -> Self {
        let bars = if std::io::stderr().is_terminal() {
            MultiProgress::with_draw_target(ProgressDrawTarget::stderr())
        } else {
            MultiProgress::with_draw_target(ProgressDrawTarget::hidden())
        };
        Self { bars, to_stderr, steps: AtomicUsize::new(0) }
    }

    pub fn introduce(&self) {
        self.say(INTRODUCTION);
    }

    /// A numbered headline.
    pub fn step(&self, text: &str) {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        self.say(&format!("{number}. {text}"));
    }

    pub fn farm(&self, farm: &Farm, folder: &Path) {
        for server in farm.servers() {
            self.say(&format!("   {}     http://{}", server.name, server.address));
        }
        self.say(&format!("   gateway  http://{}", farm.gateway()));
        self.say(&format!("   metrics  http://{}/metrics", farm.ops()));
        self.say(&format!("   folder   {}\n", folder.display()));
    }

    pub fn uploads(&self, samples: &[Sample], size: u64) {
        let size = ByteSize(size);
        self.step(&match samples.len() {
            1 => format!("Uploading a file of {size} through the gateway."),
            count => {
                format!("Uploading {count} files of {size} each through the gateway, all at once.")
            }
        });
    }

    pub fn track(self: &Arc<Self>, sample: &Sample) -> Arc<Track> {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = self.bars.add(ProgressBar::new(sample.size));
            progress::styled(bar, &sample.name, Look::Among)
        });
        Arc::new(Track {
            stage: self.clone(),
            name: sample.name.clone(),
            bar,
            size: sample.size,
            confirmed: AtomicU64::new(0),
            host: Mutex::new(None),
            waiting: AtomicBool::new(false),
            away: AtomicBool::new(false),
            held: AtomicBool::new(false),
            times_held: AtomicU32::new(0),
            finished: AtomicBool::new(false),
        })
    }

    pub fn killed(&self, name: &str, hit: usize) {
        let uploads = if hit == 1 { "an upload".to_owned() } else { format!("{hit} uploads") };
        self.step(&format!(
            "Killing {name} (as by a power cut) in the middle of {uploads}. The gateway holds their \
             packets until it is back; the others go on."
        ));
    }

    pub fn restarted(&self, name: &str) {
        self.step(&format!(
            "{name} is back with what it had on its disk. Its uploads go on where they stopped."
        ));
    }

    /// Takes the bars away.
    pub fn clear(&self) {
        // Without a terminal there is nothing to clear.
        let _ = self.bars.clear();
        // Else every later line would bring them back.
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    pub fn conclude(&self, outcome: &Outcome) {
        self.say(&table(&outcome.files));
        let verdict = match (&outcome.killed, outcome.ok) {
            (_, false) => {
                "Not every file arrived whole. This is a bug; please report it.".to_owned()
            }
            (Some(name), true) => format!(
                "Every file arrived whole, on one server each, though {name} was killed on the way."
            ),
            (None, true) => "Every file arrived whole, on one server each. No upload took long \
                             enough to kill a server under it: use a larger --size."
                .to_owned(),
        };
        self.say(&verdict);
        if let Some(folder) = &outcome.folder {
            self.say(&format!("Files, configuration and logs are kept in {folder}"));
        }
    }

    pub(super) fn say(&self, text: &str) {
        self.say_as_it_is(&fitted(text));
    }

    /// Lines that are to be copied, and so are not broken.
    pub(super) fn say_as_it_is(&self, text: &str) {
        // Somebody who closes the pipe has seen enough; the demo goes on to its end.
        self.bars.suspend(|| {
            let _ = match self.to_stderr {
                true => writeln!(std::io::stderr(), "{text}"),
                false => writeln!(std::io::stdout(), "{text}"),
            };
        });
    }
}

impl Track {
    /// What the upload calls with its news.
    pub fn listener(self: Arc<Self>) -> Listener {
        Box::new(move |event| self.take(event))
    }

    pub fn host(&self) -> Option<String> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn percent(&self) -> u64 {
        let confirmed = self.confirmed.load(Ordering::Relaxed);
        confirmed.saturating_mul(100).checked_div(self.size).unwrap_or(100)
    }

    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Whether it is under way at that server.
    pub fn is_on(&self, server: &str) -> bool {
        let host = self.host();
        host.is_some_and(|host| server_of(&host) == server) && !self.is_finished()
    }

    /// The packet that is under way is held from now on, unless its client hears of an error.
    pub fn server_went(&self) {
        self.away.store(true, Ordering::Relaxed);
        if !self.waiting.load(Ordering::Relaxed) {
            self.hold();
        }
    }

    /// To be called before it is.
    pub fn server_comes_back(&self) {
        self.away.store(false, Ordering::Relaxed);
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    pub fn times_held(&self) -> u32 {
        self.times_held.load(Ordering::Relaxed)
    }

    pub fn finish(&self, report: Option<&Report>) {
        self.finished.store(true, Ordering::Relaxed);
        let error = report.map_or(Some("it hangs"), |report| report.error.as_deref());
        if let Some(bar) = &self.bar {
            bar.abandon_with_message(if error.is_some() { "failed" } else { "done" });
        }
        match error {
            Some(error) => self.stage.say(&format!("   {}: failed: {error}", self.name)),
            None if self.bar.is_none() => self.stage.say(&format!("   {}: done", self.name)),
            None => {}
        }
    }

    fn take(&self, event: &Event<'_>) {
        match event {
            Event::Position(at) => {
                if let Some(bar) = &self.bar {
                    bar.set_position(*at);
                }
            }
            Event::Confirmed(at) => self.confirm(*at),
            Event::Packet => {
                self.answered();
                if self.away.load(Ordering::Relaxed) {
                    self.hold();
                }
            }
            Event::Session { host_id, .. } => {
                *self.host.lock().unwrap_or_else(PoisonError::into_inner) =
                    host_id.map(str::to_owned);
                self.note(&format!("on {}", server_of(host_id.unwrap_or("?"))));
            }
            Event::Waiting { why, .. } => {
                self.held.store(false, Ordering::Relaxed);
                // Once per outage: the same sentence twice a second helps nobody.
                if !self.waiting.swap(true, Ordering::Relaxed) {
                    match &self.bar {
                        Some(bar) => bar.set_message("waits, to try again"),
                        None => self.detail(&format!("waits, to try again ({why})")),
                    }
                }
            }
            other => {
                if let Some(words) = progress::words(other) {
                    self.detail(&words);
                }
            }
        }
    }

    fn confirm(&self, at: u64) {
        let before = self.confirmed.swap(at, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_position(at);
        }
        if at > before {
            self.answered();
            if self.waiting.swap(false, Ordering::Relaxed) {
                self.note(&format!("goes on at {} on {}", ByteSize(before), self.server()));
            }
        }
    }

    fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
        self.waiting.store(true, Ordering::Relaxed);
        self.note(&format!("held by the gateway for {}", self.server()));
    }

    /// The packet before has its answer. While its server is away, that is one from before.
    fn answered(&self) {
        if self.held.swap(false, Ordering::Relaxed) && !self.away.load(Ordering::Relaxed) {
            self.times_held.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn server(&self) -> String {
        server_of(self.host().as_deref().unwrap_or("?")).to_owned()
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => self.stage.say(&format!("   {}: {text}", self.name)),
        }
    }

    fn detail(&self, text: &str) {
        if self.bar.is_none() {
            self.stage.say(&format!("   {}: {text}", self.name));
        }
    }
}

impl Row {
    pub fn new(sample: &Sample, report: Option<&Report>, held: u32, arrived: &[Arrival]) -> Self {
        let whole = |copy: &Arrival| copy.size == sample.size && copy.sha256 == sample.sha256;
        let error = match report {
            Some(report) => report.error.clone(),
            None => Some("the upload hung".to_owned()),
        };
        Self {
            file: sample.name.clone(),
            servers: arrived.iter().map(|copy| copy.server.clone()).collect(),
            bytes: arrived.first().map_or(0, |copy| copy.size),
            sha256_sent: sample.sha256.clone(),
            sha256_arrived: arrived.first().map(|copy| copy.sha256.clone()),
            equal: error.is_none() && arrived.len() == 1 && arrived.iter().all(whole),
            held,
            retries: report.map_or(0, |report| report.retries),
            restarts: report.map_or(0, |report| report.restarts),
            error,
        }
    }
}

impl Outcome {
    pub fn new(
        files: Vec<Row>,
        killed: Option<String>,
        seed: u64,
        seconds: f64,
        folder: Option<String>,
    ) -> Self {
        let ok = !files.is_empty() && files.iter().all(|row| row.equal);
        let seconds = (seconds * 1000.0).round() / 1000.0;
        Self { ok, seconds, seed, killed, files, folder }
    }
}

fn server_of(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

/// The text in lines that fit; what follows of a line that does not is indented.
fn fitted(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut rest = line;
        let mut indent = "";
        while indent.len() + console::measure_text_width(rest) > WIDTH {
            let fits =
                rest.char_indices().nth(WIDTH - indent.len()).map_or(rest.len(), |(at, _)| at);
            // Behind the indentation, or there would be an empty line.
            let begin = rest.len() - rest.trim_start().len();
            let Some(space) = rest[begin..fits].rfind(' ') else { break };
            lines.push(format!("{indent}{}", &rest[..begin + space]));
            rest = &rest[begin + space + 1..];
            indent = if line.starts_with("   ") || line.starts_with(char::is_numeric) {
                "   "
            } else {
                ""
            };
        }
        lines.push(format!("{indent}{rest}"));
    }
    lines.join("\n")
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "\n   {:<11}  {:<9} {:>10}  {:>4}  {:>5}  {:>8}  {:<10}  {}\n",
        "file", "server", "bytes", "held", "waits", "restarts", "SHA-256", "equal"
    );
    for row in rows {
        let server = if row.servers.is_empty() { "none".to_owned() } else { row.servers.join("+") };
        let hash = row.sha256_arrived.as_deref().unwrap_or("-");
        text.push_str(&format!(
            "   {:<11}  {:<9} {:>10}  {:>4}  {:>5}  {:>8}  {:<10}  {}\n",
            row.file,
            server,
            row.bytes,
            row.held,
            row.retries,
            row.restarts,
            &hash[..hash.len().min(8)],
            if row.equal { "yes" } else { "NO" }
        ));
        if let Some(error) = &row.error {
            text.push_str(&format!("   {error}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        let (name, path) = ("file-01.bin".to_owned(), "file-01.bin".into());
        Sample { name, path, size: 3, sha256: "abc".to_owned() }
    }

    fn copy(server: &str, sha256: &str) -> Arrival {
        Arrival { server: server.to_owned(), size: 3, sha256: sha256.to_owned() }
    }

    #[test]
    fn only_one_equal_copy_of_a_finished_upload_counts_as_arrived() {
        let done = Report::new(Path::new("file-01.bin"), "http://x");
        let equal = |report: Option<&Report>, arrived: &[Arrival]| {
            Row::new(&sample(), report, 0, arrived).equal
        };
        assert!(equal(Some(&done), &[copy("up01", "abc")]));
        assert!(!equal(Some(&done), &[copy("up01", "abd")]));
        assert!(!equal(Some(&done), &[copy("up01", "abc"), copy("up02", "abc")]));
        assert!(!equal(Some(&done), &[]));
        assert!(!equal(None, &[copy("up01", "abc")]));
        let mut failed = done.clone();
        failed.error = Some("x".to_owned());
        assert!(!equal(Some(&failed), &[copy("up01", "abc")]));
    }

    #[test]
    fn the_demo_is_a_success_only_if_every_file_is_equal() {
        let done = Report::new(Path::new("file-01.bin"), "http://x");
        let good = Row::new(&sample(), Some(&done), 0, &[copy("up01", "abc")]);
        let bad = Row::new(&sample(), Some(&done), 0, &[]);
        let ok = |rows: Vec<Row>| Outcome::new(rows, None, 1, 1.0, None).ok;
        assert!(ok(vec![good.clone()]));
        assert!(!ok(vec![good, bad]));
        assert!(!ok(Vec::new()));
    }

    #[test]
    fn text_is_broken_where_a_terminal_ends() {
        let long = "1. ".to_owned() + &"word ".repeat(40);
        let table = table(&[Row::new(&sample(), None, 0, &[])]);
        for text in [INTRODUCTION, &long, &table, &format!("   a: {long}"), &"x".repeat(70)] {
            let fitted = fitted(text);
            assert!(fitted.lines().all(|line| line.chars().count() <= WIDTH), "{fitted}");
            assert_eq!(
                fitted.split_whitespace().collect::<Vec<_>>(),
                text.split_whitespace().collect::<Vec<_>>(),
            );
        }
        assert_eq!(fitted("a\n\n   b\n"), "a\n\n   b\n");
        // A path is not broken.
        assert_eq!(fitted(&"x".repeat(90)), "x".repeat(90));
    }
}
