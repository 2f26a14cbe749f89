//! The sockets pass from one process to the next.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::backend::{Backend, Client};
use crate::child::{Fault, Part};
use crate::load::Load;
use crate::process::{Process, ask_side};
use crate::reload::{config, write};

/// Where the processes of one test meet.
struct Stage {
    folder: TempDir,
    backend: Backend,
}

impl Stage {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), backend: Backend::start() }
    }

    fn part(&self) -> Part {
        Part::new(self.backend.address).with(|part| {
            part.ready_file = self.folder.path().join("ready");
            part.upgrade_socket = Some(self.folder.path().join("upgrade.sock"));
        })
    }

    fn start(&self) -> Process {
        Process::start(&self.part())
    }

    fn successor(&self) -> Part {
        self.part().with(|part| part.upgrade = true)
    }

    /// Starts a successor and waits until it serves.
    fn upgrade(&self) -> Process {
        Process::start(&self.successor())
    }

    /// Asserts that an upload gets through, and returns who has served it.
    #[track_caller]
    fn server(&self, address: SocketAddr) -> u32 {
        let mut client = Client::connect(address);
        client.send();
        self.backend.request().answer(b"served");
        client.answer().process()
    }
}

/// Asserts that a process has ended because of a successor, with nothing cut.
#[track_caller]
fn ends_handed_over(process: &mut Process) {
    assert_eq!(process.exit_code(), 0, "{}", process.errors());
    process.expect_order(&[
        "ready",
        "asked for the sockets",
        "side ended",
        "draining",
        "traffic ended",
        "task ended",
        "HandedOver { cut: 0 }",
    ]);
}

#[test]
fn three_upgrades_and_twenty_one_reloads_under_load_fail_no_request() {
    let stage = Stage::new();
    stage.backend.answer_everything();
    let file = stage.folder.path().join("gw.toml");
    let mut weight = 1;
    write(&file, &config(weight));
    let part = |upgrade| {
        stage.part().with(|part| (part.upgrade, part.config) = (upgrade, Some(file.clone())))
    };
    let mut old = Process::start(&part(false));
    let (public, ops) = (old.address("public"), old.address("ops"));
    let load = Load::start(public, ops);
    old.until("the load", || load.is_served_by(old.pid()));
    for _ in 0..3 {
        let new = Process::start(&part(true));
        assert_eq!((new.address("public"), new.address("ops")), (public, ops));
        new.until("the load", || load.is_served_by(new.pid()));
        ends_handed_over(&mut old);
        new.wait_for("old gone");
        new.expect_order(&["not alone", "ready", "old gone"]);
        assert!(new.ready_file().exists());
        for _ in 0..7 {
            write(&file, &config(weight + 1));
            new.signal(Signal::HUP);
            new.wait_for(&format!("applied {weight} -> {}", weight + 1));
            weight += 1;
        }
        old = new;
    }
    let side = load.answered_at_all("side");
    assert!(side > 0, "the side listener was asked");
    load.expect_no_failure();
    old.signal(Signal::TERM);
    assert_eq!(old.exit_code(), 0, "{}", old.errors());
    old.expect_order(&["draining", "side ended", "Drained { cut: 0 }"]);
    assert!(!stage.part().upgrade_socket.expect("a path").exists(), "nobody comes after us");
}

#[test]
fn a_request_under_way_and_idle_connections_outlive_the_hand_over() {
    let stage = Stage::new();
    let mut old = stage.start();
    let mut busy = old.client();
    busy.send_raw(b"BITS_POST /file HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nfirst");
    let request = stage.backend.request();
    let mut idle = old.client();
    idle.send();
    stage.backend.request().answer(b"before");
    assert!(!idle.answer().head.to_ascii_lowercase().contains("connection: close"));
    let mut silent = old.client();

    let new = stage.upgrade();
    old.wait_for_log("INFO", "accepting no more");
    // A loop may accept one connection after it was told to end.
    new.until("its turn", || stage.server(new.address("public")) == new.pid());
    assert_eq!(ask_side(new.address("ops")), "serving");

    for connection in [&mut idle, &mut silent] {
        connection.send();
        stage.backend.request().answer(b"one more");
        let answer = connection.answer();
        assert_eq!(answer.process(), old.pid());
        assert_eq!(answer.field("connection").as_deref(), Some("close"));
        connection.expect_closed();
    }
    assert!(old.is_running());
    assert!(!new.events().contains(&"old gone".to_owned()));
    busy.send_raw(b" last");
    request.answer(b"got ");
    let answer = busy.answer();
    assert_eq!(answer.body, b"got first last");
    assert_eq!(answer.field("connection").as_deref(), Some("close"));
    ends_handed_over(&mut old);
    new.wait_for("old gone");
}

#[test]
fn idle_connections_close_when_patience_ends_or_by_sigterm() {
    for by_signal in [true, false] {
        let stage = Stage::new();
        let part = stage.part().with(|part| {
            if !by_signal {
                part.patience = Duration::from_millis(20);
            }
        });
        let mut old = Process::start(&part);
        let mut idle = old.client();
        idle.send();
        stage.backend.request().answer(b"before");
        idle.answer();
        let _new = stage.upgrade();
        if by_signal {
            old.wait_for("draining");
            assert!(old.is_running());
            old.signal(Signal::TERM);
        }
        idle.expect_closed();
        ends_handed_over(&mut old);
    }
}

