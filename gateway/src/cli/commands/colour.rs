//! Colours, where a terminal shows them and nobody minds.

use std::ffi::OsString;
use std::io::IsTerminal;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Red,
    Yellow,
}

/// Paints, or leaves alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Painter {
    on: bool,
}

impl Painter {
    /// For standard output.
    pub fn for_stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    /// For standard error.
    pub fn for_stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    /// For what is no terminal.
    #[cfg(test)]
    pub fn for_none() -> Self {
        Self::of(false)
    }

    pub fn is_on(self) -> bool {
        self.on
    }

    pub fn paint(self, colour: Option<Colour>, text: &str) -> String {
        let code = match colour {
            Some(Colour::Red) => 31,
            Some(Colour::Yellow) => 33,
            None => return text.to_owned(),
        };
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn of(terminal: bool) -> Self {
        Self { on: wanted(terminal, std::env::var_os("NO_COLOR"), std::env::var_os("TERM")) }
    }
}

/// Whether this is a terminal on which text can be drawn anywhere.
pub fn is_canvas() -> bool {
    std::io::stdout().is_terminal()
        && std::io::stdin().is_terminal()
        && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// As <https://no-color.org> says, and not on a terminal that would show the codes.
fn wanted(terminal: bool, no_color: Option<OsString>, term: Option<OsString>) -> bool {
    terminal
        && no_color.is_none_or(|value| value.is_empty())
        && term.is_some_and(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_know_them_and_people_who_want_them() {
        let some = |text: &str| Some(OsString::from(text));
        assert!(wanted(true, None, some("xterm")));
        assert!(wanted(true, some(""), some("xterm")));
        assert!(!wanted(false, None, some("xterm")));
        assert!(!wanted(true, some("1"), some("xterm")));
        assert!(!wanted(true, None, some("dumb")));
        assert!(!wanted(true, None, None));
    }

    #[test]
    fn what_is_painted_is_reset() {
        let on = Painter { on: true };
        assert_eq!(on.paint(Some(Colour::Red), "up01"), "\u{1b}[31mup01\u{1b}[0m");
        assert_eq!(on.paint(None, "up01"), "up01");
        assert_eq!(Painter { on: false }.paint(Some(Colour::Red), "up01"), "up01");
    }
}
