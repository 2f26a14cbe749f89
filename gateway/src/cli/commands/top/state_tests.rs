use serde_json::json;

use super::super::rig::{press, seen, type_in, upload};
use super::*;

fn selected(state: &State) -> String {
    let (table, list, rows) = state.list(state.pane);
    list.row(rows).map(|row| (table.name)(row).to_owned()).unwrap_or_default()
}

/// The parameters by which uploads are asked for.
fn asked(todo: Todo) -> Vec<(&'static str, String)> {
    match todo {
        Todo::Tell(Order::Look(wish)) => wish.which,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_is_asked_for_twice() {
    let mut state = State::new(seen());
    press(&mut state, KeyCode::Tab);
    press(&mut state, KeyCode::Down);
    assert_eq!(type_in(&mut state, "d"), Todo::Nothing);
    assert!(matches!(&state.mode, Mode::Confirm { question, .. }
        if question.starts_with("Give up02 no new uploads? (9 uploads left")));
    // Whatever is no yes is a no.
    for no in [KeyCode::Char('n'), KeyCode::Enter, KeyCode::Esc, KeyCode::Char('d')] {
        state.mode = Mode::Browse;
        type_in(&mut state, "d");
        assert_eq!(press(&mut state, no), Todo::Nothing, "{no:?}");
        assert_eq!(state.notice, Some(("nothing was changed".to_owned(), false)));
        assert_eq!(state.mode, Mode::Browse);
    }
    let set = |state| Todo::Tell(Order::Set { backend: "up02".to_owned(), state });
    assert_eq!(type_in(&mut state, "dy"), set("drain"));
    assert_eq!(type_in(&mut state, "rY"), set("ready"));
}

#[test]
fn what_was_asked_is_what_is_changed_wherever_the_row_has_gone() {
    let mut state = State::new(seen());
    press(&mut state, KeyCode::Tab);
    type_in(&mut state, "d");
    let mut other = seen();
    other.backends.reverse();
    state.hear(News::Seen(Ok(Box::new(other))));
    let set = Order::Set { backend: "up01".to_owned(), state: "drain" };
    assert_eq!(type_in(&mut state, "y"), Todo::Tell(set));
}

#[test]
fn an_upload_is_not_drained() {
    let mut state = State::new(seen());
    assert_eq!(type_in(&mut state, "d"), Todo::Nothing);
    assert_eq!(state.mode, Mode::Browse);
    assert!(state.notice.as_ref().is_some_and(|(text, _)| text.contains("Tab goes there")));
}

#[test]
fn a_change_that_is_refused_says_why() {
    let mut state = State::new(seen());
    let refused = |status, code: &str, message: &str| ClientError::Refused {
        status,
        code: code.to_owned(),
        message: message.to_owned(),
        details: None,
        findings: None,
    };
    state.hear(News::Set(Err(refused(403, "viewer_only", "a viewer sees everything"))));
    let (text, is_bad) = state.notice.clone().unwrap();
    assert!(is_bad && text.contains("you may look, and change nothing"), "{text}");
    state.hear(News::Set(Err(refused(404, "unknown_backend", "no\u{1b}[2J"))));
    assert_eq!(state.notice.clone().unwrap().0, "nothing was changed: no\u{fffd}[2J");
    state.hear(News::Set(Err(refused(500, "failed", "the store hangs"))));
    let text = state.notice.clone().unwrap().0;
    assert_eq!(text, "it may have been changed, see its STATE: the store hangs");
    let answer = json!({
        "changed": true, "warning": "no backend takes new uploads now",
        "backend": { "name": "up01", "admin_state": "drain", "sessions": 0 },
    });
    state.hear(News::Set(Ok(answer)));
    let (text, is_bad) = state.notice.clone().unwrap();
    assert!(is_bad && text.ends_with("; warning: no backend takes new uploads now"), "{text}");
    // The next key is the end of it.
    press(&mut state, KeyCode::Down);
    assert_eq!(state.notice, None);
}

#[test]
fn uploads_are_looked_for_by_the_gateway_and_backends_here() {
    let mut state = State::new(seen());
    assert_eq!(type_in(&mut state, "/re"), Todo::Nothing);
    assert_eq!(state.mode, Mode::Search("re".to_owned()));
    // Letters are no commands there.
    type_in(&mut state, "qx");
    press(&mut state, KeyCode::Backspace);
    assert_eq!(asked(press(&mut state, KeyCode::Enter)), [("path", "req".to_owned())]);
    type_in(&mut state, "/");
    assert_eq!(state.mode, Mode::Search("req".to_owned()), "what was looked for stands there");
    assert_eq!(press(&mut state, KeyCode::Esc), Todo::Nothing);
    assert_eq!(state.uploads.search, "req", "as it was");
    assert_eq!(asked(press(&mut state, KeyCode::Esc)), []);
    type_in(&mut state, "/2001:db8::1");
    assert_eq!(asked(press(&mut state, KeyCode::Enter)), [("client", "2001:db8::1".to_owned())]);
    let both = [("state", "active".to_owned()), ("client", "2001:db8::1".to_owned())];
    assert_eq!(asked(type_in(&mut state, "f")), both);

    press(&mut state, KeyCode::Tab);
    type_in(&mut state, "/UP02");
    assert_eq!(press(&mut state, KeyCode::Enter), Todo::Nothing);
    assert_eq!((state.backends.order.len(), selected(&state)), (1, "up02".to_owned()));
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.backends.order.len(), 3);
}

#[test]
fn an_upload_by_itself_is_asked_for_by_its_name() {
    let mut state = State::new(seen());
    press(&mut state, KeyCode::Down);
    let alone = |todo| match todo {
        Todo::Tell(Order::Look(wish)) => wish.upload,
        other => panic!("{other:?}"),
    };
    assert_eq!(alone(press(&mut state, KeyCode::Enter)), Some("@b".to_owned()));
    assert_eq!(state.alone().unwrap()["path"], "/in/b.cab");
    assert_eq!(alone(press(&mut state, KeyCode::Down)), Some("@c".to_owned()));
    // It leaves the list, and is still known.
    let mut other = seen();
    other.uploads.clear();
    other.upload = Some(upload("c", "idle", None, 950));
    state.hear(News::Seen(Ok(Box::new(other.clone()))));
    assert_eq!(state.alone().unwrap()["bytes_received"], 950);
    other.upload = None;
    state.hear(News::Seen(Ok(Box::new(other))));
    assert_eq!((state.alone(), state.is_alone), (None, true));
    assert_eq!(alone(press(&mut state, KeyCode::Esc)), None);
    assert!(!state.is_alone);
    // An empty table has nothing to show.
    assert_eq!(press(&mut state, KeyCode::Enter), Todo::Nothing);
    assert!(!state.is_alone);
    // What is about the tables goes back to them.
    state.hear(News::Seen(Ok(Box::new(seen()))));
    for key in ["/", "s", "S", "f"] {
        press(&mut state, KeyCode::Enter);
        assert!(state.is_alone, "{key}");
        assert_eq!(alone(type_in(&mut state, key)), None, "{key}");
        assert!(!state.is_alone, "{key}");
        press(&mut state, KeyCode::Esc);
    }
}

#[test]
fn a_backend_by_itself_is_the_selected_one() {
    let mut state = State::new(seen());
    press(&mut state, KeyCode::Tab);
    press(&mut state, KeyCode::End);
    assert_eq!(press(&mut state, KeyCode::Enter), Todo::Nothing);
    assert_eq!(state.alone().unwrap()["name"], "up03");
    assert_eq!(type_in(&mut state, "d"), Todo::Nothing);
    assert!(matches!(&state.mode, Mode::Confirm { backend, .. } if backend == "up03"));
    type_in(&mut state, "n");
    assert!(state.is_alone, "it is still there");
}

#[test]
fn the_end_is_one_key_away_but_where_something_is_typed() {
    let quits = |keys: &str| {
        let mut state = State::new(seen());
        type_in(&mut state, keys);
        let quit = type_in(&mut state, "q") == Todo::Quit;
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.key(control_c), Todo::Quit, "{keys:?}");
        quit
    };
    assert!(quits("") && quits("?") && quits("j"));
    assert!(!quits("/"));
}

#[test]
fn a_gateway_that_is_away_leaves_what_was_seen() {
    let mut state = State::new(seen());
    let gone = || ClientError::Failed {
        code: "no",
        message: "the gateway is not running".to_owned(),
        exit: crate::process::exit::Exit::Failure,
    };
    state.hear(News::Seen(Err(gone())));
    assert_eq!(state.trouble.as_deref(), Some("the gateway is not running"));
    assert_eq!(state.uploads.order.len(), 3);
    state.hear(News::Seen(Ok(Box::new(seen()))));
    assert_eq!(state.trouble, None);
}

#[test]
fn the_order_is_that_of_a_column_after_s() {
    let mut state = State::new(seen());
    type_in(&mut state, "s");
    let names = |state: &State| {
        let (table, list, rows) = state.list(Pane::Uploads);
        let names = list.order.iter().map(|row| (table.name)(&rows[*row]));
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&state), "@c @a @b", "the fastest first");
    type_in(&mut state, "S");
    assert_eq!(names(&state), "@a @c @b");
    assert_eq!(selected(&state), "@a", "the same as before");
}