#[track_caller]
fn is_unharmed_by(fault: Fault, code: i32) {
    let stage = Stage::new();
    let mut old = stage.start();
    let address = old.address("public");
    let mut kept = old.client();
    kept.send();
    stage.backend.request().answer(b"before");
    kept.answer();
    let mut new = Process::spawn(&stage.successor().with(|part| part.fault = fault));
    if fault == Fault::NeverLoads {
        new.wait_for("loading");
        assert_eq!(stage.server(address), old.pid(), "it serves while the other loads");
        new.signal(Signal::KILL);
        new.expect_killed();
    } else {
        assert_eq!(new.exit_code(), code, "{}", new.errors());
    }
    old.wait_for_log("WARN", "the successor was lost before it was ready, serving on");
    old.wait_for("the successor has ended");
    assert_eq!(stage.server(address), old.pid());
    kept.send();
    stage.backend.request().answer(b"after");
    let answer = kept.answer();
    assert_ne!(answer.field("connection").as_deref(), Some("close"), "not even a drain");
    assert!(!old.events().contains(&"draining".to_owned()));
    drop(kept);

    let new = stage.upgrade();
    ends_handed_over(&mut old);
    assert_eq!(stage.server(address), new.pid());
}

#[test]
fn a_successor_that_dies_loading_leaves_the_old_one_as_it_was() {
    is_unharmed_by(Fault::DiesLoading, 9);
}

#[test]
fn a_successor_that_is_killed_loading_leaves_the_old_one_as_it_was() {
    is_unharmed_by(Fault::NeverLoads, 0);
}

#[test]
fn a_successor_whose_service_panics_leaves_the_old_one_as_it_was() {
    is_unharmed_by(Fault::ServicePanicsAtStart, 1);
}

#[test]
fn a_successor_that_finds_a_new_port_taken_leaves_the_old_one_as_it_was() {
    let stage = Stage::new();
    let old = stage.start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address");
    let part = stage.successor().with(|part| part.listeners.push(("more".to_owned(), address)));
    let mut new = Process::spawn(&part);
    assert_eq!(new.exit_code(), 74);
    assert!(new.errors().contains("listener more: cannot listen on"), "{}", new.errors());
    old.wait_for_log("WARN", "the successor was lost before it was ready, serving on");
    assert_eq!(stage.server(old.address("public")), old.pid());
}

#[test]
fn a_successor_that_cannot_write_its_ready_file_leaves_the_old_one_as_it_was() {
    let stage = Stage::new();
    let old = stage.start();
    let mut new =
        Process::spawn(&stage.successor().with(|part| part.ready_file = "missing/ready".into()));
    assert_eq!(new.exit_code(), 74, "{}", new.errors());
    old.wait_for_log("WARN", "the successor was lost before it was ready, serving on");
    assert_eq!(stage.server(old.address("public")), old.pid());
}

#[test]
fn listeners_come_and_go_with_an_upgrade() {
    let stage = Stage::new();
    let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let mut old =
        Process::start(&stage.part().with(|part| part.listeners.push(("gone".to_owned(), free))));
    let (public, gone) = (old.address("public"), old.address("gone"));
    let part = stage.successor().with(|part| {
        part.listeners = vec![
            ("new".to_owned(), free),
            ("ops".to_owned(), free),
            // By its address, under another name.
            ("renamed".to_owned(), public),
        ];
    });
    let new = Process::start(&part);
    ends_handed_over(&mut old);
    assert_eq!(new.address("renamed"), public);
    assert_eq!(new.address("ops"), old.address("ops"));
    new.until("a refused connection", || TcpStream::connect(gone).is_err());
    for name in ["new", "renamed"] {
        assert_eq!(stage.server(new.address(name)), new.pid());
    }
}

#[test]
fn one_successor_at_a_time() {
    let stage = Stage::new();
    let mut old = stage.start();
    let first = Process::spawn(&stage.successor().with(|part| part.fault = Fault::NeverLoads));
    first.wait_for("loading");
    let mut second = Process::spawn(&stage.successor());
    assert_eq!(second.exit_code(), 69);
    let expected = "refuses to hand over: another process is about to take over";
    assert!(second.errors().contains(expected), "{}", second.errors());
    assert_eq!(stage.server(old.address("public")), old.pid());
    drop(first);
    old.wait_for_log("WARN", "the successor was lost before it was ready, serving on");
    let _new = stage.upgrade();
    ends_handed_over(&mut old);
}

#[test]
fn without_a_process_to_succeed_the_successor_ends_with_69() {
    let stage = Stage::new();
    let mut new = Process::spawn(&stage.successor());
    assert_eq!(new.exit_code(), 69);
    assert!(new.errors().contains("no process answers on the upgrade socket"), "{}", new.errors());
}

