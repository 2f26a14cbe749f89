//! A backend whose answers wait for the test, and a client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// Far longer than anything takes; a test that hangs fails here.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct Backend {
    pub address: SocketAddr,
    requests: Receiver<Waiting>,
    at_once: Arc<AtomicBool>,
}

/// A request that has arrived and is not answered.
pub struct Waiting {
    answer: Sender<Vec<u8>>,
}

impl Backend {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (sender, requests) = channel();
        let at_once = Arc::<AtomicBool>::default();
        let now = Arc::clone(&at_once);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, sender) = (stream.expect("accepted"), sender.clone());
                let now = Arc::clone(&now);
                thread::spawn(move || serve(stream, &sender, &now));
            }
        });
        Self { address, requests, at_once }
    }

    /// From now on every request is answered at once.
    pub fn answer_everything(&self) {
        self.at_once.store(true, Ordering::SeqCst);
    }

    /// Waits for the next request to arrive.
    pub fn request(&self) -> Waiting {
        self.requests.recv_timeout(DEADLINE).expect("a request reaches the backend")
    }
}

impl Waiting {
    /// Answers with this, followed by the body of the request, which is read to its end first.
    pub fn answer(self, body: &[u8]) {
        self.answer.send(body.to_vec()).expect("the backend still serves");
    }
}

fn serve(mut stream: TcpStream, requests: &Sender<Waiting>, at_once: &AtomicBool) {
    while let Some(head) = read_head(&mut stream) {
        let (answer, body) = channel();
        if at_once.load(Ordering::SeqCst) {
            answer.send(Vec::new()).expect("we receive it ourselves");
        } else if requests.send(Waiting { answer }).is_err() {
            return;
        }
        let Ok(mut body) = body.recv() else { return };
        let mut received = vec![0; content_length(&head).unwrap_or(0)];
        if stream.read_exact(&mut received).is_err() {
            return;
        }
        body.extend(received);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}

/// A keep-alive connection to the process under test.
pub struct Client {
    stream: TcpStream,
}

#[derive(Debug)]
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the listener accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        Self::over(stream)
    }

    pub fn over(stream: TcpStream) -> Self {
        Self { stream }
    }

    pub fn send(&mut self) {
        self.send_raw(b"GET /file HTTP/1.1\r\nHost: up.test\r\n\r\n");
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// `None` if the connection ends before the answer does.
    pub fn try_answer(&mut self) -> Option<Answer> {
        let head = read_head(&mut self.stream)?;
        let length = content_length(&head)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(Answer { head, body })
    }

    /// Waits for the connection to end, in whatever way.
    pub fn expect_broken(&mut self) {
        assert_eq!(self.stream.read(&mut [0]).unwrap_or(0), 0, "nothing is said");
    }

    /// Waits for the connection to be closed in order, with nothing more on it.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("closed, not reset or left open");
        assert_eq!(rest, b"", "nothing more is said");
    }
}

impl Answer {
    /// The value of a field, by its name in small letters.
    pub fn field(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().map(str::to_ascii_lowercase);
        let mut fields = lines.filter_map(|line| {
            let (field, value) = line.split_once(": ")?;
            Some((field.to_owned(), value.to_owned()))
        });
        fields.find_map(|(field, value)| (field == name).then_some(value))
    }

    /// The id of the process that has answered.
    pub fn process(&self) -> u32 {
        let id = self.field("x-process").expect("the process says who it is");
        id.parse().expect("a process id")
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn content_length(head: &str) -> Option<usize> {
    let mut lines = head.lines().map(str::to_ascii_lowercase);
    lines.find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
}
