//! A crowd of connections that are idle or slow, and a flood of new sessions: threats T7, T8 and T9.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e_tests::client::{Connection, FragmentSizes};
use e2e_tests::crowd::{Crowd, idle, run};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, Tls};

use crate::packets::create;

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

/// Item 88.
///
/// Threat: T7.
#[test]
fn t7_a_flood_of_creates_stops_at_the_cap_and_an_upload_goes_on() {
    let farm = Farm::of_stubs(2).set("sessions.limit", &LIMIT.to_string()).start();
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(50_000));
    let content = Content::seeded(1, 2_000_000);
    let (opened, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (opened, refused, over, farm) = (&opened, &refused, &over, &farm);
        let (url, content) = (farm.url("/in/upload.bin"), &content);
        let upload = scope.spawn(move || client.upload(&url, content));
        e2e_tests::wait::until("the upload has its session", || {
            farm.metric("bitsgw_sessions_created_total", &[]) >= 1.0
        });
        for flooder in 0..8 {
            scope.spawn(move || {
                let connect = || Connection::open(farm.entrance()).expect("a connection");
                let mut connection = connect();
                let mut number = 0;
                while !over.load(Ordering::Relaxed) || refused.load(Ordering::Relaxed) < 100 {
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
        over.store(true, Ordering::Relaxed);
    });
    farm.expect_stored("/in/upload.bin", &content);
    // Its end made room for one more.
    assert!((LIMIT - 1..=LIMIT).contains(&opened.load(Ordering::Relaxed)), "{opened:?}");
    let sessions = farm.metric("bitsgw_sessions", &[]);
    assert!(sessions <= LIMIT as f64, "{sessions}");
    farm.expect_healthy();
}
