//! What a person sees on a terminal of 80 columns.

use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::temp::TempDir;

const COLUMNS: usize = 80;

/// Everything that the gateway's program wrote on such a terminal, and how it ended.
fn on_a_terminal(arguments: &str, environment: &[(&str, &str)]) -> (String, bool) {
    let program = binaries::gateway();
    let command =
        format!("stty cols {COLUMNS} rows 24 && exec '{}' {arguments}", program.display());
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .envs(environment.iter().copied())
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("script runs; it is in the Debian package bsdutils");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

/// The lines as they were drawn, one for each time.
fn lines(said: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = said.chars();
    while let Some(next) = rest.next() {
        match next {
            // What moves the cursor ends a line; colours do not, and there are none here.
            '\u{1b}' => {
                rest.by_ref().find(|c| c.is_ascii_alphabetic());
                plain.push('\n');
            }
            '\r' => plain.push('\n'),
            other => plain.push(other),
        }
    }
    plain.lines().flat_map(rows).collect()
}

/// A bar that is padded to the whole width needs no end of its line: the next one follows at once.
fn rows(line: &str) -> Vec<String> {
    let columns: Vec<char> = line.chars().collect();
    let mut rows: Vec<String> = Vec::new();
    for row in columns.chunks(COLUMNS).map(String::from_iter) {
        match rows.last_mut() {
            Some(last) if !row.starts_with("file-") => last.push_str(&row),
            _ => rows.push(row),
        }
    }
    rows.iter().map(|row| row.trim_end().to_owned()).collect()
}

#[track_caller]
fn expect_narrow(said: &str) {
    for line in lines(said) {
        assert!(line.chars().count() <= COLUMNS, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn the_demo_fits_and_tells_what_happens() {
    let folder = TempDir::new("demo");
    let temporary = folder.path().to_str().expect("a plain path");
    let arguments = "demo --size 2MiB";
    let (said, good) = on_a_terminal(arguments, &[("TMPDIR", temporary)]);
    assert!(good, "{said}");
    expect_narrow(&said);
    // Six uploads on three servers, in turn.
    assert!(said.contains("in the middle of 2 uploads."), "{said}");
    let shown = lines(&said);
    let told = |file: usize, what: &str| {
        shown
            .iter()
            .any(|line| line.starts_with(&format!("file-{file:02}.bin [")) && line.contains(what))
    };
    let row = |file: usize| {
        let row = shown.iter().find(|line| line.starts_with(&format!("   file-{file:02}.bin ")));
        row.expect("a row of the table").split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let held = (1..=6).filter(|&file| told(file, "held by the gateway for up0")).count();
    assert_eq!(held, 2, "{said}");
    for file in 1..=6 {
        let row = row(file);
        let [_, server, bytes, held, _, restarts, _, equal] = &row[..] else { panic!("{row:?}") };
        assert_eq!((&**bytes, &**restarts, &**equal), ("2097152", "0", "yes"), "{row:?}");
        assert!(told(file, &format!("on {server}")), "{said}");
        assert_eq!(held != "0", told(file, "held by the gateway"), "{row:?}");
    }
}

#[test]
fn the_bar_of_an_upload_fits_whatever_the_name_of_the_file_is() {
    let farm = Farm::of_stubs(1).plain().start();
    let folder = TempDir::new("upload");
    let name = format!("{}.bin", "a-file-with-a-long-name-".repeat(5));
    let content = Content::seeded(1, 3_000_000);
    std::fs::write(folder.join(&name), content.to_vec()).expect("a file can be written");
    let arguments = format!(
        "upload '{}' http://up.test/in/ --resolve '*:{}' --limit-rate 2MiB --state '{}'",
        folder.join(&name).display(),
        farm.entrance(),
        folder.join("state").display(),
    );
    let (said, good) = on_a_terminal(&arguments, &[]);
    assert!(good, "{said}");
    let bars: Vec<_> = lines(&said).into_iter().filter(|line| line.contains("MiB/s")).collect();
    assert!(!bars.is_empty(), "{said}");
    for bar in bars {
        assert!(bar.chars().count() <= COLUMNS, "{} columns: {bar}", bar.chars().count());
        assert!(bar.starts_with("a-file-with-a-.. ["), "{bar}");
    }
    farm.expect_stored(&format!("/in/{name}"), &content);
}
