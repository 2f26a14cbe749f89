//! The fuzz targets, a small fixed number of times: every seed of the corpus, and seeded mutations of it.
//!
//! `fuzz/run` does it for long and with coverage. `FUZZ_SEED` replays a run, `FUZZ_RUNS` asks for more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "../../fuzz/src/shell.rs"]
mod shell;
#[path = "../../fuzz/src/wire.rs"]
mod wire;

/// A function of bytes that panics where it does not hold.
type Target = fn(&[u8]);

/// Each is `(name, function, runs)`; the slow ones run less often.
const TARGETS: [(&str, Target, u64); 13] = [
    ("head", wire::head, 10_000),
    ("packet", wire::packet, 10_000),
    ("ack", wire::ack, 5_000),
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

/// What readers stumble over.
const CRUMBS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b":",
    b",",
    b";",
    b"-",
    b"_",
    b"%",
    b"/",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"0",
    b"5",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"=",
    b"#",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775808",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: up\r\n",
    b"BITS-Session-Id: {x}\r\n",
    b"fffffffffffffff",
];

/// splitmix64: the same seed, the same run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn mutate(chance: &mut Chance, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = chance.below(bytes.len() + 1);
    let end = (at + chance.below(16)).min(bytes.len());
    match chance.below(8) {
        0 => bytes.insert(at, chance.next() as u8),
        1 if !bytes.is_empty() => {
            let at = chance.below(bytes.len());
            bytes[at] ^= 1 << chance.below(8);
        }
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            let from = chance.below(other.len() + 1);
            let to = (from + chance.below(64)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        5 => bytes.truncate(at),
        _ => {
            bytes.splice(at..at, CRUMBS[chance.below(CRUMBS.len())].iter().copied());
        }
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a file can be read")).collect()
}

fn env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
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
