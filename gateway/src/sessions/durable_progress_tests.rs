//! How far sessions are, over a restart.

use super::*;

async fn opened(sessions: &Sessions, id: &str) {
    let pin = pin(0, Timestamp(5));
    let mut place = None;
    let opened = sessions.pin_opened(&mut place, key(id), pin, Timestamp(5), clock::steady());
    assert_eq!(opened.await.unwrap(), Pinned::New);
}

#[tokio::test]
async fn that_nothing_of_a_session_has_arrived_is_known_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    for id in ["new", "sent", "found"] {
        opened(&sessions, id).await;
    }
    put(&sessions, "asked-for", pin(0, Timestamp(6))).await;
    sessions.find_and_touch(Some(&key("sent")), clock::steady());
    sessions.find(Some(&key("found")));
    let untouched = |sessions: &Sessions| {
        ["new", "sent", "found", "asked-for"].map(|id| sessions.is_untouched(&key(id)))
    };
    for _ in 0..2 {
        assert_eq!(untouched(&sessions), [true, false, true, false]);
        sessions.close().await;
        let again = table(directory.path());
        assert_eq!(untouched(&again), [true, false, true, false]);
        again.close().await;
    }
    let again = table(directory.path());
    again.find_and_touch(Some(&key("new")), clock::steady());
    again.close().await;
    assert_eq!(untouched(&table(directory.path())), [false, false, true, false]);
}

#[tokio::test]
async fn the_size_of_a_file_that_has_arrived_is_known_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    let progress = |next_offset, total| Progress { next_offset, total, seen: Timestamp(7) };
    for id in ["all", "all-but-one", "repeated", "moved"] {
        opened(&sessions, id).await;
        sessions.progress(&key(id), progress(5, 9), clock::steady());
    }
    sessions.progress(&key("all"), progress(9, 9), clock::steady());
    sessions.progress(&key("all-but-one"), progress(8, 9), clock::steady());
    // A 416 tells no total.
    sessions.progress(&key("repeated"), progress(9, 0), clock::steady());
    let to = pin(1, Timestamp(8));
    let moved = sessions.repin(&key("moved"), to, progress(9, 9), clock::steady()).await;
    assert!(moved.unwrap().is_some());
    let new = pin(1, Timestamp(9));
    let adopted = sessions.adopt(key("adopted"), new, progress(4, 4), clock::steady()).await;
    assert_eq!(adopted.unwrap(), Pinned::New);
    sessions.settle(&key("all")).await;
    sessions.close().await;
    for _ in 0..2 {
        let again = table(directory.path());
        let complete = |id: &str| again.progress_of(&key(id)).unwrap().complete();
        let all = ["all", "all-but-one", "repeated", "moved", "adopted"].map(complete);
        assert_eq!(all, [Some(9), None, Some(9), Some(9), Some(4)]);
        again.close().await;
    }
}

#[tokio::test]
async fn the_size_of_a_file_whose_end_was_passed_on_is_known_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    let progress = |next_offset, total| Progress { next_offset, total, seen: Timestamp(7) };
    let say = |sessions: &Sessions, id: &str, next_offset, total| {
        sessions.progress(&key(id), progress(next_offset, total), clock::steady());
    };
    for id in ["at-once", "sent", "arrived", "closed"] {
        opened(&sessions, id).await;
        assert!(sessions.is_untouched(&key(id)));
        sessions.find_and_touch(Some(&key(id)), clock::steady());
    }
    for id in ["sent", "arrived", "closed"] {
        say(&sessions, id, 5, 9);
    }
    for _ in 0..3 {
        for id in ["at-once", "sent", "arrived", "closed", "nobody's"] {
            sessions.ends(&key(id), 9);
            sessions.find_and_touch(Some(&key(id)), clock::steady());
        }
    }
    // Its backend has agreed to another size.
    opened(&sessions, "other").await;
    say(&sessions, "other", 5, 9);
    sessions.ends(&key("other"), 8);
    say(&sessions, "arrived", 9, 9);
    sessions.ends(&key("arrived"), 9);
    sessions.unpin(&key("closed"), EndReason::Closed, clock::steady()).await.expect("there");
    // In memory it says nothing new.
    assert_eq!(sessions.progress_of(&key("at-once")).unwrap().total, 0);
    assert_eq!(sessions.progress_of(&key("sent")), Some(progress(5, 9)));
    sessions.close().await;
    let known = |sessions: &Sessions, id: &str| {
        let progress = sessions.progress_of(&key(id)).unwrap();
        (progress.next_offset, progress.total)
    };
    for _ in 0..2 {
        let again = table(directory.path());
        for id in ["at-once", "sent"] {
            assert_eq!(known(&again, id), (0, 9), "{id}");
            assert!(!again.is_untouched(&key(id)));
            // It binds no Fragment: nobody has agreed to it.
            assert_eq!(again.find_and_touch(Some(&key(id)), clock::steady()).1, 0);
            again.ends(&key(id), 9);
        }
        assert_eq!((known(&again, "arrived"), known(&again, "other")), ((9, 9), (0, 0)));
        again.close().await;
        assert_eq!(progress_rows(directory.path()), 3);
    }
    let again = table(directory.path());
    // A position says nothing of a size that nobody has agreed to, and an Ack does.
    say(&again, "sent", 5, 0);
    assert_eq!(known(&again, "sent"), (5, 0));
    say(&again, "sent", 7, 9);
    assert_eq!(again.find_and_touch(Some(&key("sent")), clock::steady()).1, 9);
    say(&again, "sent", 9, 9);
    again.unpin(&key("at-once"), EndReason::Lost, clock::steady()).await.expect("there");
    again.close().await;
    let last = table(directory.path());
    assert_eq!(known(&last, "sent"), (9, 9));
    last.close().await;
    assert_eq!(progress_rows(directory.path()), 2);
}

fn progress_rows(directory: &Path) -> i64 {
    let connection = rusqlite::Connection::open(directory.join("store/sessions.db")).unwrap();
    let count = "SELECT count(*) FROM progress WHERE total <> 0";
    connection.query_row(count, [], |row| row.get(0)).unwrap()
}
