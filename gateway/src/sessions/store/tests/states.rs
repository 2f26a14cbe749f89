//! States of backends, beside a process of an earlier version.

use super::*;

#[tokio::test]
async fn maintenance_is_written_as_earlier_versions_read_it() {
    let place = Place::new();
    let (store, ..) = place.open();
    store.set_backend_state(state("up01", AdminState::Maintenance)).await.unwrap();
    store.close().await;
    let connection = Connection::open(place.file()).unwrap();
    let select = "SELECT state FROM backend_states";
    let word: String = connection.query_row(select, [], |row| row.get(0)).unwrap();
    assert_eq!(word, "maint");
}

/// A later version may write the long word, once none is left that cannot read it.
#[tokio::test]
async fn maintenance_is_read_by_both_its_words() {
    let place = Place::with(0).await;
    let connection = Connection::open(place.file()).unwrap();
    for (row, word) in [(11, "maintenance"), (12, "maint")] {
        let state = state(word, AdminState::Maintenance);
        let (since, seal) = (state.since.0 as i64, state.seal(row, word));
        let values = rusqlite::params![row, state.backend, word, since, state.by, seal];
        let sql = "INSERT INTO backend_states VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        connection.execute(sql, values).unwrap();
    }
    drop(connection);
    let kept = place.kept().await;
    for word in ["maintenance", "maint"] {
        assert_eq!(kept.states[word], AdminState::Maintenance);
    }
}
