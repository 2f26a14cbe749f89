//! What is on the screen, and what a key does to that. Nothing here draws, asks or waits.

use std::net::IpAddr;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value as Json;

use super::columns::{BACKENDS, Table, UPLOADS};
use super::list::{List, Step};
use super::watch::{News, Order, Seen, Wish};
use crate::cli::commands::backends::{changed_one, left};
use crate::cli::commands::client::ClientError;
use crate::cli::commands::sessions::State as Filter;
use crate::cli::commands::table::printable;

/// The half of the screen that keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    Backends,
    Uploads,
}

/// What a key means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    Browse,
    Help,
    /// Something is typed to look for.
    Search(String),
    /// A question.
    Confirm {
        backend: String,
        state: &'static str,
        question: String,
    },
}

/// What a key asks of others.
#[derive(Debug, PartialEq, Eq)]
pub enum Todo {
    Nothing,
    Quit,
    Tell(Order),
}

#[derive(Debug)]
pub struct State {
    pub seen: Seen,
    pub pane: Pane,
    pub mode: Mode,
    pub filter: Filter,
    pub backends: List,
    pub uploads: List,
    /// What came of the last change, and whether it is bad.
    pub notice: Option<(String, bool)>,
    /// Why what is shown is old.
    pub trouble: Option<String>,
    /// The selected row is shown by itself.
    pub is_alone: bool,
    /// The upload that is.
    upload: Option<String>,
}

impl State {
    pub fn new(seen: Seen) -> Self {
        let mut state = Self {
            seen,
            pane: Pane::Uploads,
            mode: Mode::Browse,
            filter: Filter::All,
            backends: List::default(),
            uploads: List::default(),
            notice: None,
            trouble: None,
            is_alone: false,
            upload: None,
        };
        state.arrange();
        state
    }

    /// Takes in what the gateway has said.
    pub fn hear(&mut self, news: News) {
        match news {
            News::Seen(Ok(seen)) => {
                self.seen = *seen;
                self.trouble = None;
                self.arrange();
            }
            News::Seen(Err(error)) => self.trouble = Some(printable(&error.to_string())),
            News::Set(Ok(answer)) => {
                let text = changed_one(&answer);
                let is_bad = answer["warning"].is_string();
                self.notice = Some((text.trim_end().replace('\n', "; "), is_bad));
            }
            News::Set(Err(error)) => {
                let text = match &error {
                    ClientError::Refused { code, .. } if code == "viewer_only" => {
                        "nothing was changed: with this token you may look, and change nothing"
                            .to_owned()
                    }
                    ClientError::Refused { status: ..500, .. }
                    | ClientError::NotRunning { .. }
                    | ClientError::NoPermission { .. } => format!("nothing was changed: {error}"),
                    error => format!("it may have been changed, see its STATE: {error}"),
                };
                self.notice = Some((printable(&text), true));
            }
        }
    }

