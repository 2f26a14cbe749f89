//! The thread between whoever has something to log and a pipe or disk that may block.
//!
//! Lines are gathered in one buffer while the writer thread empties another, and the two change
//! places: no allocation per line, one system call per batch, and memory that ends at twice
//! [`QUEUE_BYTES`] however long the reader of a pipe sleeps. What does not fit is dropped and
//! counted, because an upload must never wait for its own log.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::telemetry::metrics::{LogCounters, LogName};

/// Some 2,000 lines of the access log: a second of a busy gateway.
pub const QUEUE_BYTES: usize = 1 << 20;

/// What both buffers hold from the start, so that an ordinary batch allocates nothing.
const USUAL_BYTES: usize = 64 << 10;

/// How long the first line of a batch waits for others. Keeps a busy gateway from waking the
/// thread once per request, and nobody sees a log that is this late.
const GATHER: Duration = Duration::from_millis(5);

/// How long the end of the process waits for a reader that does not read.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    Stderr,
    /// Appended to; made if it is not there.
    File(PathBuf),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("on standard output"),
            Self::Stderr => f.write_str("on standard error"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The near end of the queue. Clones share it.
#[derive(Debug, Clone)]
pub struct LineWriter(Arc<Shared>);

/// Writes out what is queued when it is dropped. Dropped last, so that nothing is lost.
#[must_use = "lines that are still queued are lost without it"]
#[derive(Debug)]
pub struct FlushGuard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to do for the thread.
    work: Condvar,
    /// The thread has ended.
    ended: Condvar,
    counters: LogCounters,
    log: LogName,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    lines: u64,
    reopen: bool,
    closing: bool,
    ended: bool,
}

impl LineWriter {
    /// Opens `destination` and starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread can be had.
    pub fn start(
        destination: Destination,
        log: LogName,
        counters: LogCounters,
    ) -> io::Result<(Self, FlushGuard)> {
        let sink = open(&destination)?;
        Self::over(sink, destination, log, counters)
    }

    fn over(
        sink: Box<dyn Write + Send>,
        destination: Destination,
        log: LogName,
        counters: LogCounters,
    ) -> io::Result<(Self, FlushGuard)> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { bytes: Vec::with_capacity(USUAL_BYTES), ..Queue::default() }),
            work: Condvar::new(),
            ended: Condvar::new(),
            counters,
            log,
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(format!("log-{}", log.label()))
            .spawn(move || theirs.write_until_closed(sink, &destination))?;
        Ok((Self(Arc::clone(&shared)), FlushGuard { shared, thread: Some(thread) }))
    }

    /// Queues one line, line feed included; never blocks on what is written to.
    pub fn line(&self, line: &[u8]) {
        let mut queue = self.0.queue.lock();
        if queue.ended || queue.bytes.len() + line.len() > QUEUE_BYTES {
            drop(queue);
            self.0.counters.dropped(self.0.log, 1);
            return;
        }
        let first = queue.bytes.is_empty();
        queue.bytes.extend_from_slice(line);
        queue.lines += 1;
        drop(queue);
        if first {
            self.0.work.notify_one();
        }
    }

    /// Opens the file anew under its name, after somebody has moved it away. What was queued
    /// before may land in either file.
    pub fn reopen(&self) {
        self.0.queue.lock().reopen = true;
        self.0.work.notify_one();
    }
}

impl Shared {
    fn write_until_closed(&self, mut sink: Box<dyn Write + Send>, destination: &Destination) {
        let mut batch = Vec::with_capacity(USUAL_BYTES);
        loop {
            let mut queue = self.queue.lock();
            while queue.bytes.is_empty() && !queue.reopen && !queue.closing {
                self.work.wait(&mut queue);
            }
            if !queue.closing && !queue.reopen {
                self.work.wait_for(&mut queue, GATHER);
            }
            std::mem::swap(&mut batch, &mut queue.bytes);
            let lines = std::mem::take(&mut queue.lines);
            let reopen = std::mem::take(&mut queue.reopen);
            if batch.is_empty() && queue.closing {
                queue.ended = true;
                self.ended.notify_all();
                return;
            }
            drop(queue);
            if reopen {
                reopen_into(&mut sink, destination);
            }
            if sink.write_all(&batch).and_then(|()| sink.flush()).is_err() {
                // Part of the batch may have been written; the count is an upper bound.
                self.counters.dropped(self.log, lines);
            }
            batch.clear();
        }
    }
}

