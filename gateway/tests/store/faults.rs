//! Every write, sync, truncation and change of a name fails once, at each place where one is made.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bits_gateway::base::clock;
use bits_gateway::sessions::store::faults::{Op, Plan};
use bits_gateway::sessions::store::{OnError, OpenError, Store, TroubleKind};
use tempfile::TempDir;

use crate::child::{ENDED, Kept, key, open, options, pin, tombstone};

/// Every call up to this one fails in one of the runs.
const CALLS: u32 = 200;

/// The same for truncations and names. There are some at a start and in trouble, and no others.
const RARE_CALLS: u32 = 32;

/// Sessions that are pinned after the call that fails.
const AFTER: u32 = 20;

/// Runs at the same time.
const AT_ONCE: u32 = 16;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// What was acknowledged in one run.
#[derive(Debug, Default)]
struct Said {
    pinned: BTreeSet<u32>,
    ended: BTreeSet<u32>,
}

/// Fault: a write, sync, cut or rename of the store fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_takes_back_nothing_that_was_said() {
    every_call(Op::Write).await;
}

/// Fault: a write, sync, cut or rename of the store fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_takes_back_nothing_that_was_said() {
    every_call(Op::Sync).await;
}

/// Fault: a write, sync, cut or rename of the store fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_that_fails_takes_back_nothing_that_was_said() {
    every_call(Op::Truncate).await;
}

/// Fault: a write, sync, cut or rename of the store fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_cannot_be_changed_takes_back_nothing_that_was_said() {
    every_call(Op::Rename).await;
}

async fn every_call(op: Op) {
    let often = matches!(op, Op::Write | Op::Sync);
    let calls = if often { CALLS } else { RARE_CALLS };
    let mut failed = 0;
    for first in (1..=calls).step_by(AT_ONCE as usize) {
        let last = calls.min(first + AT_ONCE - 1);
        let runs = (first..=last).map(|call| tokio::spawn(one_call(op, call)));
        for run in futures_util::future::join_all(runs).await {
            failed += u32::from(run.expect("it does not panic"));
        }
    }
    let least = if often { CALLS } else { 1 };
    assert!(failed >= least, "{failed} calls have failed");
}

/// One run in which one call fails, or three in a row. Returns whether there was such a call.
async fn one_call(op: Op, call: u32) -> bool {
    let directory = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let path = directory.path().join("store");
    // The place of the second store: what a process that was killed left.
    let killed = directory.path().join("killed");
    let mut said = Said::default();
    // A new store gives out names; one that was killed has a log to empty.
    if op != Op::Rename {
        kill_one(&directory.path().join("before"), &path, &mut said).await;
    }
    Plan::set(&path, op, call, 1 + 2 * (call % 2));
    let opened = Store::open(&path, options(OnError::Refuse), &mut |_| true);
    match opened {
        Ok((store, _)) => {
            // Each session makes one sync or two, and more writes.
            let most = if matches!(op, Op::Write | Op::Sync) { call + 2 * AFTER } else { AFTER };
            work(&store, &path, most, &mut said).await;
            copy(&path, &killed);
            let failed = Plan::has_failed(&path);
            Plan::clear(&path);
            store.close().await;
            check(&killed, &said, op, call);
            check(&path, &said, op, call);
            failed
        }
        // A gateway that has said nothing yet may say that it cannot start.
        Err(error) => {
            let OpenError::Trouble(trouble) = &error else { panic!("{op:?} {call}: {error}") };
            assert!(matches!(trouble.kind, TroubleKind::Io | TroubleKind::Damaged), "{error}");
            Plan::clear(&path);
            check(&path, &said, op, call);
            true
        }
    }
}

/// Leaves in `path` what a process that was killed leaves, which had worked in `before`.
async fn kill_one(before: &Path, path: &Path, said: &mut Said) {
    let (store, _) = open(before, OnError::Refuse);
    for n in 900_000..900_005 {
        store.pin(pin(n)).await.unwrap();
        said.pinned.insert(n);
    }
    copy(before, path);
    store.close().await;
}

/// Until well after the call.
async fn work(store: &Store, path: &Path, most: u32, said: &mut Said) {
    let since = clock::steady();
    let (mut done, mut after, mut n) = (0, 0, 0);
    while after < AFTER && done < most {
        assert!(clock::steady() - since < DEADLINE, "the store does not come back");
        n += 1;
        if store.pin(pin(n)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        done += 1;
        after += u32::from(Plan::has_failed(path));
        said.pinned.insert(n);
        if n.is_multiple_of(ENDED)
            && store.end(&key(n), pin(n).created, Some(tombstone(n))).await.is_ok()
        {
            said.ended.insert(n);
        }
    }
}

/// In this order: what a checkpoint moves meanwhile is in the log all the same.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["sessions.db", "sessions.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[track_caller]
fn check(path: &Path, said: &Said, op: Op, call: u32) {
    let (_store, Kept { pins, tombstones, .. }) = open(path, OnError::Refuse);
    let (pins, ended) = (BTreeSet::from_iter(pins), BTreeSet::from_iter(tombstones));
    let known: BTreeSet<_> = pins.union(&ended).copied().collect();
    let lost: Vec<_> = said.pinned.difference(&known).collect();
    assert!(lost.is_empty(), "{op:?} {call}: pins are gone: {lost:?}");
    let lost: Vec<_> = said.ended.difference(&ended).collect();
    assert!(lost.is_empty(), "{op:?} {call}: ends are gone: {lost:?}");
    let back: Vec<_> = said.ended.intersection(&pins).collect();
    assert!(back.is_empty(), "{op:?} {call}: ended sessions are back: {back:?}");
}
