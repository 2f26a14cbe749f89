//! Long bodies from a client's socket to a server's.

use std::future::poll_fn;
use std::io;

use futures_util::FutureExt;
use gateway_core::protocol::head::BodyFraming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::guard::{GuardStream, rig};
use crate::relay::body::Body;
use crate::relay::pipe;
use crate::relay::server::{Line, Server};
use crate::relay::upstream::rig::{End, Thread, read_to_end};

/// More than what the sockets of two connections and a pipe hold.
const LENGTH: usize = 32 << 20;

struct Way {
    client: TcpStream,
    guard: GuardStream,
    body: Body,
    server: Server,
    /// The other end of the server's connection.
    theirs: TcpStream,
    /// Pieces that went through a pipe.
    piped: usize,
}

impl Way {
    /// The head of a request with a body of that length has gone; the body may be spliced.
    async fn of(length: usize) -> Self {
        let (mut client, mut guard) = rig::tcp().await;
        let head = format!("POST / HTTP/1.1\r\nHost: up\r\nContent-Length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        assert!(rig::request(&mut guard).await);
        assert_eq!(guard.skip_head(), BodyFraming::Length(length as u64));
        let mut body = Body::of(BodyFraming::Length(length as u64));
        body.splices = true;
        pipe::one_for_this_thread();
        let (connection, theirs) = Thread::new().await.busy().await;
        let server = Server::new(Line::Once(connection), false);
        Self { client, guard, body, server, theirs, piped: 0 }
    }

    /// Sends what is at hand, and the next piece, if that is here.
    async fn step(&mut self) -> io::Result<()> {
        while self.body.has_unsent() {
            poll_fn(|cx| self.body.poll_send(cx, &mut self.server)).await?;
        }
        poll_fn(|cx| self.body.poll_read(cx, &mut self.guard)).await?;
        self.piped += usize::from(self.body.has_pipe());
        Ok(())
    }

    async fn carry(&mut self) -> io::Result<()> {
        while !self.body.is_here() || self.body.has_unsent() {
            self.step().await?;
        }
        Ok(())
    }

    /// The client sends until nothing moves any more, the server reading nothing. Returns how much.
    async fn fill(&mut self, sent: &[u8]) -> usize {
        let (mut count, mut still) = (0, 0);
        // The runtime hears of a socket some turns after it could.
        while still < 100 {
            let step = self.step().now_or_never();
            let written = self.client.write(&sent[count..]).now_or_never();
            still = if step.is_none() && written.is_none() { still + 1 } else { 0 };
            count += written.map_or(0, Result::unwrap);
            assert!(count < sent.len(), "backpressure reaches the client");
            tokio::task::yield_now().await;
        }
        count
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251 + place / 65_536) as u8).collect()
}

/// A whole body, sent beside the relay of it.
async fn passes(way: &mut Way, rest: &[u8]) -> Vec<u8> {
    let (mut theirs, mut client) = (empty().await, empty().await);
    std::mem::swap(&mut theirs, &mut way.theirs);
    std::mem::swap(&mut client, &mut way.client);
    let rest = rest.to_vec();
    let sending = tokio::spawn(async move {
        client.write_all(&rest).await.unwrap();
        client
    });
    let reading = tokio::spawn(async move {
        let mut got = vec![0; LENGTH];
        theirs.read_exact(&mut got).await.unwrap();
        got
    });
    way.carry().await.unwrap();
    way.client = sending.await.unwrap();
    reading.await.unwrap()
}

/// A connection that stands for one that is elsewhere.
async fn empty() -> TcpStream {
    rig::tcp().await.0
}

#[tokio::test]
async fn a_long_body_arrives_as_it_was_sent() {
    let mut way = Way::of(LENGTH).await;
    let sent = pattern(LENGTH);
    assert!(passes(&mut way, &sent).await == sent);
    assert!(way.piped > 0 && !way.body.is_replayable());
    assert_eq!(way.body.forwarded, LENGTH as u64);
}