impl Drop for FlushGuard {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.closing = true;
        self.shared.work.notify_one();
        self.shared.ended.wait_while_for(&mut queue, |queue| !queue.ended, FLUSH_LIMIT);
        let ended = queue.ended;
        // Whatever comes from here on would stay in memory.
        queue.ended = true;
        drop(queue);
        if ended && let Some(thread) = self.thread.take() {
            // A panic of that thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn open(destination: &Destination) -> io::Result<Box<dyn Write + Send>> {
    Ok(match destination {
        Destination::Stdout => Box::new(io::stdout()),
        Destination::Stderr => Box::new(io::stderr()),
        Destination::File(path) => Box::new(open_file(path)?),
    })
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // A log tells who uploads what: not for everybody on the machine.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

fn reopen_into(sink: &mut Box<dyn Write + Send>, destination: &Destination) {
    if let Destination::File(path) = destination {
        match open_file(path) {
            Ok(file) => *sink = Box::new(file),
            Err(error) => {
                tracing::error!(%error, "cannot reopen a log, writing on to the old file")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn start(sink: impl Write + Send + 'static) -> (LineWriter, FlushGuard, LogCounters) {
        let counters = LogCounters::detached();
        let (writer, guard) = LineWriter::over(
            Box::new(sink),
            Destination::Stdout,
            LogName::Access,
            counters.clone(),
        )
        .unwrap();
        (writer, guard, counters)
    }

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Blocks every write until the sender is gone, and tells when the first one has begun.
    struct Stuck(mpsc::Receiver<()>, mpsc::Sender<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.1.send(());
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_of_every_thread_is_written_before_the_guard_is_gone() {
        let page = Page::default();
        let (writer, guard, counters) = start(page.clone());
        thread::scope(|scope| {
            for number in 0..4 {
                let writer = writer.clone();
                scope.spawn(move || {
                    for line in 0..1000 {
                        writer.line(format!("{number} {line}\n").as_bytes());
                    }
                });
            }
        });
        drop(guard);
        let text = String::from_utf8(page.0.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 4000);
        for number in 0..4 {
            let own = text.lines().filter_map(|line| line.strip_prefix(&format!("{number} ")));
            assert!(own.map(|line| line.parse::<u32>().unwrap()).eq(0..1000));
        }
        assert_eq!(counters.lost(LogName::Access), 0);
    }

    #[test]
    fn a_reader_that_sleeps_costs_lines_and_a_fixed_amount_of_memory() {
        let (release, blocked) = mpsc::channel();
        let (begun, started) = mpsc::channel();
        let (writer, guard, counters) = start(Stuck(blocked, begun));
        let line = [b'x'; 1024];
        writer.line(&line);
        started.recv().unwrap();
        for _ in 0..2 * QUEUE_BYTES / line.len() {
            writer.line(&line);
        }
        assert_eq!(counters.lost(LogName::Access), (QUEUE_BYTES / line.len()) as u64);
        assert!(writer.0.queue.lock().bytes.len() <= QUEUE_BYTES);
        drop(release);
        drop(guard);
    }

    #[test]
    fn a_reader_that_never_wakes_does_not_keep_the_process_from_ending() {
        let (release, blocked) = mpsc::channel();
        let (begun, started) = mpsc::channel();
        let (writer, guard, counters) = start(Stuck(blocked, begun));
        writer.line(b"first\n");
        started.recv().unwrap();
        drop(guard);
        writer.line(b"second\n");
        assert_eq!(counters.lost(LogName::Access), 1);
        drop(release);
    }

    #[test]
    fn lines_after_the_end_are_counted_as_lost() {
        let page = Page::default();
        let (writer, guard, counters) = start(page.clone());
        drop(guard);
        writer.line(b"late\n");
        assert_eq!(counters.lost(LogName::Access), 1);
        assert!(page.0.lock().is_empty());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_as_lost() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (writer, guard, counters) = start(Full);
        writer.line(b"one\n");
        writer.line(b"two\n");
        drop(guard);
        assert_eq!(counters.lost(LogName::Access), 2);
    }
}
