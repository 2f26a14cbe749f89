//! kill -9 in the middle of commits.

use std::collections::BTreeSet;

use bits_gateway::sessions::store::OnError;
use tempfile::TempDir;

use crate::child::{Process, Said, open};

/// Fault: gateway is killed.
#[tokio::test]
async fn kill_9_loses_no_acknowledged_pin_and_no_acknowledged_end() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let (mut pinned, mut ended) = (BTreeSet::new(), BTreeSet::new());
    let mut next = 0;
    for round in 0..12 {
        let mut process = Process::start(&[], &path, next);
        // A different moment in every round, among them one in the middle of the first commits.
        let mut said = Vec::new();
        while said.len() < [1, 700, 30, 250, 3, 90][round % 6] {
            said.push(process.next().expect("it runs"));
        }
        said.extend(process.kill());
        for said in said {
            match said {
                Said::Pinned(n) => assert!(pinned.insert(n)),
                Said::Ended(n) => assert!(ended.insert(n)),
                Said::Refused(why) => panic!("{why}"),
            }
        }
        // Those under way may be there or not.
        next = pinned.last().copied().unwrap_or(0) + 100;

        let (store, kept) = open(&path, OnError::Refuse);
        assert_eq!(kept.loaded.report, Vec::<String>::new(), "round {round}");
        let kept_pins: BTreeSet<_> = kept.pins.iter().copied().collect();
        assert_eq!(kept_pins.len(), kept.pins.len(), "round {round}: a row is there twice");
        let kept_tombstones: BTreeSet<_> = kept.tombstones.into_iter().collect();
        for n in &pinned {
            let here = kept_pins.contains(n);
            match ended.contains(n) {
                true => assert!(!here, "round {round}: {n} has ended and is there"),
                false => {
                    let ending = kept_tombstones.contains(n);
                    assert!(here != ending, "round {round}: {n} is lost");
                }
            }
        }
        assert!(ended.is_subset(&kept_tombstones), "round {round}");
        store.close().await;
    }
    assert!(pinned.len() > 1500, "{}", pinned.len());
}
