//! The end of `top` while changes have no answer yet.

use serde_json::json;

use super::rig::seen;
use super::*;

fn answered(backend: &str) -> Happening {
    Happening::News(News::Set(Ok(json!({
        "changed": true,
        "backend": { "name": backend, "admin_state": "drain", "sessions": 0 },
    }))))
}

fn refused() -> Happening {
    Happening::News(News::Set(Err(ClientError::Refused {
        status: 403,
        code: "viewer_only".to_owned(),
        message: "a viewer changes nothing".to_owned(),
        details: None,
        findings: None,
    })))
}

#[track_caller]
fn check(asked: &[&str], happenings: Vec<Happening>, expected: Exit) {
    let (send, receive) = channel();
    happenings.into_iter().for_each(|one| send.send(one).unwrap());
    drop(send);
    let asked = asked.iter().map(ToString::to_string).collect();
    assert_eq!(finish(asked, &receive, State::new(seen())), expected);
}

#[test]
fn all_that_was_asked_for_is_waited_for() {
    check(&[], vec![], Exit::Ok);
    check(&["drain up01"], vec![Happening::Resized, answered("up01")], Exit::Ok);
    let two = ["drain up01", "drain up02"];
    check(&two, vec![answered("up01"), answered("up02")], Exit::Ok);
    check(&two, vec![answered("up01")], Exit::Failure);
    check(&two, vec![answered("up01"), Happening::Stop, answered("up02")], Exit::Failure);
    check(&two, vec![refused(), answered("up02")], Exit::Failure);
}

#[test]
fn who_is_stopped_leaves_no_change_unnamed() {
    assert_eq!(leave(&VecDeque::new(), Exit::Ok), Exit::Ok);
    assert_eq!(leave(&VecDeque::from(["drain up01".to_owned()]), Exit::Ok), Exit::Failure);
}
