//! Somebody makes session ids up, as fast as the gateway answers.

use e2e_tests::client::{Connection, exchange};
use e2e_tests::clock;

use super::lost_table::{asking, begun};
use crate::packets::{close, fragment};

/// A session id that no server has given out.
fn forged(number: u32) -> String {
    format!("{{{number:08X}-0000-4000-8000-000000000000}}")
}

#[test]
fn a_flood_of_forged_ids_costs_each_backend_its_rate_and_nobody_else_anything() {
    const RATE: u32 = 5;
    let farm = asking(2)
        .set("sessions.ask_rate", &RATE.to_string())
        .set("failover.hold", "\"0s\"")
        .start();
    let uploads = begun(&farm, 3);
    let started = clock::now();
    let statuses = std::thread::scope(|scope| {
        let uploads: Vec<_> = uploads
            .into_iter()
            .map(|(upload, path, content)| scope.spawn(move || (upload.run(), path, content)))
            .collect();
        let mut statuses = Vec::new();
        for number in 0..400 {
            let id = forged(number);
            let packet = match number % 2 {
                0 => fragment("/in/x.bin", &id, "bytes 0-2/9", b"abc"),
                _ => close("/in/x.bin", &id),
            };
            let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
            if answer.status == 503 {
                assert_eq!(answer.field("Retry-After"), Some("60"), "{}", answer.head);
            }
            statuses.push(answer.status);
        }
        for upload in uploads {
            let (report, path, content) = upload.join().expect("the client does not panic");
            report.expect_smooth();
            farm.expect_stored(&path, &content);
        }
        statuses
    });
    // "Not found" where the backends could be asked, "not now" beyond that.
    assert!(statuses.iter().all(|status| [500, 503].contains(status)), "{statuses:?}");
    let limited = statuses.iter().filter(|&&status| status == 503).count();
    assert_eq!(farm.metric("bitsgw_asks_total", &[("result", "limited")]), limited as f64);
    // The burst, and the rate for as long as it lasted; a bound and not a measurement.
    let most = u64::from(RATE) * (2 + (clock::now() - started).as_secs());
    for stub in farm.stubs() {
        let questions = stub.stats().foreign;
        assert!(questions <= most, "{questions} questions at {}, {most} allowed", stub.name());
        assert!(questions > 0);
    }
    assert!(limited > 0, "the flood was no flood");
}

#[test]
fn packets_of_one_session_that_come_together_are_one_question() {
    let farm = asking(1).start();
    let stub = farm.stub(0);
    stub.fault(e2e_tests::farm::StubFault::on_any("delay").with("ms", 700).times(1));
    let packet = close("/in/x.bin", &forged(1));
    let mut connections: Vec<_> = (0..10)
        .map(|_| Connection::open(farm.entrance()).expect("the gateway accepts connections"))
        .collect();
    for connection in &mut connections {
        connection.send(&packet.bytes()).expect("sent");
    }
    for connection in &mut connections {
        let answer = connection.read_answer().expect("an answer");
        crate::packets::expect_not_found(packet.kind, &answer);
    }
    assert_eq!(stub.stats().foreign, 1);
}

#[test]
fn one_client_that_makes_ids_up_keeps_no_lost_session_from_its_server() {
    const LOST: u64 = 8;
    // Ten seconds of what one address can ask for, in sockets that wait.
    const FORGERS: u32 = 24;
    let farm = asking(2)
        .plain()
        .set("http.trusted_proxies", "[\"127.0.0.0/8\"]")
        .set("sessions.ask_rate", "20")
        .set("failover.hold", "\"3s\"")
        .start();
    let address = |packet: &crate::packets::Packet, client: &str| {
        packet.clone().with("X-Forwarded-For", client)
    };
    let ask = |packet: &crate::packets::Packet| {
        exchange(farm.entrance(), &packet.bytes()).expect("an answer")
    };
    let path = |number: u64| format!("/in/{number}.bin");
    let ids: Vec<_> = (0..LOST)
        .map(|number| {
            let id = crate::packets::session_of(&ask(&crate::packets::create(&path(number))));
            let first = fragment(&path(number), &id, "bytes 0-2/6", b"abc");
            assert_eq!(ask(&first).status, 200);
            id
        })
        .collect();
    farm.gateway().restart();
    let over = std::sync::atomic::AtomicBool::new(false);
    let made_up = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..FORGERS {
            scope.spawn(|| {
                let mut connection = None;
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let number = made_up.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let packet = address(&close("/in/x.bin", &forged(number)), "192.0.2.66");
                    let open = || Connection::open_plain(farm.entrance()).expect("a connection");
                    let forger = connection.get_or_insert_with(open);
                    let answer = forger.exchange(&packet.bytes()).expect("an answer");
                    assert!([500, 503].contains(&answer.status), "{}", answer.head);
                    if answer.closes() {
                        connection = None;
                    }
                }
            });
        }
        let limited = [("result", "limited")];
        e2e_tests::wait::until("the flood is more than one may ask", || {
            farm.metric("bitsgw_asks_total", &limited) > 0.0
        });
        let statuses: Vec<_> = (0..LOST)
            .map(|number| {
                let id = &ids[number as usize];
                let rest = fragment(&path(number), id, "bytes 3-5/6", b"def");
                ask(&address(&rest, &format!("192.0.2.{}", number + 1))).status
            })
            .collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(statuses.iter().all(|&status| status == 200), "{statuses:?}");
    });
    for (number, id) in ids.iter().enumerate() {
        let path = path(number as u64);
        assert_eq!(ask(&close(&path, id)).status, 200);
        farm.expect_stored(&path, &e2e_tests::data::Content::bytes(b"abcdef".to_vec()));
    }
}
