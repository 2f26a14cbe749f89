//! How a process stops that is asked to.

use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::backend::{Backend, Client};
use crate::child::{Fault, Part};
use crate::process::{Process, ask_side};

fn refuses(process: &Process, address: std::net::SocketAddr) {
    process.until("a refused connection", || TcpStream::connect(address).is_err());
}

/// Drains with one request under way, and checks that the process ends with it and not before.
#[track_caller]
fn drains_with_the_last_request(part: &Part, backend: &Backend, signal: Signal) {
    let mut process = Process::start(part);
    let (address, ops) = (process.address("public"), process.address("ops"));
    let mut client = process.client();
    client.send();
    let request = backend.request();
    process.signal(signal);
    process.wait_for("traffic ended");
    refuses(&process, address);
    assert_eq!(ask_side(ops), "draining", "the side listener answers to the end");
    assert!(process.is_running());
    request.answer(b"at last");
    assert_eq!(client.answer().body, b"at last");
    client.expect_closed();
    assert_eq!(process.exit_code(), 0, "{}", process.errors());
    process.expect_order(&[
        "ready",
        "draining",
        "traffic ended",
        "answered",
        "task ended",
        "side ended",
        "Drained { cut: 0 }",
    ]);
    assert!(!process.ready_file().exists());
}

#[test]
fn sigterm_waits_for_the_last_request_and_ends_with_it() {
    let backend = Backend::start();
    drains_with_the_last_request(&Part::new(backend.address), &backend, Signal::TERM);
}

#[test]
fn sigint_drains_too() {
    let backend = Backend::start();
    drains_with_the_last_request(&Part::new(backend.address), &backend, Signal::INT);
}

#[test]
fn sigquit_drains_too() {
    let backend = Backend::start();
    drains_with_the_last_request(&Part::new(backend.address), &backend, Signal::QUIT);
}

#[test]
fn one_thread_and_many_drain_the_same() {
    for threads in [1, 8] {
        let backend = Backend::start();
        let part = Part::new(backend.address).with(|part| part.threads = threads);
        drains_with_the_last_request(&part, &backend, Signal::TERM);
    }
}

#[test]
fn idle_connections_close_while_a_request_is_still_under_way() {
    let backend = Backend::start();
    let mut process = Process::start(&Part::new(backend.address));
    let mut idle = process.client();
    idle.send();
    backend.request().answer(b"kept alive");
    assert_eq!(idle.answer().body, b"kept alive");
    let mut silent = process.client();
    let mut halfway = process.client();
    halfway.send_raw(b"GET /file HTTP/1.1\r\nHo");
    let mut busy = process.client();
    busy.send();
    let request = backend.request();
    process.signal(Signal::TERM);
    idle.expect_closed();
    silent.expect_closed();
    halfway.expect_closed();
    assert!(process.is_running());
    request.answer(b"done");
    let answer = busy.answer();
    assert_eq!(answer.body, b"done");
    assert!(answer.head.to_ascii_lowercase().contains("connection: close\r\n"), "{}", answer.head);
    assert_eq!(process.exit_code(), 0);
    process.expect_order(&[
        "draining",
        "traffic ended",
        "answering while shutting down",
        "answered",
    ]);
}

#[test]
fn an_idle_process_ends_at_once() {
    let backend = Backend::start();
    let mut process = Process::start(&Part::new(backend.address));
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), 0);
    process.expect_order(&["ready", "draining", "traffic ended", "Drained { cut: 0 }"]);
}

#[test]
fn the_last_bytes_of_an_answer_reach_a_client_that_reads_late() {
    let backend = Backend::start();
    let mut process = Process::start(&Part::new(backend.address));
    let mut client = process.client();
    client.send();
    let request = backend.request();
    process.signal(Signal::TERM);
    process.wait_for("traffic ended");
    // Small enough for what the kernel takes on the way: the process is done with it long before
    // the client.
    let body: Vec<u8> = (0..64 * 1024_u32).map(|at| at.to_le_bytes()[0]).collect();
    request.answer(&body);
    assert_eq!(process.exit_code(), 0, "{}", process.errors());
    assert_eq!(client.answer().body, body);
    client.expect_closed();
}

#[test]
fn an_upload_half_sent_is_received_to_its_end() {
    let backend = Backend::start();
    let mut process = Process::start(&Part::new(backend.address));
    let mut client = process.client();
    client
        .send_raw(b"BITS_POST /file HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nfirst");
    let request = backend.request();
    process.signal(Signal::TERM);
    process.wait_for("traffic ended");
    client.send_raw(b" last");
    request.answer(b"got ");
    assert_eq!(client.answer().body, b"got first last");
    client.expect_closed();
    assert_eq!(process.exit_code(), 0);
    process.expect_order(&["traffic ended", "answered", "Drained { cut: 0 }"]);
}

