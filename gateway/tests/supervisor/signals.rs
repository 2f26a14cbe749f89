//! Signals that must not end the process, and one that comes early.

use rustix::process::Signal;

use crate::backend::Backend;
use crate::child::Part;
use crate::process::Process;

#[test]
fn sighup_runs_the_reload_hook_and_the_process_answers_afterwards() {
    let backend = Backend::start();
    let mut process = Process::start(&Part::new(backend.address));
    process.signal(Signal::HUP);
    process.wait_for("reload");
    process.expect_serving(&backend);
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn sighup_leaves_a_request_under_way_alone() {
    let backend = Backend::start();
    let process = Process::start(&Part::new(backend.address));
    let mut client = process.client();
    client.send();
    let request = backend.request();
    process.signal(Signal::HUP);
    process.wait_for("reload");
    request.answer(b"undisturbed");
    assert_eq!(client.answer().body, b"undisturbed");
    client.send();
    backend.request().answer(b"same connection");
    assert_eq!(client.answer().body, b"same connection");
}

#[test]
fn sigusr1_runs_the_log_hook_and_the_process_answers_afterwards() {
    let backend = Backend::start();
    let process = Process::start(&Part::new(backend.address));
    process.signal(Signal::USR1);
    process.wait_for("reopen");
    process.expect_serving(&backend);
}

#[test]
fn without_hooks_sighup_and_sigusr1_say_what_they_do_not_do() {
    let backend = Backend::start();
    let process =
        Process::start(&Part::new(backend.address).with(|part| part.default_hooks = true));
    process.signal(Signal::HUP);
    process.wait_for_log("INFO", "reload is not supported yet, restart to apply");
    process.signal(Signal::USR1);
    process.wait_for_log("INFO", "no log file is open, nothing to reopen");
    process.expect_serving(&backend);
}

#[test]
fn sigpipe_is_ignored() {
    let backend = Backend::start();
    let process = Process::start(&Part::new(backend.address));
    process.signal(Signal::PIPE);
    process.signal(Signal::HUP);
    process.wait_for("reload");
    process.expect_serving(&backend);
}

#[test]
fn a_signal_before_the_sockets_are_open_is_not_lost() {
    let backend = Backend::start();
    let mut process =
        Process::spawn(&Part::new(backend.address).with(|part| part.early_signal = true));
    assert_eq!(process.exit_code(), 0, "{}", process.errors());
    process.expect_order(&["draining", "traffic ended", "Drained { cut: 0 }"]);
    assert!(!process.ready_file().exists());
}
