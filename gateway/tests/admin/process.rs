//! The real gateway: where its admin listener is, and where it is not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value as Json;

use crate::support::{DEADLINE, TOKEN, run, stranger, token_file, wait_for};

const BACKEND: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\nfrom the backend";

struct Gateway {
    child: Child,
    listeners: Json,
    folder: tempfile::TempDir,
}

impl Gateway {
    fn start() -> Self {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        token_file(folder.path());
        let backend = stranger(BACKEND);
        let config = format!(
            "[listeners.public]\naddress = \"127.0.0.1:0\"\n[ops]\naddress = \"127.0.0.1:0\"\n\
             [admin]\nsocket = \"./admin.sock\"\naddress = \"127.0.0.1:0\"\n\
             token_file = \"./token\"\n[store]\npath = \"./store\"\n[[backends]]\nname = \"up01\"\naddress = \"{backend}\"\n"
        );
        std::fs::write(folder.path().join("gw.toml"), config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_bits-gateway"))
            .args(["run", "--config", "gw.toml", "--ready-file", "ready"])
            .current_dir(folder.path())
            .env_clear()
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let ready = folder.path().join("ready");
        let text = wait_for("the gateway", || std::fs::read_to_string(&ready).ok());
        let ready: Json = serde_json::from_str(&text).unwrap();
        Self { child, listeners: ready["listeners"].clone(), folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ask(&self, listener: &str, method: &str, path: &str) -> String {
        let address = self.listeners[listener].as_str().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Connection: close\r\nContent-Length: 0\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn stop(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        assert!(!self.path().join("admin.sock").exists(), "the socket is left over");
        std::fs::read_to_string(self.path().join("log")).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind; one that did not has waited for the end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_interface_is_on_its_own_listener_only() {
    let gateway = Gateway::start();
    assert!(gateway.ask("admin", "GET", "/api/v1/status").starts_with("HTTP/1.1 200 "));
    let public = gateway.ask("public", "GET", "/api/v1/status");
    assert!(public.ends_with("from the backend"), "{public}");
    let public = gateway.ask("public", "POST", "/api/v1/backends/up01/maintenance");
    assert!(!public.contains("admin_state") && !public.contains("error"), "{public}");
    let ops = gateway.ask("ops", "GET", "/api/v1/status");
    assert!(ops.starts_with("HTTP/1.1 404 "), "{ops}");
    for path in ["/metrics", "/livez", "/version"] {
        let admin = gateway.ask("admin", "GET", path);
        assert!(admin.starts_with("HTTP/1.1 404 "), "{path}: {admin}");
    }
    gateway.stop();
}

#[test]
fn commands_reach_it_by_its_configuration_and_are_logged() {
    let gateway = Gateway::start();
    let status = run(gateway.path(), &["status", "--json", "--config", "gw.toml"], &[]);
    assert_eq!(status.code, 0, "{}", status.stderr);
    let status: Json = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["phase"], "ready");
    let id = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";
    let forget = run(gateway.path(), &["sessions", "forget", id, "--config", "gw.toml"], &[]);
    assert_eq!(forget.code, 1, "{}", forget.stderr);
    let refused = gateway.ask("admin", "GET", "/api/v1/status?token=secret");
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    let metrics = gateway.ask("ops", "GET", "/metrics");
    let line = "bitsgw_admin_actions_total{action=\"session_forget\",result=\"not_found\"} 1";
    assert!(metrics.contains(line), "not counted");
    let log = gateway.stop();
    let action = log.lines().find(|line| line.contains("session_forget")).expect("a line");
    let uid = rustix::process::getuid().as_raw();
    assert!(action.contains("3f9c1e52") && action.contains(&format!("uid {uid}")), "{action}");
    let log = log.to_lowercase();
    assert!(!log.contains("0d5b6a1e8f21") && !log.contains(&TOKEN.to_lowercase()), "{log}");
}