#[test]
fn an_upgrade_socket_in_a_directory_for_everybody_is_refused_by_both() {
    let stage = Stage::new();
    let everybody = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(stage.folder.path(), everybody).expect("changed");
    for (part, code) in [(stage.part(), 78), (stage.successor(), 78)] {
        let mut process = Process::spawn(&part);
        assert_eq!(process.exit_code(), code, "{}", process.errors());
        let expected = "lies in a directory into which everybody may write";
        assert!(process.errors().contains(expected), "{}", process.errors());
    }
}

#[test]
fn sigquit_waits_for_a_successor() {
    let stage = Stage::new();
    let mut old = stage.start();
    old.signal(Signal::QUIT);
    old.wait_for_log("INFO", "serving until a successor asks for the sockets and is ready");
    assert_eq!(stage.server(old.address("public")), old.pid());
    let _new = stage.upgrade();
    ends_handed_over(&mut old);
}

#[test]
fn sigusr2_starts_a_successor() {
    let stage = Stage::new();
    let mut old = stage.start();
    let address = old.address("public");
    old.signal(Signal::USR2);
    let pid = || {
        let text = std::fs::read(old.ready_file()).expect("a ready file");
        let content: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        content["pid"].as_i64().expect("a number")
    };
    old.until("a successor", || pid() != i64::from(old.pid()));
    let new = i32::try_from(pid()).expect("a process id");
    old.until("the end of the old one", || {
        old.events().iter().any(|e| e.starts_with("HandedOver"))
    });
    assert_eq!(i64::from(stage.server(address)), i64::from(new));
    let new = Pid::from_raw(new).expect("a process id");
    kill_process(new, Signal::TERM).expect("it is there");
    // Its output is that of the process that has started it, so this waits for both.
    assert_eq!(old.exit_code(), 0, "{}", old.errors());
    old.expect_order(&["HandedOver { cut: 0 }", "old gone", "Drained { cut: 0 }"]);
}

#[test]
fn sigusr2_without_an_upgrade_socket_only_says_so() {
    let backend = Backend::start();
    let process = Process::start(&Part::new(backend.address));
    process.signal(Signal::USR2);
    process.wait_for_log("WARN", "there is no upgrade socket");
    process.expect_serving(&backend);
}

#[test]
fn the_old_ones_have_gone_when_the_oldest_has() {
    let stage = Stage::new();
    let mut first = stage.start();
    let mut busy = first.client();
    busy.send();
    let request = stage.backend.request();
    let mut second = stage.upgrade();
    first.wait_for("draining");
    let third = stage.upgrade();
    ends_handed_over(&mut second);
    assert!(first.is_running());
    assert!(!third.events().contains(&"old gone".to_owned()), "one of them writes on");
    request.answer(b"at last");
    assert_eq!(busy.answer().body, b"at last");
    ends_handed_over(&mut first);
    third.wait_for("old gone");
}

#[test]
fn a_process_that_dies_while_its_successor_loads_is_succeeded_anyway() {
    let stage = Stage::new();
    let mut old = stage.start();
    let address = old.address("public");
    let mut waiting = Client::connect(address);
    // Stops before it answers: its service never gets that far.
    let new = Process::spawn(&stage.successor().with(|part| part.slow_start = true));
    new.wait_for("slow");
    old.signal(Signal::KILL);
    old.expect_killed();
    new.signal(Signal::USR1);
    new.wait_for("ready");
    new.wait_for("old gone");
    assert_eq!(stage.server(address), new.pid());
    waiting.expect_broken();
    assert!(stage.upgrade().is_running(), "its handshake is open");
}

#[test]
fn a_drain_begun_by_a_signal_leaves_the_sockets_to_a_successor_that_has_them() {
    let stage = Stage::new();
    let mut old = stage.start();
    let address = old.address("public");
    let new = Process::spawn(&stage.successor().with(|part| part.slow_start = true));
    new.wait_for("slow");
    old.signal(Signal::TERM);
    assert_eq!(old.exit_code(), 0, "{}", old.errors());
    let mut waiting = Client::connect(address);
    waiting.send();
    new.signal(Signal::USR1);
    stage.backend.request().answer(b"queued");
    assert_eq!(waiting.answer().process(), new.pid());
}

#[test]
fn a_socket_left_by_a_killed_process_does_not_stop_the_next() {
    let stage = Stage::new();
    let mut old = stage.start();
    old.signal(Signal::KILL);
    old.expect_killed();
    assert!(stage.part().upgrade_socket.expect("a path").exists());
    let mut next = stage.start();
    let _new = stage.upgrade();
    ends_handed_over(&mut next);
}

#[test]
fn two_processes_do_not_share_an_upgrade_socket() {
    let stage = Stage::new();
    let old = stage.start();
    let mut other = Process::spawn(&stage.part());
    assert_eq!(other.exit_code(), 74);
    let expected = "another process already answers on the upgrade socket";
    assert!(other.errors().contains(expected), "{}", other.errors());
    assert_eq!(stage.server(old.address("public")), old.pid());
}
