//! Uploads as an operator sees them while a Fragment is under way.

use e2e_tests::client::{Connection, exchange};
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::wait;
use serde_json::Value;

use crate::operator::Operated;
use crate::packets::{self, TARGET, create, session_of};

const AGENT: &str = "Microsoft BITS/7.8";

const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;

/// Of the Fragment that is sent.
const LENGTH: u64 = 64 * MIB;

/// Of which so much is sent at once.
const SENT: u64 = 10 * MIB;

/// The head of a Fragment whose body the test sends itself.
fn head_of(id: &str, first: u64, total: u64) -> Vec<u8> {
    let range = format!("bytes {first}-{}/{total}", first + LENGTH - 1);
    let head = packets::fragment(TARGET, id, &range, b"");
    let text = String::from_utf8(head.head().to_bytes()).expect("a head of ASCII");
    text.replace("Content-Length: 0", &format!("Content-Length: {LENGTH}")).into_bytes()
}

fn print(operated: &Operated, words: &[&str]) -> String {
    String::from_utf8(operated.type_in(words).stdout).expect("it is text")
}

fn json(operated: &Operated, words: &[&str]) -> Value {
    let text = print(operated, &[words, &["--json"]].concat());
    serde_json::from_str(&text).expect("it is JSON")
}

/// Whether it is 10 MiB, give or take one.
fn is_sent(bytes: f64) -> bool {
    (bytes - SENT as f64).abs() <= MIB as f64
}

/// An upload of two Fragments, of whose second one 10 MiB have been sent.
struct Half {
    operated: Operated,
    client: Connection,
}

impl Half {
    fn with(change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Self {
        let operated = Operated::with(|farm| change(farm.plain()));
        let entrance = operated.farm.entrance();
        let other = exchange(entrance, &create(TARGET).bytes()).expect("an answer");
        session_of(&other);
        let mut client = Connection::open(entrance).expect("the gateway accepts connections");
        let create = create(TARGET).with("User-Agent", AGENT).bytes();
        let id = session_of(&client.exchange(&create).expect("an answer"));
        client.send(&head_of(&id, 0, 2 * LENGTH)).expect("a head is taken");
        (0..SENT / MIB).for_each(|_| client.send(&[7; MIB as usize]).expect("a body is taken"));
        Self { operated, client }
    }

    fn farm(&self) -> &Farm {
        &self.operated.farm
    }

    /// Goes on a little with the upload, and looks at it as the API has it.
    fn look(&mut self) -> Value {
        self.client.send(&[7; KIB]).expect("a body is taken");
        let mut page = json(&self.operated, &["sessions", "list"]);
        page["sessions"][0].take()
    }
}

#[track_caller]
fn check(change: impl FnOnce(FarmBuilder) -> FarmBuilder) {
    let mut half = Half::with(change);
    let row = wait::some("10 MiB and a rate are seen", || {
        let row = half.look();
        let seen =
            is_sent(row["bytes_received"].as_f64()?) && row["bytes_per_second"].as_u64()? > 0;
        seen.then_some(row)
    });
    assert_eq!(
        (row["state"].as_str(), row["next_offset"].as_u64()),
        (Some("active"), Some(0)),
        "{row}"
    );
    assert_eq!(row["path"], TARGET.split('?').next().expect("a path"));
    assert_eq!(
        (row["client"].as_str(), row["waits_for"].as_str()),
        (Some("127.0.0.1"), Some("client"))
    );
    assert_eq!(row["user_agent"], AGENT);
    assert!(is_sent(row["under_way"]["range"]["bytes"].as_f64().expect("a number")), "{row}");
    let listed = print(&half.operated, &["sessions", "list", "--state", "active"]);
    let first: Vec<&str> = listed.lines().nth(1).expect("a row").split_whitespace().collect();
    assert!(first[0] == row["ref"] && first[2] == "7%" && first[3] == "0s", "{listed}");
    let name = row["backend"].as_str().expect("a name").to_owned();
    for (metric, labels) in [
        ("bitsgw_received_bytes_total", ("listener", "public")),
        ("bitsgw_backend_upload_bytes_total", ("backend", &*name)),
    ] {
        wait::until(metric, || is_sent(half.farm().metric(metric, &[labels])));
    }
    let left = |half: &Half| {
        let drain = json(&half.operated, &["backends", "list", &name]);
        drain["backends"][0]["bytes_left"].as_u64().expect("a number")
    };
    let before = left(&half);
    assert!(is_sent((2 * LENGTH - before) as f64), "{before}");
    half.client.send(&[7; MIB as usize]).expect("a body is taken");
    wait::until("less is left of a drain", || before - left(&half) >= MIB);
    half.client.reset();
}

#[test]
fn what_has_come_of_a_fragment_is_seen_in_list_api_and_metrics() {
    check(|farm| farm);
}

/// Not from socket to socket.
#[test]
fn what_has_come_of_a_fragment_that_is_copied_is_seen_too() {
    check(|farm| farm.set("limits.bandwidth", "\"1GiB\""));
}

#[test]
fn an_upload_whose_backend_is_away_is_seen_to_wait_for_it() {
    let operated = Operated::with(|farm| farm.set("failover.hold", "\"100s\""));
    let entrance = operated.farm.entrance();
    let id = session_of(&exchange(entrance, &create(TARGET).bytes()).expect("an answer"));
    let stub = operated.farm.stubs().iter().find(|stub| stub.stats().sessions == 1);
    let stub = stub.expect("an owner");
    stub.kill();
    let mut client = Connection::open(entrance).expect("the gateway accepts connections");
    client.send(&head_of(&id, 0, 2 * LENGTH)).expect("a head is taken");
    let row = wait::some("it waits", || {
        let page = json(&operated, &["sessions", "list", "--state", "waiting"]);
        page["sessions"].get(0).filter(|row| row["waits_for"] == "backend").cloned()
    });
    let shown = print(&operated, &["sessions", "show", row["ref"].as_str().expect("a name")]);
    assert!(shown.contains("waiting: waits for its backend, which is away\n"), "{shown}");
    stub.start();
    wait::until("its client is waited for", || {
        let page = json(&operated, &["sessions", "list"]);
        page["sessions"][0]["waits_for"] == "client"
    });
    client.reset();
    wait::until("nothing is under way", || {
        let page = json(&operated, &["sessions", "list"]);
        page["sessions"][0]["under_way"].is_null()
    });
}

#[test]
fn an_upload_whose_backend_reads_no_more_is_seen_to_wait_for_it() {
    let operated = Operated::with(|farm| farm.plain().link_backends());
    let entrance = operated.farm.entrance();
    let mut client = Connection::open(entrance).expect("the gateway accepts connections");
    let id = session_of(&client.exchange(&create(TARGET).bytes()).expect("an answer"));
    client.send(&head_of(&id, 0, 2 * LENGTH)).expect("a head is taken");
    (0..2).for_each(|backend| operated.farm.link(backend).stall());
    // More than the kernel keeps on the way, until nobody takes any more.
    let sending = std::thread::spawn(move || {
        let all = (0..LENGTH / MIB).try_for_each(|_| client.send(&[7; MIB as usize]));
        (client, all)
    });
    let row = wait::some("it waits", || {
        let page = json(&operated, &["sessions", "list", "--state", "waiting"]);
        page["sessions"].get(0).cloned()
    });
    assert_eq!(row["waits_for"], "write", "{row}");
    (0..2).for_each(|backend| operated.farm.link(backend).resume());
    let (mut client, all) = sending.join().expect("sending ends");
    assert!(all.is_ok(), "{all:?}");
    assert_eq!(client.read_answer().expect("an answer").status, 200);
}

#[test]
fn forgotten_uploads_start_over_and_no_others() {
    let operated = Operated::start();
    let entrance = operated.farm.entrance();
    let [idle, other] = ["/in/idle.bin", "/in/other.bin"].map(|target| {
        let id = session_of(&exchange(entrance, &create(target).bytes()).expect("an answer"));
        (target, id)
    });
    let forget = ["sessions", "forget", "--all", "--path", "idle.bin"];
    let asked = operated.answering(&forget, "n\n");
    assert_eq!(asked.status.code(), Some(1));
    let asked = operated.answering(&forget, "y\n");
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(said.starts_with("1 upload will be forgotten: "), "{said}");
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "forgotten: 1 upload\n");
    let send = |(target, id): &(&str, String)| {
        let packet = packets::fragment(target, id, "bytes 0-4/5", b"12345").bytes();
        exchange(entrance, &packet).expect("an answer")
    };
    packets::expect_not_found(e2e_tests::client::PacketType::Fragment, &send(&idle));
    assert_eq!(send(&other).status, 200);
}

