//! A crowd of connections that are idle or slow, and a flood of new sessions: threats T7, T8 and T9.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e_tests::client::{Connection, FragmentSizes};
use e2e_tests::crowd::{Crowd, idle, run};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, Tls};
use e2e_tests::wait::SetOnDrop;

use crate::packets::{Packet, close, create, fragment, session_of};

/// Item 88.
///
/// Threat: T8.
#[test]
fn t8_uploads_end_among_idle_and_dribbling_connections() {
    let crowd = Crowd { idle: 1_000, dribbling: 200, uploads: 20, upload_bytes: 500_000 };
    let held = run(crowd);
    assert!(held.each_idle(&crowd) <= 16 * 1024, "{held:?}");
    assert!(held.dribbled > 0, "{held:?}");
}

/// Threat: T9.
#[test]
fn a_connection_that_waits_holds_16_kib_at_most_over_tls_too() {
    for tls in [Tls::Front, Tls::Mutual] {
        let each = idle(1_000, tls);
        assert!(each > 0 && each <= 16 * 1024, "{tls:?}: {each} bytes");
    }
}

const LIMIT: usize = 300;

/// Sessions, connections and whatever else a flood makes, over and above the memory of an upload.
const FLOOD_MEMORY: u64 = 24 << 20;

/// Item 88.
///
/// Threat: T7.
#[test]
fn t7_a_flood_of_creates_stops_at_the_cap_and_an_upload_goes_on() {
    let farm = Farm::of_stubs(2)
        .set("sessions.limit", &LIMIT.to_string())
        .set("sessions.limit_per_client", "0")
        .start();
    // What is made once is made by an upload of the same kind.
    let first = Content::seeded(2, 2_000_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(50_000));
    client.upload(&farm.url("/in/first.bin"), &first).expect_smooth();
    let before = farm.gateway().rss_bytes();
    let content = Content::seeded(1, 2_000_000);
    let (opened, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (opened, refused, over, farm) = (&opened, &refused, &over, &farm);
        let (url, content) = (farm.url("/in/upload.bin"), &content);
        // Ends the flood also when something here fails.
        let _end = SetOnDrop(over);
        let upload = scope.spawn(move || client.upload(&url, content));
        e2e_tests::wait::until("the upload has its session", || {
            farm.metric("bitsgw_sessions_created_total", &[]) >= 2.0
        });
        for flooder in 0..8 {
            scope.spawn(move || {
                let connect = || Connection::open(farm.entrance()).expect("a connection");
                let mut connection = connect();
                let mut number = 0;
                while !over.load(Ordering::SeqCst) {
                    number += 1;
                    let packet = create(&format!("/flood/{flooder}-{number}.bin"));
                    let answer = connection.exchange(&packet.bytes()).expect("an answer");
                    match answer.status {
                        200 => opened.fetch_add(1, Ordering::Relaxed),
                        503 => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}: {}", answer.head),
                    };
                    if answer.status == 503 {
                        assert_eq!(answer.field("Retry-After"), Some("60"), "{}", answer.head);
                    }
                    if answer.closes() {
                        connection = connect();
                    }
                }
            });
        }
        upload.join().expect("no panic").expect_smooth();
        e2e_tests::wait::until("the flood has met its limit", || {
            refused.load(Ordering::Relaxed) >= 100
        });
    });
    farm.expect_stored("/in/upload.bin", &content);
    let grown = farm.gateway().rss_bytes().saturating_sub(before);
    assert!(
        grown < FLOOD_MEMORY,
        "{grown} bytes for a flood of {} Creates",
        total(&[&opened, &refused])
    );
    // Its end made room for one more.
    assert!((LIMIT - 1..=LIMIT).contains(&opened.load(Ordering::Relaxed)), "{opened:?}");
    let sessions = farm.metric("bitsgw_sessions", &[]);
    assert!(sessions <= LIMIT as f64, "{sessions}");
    farm.expect_healthy();
}

