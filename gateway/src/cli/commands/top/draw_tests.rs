use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyCode;
use serde_json::json;

use super::super::rig::{press, seen, type_in, upload};
use super::*;

fn drawn(state: &mut State, (width, height): (u16, u16), colours: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, colours)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    let rows = buffer.content.chunks(width);
    let text = |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect();
    rows.map(text).map(|line: String| line.trim_end().to_owned()).collect()
}

fn shown(state: &mut State, size: (u16, u16)) -> Vec<String> {
    lines(&drawn(state, size, false))
}

#[test]
fn both_tables_fit_80_columns() {
    let mut state = State::new(seen());
    let shown = shown(&mut state, (80, 24));
    let expected = [
        "bits-gateway ready, up 1h  uploads 3 of 1000  6.0K/s  backends 2 of 3",
        "  Backends 1-3 of 3",
        "NAME STATE HEALTH FOR W UPLOADS NOW  B/S ERR PROBE DOWN",
        "up01 ready up      1m 1       3   1 2.0K   0     -    -",
        "up02 ready down    1m 1       9   1 2.0K   0     -    -",
        "up03 ready up      1m 1       1   1 2.0K   0     -    -",
        "> Uploads 1-3 of 3",
        "    NOW DONE LEFT IDLE BACKEND CLIENT    PATH",
        "    100  50%   5s   2s up01    192.0.2.7 /in/a.cab",
        "backend  10%    -   2s up01    192.0.2.7 /in/b.cab",
        "    700  90%   1s   2s up01    192.0.2.7 /in/c.cab",
    ];
    assert_eq!(shown[..expected.len()], expected);
    assert!(shown[expected.len()..23].iter().all(String::is_empty));
    assert!(shown[23].ends_with("? help  q quit"), "{}", shown[23]);
}

#[test]
fn wide_screens_have_more_columns_and_narrow_ones_the_ends_of_paths() {
    let mut state = State::new(seen());
    let long = format!("/in/{}/report.cab", "folder/".repeat(12));
    state.seen.uploads[0]["path"] = long.as_str().into();
    let wide = shown(&mut state, (320, 24)).join("\n");
    for part in ["REASON", "probes fail: connection refused", "Microsoft BITS/7.8", "@a", &long] {
        assert!(wide.contains(part), "no {part:?} in\n{wide}");
    }
    for width in [40, 80, 110, 160] {
        let narrow = shown(&mut state, (width, 24));
        let row = narrow.iter().find(|line| line.contains("100  50%")).expect("its row");
        assert!(row.chars().count() <= usize::from(width), "{row}");
        assert!(width == 40 || row.ends_with("report.cab"), "{row}");
    }
}

#[test]
fn a_screen_that_is_too_small_says_so() {
    let mut state = State::new(seen());
    for size in [(39, 24), (80, 9), (20, 3), (1, 1)] {
        let shown = shown(&mut state, size).join("");
        assert!(shown.starts_with('T'), "{size:?}: {shown}");
    }
    assert!(shown(&mut state, (40, 10))[0].starts_with("bits-gateway"));
}

#[test]
fn many_backends_leave_room_for_uploads() {
    let mut many = seen();
    many.backends =
        (0..200).map(|n| super::super::rig::backend(&format!("b{n}"), "up", n)).collect();
    let mut state = State::new(many);
    press(&mut state, KeyCode::Tab);
    press(&mut state, KeyCode::End);
    let shown = shown(&mut state, (80, 24));
    assert_eq!(shown[1], "> Backends 196-200 of 200");
    assert!(shown[7].starts_with("b199"), "{shown:?}");
    assert_eq!(shown[8], "  Uploads 1-3 of 3");
}

#[test]
fn the_title_says_what_is_shown_and_of_how_many() {
    let mut state = State::new(seen());
    state.seen.matching = 20_417;
    state.uploads.search = "cab".to_owned();
    state.filter = Filter::Active;
    type_in(&mut state, "sS");
    let shown = shown(&mut state, (120, 24));
    let title = "> Uploads 1-3 of 20417, by NOW of those that moved last, turned round, active ones, with \"cab\"";
    assert_eq!(shown[6], title);
    let mut none = seen();
    (none.uploads, none.matching) = (Vec::new(), 0);
    assert_eq!(lines(&drawn(&mut State::new(none), (80, 24), false))[6], "> Uploads: none");
}

#[test]
fn colours_are_beside_words_and_can_be_done_without() {
    let mut state = State::new(seen());
    state.seen.status["health"] = json!({
        "status": "critical", "problems": [{ "message": "the store takes no writes" }],
    });
    let find = |buffer: &Buffer, text: &str| {
        let row = lines(buffer).iter().position(|line| line.starts_with(text)).expect("its row");
        buffer.content[row * 80].style()
    };
    let buffer = drawn(&mut state, (80, 24), true);
    assert_eq!(find(&buffer, "the store takes no writes").fg, Some(Color::Red));
    assert_eq!(find(&buffer, "up02 ready down").fg, Some(Color::Red));
    assert_eq!(find(&buffer, "backend  10%").fg, Some(Color::Yellow));
    let plain = drawn(&mut state, (80, 24), false);
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert_eq!(lines(&plain), lines(&buffer));
    // What is selected is seen all the same.
    let selected = find(&plain, "    100  50%");
    assert!(selected.add_modifier.contains(Modifier::REVERSED));
}

#[test]
fn what_is_asked_and_what_came_of_it_stand_at_the_foot() {
    let mut state = State::new(seen());
    let foot = |state: &mut State| shown(state, (80, 24)).remove(23);
    type_in(&mut state, "/ab");
    assert_eq!(foot(&mut state), "path or client address: ab_   Enter searches, Esc does not");
    press(&mut state, KeyCode::Esc);
    press(&mut state, KeyCode::Tab);
    type_in(&mut state, "d");
    assert_eq!(foot(&mut state), "Give up01 no new uploads? (3 uploads left) [y/N]");
    type_in(&mut state, "n");
    assert_eq!(foot(&mut state), "nothing was changed");
    state.trouble = Some("the gateway is not running".to_owned());
    let shown = shown(&mut state, (80, 24));
    assert_eq!(shown[1], "as it was last seen: the gateway is not running");
}

#[test]
fn details_and_help_stand_in_place_of_the_tables() {
    let mut state = State::new(seen());
    press(&mut state, KeyCode::Enter);
    let details = shown(&mut state, (80, 24)).join("\n");
    assert!(details.contains("  progress       500 of 1000 bytes (50%)"), "{details}");
    assert!(!details.contains("Uploads"), "{details}");
    press(&mut state, KeyCode::Tab);
    press(&mut state, KeyCode::Down);
    let details = shown(&mut state, (80, 24)).join("\n");
    assert!(details.contains("  reason       probes fail: connection refused"), "{details}");
    type_in(&mut state, "?");
    let help = shown(&mut state, (80, 24));
    for line in HELP.lines() {
        assert!(help.iter().any(|there| there == line), "no {line:?} in {help:?}");
    }
}

#[test]
fn nothing_that_a_client_sends_steers_the_terminal() {
    let mut state = State::new(seen());
    state.seen.uploads = vec![upload("\u{1b}[2J\r\n", "active", Some(1), 1)];
    let mut state = State::new(state.seen);
    for size in [(80, 24), (320, 24)] {
        let shown = shown(&mut state, size).join("\n");
        assert!(shown.contains("\u{fffd}[2J"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }
}
