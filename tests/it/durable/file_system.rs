//! A file system that fails in the middle of commits.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use e2e_tests::client::exchange;
use e2e_tests::data::{Chance, seed};
use e2e_tests::farm::Farm;
use e2e_tests::mount::Ext4;
use e2e_tests::wait;

use super::ask;
use crate::packets::{create, fragment, session_of};

const RUNS: u64 = 10;
const CLIENTS: usize = 12;

/// Room for a store and for the files of the busy neighbours.
const ROOM: u64 = 96 << 20;

/// Fault: file system turns read-only by an error.
#[test]
fn what_was_acknowledged_is_there_after_an_error_of_the_file_system() {
    if std::env::var_os("E2E_ALL").is_none() {
        println!("not run: set E2E_ALL, as tests/run --all does");
        return;
    }
    let chance = Chance::new(seed("error of the file system"));
    let mut acknowledged = 0;
    for run in 0..RUNS {
        match Ext4::new(ROOM) {
            Ok(disk) => acknowledged += one_run(disk, &mut chance.fork(run)),
            Err(why) => {
                println!("not run: no ext4 of our own can be made and mounted here: {why}");
                assert_eq!(run, 0, "it was possible a moment ago");
                return;
            }
        }
    }
    println!("{acknowledged} sessions were acknowledged in {RUNS} runs");
}

fn one_run(mut disk: Ext4, chance: &mut Chance) -> usize {
    let store = format!("{:?}", disk.path().join("store"));
    let farm = Farm::of_stubs(2).without_host_ids().set("store.path", &store).start();
    let (stop, begun) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let wanted = usize::try_from(chance.between(100, 600)).expect("a small number");
    thread::scope(|scope| {
        let (farm, begun, stop) = (&farm, &begun, &stop);
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for number in 0.. {
                    let target = format!("/in/{client}-{number}.bin");
                    let Ok(answer) = exchange(farm.gateway().address(), &create(&target).bytes())
                    else {
                        continue;
                    };
                    if answer.status == 200 {
                        let id = session_of(&answer);
                        begun.lock().expect("no panic").push((target, id));
                    } else if stop.load(Ordering::Acquire) {
                        return;
                    }
                }
            });
        }
        // Neighbours: the journal and the processors are busy.
        for neighbour in 0..2 {
            let folder = disk.path().join(format!("neighbour-{neighbour}"));
            scope.spawn(move || {
                for round in 0u64.. {
                    let file = folder.with_extension((round % 50).to_string());
                    let written = std::fs::write(&file, vec![1; 20_000]);
                    if stop.load(Ordering::Acquire) || written.is_err() {
                        return;
                    }
                }
            });
        }
        wait::until("sessions are opened", || begun.lock().expect("no panic").len() >= wanted);
        disk.fail();
        stop.store(true, Ordering::Release);
    });
    farm.gateway().kill();
    disk.check_and_mount_again();
    farm.gateway().start();
    let begun = begun.into_inner().expect("no panic");
    let lost: Vec<_> = begun
        .iter()
        .filter(|(target, id)| {
            ask(&farm, &fragment(target, id, "bytes 0-2/9", b"abc")).status != 200
        })
        .collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), begun.len());
    begun.len()
}