/// What is found under a path after a kill, and the path that is shown of the upload.
#[track_caller]
fn check_names(mode: &str, asked: &[(&str, u64)], shown: bool) {
    let operated = Operated::with(|farm| farm.set("store.names", &format!("{mode:?}")));
    let entrance = operated.farm.entrance();
    let id = session_of(&exchange(entrance, &create(TARGET).bytes()).expect("an answer"));
    // Its pin is written behind the name of the first.
    session_of(&exchange(entrance, &create("/in/another.bin").bytes()).expect("an answer"));
    operated.farm.gateway().restart();
    let path = TARGET.split('?').next().expect("a path");
    for (wanted, found) in asked {
        let page = json(&operated, &["sessions", "list", "--path", wanted]);
        assert_eq!(page["matching"].as_u64(), Some(*found), "{mode} {wanted}: {page}");
    }
    let row = json(&operated, &["sessions", "show", &id]);
    let expected = shown.then_some(path);
    assert_eq!(row["path"].as_str(), expected, "{row}");
    assert_eq!(row["client"].as_str(), expected.map(|_| "127.0.0.1"), "{row}");
    if shown {
        let page = print(&operated, &["sessions", "list", "--client", "127.0.0.1"]);
        let file = path.rsplit('/').next().expect("a name");
        assert!(page.contains(file) && page.contains("127.0.0.1"), "{page}");
    }
}

#[test]
fn an_upload_that_sleeps_is_found_by_its_path_after_a_kill() {
    let path = TARGET.split('?').next().expect("a path");
    let part = &path[1..path.len() - 2];
    check_names("on", &[(path, 1), (part, 1), ("/nowhere", 0)], true);
    check_names("hashed", &[(path, 1), (part, 0)], false);
    check_names("off", &[(path, 0)], false);
}