#[tokio::test]
async fn a_long_body_is_copied_where_no_pipe_can_be_had() {
    let mut way = Way::of(LENGTH).await;
    pipe::none_for_this_thread();
    let sent = pattern(LENGTH);
    assert!(passes(&mut way, &sent).await == sent);
    assert_eq!((way.piped, way.body.forwarded), (0, LENGTH as u64));
}

#[tokio::test]
async fn a_server_that_stalls_and_goes_on_gets_every_byte() {
    let mut way = Way::of(LENGTH).await;
    let sent = pattern(LENGTH);
    let count = way.fill(&sent).await;
    assert!(way.body.has_pipe(), "what the server does not take stays in the pipe");
    assert!(passes(&mut way, &sent[count..]).await == sent);
}

/// The client leaves while there are bytes in the pipe; its server must see that the body is not whole.
async fn breaks_off(resets: bool) {
    let mut way = Way::of(LENGTH).await;
    let count = way.fill(&pattern(LENGTH)).await;
    assert!(way.body.has_pipe());
    if resets {
        way.client.set_zero_linger().unwrap();
    }
    let Way { client, mut guard, mut body, mut server, mut theirs, .. } = way;
    drop(client);
    let reading = tokio::spawn(async move { read_to_end(&mut theirs).await });
    let failed = loop {
        while body.has_unsent() {
            poll_fn(|cx| body.poll_send(cx, &mut server)).await.unwrap();
        }
        if let Err(error) = poll_fn(|cx| body.poll_read(cx, &mut guard)).await {
            break error;
        }
    };
    let expected =
        if resets { io::ErrorKind::ConnectionReset } else { io::ErrorKind::UnexpectedEof };
    assert_eq!(failed.kind(), expected);
    assert!(body.forwarded <= count as u64);
    drop(server);
    let (got, end) = reading.await.unwrap();
    assert_eq!(end, End::Broken(io::ErrorKind::ConnectionReset));
    assert!(got.len() <= count && got == pattern(got.len()));
}

#[tokio::test]
async fn a_client_that_ends_inside_a_long_body_has_its_server_see_a_reset() {
    breaks_off(false).await;
}

#[tokio::test]
async fn a_client_that_resets_inside_a_long_body_has_its_server_see_a_reset() {
    breaks_off(true).await;
}

#[tokio::test]
async fn a_server_that_leaves_ends_the_body_and_its_pipe() {
    let mut way = Way::of(LENGTH).await;
    way.fill(&pattern(LENGTH)).await;
    assert!(way.body.has_pipe());
    way.theirs = empty().await;
    let failed = poll_fn(|cx| way.body.poll_send(cx, &mut way.server)).await.unwrap_err();
    assert!(
        matches!(failed.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
        "{failed}"
    );
    way.body.release();
    assert!(!way.body.has_unsent());
}

#[tokio::test]
async fn a_body_that_can_be_sent_again_is_copied() {
    for (length, piped) in [(64 * 1024, false), (64 * 1024 + 1, true)] {
        let mut way = Way::of(length).await;
        way.client.write_all(&pattern(length)).await.unwrap();
        way.step().await.unwrap();
        assert_eq!(way.piped > 0, piped, "{length}");
    }
}

#[tokio::test]
async fn a_request_behind_a_long_body_is_not_touched() {
    let length = 100_000;
    let mut way = Way::of(length).await;
    let next = "GET /next HTTP/1.1\r\nHost: up\r\n\r\n";
    let sent = [&pattern(length), next.as_bytes()].concat();
    let (client, theirs) = (&mut way.client, &mut way.theirs);
    client.write_all(&sent).await.unwrap();
    let mut got = vec![0; length];
    while !way.body.is_here() || way.body.has_unsent() {
        while way.body.has_unsent() {
            poll_fn(|cx| way.body.poll_send(cx, &mut way.server)).await.unwrap();
        }
        poll_fn(|cx| way.body.poll_read(cx, &mut way.guard)).await.unwrap();
    }
    theirs.read_exact(&mut got).await.unwrap();
    assert!(got == pattern(length));
    way.guard.conn().request_done();
    assert!(rig::request(&mut way.guard).await);
    assert_eq!(way.guard.head(), Some(next.as_bytes()));
}
