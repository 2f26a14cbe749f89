//! Showing an upload to a person: a bar on a terminal, lines elsewhere, or nothing.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock;
use crate::engine::{Event, Listener};

/// How progress is shown; always on standard error.
#[derive(Clone)]
pub enum Display {
    Bar(ProgressBar),
    Lines(Arc<Mutex<Lines>>),
    Quiet,
}

/// Progress for logs and pipes: one line every few seconds.
pub struct Lines {
    name: String,
    total: u64,
    last: Duration,
}

/// Often enough to see that it lives, seldom enough for a log of hours.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Display {
    pub fn new(quiet: bool, name: &str, total: u64) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            let lines = Lines { name: name.to_owned(), total, last: clock::steady() };
            return Self::Lines(Arc::new(Mutex::new(lines)));
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        Self::Bar(styled(bar, name, Look::Alone))
    }

    /// What the engine calls with its news.
    pub fn listener(&self) -> Listener {
        let display = self.clone();
        Box::new(move |event| display.show(event))
    }

    /// Takes the bar away; what was printed stays.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }

    fn show(&self, event: &Event<'_>) {
        match (self, event) {
            (Self::Quiet, _) => {}
            (Self::Bar(bar), Event::Position(at) | Event::Confirmed(at)) => bar.set_position(*at),
            (Self::Bar(bar), Event::Session { host_id, .. }) => {
                bar.set_message(host_id.unwrap_or_default().to_owned());
            }
            (Self::Lines(lines), Event::Position(at)) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).position(*at);
            }
            (_, event) => {
                if let Some(text) = words(event) {
                    self.print(&text);
                }
            }
        }
    }

    fn print(&self, text: &str) {
        match self {
            // A bar that is not drawn would swallow the line.
            Self::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            Self::Lines(lines) => {
                let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                eprintln!("{}: {text}", lines.name);
            }
            Self::Quiet => {}
        }
    }
}

/// What a bar tells beside the bytes.
#[derive(Debug, Clone, Copy)]
pub enum Look {
    /// How fast the upload is and how long it still takes; a word on where it goes.
    Alone,
    /// One of several that are compared: a sentence on how it fares.
    Among,
}

/// Columns of a name; more are cut off. With all that stands beside it, a bar fits a terminal of 80
/// columns, and what is left of the line is the message's.
const NAME: usize = 16;

/// The look of all bars.
pub fn styled(bar: ProgressBar, name: &str, look: Look) -> ProgressBar {
    let template = match look {
        Look::Alone => {
            "{prefix} [{bar:10}] {percent:>3}% {binary_bytes:>11} {binary_bytes_per_sec:>13} \
             {eta:>4} {wide_msg}"
        }
        Look::Among => "{prefix} [{bar:18}] {percent:>3}% {binary_bytes:>11} {wide_msg}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is constant");
    bar.set_style(style.progress_chars("=> "));
    bar.set_prefix(console::truncate_str(name, NAME, "..").into_owned());
    bar
}

/// An event as a sentence, if it is one to tell.
pub fn words(event: &Event<'_>) -> Option<String> {
    Some(match event {
        Event::Packet | Event::Position(_) | Event::Confirmed(_) => return None,
        Event::Resumed { offset } => format!("going on at {}", ByteSize(*offset)),
        Event::Session { short, host_id: None } => format!("session {short}.. is open"),
        Event::Session { short, host_id: Some(host) } => {
            format!("session {short}.. is open at {host}")
        }
        Event::SmallerFragments { bytes } => {
            format!("the server wants smaller fragments; sending {} at a time", ByteSize(*bytes))
        }
        Event::WentBack { from, to } => format!(
            "the server lost bytes that it had; going back from {} to {}",
            ByteSize(*from),
            ByteSize(*to)
        ),
        Event::Waiting { why, delay, falls_back_in } => {
            let mut text = format!("{why}; trying again in {}", humantime::format_duration(*delay));
            if let Some(left) = falls_back_in {
                // Parts of a second say nothing.
                let left = Duration::from_secs(left.as_secs());
                let left = humantime::format_duration(left).to_string().replace(' ', "");
                text.push_str(&format!(", falls back to the origin name in {left}"));
            }
            text
        }
        Event::Restarting { why } => format!("{why}; starting over"),
        Event::FellBack { from } => {
            format!("{from} was away for too long; going back to the host of the URL")
        }
    })
}

impl Lines {
    fn position(&mut self, at: u64) {
        let now = clock::steady();
        if now.saturating_sub(self.last) < LINE_EVERY {
            return;
        }
        self.last = now;
        let percent = at.saturating_mul(100).checked_div(self.total).unwrap_or(100);
        eprintln!("{}: {} of {} ({percent} %)", self.name, ByteSize(at), ByteSize(self.total));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_says_when_the_client_falls_back() {
        let seconds = Duration::from_secs;
        let waiting = |left| {
            words(&Event::Waiting { why: "503", delay: seconds(30), falls_back_in: left }).unwrap()
        };
        assert_eq!(waiting(None), "503; trying again in 30s");
        let left = Some(seconds(870) + Duration::from_millis(7));
        let said = "503; trying again in 30s, falls back to the origin name in 14m30s";
        assert_eq!(waiting(left), said);
    }
}
