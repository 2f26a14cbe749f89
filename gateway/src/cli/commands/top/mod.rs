//! `bits-gateway top`: uploads and backends as they move, in a terminal.
//!
//! `state` is what is on the screen and what a key does to it, `list` the place in a table,
//! `columns` what stands in both tables, `draw` how it looks, `watch` asks the gateway, and `screen`
//! is the terminal.

mod columns;
mod draw;
mod list;
#[cfg(test)]
mod rig;
mod screen;
mod state;
mod watch;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};

#[cfg(test)]
use super::client::ClientError;
use super::client::{Client, Connection, fail};
use super::colour::{self, Painter};
use super::{print, print_error, to_text};
use crate::base::failpoint;
use crate::process::exit::Exit;
use screen::Screen;
use state::{State, Todo};
use watch::{News, Order, Wish};

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub connection: Connection,
}

/// What the screen waits for.
enum Happening {
    Key(KeyEvent),
    Resized,
    News(News),
    /// A signal, or a part of it that has ended.
    Stop,
    /// A part of it has failed, for that reason.
    Failed(String),
}

const NO_CANVAS: &str = "\
error: `top` draws on a terminal, and this is none that it could draw on
help: `bits-gateway sessions list` and `backends list` print what it would show
help: `bits-gateway top --json` prints one look at all of it
";

/// Why the screen is left.
enum End {
    Quit,
    Stopped,
    Failed(String),
}

/// Shows what moves until somebody has seen enough.
pub fn top(args: &Args) -> Exit {
    let json = args.connection.json;
    if !json && !colour::is_canvas() {
        print_error(NO_CANVAS);
        return Exit::Failure;
    }
    // What goes wrong at once is told as by every other command.
    let asked = args.connection.client().and_then(|client| {
        let seen = watch::look(&client, &Wish::default())?;
        Ok((client.within(watch::PATIENCE), seen))
    });
    match asked {
        Err(error) => fail(&error, json),
        Ok((_, seen)) if json => print(&to_text(&seen.to_json())),
        Ok((client, seen)) => show(client, State::new(seen)),
    }
}

fn show(client: Client, mut state: State) -> Exit {
    let (happens, happenings) = channel();
    let (orders, ordered) = channel();
    screen::stop_on_signals(Ends(happens.clone()));
    let mut screen = match Screen::open() {
        Ok(screen) => screen,
        Err(error) => {
            print_error(&format!("error: this terminal cannot be drawn on: {error}\n"));
            return Exit::Io;
        }
    };
    let keys = Ends(happens.clone());
    thread::spawn(move || read_keys(&keys));
    let news = Ends(happens);
    thread::spawn(move || {
        watch::watch(&client, &ordered, |heard| news.say(Happening::News(heard)))
    });

    let colours = Painter::for_stdout().is_on();
    // What was asked for and is not answered yet, the oldest first.
    let mut asked = VecDeque::new();
    let end = loop {
        if let Err(error) = screen.draw(|frame| draw::draw(frame, &mut state, colours)) {
            break End::Failed(format!("the terminal is gone: {error}"));
        }
        failpoint::hit_anyway("top");
        let Ok(happening) = happenings.recv() else { break End::Stopped };
        let todo = match happening {
            Happening::Key(key) => state.key(key),
            Happening::News(news) => {
                if matches!(news, News::Set(_)) {
                    asked.pop_front();
                }
                state.hear(news);
                Todo::Nothing
            }
            Happening::Resized => Todo::Nothing,
            Happening::Stop => break End::Stopped,
            Happening::Failed(why) => break End::Failed(why),
        };
        match todo {
            Todo::Nothing => {}
            Todo::Quit => break End::Quit,
            Todo::Tell(order) => {
                if let Order::Set { backend, state } = &order {
                    asked.push_back(format!("{state} {backend}"));
                }
                send(&orders, order);
            }
        }
    };
    drop(screen);
    match end {
        End::Quit => finish(asked, &happenings, state),
        End::Stopped => leave(&asked, Exit::Ok),
        End::Failed(why) => {
            print_error(&format!("error: {why}\n"));
            leave(&asked, Exit::Io)
        }
    }
}

/// Waits for the answers to all that was asked for, and prints them.
fn finish(mut asked: VecDeque<String>, happenings: &Receiver<Happening>, mut state: State) -> Exit {
    for one in &asked {
        print_error(&format!("waiting for the answer to `backends {one}`\n"));
    }
    let mut exit = Exit::Ok;
    while !asked.is_empty() {
        match happenings.recv() {
            Ok(Happening::News(news @ News::Set(_))) => {
                asked.pop_front();
                if matches!(news, News::Set(Err(_))) {
                    exit = Exit::Failure;
                }
                state.hear(news);
                let text = state.notice.take().map(|(text, _)| text).unwrap_or_default();
                print_error(&format!("{text}\n"));
            }
            Ok(Happening::Stop | Happening::Failed(_)) | Err(_) => {
                return leave(&asked, Exit::Failure);
            }
            Ok(_) => {}
        }
    }
    exit
}

/// Names what is left without an answer.
fn leave(asked: &VecDeque<String>, otherwise: Exit) -> Exit {
    for one in asked {
        print_error(&format!("no answer to `backends {one}`: see `backends list`\n"));
    }
    if asked.is_empty() { otherwise } else { Exit::Failure }
}

fn send(orders: &Sender<Order>, order: Order) {
    // Where nobody takes it any more, the end has been said.
    let _ = orders.send(order);
}

fn read_keys(keys: &Ends) {
    loop {
        match event::read() {
            Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => keys.say(Happening::Key(key)),
            Ok(Event::Resize(..)) => keys.say(Happening::Resized),
            Ok(_) => {}
            Err(error) => {
                return keys.say(Happening::Failed(format!("no more keys come: {error}")));
            }
        }
    }
}

/// Says so when its thread ends, by a panic too.
struct Ends(Sender<Happening>);

impl Ends {
    fn say(&self, happening: Happening) {
        // Where nobody listens, the program is about to end.
        let _ = self.0.send(happening);
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.say(match thread::panicking() {
            true => Happening::Failed("a part of `top` has failed".to_owned()),
            false => Happening::Stop,
        });
    }
}

#[cfg(test)]
#[path = "finish_tests.rs"]
mod tests;
