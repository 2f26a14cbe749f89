//! The terminal, and how it is given back.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::mpsc::channel;
use std::task::Poll;
use std::thread;

use ratatui::{DefaultTerminal, Frame};
use tokio::runtime;

use super::Ends;

/// A terminal of which every cell is ours; dropped, it is what it was before. A panic gives it back
/// first and speaks then.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                ratatui::restore();
                Err(error)
            }
        }
    }

    pub fn draw(&mut self, show: impl FnOnce(&mut Frame)) -> io::Result<()> {
        self.terminal.draw(show).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The hook for panics has given it back already, and written what went wrong.
        if !std::thread::panicking() {
            // It has gone, perhaps; then there is nothing to give back.
            let _ = ratatui::try_restore();
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP end it in order from here on.
pub fn stop_on_signals(stop: Ends) {
    let (ready, is_ready) = channel();
    thread::spawn(move || {
        // Dropped at the end, which says so.
        let _stop = stop;
        let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else {
            return;
        };
        runtime.block_on(async {
            let mut interrupted = pin!(bits_uploader::interrupted());
            let first = poll_fn(|context| Poll::Ready(interrupted.as_mut().poll(context))).await;
            let _ = ready.send(());
            if first.is_pending() {
                interrupted.await;
            }
        });
    });
    let _ = is_ready.recv();
}