#[test]
fn a_request_that_the_proxy_has_not_seen_yet_is_served() {
    let backend = Backend::start();
    let part = Part::new(backend.address).with(|part| part.hold_connections = true);
    let mut process = Process::start(&part);
    let mut client = process.client();
    client.send();
    process.wait_for("accepted");
    process.signal(Signal::TERM);
    backend.request().answer(b"seen at last");
    assert_eq!(client.answer().body, b"seen at last");
    assert_eq!(process.exit_code(), 0);
    process.expect_order(&["accepted", "draining", "answered", "Drained { cut: 0 }"]);
}

#[test]
fn a_connection_that_is_closing_after_its_request_is_waited_for() {
    let backend = Backend::start();
    let part = Part::new(backend.address).with(|part| part.linger = true);
    let mut process = Process::start(&part);
    let mut client = process.client();
    client.send();
    backend.request().answer(b"answered");
    assert_eq!(client.answer().body, b"answered");
    process.wait_for("request gone");
    process.signal(Signal::TERM);
    process.wait_for("traffic ended");
    process.signal(Signal::USR1);
    assert_eq!(process.exit_code(), 0);
    process.expect_order(&["request gone", "traffic ended", "reopen", "task ended"]);
}

#[test]
fn requests_that_outlast_the_timeout_are_cut_and_counted() {
    let backend = Backend::start();
    let part =
        Part::new(backend.address).with(|part| part.shutdown_timeout = Duration::from_millis(50));
    let mut process = Process::start(&part);
    let mut clients: Vec<Client> = (0..2).map(|_| process.client()).collect();
    let requests: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            client.send();
            backend.request()
        })
        .collect();
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), 0, "{}", process.errors());
    process.expect_order(&[
        "draining",
        "request gone",
        "request gone",
        "task ended",
        "side ended",
        "Drained { cut: 2 }",
    ]);
    let errors = process.errors();
    let warning =
        errors.lines().find(|line| line.contains("the time to drain is over")).expect("a warning");
    assert!(warning.contains("\"requests\":2") && warning.contains("WARN"), "{warning}");
    clients.iter_mut().for_each(Client::expect_closed);
    drop(requests);
}

#[test]
fn a_second_signal_ends_the_process_at_once_with_1() {
    for second in [Signal::TERM, Signal::INT] {
        let backend = Backend::start();
        let mut process = Process::start(&Part::new(backend.address));
        let mut client = process.client();
        client.send();
        let _request = backend.request();
        process.signal(Signal::TERM);
        process.wait_for("traffic ended");
        process.signal(Signal::QUIT);
        process.signal(Signal::HUP);
        process.wait_for("reload");
        assert!(process.is_running(), "only SIGTERM and SIGINT mean now");
        process.signal(second);
        assert_eq!(process.exit_code(), 1);
        process.expect_order(&["draining", "Forced { cut: 1 }"]);
        assert!(!process.events().contains(&"task ended".to_owned()));
        assert!(process.ready_file().exists(), "removed on a clean exit only");
    }
}

#[test]
fn everything_is_served_during_the_shutdown_delay() {
    let backend = Backend::start();
    let part =
        Part::new(backend.address).with(|part| part.shutdown_delay = Duration::from_secs(3600));
    let mut process = Process::start(&part);
    let mut idle = process.client();
    idle.send();
    backend.request().answer(b"before");
    idle.answer();
    process.signal(Signal::TERM);
    process.wait_for("draining");
    assert_eq!(ask_side(process.address("ops")), "draining");
    process.expect_serving(&backend);
    idle.send();
    backend.request().answer(b"during");
    assert_eq!(idle.answer().body, b"during");
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), 1);
    assert!(!process.events().contains(&"traffic ended".to_owned()));
}

#[test]
fn the_shutdown_delay_ends_by_itself() {
    let backend = Backend::start();
    let part =
        Part::new(backend.address).with(|part| part.shutdown_delay = Duration::from_millis(20));
    let mut process = Process::start(&part);
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), 0);
    process.expect_order(&["draining", "traffic ended", "Drained { cut: 0 }"]);
}

#[test]
fn the_ready_file_of_a_successor_is_left_alone() {
    let backend = Backend::start();
    let mut process = Process::start(&Part::new(backend.address));
    let theirs = process.ready_file().with_file_name("successor");
    std::fs::copy(process.ready_file(), &theirs).expect("copied");
    std::fs::rename(&theirs, process.ready_file()).expect("replaced");
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), 0);
    assert!(process.ready_file().exists());
}

#[test]
fn a_task_that_fails_while_stopping_makes_the_exit_code_1() {
    let backend = Backend::start();
    let part = Part::new(backend.address).with(|part| part.fault = Fault::TaskFailsWhileStopping);
    let mut process = Process::start(&part);
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), 1);
    process.expect_order(&["task ended", "side ended"]);
    assert!(
        process.errors().contains("keeper ended unexpectedly: the last rows are lost"),
        "{}",
        process.errors()
    );
}
