//! `bits-gateway top` on a terminal, by its keys.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use e2e_tests::binaries;
use e2e_tests::client::FragmentSizes;
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::temp::TempDir;
use e2e_tests::wait;
use rustix::process::{Pid, Signal, kill_process};

use crate::operator::Operated;

const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// A terminal in which a shell starts `top`, and says afterwards how it ended and how the terminal
/// is.
struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open(arguments: &str, environment: &[(&str, &str)]) -> Self {
        let program = binaries::gateway();
        let command = format!(
            "stty cols {COLUMNS} rows {ROWS}; \
             sh -c 'echo pid $$.; exec \"{}\" top {arguments}'; echo ended $?.; stty -a",
            program.display()
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--command", &command, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs; it is in the Debian package bsdutils");
        let keyboard = script.stdin.take().expect("it is piped");
        let mut output = script.stdout.take().expect("it is piped");
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                heard.lock().expect("no panic").extend_from_slice(&bytes[..count]);
            }
        });
        Self { script, keyboard, said }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().expect("no panic")).into_owned()
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("it is open");
    }

    /// Waits until this stands on one line of the screen.
    #[track_caller]
    fn expect(&self, text: &str) {
        wait::until(&format!("{text:?} is on the screen"), || {
            screen(&self.said()).iter().any(|line| line.contains(text))
        });
    }

    #[track_caller]
    fn expect_gone(&self, text: &str) {
        wait::until(&format!("{text:?} is off the screen"), || {
            !screen(&self.said()).iter().any(|line| line.contains(text))
        });
    }

    fn signal(&self, signal: Signal) {
        let said = self.said();
        let pid = said.split("pid ").nth(1).and_then(|rest| rest.split('.').next());
        let pid = pid.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("it has said who it is"), signal).expect("it is there");
    }

    /// Waits for its end, and looks whether a shell could go on in this terminal.
    #[track_caller]
    fn expect_given_back(self, code: i32) -> String {
        wait::until("the terminal is given back", || self.said().contains("echoke"));
        let said = self.said();
        assert!(said.contains(&format!("ended {code}.")), "{said}");
        let (_, after) = said.split_once("ended ").expect("just seen");
        for on in ["icanon", "echo", "isig", "opost"] {
            assert!(after.split_whitespace().any(|word| word == on), "no {on} in {after}");
        }
        let last = |code: &str| said.rfind(code);
        assert!(last("\u{1b}[?1049h") <= last("\u{1b}[?1049l"), "{said:?}");
        assert!(last("\u{1b}[?25l") <= last("\u{1b}[?25h"), "{said:?}");
        said
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// What stands on the screen: only what `top` sends is understood.
fn screen(said: &str) -> Vec<String> {
    let mut rows = vec![vec![' '; COLUMNS]; ROWS];
    let (mut row, mut column) = (0, 0);
    let mut rest = said.chars();
    while let Some(next) = rest.next() {
        match next {
            '\u{1b}' => {
                let mut code = String::new();
                for letter in rest.by_ref().skip(1) {
                    code.push(letter);
                    if letter.is_ascii_alphabetic() {
                        break;
                    }
                }
                if let Some(place) = code.strip_suffix('H') {
                    let mut numbers = place.split(';').map(|n| n.parse::<usize>().unwrap_or(1) - 1);
                    (row, column) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
                } else if code.ends_with('J') {
                    rows.iter_mut().for_each(|row| row.fill(' '));
                }
            }
            '\r' => column = 0,
            '\n' => row += 1,
            letter => {
                if let Some(cell) = rows.get_mut(row).and_then(|row| row.get_mut(column)) {
                    *cell = letter;
                }
                column += 1;
            }
        }
    }
    rows.iter().map(|row| row.iter().collect()).collect()
}

#[test]
fn an_upload_is_seen_and_a_backend_is_drained() {
    let operated = Operated::start();
    let farm = &operated.farm;
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
    let content = Content::seeded(1, 50_000);
    let mut upload = client.begin(&farm.url("/in/report.cab"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let mut terminal = Terminal::open(&format!("--admin unix:{}", operated.socket()), &[]);
    terminal.expect("/in/report.cab");
    terminal.expect(" 40% ");
    terminal.press("/nothing\r");
    terminal.expect("> Uploads: none, with \"nothing\"");
    terminal.press("\u{1b}");
    terminal.expect("> Uploads 1-1 of 1");
    terminal.press("\r");
    terminal.expect("progress       20000 of 50000 bytes (40%)");
    // It goes on, and so does what is shown.
    assert!(upload.run_until(|upload| upload.position() >= 30_000));
    terminal.expect("progress       30000 of 50000 bytes (60%)");
    terminal.press("\r");
    terminal.expect("Uploads 1-1 of 1");
    terminal.press("\td");
    let first = farm.stubs()[0].name();
    terminal.expect(&format!("Give {first} no new uploads?"));
    terminal.press("y");
    terminal.expect(&format!("{first} takes no new uploads"));
    let drained = operated.type_in(&["backends", "list", first, "--json"]).stdout;
    assert!(String::from_utf8_lossy(&drained).contains("\"admin_state\": \"drain\""));
    // Who leaves at once has the answer too.
    terminal.press("ryq");
    terminal.expect_given_back(0);
    let ready = operated.type_in(&["backends", "list", first, "--json"]).stdout;
    assert!(String::from_utf8_lossy(&ready).contains("\"admin_state\": \"ready\""));
    upload.run().expect_smooth();
}

#[test]
fn a_viewer_sees_everything_and_changes_nothing() {
    let folder = TempDir::new("top");
    let token = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text.repeat(32)).expect("written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("ours");
        path.display().to_string()
    };
    let (operator, viewer) = (token("operator", "o"), token("viewer", "v"));
    let farm = Farm::of_stubs(2)
        .set("admin.address", "\"127.0.0.1:0\"")
        .set("admin.token_file", &format!("{operator:?}"))
        .set("admin.viewer_token_file", &format!("{viewer:?}"))
        .start();
    let address = farm.gateway().listener("admin");
    let mut terminal = Terminal::open(&format!("--admin {address} --token-file {viewer}"), &[]);
    let first = farm.stubs()[0].name();
    terminal.expect(&format!("{first} ready up"));
    terminal.press("\tdy");
    terminal.expect("nothing was changed: with this token you may look, and change nothing");
    terminal.expect(&format!("{first} ready up"));
    terminal.press("q");
    terminal.expect_given_back(0);
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let operated = Operated::start();
    let at = format!("--admin unix:{}", operated.socket());
    let open = |environment: &[(&str, &str)]| Terminal::open(&at, environment);
    let mut control_c = open(&[]);
    control_c.expect("> Uploads: none");
    control_c.press("\u{3}");
    control_c.expect_given_back(0);
    for signal in [Signal::TERM, Signal::INT] {
        let stopped = open(&[]);
        stopped.expect("> Uploads: none");
        stopped.signal(signal);
        stopped.expect_given_back(0);
    }
    let said = open(&[("BITS_GATEWAY_PANICS", "top")]).expect_given_back(101);
    let (_, after) = said.split_once("\u{1b}[?1049l").expect("it left the screen");
    assert!(after.contains("on demand, in top"), "what went wrong can be read: {said}");
}

#[test]
fn a_gateway_that_goes_leaves_what_was_seen() {
    let operated = Operated::start();
    let mut terminal = Terminal::open(&format!("--admin unix:{}", operated.socket()), &[]);
    let first = operated.farm.stubs()[0].name().to_owned();
    terminal.expect(&format!("{first} ready up"));
    operated.farm.gateway().kill();
    terminal.expect("as it was last seen: the gateway is not running");
    terminal.expect(&format!("{first} ready up"));
    operated.farm.gateway().start();
    terminal.expect_gone("as it was last seen");
    terminal.press("q");
    terminal.expect_given_back(0);
}

#[test]
fn without_colours_none_are_drawn() {
    let operated = Operated::start();
    operated.type_in(&["backends", "drain", operated.farm.stubs()[0].name()]);
    let yellow = "\u{1b}[38;5;3";
    for (environment, is_yellow) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let at = format!("--admin unix:{}", operated.socket());
        let mut terminal = Terminal::open(&at, environment);
        terminal.expect(" drain up");
        assert_eq!(terminal.said().contains(yellow), is_yellow, "{:?}", terminal.said());
        terminal.press("q");
        terminal.expect_given_back(0);
    }
}

#[test]
fn what_is_no_terminal_is_told_what_to_use() {
    let operated = Operated::start();
    let dumb = Terminal::open(&format!("--admin unix:{}", operated.socket()), &[("TERM", "dumb")]);
    let said = dumb.expect_given_back(1);
    assert!(said.contains("`bits-gateway sessions list`"), "{said}");
    assert!(!said.contains("1049h"), "{said:?}");
    let piped = operated.try_in(&["top"]);
    assert_eq!(piped.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&piped.stderr).contains("`bits-gateway top --json`"));
    let json = operated.type_in(&["top", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json["status"]["phase"], "ready");
    assert_eq!(json["backends"].as_array().map(Vec::len), Some(2));
    assert_eq!((&json["sessions"], &json["matching"]), (&serde_json::json!([]), &0.into()));
}
