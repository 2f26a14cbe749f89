//! Disks that are full, read-only or broken.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bits_gateway::base::clock;
use bits_gateway::sessions::store::{OnError, OpenError, Store, StoreError, TroubleKind};
use tempfile::TempDir;

use crate::child::{Process, Said, key, open, options, pin, tombstone};
use crate::mount::Mount;

/// Of a small disk: for a log that is written in advance, and a little more.
const ROOM: u32 = 6 << 20;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let since = clock::steady();
    while !condition() {
        assert!(clock::steady() - since < DEADLINE, "waited for too long: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Takes all the room that is left.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path.join("filler")).unwrap();
    for size in [65_536, 4096, 512, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

#[tokio::test]
async fn a_full_disk_refuses_new_pins_keeps_what_is_known_and_recovers_by_itself() {
    let Some(disk) = Mount::new(ROOM) else { return full_by_limit() };
    let path = disk.path().join("store");
    let (store, _) = open(&path, OnError::Refuse);
    let mut pinned = BTreeSet::new();
    for n in 0..20 {
        store.pin(pin(n)).await.unwrap();
        pinned.insert(n);
    }
    fill(disk.path());
    let mut n = 20;
    let trouble = loop {
        match store.pin(pin(n)).await {
            // There may be room in the file itself for a while.
            Ok(()) => assert!(pinned.insert(n) && n < 10_000),
            Err(StoreError::Down(trouble)) => break trouble,
            Err(other) => panic!("{other}"),
        }
        n += 1;
    };
    assert_eq!(trouble.kind, TroubleKind::Full, "{trouble}");
    assert!(trouble.help().contains("make room on the disk"), "{}", trouble.help());
    assert!(!store.status().up);
    // It says no at once, and remembers what has ended.
    store.pin(pin(n + 1)).await.unwrap_err();
    store.end(&key(0), pin(0).created, Some(tombstone(0))).await.unwrap_err();
    pinned.remove(&0);

    fs::remove_file(disk.path().join("filler")).unwrap();
    until("room is back", || store.status().up && store.status().backlog == 0).await;
    store.pin(pin(50_000)).await.unwrap();
    pinned.insert(50_000);
    store.close().await;
    let (store, kept) = open(&path, OnError::Refuse);
    assert_eq!(kept.loaded.report, Vec::<String>::new());
    assert_eq!(kept.pins.into_iter().collect::<BTreeSet<_>>(), pinned);
    assert_eq!(kept.tombstones, [0]);
    store.close().await;
}

#[tokio::test]
async fn with_a_full_disk_a_gateway_starts_and_serves_what_it_knows() {
    let Some(disk) = Mount::new(ROOM) else { return full_by_limit() };
    let path = disk.path().join("store");
    let (store, _) = open(&path, OnError::Refuse);
    for n in 0..20 {
        store.pin(pin(n)).await.unwrap();
    }
    store.close().await;
    fill(disk.path());
    let (store, kept) = open(&path, OnError::Refuse);
    assert_eq!(kept.pins, (0..20).rev().collect::<Vec<_>>());
    let trouble = store.status().trouble.expect("it is down");
    assert_eq!(trouble.kind, TroubleKind::Full, "{trouble}");
    store.pin(pin(20)).await.unwrap_err();
    fs::remove_file(disk.path().join("filler")).unwrap();
    until("room is back", || store.status().up).await;
    store.pin(pin(21)).await.unwrap();
    store.close().await;
    let (store, kept) = open(&path, OnError::Refuse);
    assert_eq!(kept.loaded.report, Vec::<String>::new());
    assert_eq!((kept.pins[0], kept.pins.len()), (21, 21));
    store.close().await;
}

#[test]
fn a_file_that_may_not_grow_is_a_failing_disk() {
    full_by_limit();
}

/// The same with a limit for the size of files, which a process cannot tell from a disk that fails.
fn full_by_limit() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let shell = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    let mut process = Process::start(&shell, &path, 0);
    let id = process.child.id().to_string();
    let limit = |size: &str| {
        let size = format!("--fsize={size}");
        assert!(Command::new("prlimit").args(["--pid", &id, &size]).status().unwrap().success());
    };
    let mut pinned = BTreeSet::new();
    let mut see = |process: &mut Process, wanted: &dyn Fn(&Said) -> bool| loop {
        let said = process.next().expect("it runs");
        let found = wanted(&said);
        if let Said::Pinned(n) = said {
            pinned.insert(n);
        }
        if found {
            return;
        }
    };
    see(&mut process, &|said| matches!(said, Said::Pinned(n) if *n > 50));
    limit("8192:unlimited");
    see(&mut process, &|said| matches!(said, Said::Refused(_)));
    limit("unlimited:unlimited");
    see(&mut process, &|said| matches!(said, Said::Pinned(_)));
    for said in process.kill() {
        if let Said::Pinned(n) = said {
            pinned.insert(n);
        }
    }
    check_all(&path, &pinned);
}

#[track_caller]
fn check_all(path: &Path, pinned: &BTreeSet<u32>) {
    let (_store, kept) = open(path, OnError::Refuse);
    assert_eq!(kept.loaded.report, Vec::<String>::new());
    let there: BTreeSet<_> = kept.pins.into_iter().chain(kept.tombstones).collect();
    let lost: Vec<_> = pinned.difference(&there).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test]
async fn a_read_only_disk_is_read_and_a_folder_that_is_not_ours_is_refused() {
    let directory = TempDir::new().unwrap();
    let disk = Mount::new(ROOM);
    let base = disk.as_ref().map_or(directory.path(), Mount::path);
    let path = base.join("store");
    let read_only = |yes| match &disk {
        Some(disk) => disk.read_only(yes),
        None => {
            use std::os::unix::fs::PermissionsExt;
            let set = |path: &Path, mode| {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            };
            let (folder_mode, file_mode) = if yes { (0o500, 0o400) } else { (0o700, 0o600) };
            // Its files too: those that are there could be written in a folder that takes no new ones.
            for file in fs::read_dir(&path).unwrap() {
                set(&file.unwrap().path(), file_mode);
            }
            set(&path, folder_mode);
            let tried = fs::write(path.join("tried"), "");
            assert_eq!(tried.is_err(), yes, "needs a mount, or a user who is not root");
        }
    };
    // After a kill, so that the log holds something that is nowhere else.
    let mut process = Process::start(&[], &path, 0);
    let mut said = vec![process.next().unwrap(), process.next().unwrap()];
    said.extend(process.kill());
    let pinned: BTreeSet<u32> = said
        .iter()
        .filter_map(|said| match said {
            Said::Pinned(n) => Some(*n),
            _ => None,
        })
        .collect();
    read_only(true);
    if disk.is_some() {
        let (store, kept) = open(&path, OnError::Refuse);
        let there: BTreeSet<_> = kept.pins.into_iter().chain(kept.tombstones).collect();
        assert!(pinned.is_subset(&there), "{pinned:?} {there:?}");
        let trouble = store.status().trouble.expect("it is down");
        assert_eq!(trouble.kind, TroubleKind::ReadOnly, "{trouble}");
        store.pin(pin(80_000)).await.unwrap_err();
        store.close().await;
    } else {
        let opened = Store::open(&path, options(OnError::Refuse), &mut |_| true);
        let error = opened.expect_err("refused");
        let OpenError::Trouble(trouble) = &error else { panic!("{error}") };
        assert_eq!(trouble.kind, TroubleKind::Denied, "{trouble}");
        assert!(!error.help().is_empty());
    }

    let (store, kept) = open(&path, OnError::Accept);
    let there: BTreeSet<_> = kept.pins.into_iter().chain(kept.tombstones).collect();
    assert!(pinned.is_subset(&there), "{pinned:?} {there:?}");
    assert!(!store.status().up);
    store.pin(pin(90_000)).await.expect("accepted");
    store.pin(pin(90_001)).await.expect("accepted");
    // Remembered, behind its pin.
    store.end(&key(90_001), pin(90_001).created, None).await.unwrap_err();
    assert_eq!(store.status().backlog, 3);
    read_only(false);
    until("it can be written", || store.status().up && store.status().backlog == 0).await;
    store.close().await;
    let (store, kept) = open(&path, OnError::Refuse);
    assert!(kept.pins.contains(&90_000) && !kept.pins.contains(&90_001));
    store.close().await;
}

/// Fault: store cannot be synced.
#[test]
fn after_a_sync_that_failed_nothing_is_trusted_and_nothing_is_lost() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let log = directory.path().join("strace");
    let strace = [
        "strace",
        // The child of this process is the one under test, then, and not strace.
        "-D",
        "-f",
        "-o",
        log.to_str().unwrap(),
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        "inject=fsync,fdatasync:error=EIO:when=40..44",
    ];
    let mut process = Process::start(&strace, &path, 0);
    let (mut pinned, mut refused) = (BTreeSet::new(), Vec::new());
    // Well after it has recovered.
    let mut after = 0;
    while after < 200 {
        match process.next().expect("it runs; strace is in the Debian package of that name") {
            Said::Pinned(n) => {
                pinned.insert(n);
                after += u32::from(!refused.is_empty());
            }
            Said::Refused(why) => refused.push(why),
            Said::Ended(_) => {}
        }
    }
    for said in process.kill() {
        if let Said::Pinned(n) = said {
            pinned.insert(n);
        }
    }
    assert!(refused[0].contains("the disk fails"), "{}", refused[0]);
    let traced = fs::read_to_string(&log).unwrap();
    assert!(traced.contains("EIO"), "{traced}");
    check_all(&path, &pinned);
}
