//! Fragments that are too long to be kept, whose server does not read: they go from socket to socket, and what is between
//! the two has to arrive, or be seen not to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use e2e_tests::farm::FarmBuilder;
use e2e_tests::raw_backend::{Moment, RawBackend, Reply};
use e2e_tests::wait;
use rustix::net::sockopt::set_socket_linger;

use crate::packets::{Servers, TARGET, fragment, ping, server};

/// More than all sockets on the way hold.
const LENGTH: usize = 64 << 20;

/// One server that reads no body of its first Fragment until it is told.
struct Stalled {
    // Dropped before the server that waits for it.
    goes_on: Sender<()>,
    servers: Servers,
    id: String,
}

impl Stalled {
    fn start() -> Self {
        let (goes_on, told) = channel();
        let (honest, told) = (server(0), Mutex::new(told));
        let script = RawBackend::scripted(move |moment, request| match moment {
            Moment::Head => {
                if request.packet_type() == "fragment" {
                    // Fails once the test has ended, or no other one follows.
                    let _ = told.lock().expect("no panic").recv();
                }
                Reply::Wait
            }
            Moment::Body => honest(request),
        });
        let servers = Servers::of(vec![script], FarmBuilder::plain);
        let (id, _) = servers.open(TARGET);
        Self { goes_on, servers, id }
    }

    /// Sends a Fragment until its way is full. Returns how much of the body has gone.
    fn fill(&self, body: &[u8]) -> (TcpStream, usize) {
        let range = format!("bytes 0-{}/{}", LENGTH - 1, 2 * LENGTH);
        let head = fragment(TARGET, &self.id, &range, b"").bytes();
        let head = String::from_utf8(head).expect("ASCII");
        let head = head.replace("Content-Length: 0", &format!("Content-Length: {LENGTH}"));
        let mut client = TcpStream::connect(self.servers.farm.entrance()).expect("a connection");
        client.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket option");
        client.write_all(head.as_bytes()).expect("the head is taken");
        let mut sent = 0;
        while let Ok(count) = client.write(&body[sent..]) {
            sent += count;
            assert!(sent < LENGTH, "backpressure reaches the client");
        }
        client.set_write_timeout(None).expect("a socket option");
        (client, sent)
    }

    /// What its server has got of the Fragment, when that has ended.
    fn got(&self) -> (Vec<u8>, bool) {
        let fragment = wait::some("the Fragment has ended", || {
            let all = self.servers.backends[0].requests();
            all.into_iter().find(|r| r.packet_type() == "fragment" && !r.body.is_empty())
        });
        (fragment.body, fragment.complete)
    }
}

fn pattern() -> Vec<u8> {
    (0..LENGTH).map(|place| (place % 251 + place / 65_536) as u8).collect()
}

#[test]
fn a_server_that_stalls_and_goes_on_gets_every_byte_of_a_long_fragment() {
    let stalled = Stalled::start();
    let body = pattern();
    let (mut client, sent) = stalled.fill(&body);
    stalled.goes_on.send(()).expect("it waits");
    client.write_all(&body[sent..]).expect("the rest is taken");
    let mut answer = [0; 15];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 200 OK");
    let (got, whole) = stalled.got();
    assert!(whole && got == body);
}

#[track_caller]
fn breaks_off(leaves: fn(TcpStream) -> Option<TcpStream>) {
    let stalled = Stalled::start();
    let body = pattern();
    let (client, sent) = stalled.fill(&body);
    let _half = leaves(client);
    stalled.goes_on.send(()).expect("it waits");
    let (got, whole) = stalled.got();
    assert!(!whole, "a part is not taken for all of it");
    assert!(got.len() <= sent && got == body[..got.len()]);
    // The session goes on, and no byte of that Fragment comes before what follows.
    drop(stalled.goes_on);
    stalled.servers.passes(&ping(TARGET));
    let next = fragment(TARGET, &stalled.id, "bytes 0-2/9", b"abc");
    let (_, request, answer) = stalled.servers.passes(&next);
    assert_eq!((answer.status, &*request.body), (200, &b"abc"[..]));
}

#[test]
fn a_long_fragment_whose_client_ends_its_half_inside_it_is_no_whole_one() {
    breaks_off(|client| {
        client.shutdown(Shutdown::Write).expect("an open socket");
        Some(client)
    });
}

#[test]
fn a_long_fragment_whose_client_resets_inside_it_is_no_whole_one() {
    breaks_off(|client| {
        set_socket_linger(&client, Some(Duration::ZERO)).expect("a socket option");
        drop(client);
        None
    });
}
