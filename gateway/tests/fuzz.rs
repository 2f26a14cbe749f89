//! The fuzz targets, a small fixed number of times: every seed of the corpus, and seeded mutations of it.
//!
//! `tests/fuzz/run` does it for long and with coverage. `FUZZ_SEED` replays a run, `FUZZ_RUNS` asks for more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "support/mutations.rs"]
mod mutations;
#[path = "../../tests/fuzz/src/shell.rs"]
mod shell;
#[path = "../../tests/fuzz/src/wire.rs"]
mod wire;

use mutations::{Chance, corpus, env, mutate};

/// A function of bytes that panics where it does not hold.
type Target = fn(&[u8]);

/// Each is `(name, function, runs)`; the slow ones run less often.
const TARGETS: [(&str, Target, u64); 14] = [
    ("head", wire::head, 10_000),
    ("packet", wire::packet, 10_000),
    ("ack", wire::ack, 5_000),
    ("answer", wire::answer, 20_000),
    ("range", wire::range, 20_000),
    ("session_id", wire::session_id, 20_000),
    ("host", wire::host, 20_000),
    ("chunks", wire::chunks, 20_000),
    ("reply_path", wire::reply_path, 10_000),
    ("login", wire::login, 20_000),
    ("trail", wire::trail, 20_000),
    ("config", shell::config, 300),
    ("rows", shell::rows, 1_000),
    ("proxy_header", shell::proxy_header, 20_000),
];

fn run(name: &str, target: Target, runs: u64) {
    let seed = env("FUZZ_SEED").unwrap_or(1);
    let seeds = corpus(name);
    assert!(!seeds.is_empty(), "{name} has no corpus");
    let check = |bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
            panic!("target {name}, FUZZ_SEED={seed}: \"{}\"", bytes.escape_ascii());
        }
    };
    seeds.iter().for_each(|bytes| check(bytes));
    let mut chance = Chance(seed);
    for _ in 0..env("FUZZ_RUNS").unwrap_or(runs) {
        let mut bytes = seeds[chance.below(seeds.len())].clone();
        let other = &seeds[chance.below(seeds.len())];
        for _ in 0..=chance.below(4) {
            mutate(&mut chance, &mut bytes, other);
        }
        check(&bytes);
    }
}

/// Threat: T10.
#[test]
fn every_target_holds_for_its_corpus_and_for_mutations_of_it() {
    std::thread::scope(|scope| {
        for (name, target, runs) in TARGETS {
            scope.spawn(move || run(name, target, runs));
        }
    });
}

#[test]
fn every_target_that_libfuzzer_knows_is_among_these() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/fuzz_targets");
    let entries = std::fs::read_dir(folder).expect("the targets");
    let mut files: Vec<String> = entries
        .map(|entry| entry.expect("a file").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    files.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(files, names);
}