fn total(counts: &[&AtomicUsize]) -> usize {
    counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
}

/// What of one client comes beyond its limits.
#[derive(Default)]
struct Flood {
    over: AtomicBool,
    opened: AtomicUsize,
    refused: AtomicUsize,
    turned_away: AtomicUsize,
}

impl Flood {
    /// Opens sessions over new connections for as long as the flood lasts, and holds the connections.
    fn run(&self, farm: &Farm, flooder: usize) {
        let mut held: Vec<Connection> = Vec::new();
        let mut number = 0;
        while !self.over.load(Ordering::SeqCst) {
            number += 1;
            let mut connection = Connection::open_plain(farm.entrance()).expect("a connection");
            let packet = create(&format!("/flood/{flooder}-{number}.bin"))
                .with("X-Forwarded-For", "192.0.2.66");
            // Beyond the cap the answer comes before the request, which may find the way closed.
            let _ = connection.send(&packet.bytes());
            let Ok(answer) = connection.read_answer() else { continue };
            let (status, closes) = (answer.status, answer.closes());
            assert!([200, 503].contains(&status), "{}", answer.head);
            match (status, closes) {
                (200, _) => self.opened.fetch_add(1, Ordering::Relaxed),
                (_, true) => self.turned_away.fetch_add(1, Ordering::Relaxed),
                (_, false) => self.refused.fetch_add(1, Ordering::Relaxed),
            };
            if held.len() > 20 {
                held.clear();
            }
            held.push(connection);
        }
    }

    fn missing(&self) -> bool {
        [&self.refused, &self.turned_away].iter().any(|count| count.load(Ordering::Relaxed) < 50)
    }
}

/// Item 88.
///
/// Threat: T7.
#[test]
fn a_flood_of_one_client_stops_at_its_limits_and_the_upload_of_another_goes_on() {
    const EACH: usize = 20;
    let farm = Farm::of_stubs(2)
        .plain()
        .set("http.trusted_proxies", "[\"127.0.0.0/8\"]")
        .set("sessions.limit_per_client", &EACH.to_string())
        .set("limits.connections", "40")
        .start();
    let (flood, content) = (Flood::default(), Content::seeded(1, 2_000_000));
    let before = farm.gateway().rss_bytes();
    let ask = |connection: &mut Connection, packet: &Packet| {
        let packet = packet.clone().with("X-Forwarded-For", "192.0.2.1");
        connection.exchange(&packet.bytes()).expect("an answer")
    };
    // On a connection of its own from before the flood, as a client has it that is uploading.
    let mut upload = Connection::open_plain(farm.entrance()).expect("a connection");
    let id = session_of(&ask(&mut upload, &create("/in/upload.bin")));
    let bytes = content.to_vec();
    std::thread::scope(|scope| {
        let _end = SetOnDrop(&flood.over);
        for flooder in 0..4 {
            let (flood, farm) = (&flood, &farm);
            scope.spawn(move || flood.run(farm, flooder));
        }
        e2e_tests::wait::until("the flood has met its limits", || !flood.missing());
        for (part, piece) in bytes.chunks(100_000).enumerate() {
            let first = part * 100_000;
            let range = format!("bytes {first}-{}/{}", first + piece.len() - 1, bytes.len());
            let answer = ask(&mut upload, &fragment("/in/upload.bin", &id, &range, piece));
            assert_eq!(answer.status, 200, "{}", answer.head);
        }
        let answer = ask(&mut upload, &close("/in/upload.bin", &id));
        assert_eq!(answer.status, 200, "{}", answer.head);
    });
    farm.expect_stored("/in/upload.bin", &content);
    assert_eq!(flood.opened.load(Ordering::Relaxed), EACH);
    assert_eq!(farm.metric("bitsgw_sessions", &[]), EACH as f64);
    let grown = farm.gateway().rss_bytes().saturating_sub(before);
    assert!(grown < FLOOD_MEMORY, "{grown} bytes");
    farm.expect_healthy();
}
