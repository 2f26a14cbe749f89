//! What the process does when a part of it is gone: it does not live on.

use rustix::process::Signal;

use crate::backend::Backend;
use crate::child::{Fault, Part};
use crate::process::Process;

#[track_caller]
fn ends_with_1(fault: Fault, reason: &str) {
    let backend = Backend::start();
    let mut process = Process::start(&Part::new(backend.address).with(|part| part.fault = fault));
    process.expect_serving(&backend);
    process.signal(Signal::USR1);
    assert_eq!(process.exit_code(), 1, "{}", process.errors());
    process.expect_order(&["ready", "reopen", "draining"]);
    let errors = process.errors();
    assert!(errors.contains("stopping after a failure"), "{errors}");
    assert!(errors.contains(&format!("error: {reason}\n")), "{errors}");
}

#[test]
fn a_service_that_panics_ends_the_process() {
    ends_with_1(Fault::ServicePanics, "traffic panicked: the service lost it");
}

#[test]
fn a_service_that_ends_ends_the_process() {
    ends_with_1(Fault::ServiceEnds, "traffic ended unexpectedly");
}

#[test]
fn a_task_that_panics_ends_the_process() {
    ends_with_1(Fault::TaskPanics, "keeper panicked: the keeper lost it");
}

#[test]
fn a_task_that_ends_early_ends_the_process() {
    ends_with_1(Fault::TaskEnds, "keeper ended unexpectedly");
}

#[test]
fn a_side_listener_that_fails_ends_the_process() {
    ends_with_1(Fault::SideFails, "ops ended unexpectedly");
}

#[test]
fn a_request_under_way_is_finished_when_a_task_fails() {
    let backend = Backend::start();
    let mut process =
        Process::start(&Part::new(backend.address).with(|part| part.fault = Fault::TaskPanics));
    let mut client = process.client();
    client.send();
    let request = backend.request();
    process.signal(Signal::USR1);
    process.wait_for("traffic ended");
    request.answer(b"finished");
    assert_eq!(client.answer().body, b"finished");
    assert_eq!(process.exit_code(), 1);
}
