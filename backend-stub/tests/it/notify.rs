//! The server application behind the server, by reference and by value.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use crate::support::{DEADLINE, Reply, Stub, noise};

/// What the application got.
struct Call {
    head: String,
    body: Vec<u8>,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .split("\r\n")
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// A server application that gives one prepared answer per call.
struct Application {
    url: String,
    calls: Receiver<Call>,
}

impl Application {
    fn start(
        answers: impl IntoIterator<Item = impl FnOnce(&Call) -> Vec<u8> + Send + 'static>
        + Send
        + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, calls) = channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let call = read_call(&stream);
                let bytes = answer(&call);
                (&stream).write_all(&bytes).unwrap();
                if sender.send(call).is_err() {
                    return;
                }
            }
        });
        Self { url, calls }
    }

    fn call(&self) -> Call {
        self.calls.recv_timeout(DEADLINE).unwrap()
    }
}

fn read_call(stream: &TcpStream) -> Call {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0);
    }
    let mut call = Call { head, body: Vec::new() };
    let length = call.header("content-length").unwrap().parse().unwrap();
    call.body = vec![0; length];
    reader.read_exact(&mut call.body).unwrap();
    call
}

fn says(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

const OK: &str = "HTTP/1.1 200 OK\nContent-Length: 0\n\n";

/// Creates a session and sends the file; the answer to its only fragment.
fn send(stub: &Stub, path: &str, bytes: &[u8]) -> (String, Reply) {
    let mut wire = stub.connect();
    let id = wire.create(path);
    let reply = wire.fragment(path, &id, 0, bytes.len(), bytes);
    (id, reply)
}

#[test]
fn by_reference_the_application_gets_paths_and_may_leave_a_reply() {
    let bytes = noise(300_000);
    let sent = bytes.clone();
    let app = Application::start([move |call: &Call| {
        let request = call.header("bits-request-datafile-name").unwrap();
        assert_eq!(std::fs::read(request).unwrap(), sent);
        let response = call.header("bits-response-datafile-name").unwrap();
        std::fs::write(response, "the reply").unwrap();
        says(OK)
    }]);
    let stub = Stub::start(&["--notify-url", &app.url]);
    let (id, reply) = send(&stub, "/in/x.bin?site=7", &bytes);
    assert_eq!(reply.status, 200, "{reply:?}");
    let url = format!("BITS-Sessions\\Replies\\{id}\\responsefile.bin");
    assert_eq!(reply.header("bits-reply-url"), Some(url.as_str()));
    let call = app.call();
    assert!(call.head.starts_with("POST /hook?site=7 HTTP/1.1\r\n"), "{}", call.head);
    assert_eq!(call.header("user-agent"), Some("BITSExts 1.5"));
    assert_eq!(call.header("bits-original-request-url"), Some("http://up.test/in/x.bin?site=7"));
    assert!(call.body.is_empty());

    let escaped = id.replace('{', "%7B").replace('}', "%7D");
    let path = format!("/in/BITS-Sessions/Replies/{escaped}/responsefile.bin");
    let mut wire = stub.connect();
    let got = wire.get(&path, "Range: bytes=4-\r\nAccept-Encoding: identity\r\n");
    assert_eq!((got.status, got.header("content-range")), (206, Some("bytes 4-8/9")));
    assert_eq!(got.body, b"reply");
    assert!(got.header("last-modified").is_some());
    assert_eq!(wire.close("/in/x.bin", &id).status, 200);
    assert_eq!(wire.get(&path, "").status, 404);
    // The application has the upload; nobody asked for a copy.
    assert_eq!(stub.stored("in/x.bin"), None);
}

#[test]
fn by_value_the_application_gets_the_file_and_answers_with_the_reply() {
    let bytes = noise(700_000);
    let app = Application::start([|_: &Call| {
        says(
            "HTTP/1.1 200 OK\nBITS-Copy-File-To-Destination: 1\nTransfer-Encoding: chunked\n\n4\nthe \n5\nreply\n0\n\n",
        )
    }]);
    let stub = Stub::start(&["--notify-url", &app.url, "--notify", "by-value"]);
    let (id, reply) = send(&stub, "/in/x.bin", &bytes);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.header("bits-reply-url").is_some());
    let call = app.call();
    assert_eq!(call.body, bytes);
    assert_eq!(call.header("bits-request-datafile-name"), None);
    let mut wire = stub.connect();
    let path = format!("/in/bits-sessions/replies/{id}/responsefile.bin");
    assert_eq!(wire.get(&path, "").body, b"the reply");
    assert_eq!(wire.close("/in/x.bin", &id).status, 200);
    assert_eq!(stub.stored("in/x.bin"), Some(bytes));
}

