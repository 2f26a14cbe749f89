//! From nothing to serving, and the ways this fails.

use rustix::process::Signal;
use std::net::TcpListener;

use crate::backend::{Backend, Client};
use crate::child::{Fault, Part, run_if_child};
use crate::process::{Process, ask_side, through_shell};

#[test]
fn the_process_reports_its_ports_and_ends_with_0() {
    run_if_child();
    let backend = Backend::start();
    let mut process = Process::start(&Part::new(backend.address));
    let text = std::fs::read_to_string(process.ready_file()).expect("a ready file");
    let (public, ops) = (process.address("public"), process.address("ops"));
    assert_ne!((public.port(), ops.port()), (0, 0));
    assert_eq!(
        text,
        format!(
            "{{\"pid\":{},\"listeners\":{{\"public\":\"{public}\",\"ops\":\"{ops}\"}}}}\n",
            process.pid()
        )
    );
    process.expect_serving(&backend);
    assert_eq!(ask_side(ops), "serving");
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), 0, "{}", process.errors());
    assert!(!process.ready_file().exists());
}

#[test]
fn several_traffic_listeners_are_all_served() {
    let backend = Backend::start();
    let free = "127.0.0.1:0".parse().expect("an address");
    let part =
        Part::new(backend.address).with(|part| part.listeners.push(("second".to_owned(), free)));
    let process = Process::start(&part);
    for name in ["public", "second"] {
        let mut client = Client::connect(process.address(name));
        client.send();
        backend.request().answer(name.as_bytes());
        assert_eq!(client.answer().body, name.as_bytes());
    }
}

#[test]
fn a_taken_port_ends_the_process_with_74_and_names_listener_and_address() {
    let backend = Backend::start();
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("its address");
    let mut process =
        Process::spawn(&Part::new(backend.address).with(|part| part.listeners[0].1 = address));
    assert_eq!(process.exit_code(), 74);
    let expected = format!(
        "error: listener public: cannot listen on {address}: the address is in use by another process\n"
    );
    assert!(process.errors().contains(&expected), "{}", process.errors());
    assert!(!process.ready_file().exists());
}

#[test]
fn a_ready_file_that_cannot_be_written_ends_the_process_with_74() {
    let backend = Backend::start();
    let part = Part::new(backend.address).with(|part| part.ready_file = "missing/ready".into());
    let mut process = Process::spawn(&part);
    assert_eq!(process.exit_code(), 74);
    assert!(
        process.errors().contains("error: cannot write the ready file missing/ready"),
        "{}",
        process.errors()
    );
}

#[test]
fn a_service_that_panics_at_the_start_ends_the_process_before_it_is_ready() {
    let backend = Backend::start();
    let part = Part::new(backend.address).with(|part| part.fault = Fault::ServicePanicsAtStart);
    let mut process = Process::spawn(&part);
    assert_eq!(process.exit_code(), 1);
    assert!(
        process.errors().contains("error: traffic panicked: no certificate\n"),
        "{}",
        process.errors()
    );
    assert!(!process.events().contains(&"ready".to_owned()));
    assert!(!process.ready_file().exists());
}

#[test]
fn a_listener_that_no_service_takes_is_an_error() {
    let backend = Backend::start();
    let part = Part::new(backend.address).with(|part| part.fault = Fault::ListenerWithoutService);
    let mut process = Process::spawn(&part);
    assert_eq!(process.exit_code(), 1);
    assert!(
        process.errors().contains("error: listener public on 127.0.0.1:"),
        "{}",
        process.errors()
    );
    assert!(process.errors().contains(" has no service\n"), "{}", process.errors());
}

#[test]
fn a_service_that_wants_an_address_of_its_own_is_an_error() {
    let backend = Backend::start();
    let part = Part::new(backend.address).with(|part| part.fault = Fault::ServiceWithoutListener);
    let mut process = Process::spawn(&part);
    assert_eq!(process.exit_code(), 1);
    let expected = "error: service traffic wants 127.0.0.1:1, which is not a socket of its own\n";
    assert!(process.errors().contains(expected), "{}", process.errors());
}

#[test]
fn the_soft_limit_on_open_files_is_raised_to_the_hard_one() {
    let backend = Backend::start();
    let part = Part::new(backend.address);
    let shell = through_shell("ulimit -S -n 64 && exec \"$0\" \"$@\"", &part);
    let process = Process::spawn_through(&part, shell);
    process.wait_for("ready");
    let limits =
        std::fs::read_to_string(format!("/proc/{}/limits", process.pid())).expect("its limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the line");
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(fields[3], fields[4], "{line}");
    assert_ne!(fields[3], "64");
    process.wait_for_log("INFO", "raised the limit on open files");
}
