//! A server that hangs keeps a handful of new uploads, whatever else it answers.

use e2e_tests::client::{Connection, PacketType, exchange};
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::raw_backend::{RawBackend, Reply};
use e2e_tests::wait;

use crate::packets::{create, fragment, server, session_of};

/// A Create on a connection of its own. `None` if it waits at the server that hangs.
fn open(farm: &Farm, hanging: &RawBackend, number: usize) -> Result<String, Connection> {
    let target = format!("/in/{number}.bin");
    let mut connection = Connection::open(farm.entrance()).expect("a connection");
    connection.send(&create(&target).bytes()).expect("sent");
    let asked = || hanging.requests().iter().any(|seen| seen.target() == target);
    let mut answered = false;
    wait::until("a server has it", || {
        answered = connection.is_readable();
        answered || asked()
    });
    if asked() && !connection.is_readable() {
        return Err(connection);
    }
    Ok(session_of(&connection.read_answer().expect("an answer")))
}

fn farm(hanging: &RawBackend) -> Farm {
    Farm::of_stubs(2)
        .backend("up03", hanging.address())
        .set("placement.policy", "\"least-sessions\"")
        .set("health.create_wait", "\"1ms\"")
        .plain()
        .start()
}

/// Fault: backend hangs when uploads begin.
#[test]
fn a_server_that_hangs_keeps_a_handful_of_new_uploads() {
    let hanging = RawBackend::silent();
    let farm = farm(&hanging);
    let waiting: Vec<_> = (0..90).filter_map(|n| open(&farm, &hanging, n).err()).collect();
    assert!((2..=4).contains(&waiting.len()), "{} wait", waiting.len());
    farm.gateway().expect_logged("it does not answer Create-Sessions while other backends do");
    assert_eq!(farm.metric("bitsgw_barred_folders", &[("reason", "silent")]), 1.0);
    assert_eq!(farm.metric("bitsgw_backend_up", &[("backend", "up03")]), 1.0);
}

#[test]
fn good_answers_to_fragments_do_not_hide_that_creates_hang() {
    let agree = server(2);
    let opened = std::sync::atomic::AtomicBool::new(false);
    let hanging = RawBackend::answering(move |request| {
        use std::sync::atomic::Ordering::SeqCst;
        let create = request.packet_type() == "create-session";
        if create && opened.swap(true, SeqCst) { Reply::Wait } else { agree(request) }
    });
    let farm = farm(&hanging);
    let mut at_it = None;
    let mut waiting = Vec::new();
    for number in 0..90 {
        match open(&farm, &hanging, number) {
            Ok(id) if id.starts_with("{00000002-") => {
                at_it = Some((id, format!("/in/{number}.bin")))
            }
            Ok(_) => {}
            // The first one there has its answer on the way.
            Err(mut connection) if at_it.is_none() => {
                let answer = connection.read_answer().expect("an answer");
                at_it = Some((session_of(&answer), format!("/in/{number}.bin")));
            }
            Err(connection) => waiting.push(connection),
        }
        if let Some((id, target)) = &at_it {
            let packet = fragment(target, id, "bytes 0-2/9", b"abc");
            let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.head);
        }
    }
    assert!(at_it.is_some());
    assert!((2..=4).contains(&waiting.len()), "{} wait", waiting.len());
}

#[test]
fn a_create_that_waits_gets_its_session_in_the_end() {
    let farm = Farm::of_stubs(2)
        .set("placement.policy", "\"round-robin\"")
        .set("health.create_wait", "\"1ms\"")
        .start();
    let slow = StubFault::on(PacketType::CreateSession, "delay").with("ms", 700);
    farm.stub(0).fault(slow.times(20));
    let mut all: Vec<_> = (0..20)
        .map(|number| {
            let mut connection = Connection::open(farm.entrance()).expect("a connection");
            let target = format!("/in/{number}.bin");
            connection.send(&create(&target).bytes()).expect("sent");
            connection
        })
        .collect();
    for connection in &mut all {
        session_of(&connection.read_answer().expect("an answer"));
    }
    let opened: u64 = farm.stubs().iter().map(|stub| stub.stats().sessions).sum();
    assert_eq!(opened, 20, "none was asked for twice");
}