#[test]
fn a_static_reply_is_passed_on() {
    let app = Application::start([|_: &Call| {
        says(
            "HTTP/1.1 200 OK\nBITS-Static-Response-URL: http://other.test/reply\nContent-Length: 0\n\n",
        )
    }]);
    let stub = Stub::start(&["--notify-url", &app.url]);
    let (_, reply) = send(&stub, "/x", b"abc");
    assert_eq!(reply.header("bits-reply-url"), Some("http://other.test/reply"));
}

#[test]
fn an_application_that_fails_is_asked_again() {
    for strict in [false, true] {
        let app = Application::start(
            ["HTTP/1.1 503 Service Unavailable\nContent-Length: 0\n\n", OK]
                .map(|text| move |_: &Call| says(text)),
        );
        let mut args = vec!["--notify-url", &app.url];
        if strict {
            args.push("--strict-ranges");
        }
        let stub = Stub::start(&args);
        let (id, reply) = send(&stub, "/x", b"abcdef");
        assert_eq!((reply.status, reply.error()), (503, Some("0x801901F7")));
        assert_eq!(reply.header("bits-error-context"), Some("0x7"));
        app.call();
        let mut wire = stub.connect();
        let reply = wire.fragment("/x", &id, 0, 6, b"abcdef");
        assert_eq!((reply.status, reply.next()), (200, 6), "{reply:?}");
        app.call();
        // Told once, it is not told again.
        let reply = wire.fragment("/x", &id, 0, 6, b"abcdef");
        assert_eq!((reply.status, reply.next()), (200, 6));
        assert_eq!(wire.close("/x", &id).status, 200);
    }
}

#[test]
fn a_reply_is_named_again_when_its_ack_was_lost() {
    let app = Application::start([|_: &Call| says("HTTP/1.1 200 OK\nContent-Length: 2\n\nhi")]);
    let mut stub = Stub::start(&["--notify-url", &app.url, "--notify", "by-value"]);
    let (id, reply) = send(&stub, "/x", b"abc");
    let url = reply.header("bits-reply-url").unwrap().to_owned();
    stub.kill();
    stub.restart();
    let reply = stub.connect().fragment("/x", &id, 0, 3, b"abc");
    assert_eq!(reply.header("bits-reply-url"), Some(url.as_str()));
}

#[test]
fn an_application_out_of_reach_is_a_passing_error() {
    // The kernel gives no program a port below 1024 by itself, and nothing here listens on this one.
    let stub = Stub::start(&["--notify-url", "http://127.0.0.1:1/hook"]);
    let (_, reply) = send(&stub, "/x", b"abc");
    assert_eq!((reply.status, reply.header("bits-error-context")), (502, Some("0x7")));
}

#[test]
fn a_malformed_answer_and_a_silent_application_are_told_apart() {
    let app = Application::start([|_: &Call| says("nonsense\n\n")]);
    let stub = Stub::start(&["--notify-url", &app.url]);
    let (_, reply) = send(&stub, "/x", b"abc");
    assert_eq!((reply.status, reply.error()), (411, Some("0x80070057")));
    assert_eq!(reply.header("bits-error-context"), Some("0x7"));

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", silent.local_addr().unwrap());
    let stub = Stub::start(&["--notify-url", &url, "--notify-timeout", "300ms"]);
    let (_, reply) = send(&stub, "/x", b"abc");
    assert_eq!((reply.status, reply.header("bits-error-context")), (408, Some("0x7")));
}

#[test]
fn an_empty_upload_is_told_of_on_close() {
    let app = Application::start([|_: &Call| says(OK)]);
    let stub = Stub::start(&["--notify-url", &app.url]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    assert_eq!(wire.close("/x", &id).status, 200);
    app.call();
}

#[test]
fn usis_names_the_reply_absolutely() {
    let app = Application::start([|_: &Call| says("HTTP/1.1 200 OK\nContent-Length: 2\n\nhi")]);
    let stub =
        Stub::start(&["--notify-url", &app.url, "--notify", "by-value", "--flavour", "usis"]);
    let (id, reply) = send(&stub, "/in/x", b"abc");
    let guid = id.trim_matches(['{', '}']);
    assert_eq!(
        reply.header("bits-reply-url"),
        Some(
            format!("http://up.test/in/BITS-Sessions/Replies/%7B{guid}%7D/responsefile.bin")
                .as_str()
        )
    );
}
