//! Many uploads at once, on threads of their own, while the test does something else; and the judgement on them.
//!
//! ```text
//! let fleet = Fleet::start(&farm.client(), jobs(200));
//! fleet.reach(0.5, &mut || {});
//! farm.gateway().restart();
//! let done = fleet.join();
//! done.expect_whole(&farm);
//! assert_eq!(done.restarts(), 0);
//! ```

mod oracle;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use oracle::{Done, Outcome};

use crate::client::{Client, Upload};
use crate::clock;
use crate::data::Content;
use crate::farm::ORIGIN;

/// How long nothing at all may move before the test has failed.
const STANDSTILL: Duration = Duration::from_secs(90);

const INTERVAL: Duration = Duration::from_millis(10);

/// One upload to be made.
pub struct Job {
    pub path: String,
    pub content: Content,
    pub client: Client,
}

/// One upload under way.
pub struct Begun {
    pub path: String,
    pub content: Content,
    pub upload: Upload,
}

impl Job {
    pub fn begin(self) -> Begun {
        let Self { path, content, client } = self;
        let upload = client.begin(&format!("http://{ORIGIN}{path}"), &content);
        Begun { path, content, upload }
    }
}

/// Uploads that run.
#[must_use]
pub struct Fleet {
    uploads: Vec<(JoinHandle<Done>, Arc<Mutex<State>>)>,
    bytes: u64,
}

/// What an upload last said of itself.
#[derive(Clone, Debug, Default)]
struct State {
    path: String,
    position: u64,
    length: u64,
    last: String,
}

impl Fleet {
    /// Begins all of them at once.
    pub fn start(jobs: impl IntoIterator<Item = Job>) -> Self {
        Self::go_on(jobs.into_iter().map(Job::begin))
    }

    /// Runs what has begun to its end.
    pub fn go_on(begun: impl IntoIterator<Item = Begun>) -> Self {
        let run = |begun: Begun| {
            let (path, length) = (begun.path.clone(), begun.content.len());
            let state = State { path, length, ..State::default() };
            let state = Arc::new(Mutex::new(state));
            let shared = state.clone();
            (std::thread::spawn(move || run(begun, &shared)), state)
        };
        let uploads: Vec<_> = begun.into_iter().map(run).collect();
        let bytes = uploads.iter().map(|(_, state)| lock(state).length).sum();
        Self { uploads, bytes }
    }

    /// The share of all bytes that has been acknowledged, from 0 to 1.
    pub fn progress(&self) -> f64 {
        let acknowledged: u64 = self.uploads.iter().map(|(_, state)| lock(state).position).sum();
        acknowledged as f64 / self.bytes.max(1) as f64
    }

    pub fn has_ended(&self) -> bool {
        self.uploads.iter().all(|(upload, _)| upload.is_finished())
    }

    /// Until that share has been acknowledged or all uploads have ended; `meanwhile` is called again and again.
    #[track_caller]
    pub fn reach(&self, share: f64, mut meanwhile: impl FnMut()) {
        let done = || self.progress() >= share || self.has_ended();
        self.wait(done, &mut meanwhile);
    }

    /// The end of all of them.
    #[track_caller]
    pub fn join(self) -> Outcome {
        self.wait(|| self.has_ended(), &mut || {});
        let done = self.uploads.into_iter().map(|(upload, state)| {
            upload.join().unwrap_or_else(|_| panic!("the client of {} panicked", lock(&state).path))
        });
        Outcome { uploads: done.collect() }
    }

    #[track_caller]
    fn wait(&self, done: impl Fn() -> bool, meanwhile: &mut dyn FnMut()) {
        let (mut seen, mut moved) = (self.movement(), clock::now());
        while !done() {
            meanwhile();
            std::thread::sleep(INTERVAL);
            let now = self.movement();
            if now != seen {
                (seen, moved) = (now, clock::now());
            }
            assert!(clock::now() - moved < STANDSTILL, "nothing moves\n{}", self.unfinished());
        }
    }

    /// A number that changes when an upload gets on.
    fn movement(&self) -> (u64, usize) {
        let position = self.uploads.iter().map(|(_, state)| lock(state).position).sum();
        (position, self.uploads.iter().filter(|(upload, _)| upload.is_finished()).count())
    }

    fn unfinished(&self) -> String {
        let unfinished = self.uploads.iter().filter(|(upload, _)| !upload.is_finished());
        unfinished.take(20).map(|(_, state)| format!("{:?}\n", lock(state))).collect()
    }
}

fn run(begun: Begun, shared: &Mutex<State>) -> Done {
    let Begun { path, content, mut upload } = begun;
    let (mut highest, mut lost) = ((None, 0), Vec::new());
    while upload.step() {
        note_lost(&upload, &mut highest, &mut lost);
        let mut state = lock(shared);
        state.position = upload.position();
        state.last = upload.report().events.last().map_or(String::new(), |e| format!("{e:?}"));
    }
    lock(shared).position = content.len();
    Done { path, content, report: upload.report().clone(), lost }
}

/// A session whose offset goes back has lost what it had acknowledged.
fn note_lost(upload: &Upload, highest: &mut (Option<String>, u64), lost: &mut Vec<String>) {
    if upload.session() != highest.0.as_deref() {
        // A client keeps its offset when it starts over, until the new session corrects it.
        *highest = (upload.session().map(str::to_owned), 0);
    } else if upload.position() < highest.1 && upload.report().restarts == 0 {
        lost.push(format!("back from {} to {}", highest.1, upload.position()));
    }
    highest.1 = highest.1.max(upload.position());
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