    pub fn key(&mut self, key: KeyEvent) -> Todo {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Todo::Quit,
                _ => Todo::Nothing,
            };
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Search(text) => self.typed(text, key.code),
            Mode::Confirm { backend, state, .. } => match key.code {
                KeyCode::Char('y' | 'Y') => {
                    let text = format!("asked for {state} of {}", printable(&backend));
                    self.notice = Some((text, false));
                    Todo::Tell(Order::Set { backend, state })
                }
                _ => {
                    self.notice = Some(("nothing was changed".to_owned(), false));
                    Todo::Nothing
                }
            },
            Mode::Help => match key.code {
                KeyCode::Char('q') => Todo::Quit,
                _ => Todo::Nothing,
            },
            Mode::Browse => match key.code {
                KeyCode::Esc | KeyCode::Enter if self.is_alone => self.show_all(),
                code => self.pressed(code),
            },
        }
    }

    /// What is shown by itself: of an upload that has left the table, what is known of it.
    pub fn alone(&self) -> Option<&Json> {
        match self.pane {
            Pane::Backends => self.backends.row(&self.seen.backends),
            Pane::Uploads => {
                let name = self.upload.as_deref()?;
                let rows = self.seen.upload.iter().chain(&self.seen.uploads);
                rows.into_iter().find(|row| (UPLOADS.name)(row) == name)
            }
        }
    }

    pub fn list(&self, pane: Pane) -> (&'static Table, &List, &[Json]) {
        match pane {
            Pane::Backends => (&BACKENDS, &self.backends, &self.seen.backends),
            Pane::Uploads => (&UPLOADS, &self.uploads, &self.seen.uploads),
        }
    }

    fn list_mut(&mut self) -> (&'static Table, &mut List, &[Json]) {
        match self.pane {
            Pane::Backends => (&BACKENDS, &mut self.backends, &self.seen.backends),
            Pane::Uploads => (&UPLOADS, &mut self.uploads, &self.seen.uploads),
        }
    }

    /// In every mode where nothing is typed.
    fn pressed(&mut self, code: KeyCode) -> Todo {
        self.notice = None;
        match code {
            KeyCode::Char('q') => return Todo::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('d') => self.ask("drain"),
            KeyCode::Char('r') => self.ask("ready"),
            KeyCode::Up | KeyCode::Char('k') => return self.step(Step::Up),
            KeyCode::Down | KeyCode::Char('j') => return self.step(Step::Down),
            KeyCode::PageUp => return self.step(Step::PageUp),
            KeyCode::PageDown | KeyCode::Char(' ') => return self.step(Step::PageDown),
            KeyCode::Home | KeyCode::Char('g') => return self.step(Step::First),
            KeyCode::End | KeyCode::Char('G') => return self.step(Step::Last),
            KeyCode::Tab | KeyCode::BackTab => {
                self.pane = match self.pane {
                    Pane::Backends => Pane::Uploads,
                    Pane::Uploads => Pane::Backends,
                };
                if self.is_alone {
                    return self.show_selected();
                }
            }
            KeyCode::Enter => return self.show_selected(),
            KeyCode::Char('/') => {
                let (_, list, _) = self.list(self.pane);
                self.mode = Mode::Search(list.search.clone());
                return self.show_all();
            }
            KeyCode::Esc => return self.search(String::new()),
            KeyCode::Char('s') => {
                let (table, list, _) = self.list_mut();
                list.sort_by_next(table.columns.len());
                self.arrange();
                return self.show_all();
            }
            KeyCode::Char('S') => {
                let (_, list, _) = self.list_mut();
                list.is_reversed = !list.is_reversed;
                self.arrange();
                return self.show_all();
            }
            KeyCode::Char('f') => {
                self.filter = next(self.filter);
                self.show_all();
                return self.look();
            }
            _ => {}
        }
        Todo::Nothing
    }

    fn typed(&mut self, mut text: String, code: KeyCode) -> Todo {
        match code {
            KeyCode::Enter => return self.search(text),
            KeyCode::Esc => return Todo::Nothing,
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Char(letter) => text.push(letter),
            _ => {}
        }
        self.mode = Mode::Search(text);
        Todo::Nothing
    }

    /// Backends are looked for here, uploads by the gateway, which knows all of them.
    fn search(&mut self, text: String) -> Todo {
        let (_, list, _) = self.list_mut();
        list.search = text;
        match self.pane {
            Pane::Backends => {
                self.arrange();
                Todo::Nothing
            }
            Pane::Uploads => self.look(),
        }
    }

    /// Asks before a backend is changed: a key is hit more easily than a command is typed.
    fn ask(&mut self, state: &'static str) {
        let backend = match self.pane {
            Pane::Backends => self.backends.row(&self.seen.backends),
            Pane::Uploads => None,
        };
        let Some(row) = backend else {
            let text = "this is for a backend: Tab goes there".to_owned();
            self.notice = Some((text, false));
            return;
        };
        let backend = (BACKENDS.name)(row).to_owned();
        let name = printable(&backend);
        let question = match state {
            "drain" => format!("Give {name} no new uploads? ({})", left(row)),
            _ => format!("Give {name} new uploads?"),
        };
        self.mode = Mode::Confirm { backend, state, question };
    }

    fn step(&mut self, step: Step) -> Todo {
        let (table, list, rows) = self.list_mut();
        list.step(step, table, rows);
        if self.is_alone { self.show_selected() } else { Todo::Nothing }
    }

    fn show_selected(&mut self) -> Todo {
        let (table, list, rows) = self.list(self.pane);
        let Some(name) = list.row(rows).map(|row| (table.name)(row).to_owned()) else {
            return self.show_all();
        };
        self.is_alone = true;
        self.ask_for((self.pane == Pane::Uploads).then_some(name))
    }

    fn show_all(&mut self) -> Todo {
        self.is_alone = false;
        self.ask_for(None)
    }

    /// Of an upload that is shown by itself more is asked for than its row.
    fn ask_for(&mut self, upload: Option<String>) -> Todo {
        if self.upload == upload {
            return Todo::Nothing;
        }
        self.upload = upload;
        self.look()
    }

    fn look(&mut self) -> Todo {
        Todo::Tell(Order::Look(self.wish()))
    }

    fn wish(&self) -> Wish {
        let mut which = Vec::new();
        if self.filter != Filter::All {
            which.push(("state", self.filter.word().to_owned()));
        }
        let search = self.uploads.search.trim();
        match search.parse::<IpAddr>() {
            Ok(client) => which.push(("client", client.to_string())),
            Err(_) if search.is_empty() => {}
            Err(_) => which.push(("path", search.to_owned())),
        }
        Wish { which, upload: self.upload.clone() }
    }

    /// Puts both tables in their order.
    fn arrange(&mut self) {
        let Self { seen, backends, uploads, .. } = self;
        let search = backends.search.trim().to_lowercase();
        let is_meant = |row: &Json| (BACKENDS.name)(row).to_lowercase().contains(&search);
        backends.take(&BACKENDS, &seen.backends, is_meant);
        uploads.take(&UPLOADS, &seen.uploads, |_| true);
    }
}

/// The others take turns.
fn next(filter: Filter) -> Filter {
    match filter {
        Filter::All => Filter::Active,
        Filter::Active => Filter::Waiting,
        Filter::Waiting => Filter::Idle,
        Filter::Idle => Filter::All,
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
