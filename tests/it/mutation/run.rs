//! Driving many conversations at once, and making a failed one small.

use std::sync::atomic::{AtomicU32, Ordering};

use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::client::{Connection, exchange};
use e2e_tests::farm::{Farm, FarmBuilder, ORIGIN};
use e2e_tests::wait;

use super::client::{converse, judge};
use super::conversation::{Conversation, destination, session};
use super::recorder::Recorder;
use super::strict::{self, Rules};

/// After so many, an honest upload has to work and everything has to be quiet.
pub const BATCH: u32 = 2_000;

/// More than cores: most of the time a conversation waits.
pub const WORKERS: u32 = 12;

/// What a gateway may grow by, however many conversations there are, but for their sessions.
const GROWTH: u64 = 96 << 20;

/// A session that is open, with what its table has in reserve.
const SESSION: u64 = 512;

/// A run that takes long says so often where it is.
const TELL: u32 = 50_000;

struct Stage {
    rules: Rules,
    farm: Farm,
    recorder: Recorder,
}

pub fn env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

impl Stage {
    fn new(rules: Rules) -> Self {
        let change = |farm: FarmBuilder| match rules {
            Rules::Usual => farm,
            Rules::More => {
                farm.set("limits.chunked", "\"forward\"").set("http.method_override", "true")
            }
            Rules::Proxied => farm
                .plain()
                .set("http.forwarded", "\"both\"")
                // Honest clients come without one.
                .set("listeners.public.proxy_protocol.required", "false")
                .set("listeners.public.proxy_protocol.trusted", "[\"127.0.0.1/32\"]"),
        };
        let recorder = Recorder::start(rules == Rules::Proxied);
        let farm = Farm::of_stubs(0).backend("up01", recorder.address).without_host_ids();
        // Most of their sessions stay open.
        let farm = farm.set("sessions.limit", "10_000_000");
        Self { rules, farm: change(farm).start(), recorder }
    }

    /// Opens the session of a conversation, has the conversation and judges it.
    fn one(&self, honest: &mut Connection, number: u32, said: &Conversation) {
        let create = format!(
            "BITS_POST {} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Create-Session\r\nX-Want: {}\r\n\
            BITS-Supported-Protocols: {PROTOCOL}\r\nContent-Length: 0\r\n\r\n",
            destination(number),
            session(number)
        );
        let opened = honest.exchange(create.as_bytes()).expect("an honest client is served");
        assert_eq!(opened.status, 200, "{}\n{:#?}", opened.head, self.refused());
        let row = strict::row(&said.bytes, self.rules);
        let watch = &self.recorder.watch;
        watch.expect(number, row.requests.clone());
        if let Some(heard) = converse(self.farm.entrance(), number, self.rules, said)
            && let Err(why) = judge(number, said, &row, &heard)
        {
            let heard = String::from_utf8_lossy(&heard.bytes).into_owned();
            watch.report(number, format!("{why}\nheard: {heard:?}"));
        }
    }

    /// What was refused so far, by reason.
    fn refused(&self) -> Vec<impl std::fmt::Debug + use<>> {
        let mut samples = self.farm.gateway().metrics();
        samples.retain(|it| it.name == "bitsgw_rejected_requests_total" && it.value > 0.0);
        samples
    }

    fn batch(&self, seed: u64, from: u32, to: u32) {
        let next = AtomicU32::new(from);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS.min(to - from) {
                scope.spawn(|| {
                    let mut honest = Connection::open(self.farm.entrance()).expect("it accepts");
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= to {
                            return;
                        }
                        self.one(&mut honest, number, &Conversation::new(seed, number));
                    }
                });
            }
        });
        wait::until("the last requests have ended", || {
            self.farm.metric("bitsgw_requests_in_flight", &[]) == 0.0
        });
        self.upload_works();
        self.farm.expect_healthy();
    }

    fn upload_works(&self) {
        let ask = |kind: &str, lines: &str, body: &str| {
            let bytes = format!(
                "BITS_POST /honest HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: {kind}\r\n{lines}\
                Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = exchange(self.farm.entrance(), bytes.as_bytes()).expect("an answer");
            assert_eq!(
                (answer.status, answer.field("X-Echo")),
                (200, Some("honest")),
                "{}",
                answer.head
            );
            answer
        };
        let protocols = format!("BITS-Supported-Protocols: {PROTOCOL}\r\n");
        let opened = ask("Create-Session", &protocols, "");
        // A minted one, where the recorder gave out its only one again.
        let id = opened.field("BITS-Session-Id").expect("an id");
        let id = &*format!("BITS-Session-Id: {id}\r\n");
        let next = ask("Fragment", &format!("{id}Content-Range: bytes 0-4/5\r\n"), "hello");
        assert_eq!(next.field("BITS-Received-Content-Range"), Some("5"));
        ask("Close-Session", id, "");
    }
}

