//! One line in the access log for each request, however it ends.

use e2e_tests::client::Connection;
use e2e_tests::farm::{Farm, Signal};
use e2e_tests::wait;

use crate::packets::{TARGET, create, fragment, session_of};

#[test]
fn a_request_that_the_end_of_the_process_cuts_off_is_told_once() {
    let farm = Farm::of_stubs(1).set("timeouts.shutdown", "\"1s\"").start();
    let mut connection = Connection::open(farm.entrance()).expect("a connection");
    let opened = connection.exchange(&create(TARGET).bytes()).expect("an answer");
    let packet = fragment(TARGET, &session_of(&opened), "bytes 0-9/20", b"0123456789");
    let bytes = packet.with("User-Agent", "cut-off").bytes();
    connection.send(&bytes[..bytes.len() - 5]).expect("sent");
    wait::until("its body is awaited", || farm.metric("bitsgw_requests_in_flight", &[]) == 1.0);
    farm.gateway().signal(Signal::TERM);
    let _ = farm.gateway().wait_ended();
    let log = farm.gateway().access_log();
    let lines: Vec<_> = log.iter().filter(|line| line["user_agent"] == "cut-off").collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["packet"], "fragment");
    assert!(lines[0].get("status").is_none(), "{}", lines[0]);
}
