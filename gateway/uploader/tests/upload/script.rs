//! A server that follows a script, and an upload to it.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bits_uploader::{Args, Report, Status, execute};
use clap::Parser;
use tokio_rustls::rustls::sign::CertifiedKey;

/// No upload of these tests names a certificate.
pub fn no_identity(_: &Path, _: &Path) -> Result<Arc<CertifiedKey>, Box<dyn Error + Send + Sync>> {
    Err("no certificate is named".into())
}

pub const SESSION: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";

/// What the server does with one request.
#[derive(Clone)]
pub enum Act {
    /// Reads the body and answers.
    Answer(String),
    /// The same, then closes without having said so.
    AnswerAndClose(String),
    /// Answers when the head is there, leaves the body unread and closes.
    Early(String),
    /// Reads the body and closes without an answer.
    Close,
    /// Answers nothing until the client goes away.
    Hold,
}

#[derive(Debug, Clone)]
pub struct Seen {
    pub head: String,
    pub body: Vec<u8>,
    pub connection: usize,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(n, _)| *n == name).map(|(_, value)| value).next()
    }

    /// Packet type, and for a Fragment its range.
    pub fn what(&self) -> String {
        let kind = self.field("BITS-Packet-Type").unwrap_or("GET");
        match self.field("Content-Range") {
            Some(range) => format!("{kind} {}", range.trim_start_matches("bytes ")),
            None => kind.to_owned(),
        }
    }
}

pub struct Server {
    pub address: SocketAddr,
    script: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub fn start(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            script: Arc::new(Mutex::new(script.into())),
            seen: Arc::default(),
        };
        let (script, seen) = (server.script.clone(), server.seen.clone());
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (script, seen) = (script.clone(), seen.clone());
                std::thread::spawn(move || serve(stream.unwrap(), connection, &script, &seen));
            }
        });
        server
    }

    pub fn then(&self, script: Vec<Act>) {
        self.script.lock().unwrap().extend(script);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn packets(&self) -> Vec<String> {
        self.seen().iter().map(Seen::what).collect()
    }

    #[track_caller]
    pub fn check_script_is_over(&self) {
        assert_eq!(self.script.lock().unwrap().len(), 0, "answers that nobody asked for");
    }
}

/// `None` when the connection is over.
fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: &Mutex<VecDeque<Act>>,
    seen: &Mutex<Vec<Seen>>,
) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let request = Seen { head, body: Vec::new(), connection };
        let length = request.field("Content-Length").map_or(0, |value| value.parse().unwrap());
        let index = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            seen.len() - 1
        };
        // A request that came before its answer was scripted waits for it.
        let act = loop {
            match script.lock().unwrap().pop_front() {
                Some(act) => break act,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        if let Act::Early(answer) = &act {
            stream.write_all(answer.as_bytes()).ok()?;
            return None;
        }
        if let Act::Hold = act {
            // The client's end shows when everything that it sent has been read.
            std::io::copy(&mut stream, &mut std::io::sink()).ok()?;
            return None;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        seen.lock().unwrap()[index].body = body;
        match act {
            Act::Answer(answer) => stream.write_all(answer.as_bytes()).ok()?,
            Act::AnswerAndClose(answer) => {
                stream.write_all(answer.as_bytes()).ok()?;
                return None;
            }
            Act::Close | Act::Early(_) | Act::Hold => return None,
        }
    }
}

pub fn answer(status: u16, fields: &str) -> String {
    let mut text = format!("HTTP/1.1 {status} Text\r\nBITS-Packet-Type: Ack\r\n");
    for field in fields.split("; ").filter(|field| !field.is_empty()) {
        text.push_str(&format!("{field}\r\n"));
    }
    text + "Content-Length: 0\r\n\r\n"
}

pub fn ok(fields: &str) -> Act {
    Act::Answer(answer(200, fields))
}

pub fn created(more: &str) -> Act {
    ok(&format!("BITS-Session-Id: {SESSION}; {more}"))
}

pub fn received(next: u64) -> Act {
    ok(&format!("BITS-Received-Content-Range: {next}"))
}

pub fn status(status: u16) -> Act {
    Act::Answer(answer(status, ""))
}

pub fn wrong_offset(next: u64) -> Act {
    Act::Answer(answer(416, &format!("BITS-Received-Content-Range: {next}")))
}

pub fn lost() -> Act {
    Act::Answer(answer(500, "BITS-Error: 0x8020001F; BITS-Error-Context: 0x5"))
}

/// A file, a folder for state, and the command line.
pub struct Job {
    folder: tempfile::TempDir,
    pub bytes: Vec<u8>,
    pub url: String,
    more: Vec<String>,
}

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

impl Job {
    pub fn new(server: &Server, size: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
        std::fs::write(folder.path().join("a.bin"), &bytes).unwrap();
        let url = format!("http://Up.test:{}/in/a.bin?x=1", server.address.port());
        Self { folder, bytes, url, more: Vec::new() }
    }

    pub fn with(mut self, words: &[&str]) -> Self {
        self.more.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn args(&self) -> Args {
        let (file, state) = (self.path("a.bin"), self.path("state.json"));
        let words = ["upload", file.to_str().unwrap(), &self.url, "--quiet", "--state"];
        let words = words.into_iter().chain([state.to_str().unwrap()]);
        let defaults = [("--fragment-size", "10000"), ("--retry-delay", "1ms")];
        let missing = defaults.iter().filter(|(name, _)| !self.more.iter().any(|w| w == name));
        let words = words.chain(missing.flat_map(|(name, value)| [*name, *value]));
        let words = words.chain(self.more.iter().map(String::as_str));
        // Last, so that a test's own mapping is found first.
        let args = Command::try_parse_from(words.chain(["--resolve", "*:127.0.0.1"]));
        args.unwrap_or_else(|error| panic!("{error}")).args
    }

    pub async fn run(&self) -> (Report, u8) {
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, execute(&self.args(), no_identity))
            .await
            .expect("the upload ends")
    }

    #[track_caller]
    pub fn check_complete(&self, server: &Server, (report, code): &(Report, u8)) {
        assert_eq!(report.error, None);
        assert_eq!((report.status, *code), (Status::Complete, 0));
        assert_eq!(report.bytes, self.bytes.len() as u64);
        let digest = <sha2::Sha256 as sha2::Digest>::digest(&self.bytes);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(report.sha256.as_deref(), Some(digest.as_str()));
        assert!(!self.path("state.json").exists(), "nothing is left to resume");
        server.check_script_is_over();
    }
}

/// Waits until something is so; the test fails if it never is.
pub async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the condition comes true");
}