/// Whether a conversation fails at a stage of its own.
fn fails(rules: Rules, number: u32, said: &Conversation) -> Option<String> {
    let stage = Stage::new(rules);
    let mut honest = Connection::open(stage.farm.entrance()).expect("it accepts");
    stage.one(&mut honest, number, said);
    wait::until("the last request has ended", || {
        stage.farm.metric("bitsgw_requests_in_flight", &[]) == 0.0
    });
    let (_, what) = stage.recorder.watch.wrong().pop()?;
    Some(what)
}

/// The shortest row of lines that still fails.
fn minimise(rules: Rules, number: u32, said: &Conversation) -> (Conversation, Option<String>) {
    let mut best = Conversation { honest: false, ..said.clone() };
    let mut why = fails(rules, number, &best);
    let mut pieces: Vec<Vec<u8>> =
        best.bytes.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    let mut width = pieces.len() / 2;
    while width > 0 && why.is_some() {
        let mut at = 0;
        while at < pieces.len() {
            let mut fewer = pieces.clone();
            fewer.drain(at..(at + width).min(fewer.len()));
            let smaller = Conversation { bytes: fewer.concat(), cuts: Vec::new(), ..best.clone() };
            match fails(rules, number, &smaller) {
                Some(what) => (best, why, pieces) = (smaller, Some(what), fewer),
                None => at += width,
            }
        }
        width /= 2;
    }
    (best, why)
}

fn run(name: &str, default: u64, rules: Rules) {
    let seed = env("MUTATION_SEED").unwrap_or_else(|| e2e_tests::data::seed(name));
    if let Some(number) = env("MUTATION_NUMBER") {
        let number = u32::try_from(number).expect("a number of a conversation");
        return replay(rules, seed, number);
    }
    let count = u32::try_from(env("MUTATIONS").unwrap_or(default)).expect("fits the addresses");
    assert!(count < 0xFE_0000, "there are not so many loopback addresses");
    let stage = Stage::new(rules);
    let first = stage.farm.gateway().rss_bytes();
    let (mut from, mut wrong) = (1, Vec::new());
    while from <= count && wrong.len() < 20 {
        let to = (from + BATCH).min(count + 1);
        stage.batch(seed, from, to);
        wrong.extend(stage.recorder.watch.wrong());
        stage.recorder.watch.forget_all();
        from = to;
        if (from - 1) % TELL == 0 {
            println!("{} of {count} conversations, {} went wrong", from - 1, wrong.len());
        }
    }
    for (number, what) in wrong.iter().take(20) {
        let said = Conversation::new(seed, *number);
        println!(
            "MUTATION_SEED={seed} MUTATION_NUMBER={number}: {what}\nsaid: {}\n",
            excerpt(&said.bytes)
        );
    }
    assert!(wrong.is_empty(), "{} conversations went wrong with seed {seed}", wrong.len());
    let grown = stage.farm.gateway().rss_bytes().saturating_sub(first);
    let sessions = stage.farm.metric("bitsgw_sessions", &[]) as u64;
    let most = GROWTH + sessions * SESSION;
    assert!(grown < most, "the gateway grew by {grown} bytes, with {sessions} sessions");
    // Otherwise most of them would have shown nothing.
    let seen = stage.recorder.watch.seen.load(Ordering::Relaxed);
    assert!(seen > u64::from(count) * 3 / 2, "{seen} requests came through");
}

fn replay(rules: Rules, seed: u64, number: u32) {
    let said = Conversation::new(seed, number);
    println!("conversation {number} of seed {seed}, {:?}: {}", said.end, excerpt(&said.bytes));
    if let Some(what) = fails(rules, number, &said) {
        let (small, why) = minimise(rules, number, &said);
        let why = why.unwrap_or_default();
        panic!("{what}\n\nas small as it gets: {}\n{why}", excerpt(&small.bytes));
    }
}

fn excerpt(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(4_000)];
    let shown = shown.escape_ascii().to_string().replace("\\r\\n", "\\r\\n\n");
    format!("({} bytes)\n{shown}", bytes.len())
}

/// Threat: T3.
#[test]
fn mutated_conversations_never_reach_a_backend_as_anything_but_what_their_clients_sent() {
    run("mutations", 20_000, Rules::Usual);
}

/// Threat: T3.
#[test]
fn mutated_conversations_are_as_harmless_where_chunks_and_overrides_are_allowed() {
    run("mutations with more allowed", 4_000, Rules::More);
}

/// Threat: T2.
#[test]
fn mutated_conversations_behind_a_proxy_never_speak_for_another_client() {
    run("mutations behind a proxy", 4_000, Rules::Proxied);
}
