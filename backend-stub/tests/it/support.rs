//! A server process, and a client that writes its bytes by hand.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

/// Longest wait for anything that must happen; nothing is asserted about shorter times.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A running server.
pub struct Stub {
    child: Child,
    pub address: SocketAddr,
    control: SocketAddr,
    args: Vec<String>,
    root: TempDir,
}

/// One client connection.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

/// An answer as it was on the wire.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Stub {
    pub fn start(args: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), args)
    }

    pub fn start_in(root: TempDir, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let (child, address, control) = spawn(command(&root, &args));
        Self { child, address, control, args, root }
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// Ends the process as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the process to end", || self.child.try_wait().unwrap())
    }

    /// Starts the same server again on the same folder.
    pub fn restart(&mut self) {
        let (child, address, control) = spawn(command(&self.root, &self.args));
        (self.child, self.address, self.control) = (child, address, control);
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Largest resident size of the process so far, bytes.
    pub fn memory_peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() * 1024
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    pub fn stored(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path("files").join(path)).ok()
    }

    /// Names of the session folders.
    pub fn session_dirs(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.path("sessions"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect()
    }

    pub fn control(&self, method: &str, path: &str, body: &str) -> Reply {
        let mut wire = Wire::connect(self.control);
        let length = body.len();
        wire.send(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: c\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        wire.reply()
    }

    pub fn get_json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.control("GET", path, "").body).unwrap()
    }

    /// Adds a fault that hits one packet.
    pub fn fault(&self, packet: &str, action: &str) {
        let body = format!(r#"{{"packet":"{packet}","do":{action}}}"#);
        let reply = self.control("POST", "/faults", &body);
        assert_eq!(reply.status, 204, "{reply:?}");
    }

    /// Uploads a file in fragments of the given size over one connection.
    pub fn upload(&self, path: &str, bytes: &[u8], fragment: usize) -> Reply {
        let mut wire = self.connect();
        let id = wire.create(path);
        for (at, part) in bytes.chunks(fragment).enumerate() {
            let first = at * fragment;
            let reply = wire.fragment(path, &id, first, bytes.len(), part);
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(reply.next(), first + part.len());
        }
        wire.close(path, &id)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Writes as much as the server lets us; it may have had enough.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub fn shutdown_write(&mut self) {
        self.stream.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    }

    pub fn reply(&mut self) -> Reply {
        let head = self.reply_head();
        let length = header(&head, "content-length").map_or(0, |v| v.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        Reply { status: head[9..12].parse().unwrap(), head, body }
    }

    /// The head of an answer alone, as HEAD gets it.
    pub fn reply_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let got = self.stream.read_until(b'\n', &mut head).unwrap();
            assert!(got > 0, "connection ended in {:?}", String::from_utf8_lossy(&head));
        }
        String::from_utf8(head).unwrap()
    }

    pub fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// True when the server ends the connection in an orderly way with nothing (more) to say.
    pub fn ends_with_fin(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Ok(0))
    }

    pub fn ends_with_reset(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::ConnectionReset)
    }

    /// True when nothing comes for a moment although the connection is open.
    pub fn is_silent(&mut self) -> bool {
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let got = self.stream.read(&mut [0; 1]);
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        matches!(got, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a packet with the given header lines and returns the answer.
    pub fn packet(&mut self, kind: &str, path: &str, lines: &str, body: &[u8]) -> Reply {
        self.send_packet(kind, path, lines, body);
        self.reply()
    }

    pub fn send_packet(&mut self, kind: &str, path: &str, lines: &str, body: &[u8]) {
        let mut bytes = packet_head(kind, path, lines, body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes);
    }

    pub fn create(&mut self, path: &str) -> String {
        let reply = self.try_create(path);
        assert!(reply.status == 200 || reply.status == 201, "{reply:?}");
        reply.header("bits-session-id").unwrap().to_owned()
    }

    pub fn try_create(&mut self, path: &str) -> Reply {
        let lines = format!("BITS-Supported-Protocols: {PROTOCOL}\r\n");
        self.packet("Create-Session", path, &lines, b"")
    }

    pub fn fragment(
        &mut self,
        path: &str,
        id: &str,
        first: usize,
        total: usize,
        part: &[u8],
    ) -> Reply {
        let lines = fragment_lines(id, first, part.len(), total);
        self.packet("Fragment", path, &lines, part)
    }

    pub fn close(&mut self, path: &str, id: &str) -> Reply {
        self.packet("Close-Session", path, &id_line(id), b"")
    }

    pub fn cancel(&mut self, path: &str, id: &str) -> Reply {
        self.packet("Cancel-Session", path, &id_line(id), b"")
    }

    pub fn get(&mut self, path: &str, lines: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: up.test\r\n{lines}\r\n").as_bytes());
        self.reply()
    }
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// BITS-Received-Content-Range.
    pub fn next(&self) -> usize {
        self.header("bits-received-content-range")
            .unwrap_or_else(|| panic!("no offset in {self:?}"))
            .parse()
            .unwrap()
    }

    pub fn error(&self) -> Option<&str> {
        self.header("bits-error")
    }

    pub fn lines(&self) -> Vec<&str> {
        self.head.trim_end().split("\r\n").collect()
    }
}

pub fn packet_head(kind: &str, path: &str, lines: &str, length: usize) -> String {
    format!(
        "BITS_POST {path} HTTP/1.1\r\nBITS-Packet-Type: {kind}\r\nHost: up.test\r\n{lines}\
         Content-Length: {length}\r\n\r\n"
    )
}

pub fn fragment_lines(id: &str, first: usize, length: usize, total: usize) -> String {
    let last = first + length - 1;
    format!(
        "BITS-Session-Id: {id}\r\nContent-Name: x.bin\r\nContent-Range: bytes {first}-{last}/{total}\r\n"
    )
}

pub fn id_line(id: &str) -> String {
    format!("BITS-Session-Id: {id}\r\n")
}

/// Bytes that differ at every place where a mistake in an offset would show.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .collect()
}

/// How long something took. Only for faults that promise a least time; nothing is asserted about the most.
#[allow(clippy::disallowed_methods)] // a test that measures needs a clock
pub fn elapsed(work: impl FnOnce()) -> Duration {
    let start = std::time::Instant::now();
    work();
    start.elapsed()
}

/// Polls until the condition gives a value; panics after the deadline.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let pause = Duration::from_millis(10);
    for _ in 0..DEADLINE.as_millis() / pause.as_millis() {
        if let Some(value) = condition() {
            return value;
        }
        std::thread::sleep(pause);
    }
    panic!("waited in vain for {what}");
}

pub fn command(root: &TempDir, args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backend-stub"));
    command
        .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--root"])
        .arg(root.path())
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn spawn(mut command: Command) -> (Child, SocketAddr, SocketAddr) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = receiver.recv_timeout(DEADLINE).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("said {line:?}"));
    assert_eq!(ready["event"], "listening");
    let address = |key: &str| ready[key].as_str().unwrap().parse().unwrap();
    (child, address("address"), address("control"))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
