//! The guard over an in-memory pipe.

use futures_util::FutureExt;
use gateway_core::protocol::chunked::ChunkError;
use pingora::protocols::{GetProxyDigest, GetSocketDigest, GetTimingDigest, Ssl};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::rig::{Events, LIMITS, over};
use super::*;
use crate::base::clock;

struct Rig {
    client: DuplexStream,
    guard: GuardStream,
    events: Arc<Events>,
}

fn rig() -> Rig {
    rig_with("")
}

/// Some bytes have come with the header of a proxy.
fn rig_with(ahead: &str) -> Rig {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let (guard, events) = over(ClientSocket::pipe(server), ahead, LIMITS);
    Rig { client, guard, events }
}

impl Rig {
    /// What one read of at most `room` bytes gives now; `None` if it would wait.
    fn read_now(&mut self, room: usize) -> Option<String> {
        let mut buffer = vec![0; room];
        let count = self.guard.read(&mut buffer).now_or_never()?.expect("no error");
        Some(String::from_utf8(buffer[..count].to_vec()).unwrap())
    }

    /// What the client has received now.
    fn received(&mut self) -> String {
        let mut buffer = vec![0; 4096];
        let read = self.client.read(&mut buffer).now_or_never();
        let count = read.map_or(0, |count| count.unwrap());
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: up\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: up\r\nContent-Length: 5\r\n\r\n";

#[tokio::test]
async fn a_head_passes_only_when_it_is_whole() {
    let mut rig = rig();
    let (start, rest) = GET.split_at(20);
    rig.client.write_all(start.as_bytes()).await.unwrap();
    assert_eq!(rig.read_now(4096), None);
    rig.client.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(rig.read_now(4096).as_deref(), Some(GET));
}

#[tokio::test]
async fn a_request_begins_with_what_came_with_the_header_of_a_proxy() {
    let mut rig = rig_with(GET);
    assert_eq!(rig.read_now(4096).as_deref(), Some(GET));
    let (start, end) = GET.split_at(20);
    let mut rig = rig_with(start);
    assert!(rig.guard.is_inside_head());
    assert_eq!(rig.read_now(4096), None);
    rig.client.write_all(end.as_bytes()).await.unwrap();
    assert_eq!(rig.read_now(4096).as_deref(), Some(GET));
}

#[tokio::test]
async fn what_pingora_asks_of_a_stream_is_answered() {
    let rig = rig();
    let digest = rig.guard.get_socket_digest().unwrap();
    let peer = digest.peer_addr().and_then(|peer| peer.as_inet()).copied();
    assert_eq!(peer, Some(rig.guard.socket().peer()));
    let [Some(timing)] = &rig.guard.get_timing_digest()[..] else { panic!("one layer") };
    assert_eq!(timing.established_ts, rig.guard.socket().accepted());
    assert!(rig.guard.get_ssl_digest().is_none() && rig.guard.get_proxy_digest().is_none());
}

#[tokio::test]
async fn an_answer_is_seen_once_it_is_flushed() {
    let mut rig = rig();
    rig.client.write_all(GET.as_bytes()).await.unwrap();
    assert!(rig.read_now(4096).is_some());
    rig.guard.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    assert_eq!(rig.received(), "");
    assert!(!rig.guard.conn().has_answered());
    rig.guard.flush().await.unwrap();
    assert_eq!(rig.received(), "HTTP/1.1 200 OK\r\n\r\n");
    assert!(rig.guard.conn().has_answered());
}

#[tokio::test]
async fn of_an_answer_to_a_client_that_has_gone_nothing_is_seen() {
    let mut rig = rig();
    rig.client.write_all(GET.as_bytes()).await.unwrap();
    assert!(rig.read_now(4096).is_some());
    rig.guard.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let conn = Arc::clone(rig.guard.conn());
    drop(rig.client);
    rig.guard.flush().await.unwrap_err();
    assert!(!conn.has_answered());
    drop(rig.guard);
    assert!(!conn.has_answered());
}

#[tokio::test]
async fn what_is_written_of_an_answer_goes_out_with_the_end_of_its_connection() {
    let mut rig = rig();
    rig.client.write_all(GET.as_bytes()).await.unwrap();
    assert!(rig.read_now(4096).is_some());
    rig.guard.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    drop(rig.guard);
    let mut answer = String::new();
    rig.client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "HTTP/1.1 200 OK\r\n");
}

#[tokio::test]
async fn bytes_behind_a_message_wait_until_it_is_answered() {
    let mut rig = rig();
    rig.client.write_all(format!("{POST}hello{GET}").as_bytes()).await.unwrap();
    assert_eq!(rig.read_now(4096), Some(format!("{POST}hello")));
    assert_eq!(rig.read_now(1), None, "the next request is not shown while this one is served");
    rig.guard.conn().request_done();
    assert_eq!(rig.read_now(4096).as_deref(), Some(GET));
}

#[tokio::test]
async fn a_body_is_counted_to_the_byte_however_it_arrives() {
    let mut rig = rig();
    rig.client.write_all(format!("{POST}he").as_bytes()).await.unwrap();
    assert_eq!(rig.read_now(4096), Some(format!("{POST}he")));
    rig.client.write_all(format!("llo{GET}").as_bytes()).await.unwrap();
    assert_eq!(rig.read_now(2).as_deref(), Some("ll"));
    assert_eq!(rig.read_now(4096).as_deref(), Some("o"));
    rig.guard.conn().request_done();
    assert_eq!(rig.read_now(4096).as_deref(), Some(GET));
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn no_request_passes_behind_a_chunked_one() {
    for body in ["5\r\nhello\r\n0\r\n\r\n", "0;x=y\r\nX: y\r\n\r\n"] {
        let mut rig = rig();
        rig.client.write_all(format!("{CHUNKED}{body}{GET}").as_bytes()).await.unwrap();
        assert_eq!(rig.read_now(4096).as_deref(), Some(CHUNKED));
        assert_eq!(rig.read_now(4096).as_deref(), Some(body));
        assert_eq!(rig.read_now(1), None, "the client is watched while it is served");
        rig.guard.conn().request_done();
        assert_eq!(rig.read_now(1).as_deref(), Some(""), "no request may follow");
    }
}

#[tokio::test]
async fn of_a_malformed_chunk_no_byte_passes() {
    for (body, rule) in [
        ("\r\n\r\n", ChunkError::Size),
        ("5 \r\nhello\r\n0\r\n\r\n", ChunkError::Size),
        ("5\nhello\n0\n\n", ChunkError::Size),
        ("x", ChunkError::Size),
        ("0\r\nX : y\r\n\r\n", ChunkError::Trailer),
    ] {
        let mut rig = rig();
        rig.client.write_all(format!("{CHUNKED}{body}").as_bytes()).await.unwrap();
        assert_eq!(rig.read_now(4096).as_deref(), Some(CHUNKED));
        let error = rig.guard.read(&mut [0; 64]).await.expect_err("it is no body");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert_eq!(rig.guard.conn().malformed_body(), Some(rule));
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_not_seen_while_its_request_is_served() {
    let mut rig = rig();
    rig.client.write_all(GET.as_bytes()).await.unwrap();
    assert!(rig.read_now(4096).is_some());
    assert_eq!(rig.read_now(1), None);
    rig.client.shutdown().await.unwrap();
    assert_eq!(rig.read_now(1), None);
    rig.guard.conn().request_done();
    assert_eq!(rig.read_now(1).as_deref(), Some(""));
}

/// Waits for so long, and for the second look.
async fn wait(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up_at_the_second_look() {
    let mut rig = rig();
    rig.guard.conn().wait_for_body(Duration::from_secs(60));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
    rig.client.write_all(head.as_bytes()).await.unwrap();
    assert!(rig.read_now(4096).is_some());
    for _ in 0..3 {
        assert_eq!(rig.read_now(4096), None);
        wait(59).await;
        rig.client.write_all(b"x").await.unwrap();
        assert_eq!(rig.read_now(4096).as_deref(), Some("x"), "each byte renews its time");
    }
    assert_eq!(rig.read_now(4096), None);
    wait(61).await;
    assert_eq!(rig.read_now(4096), None);
    // What lies in the socket counts.
    rig.client.write_all(b"y").await.unwrap();
    assert_eq!(rig.read_now(4096).as_deref(), Some("y"));
    assert_eq!(rig.read_now(4096), None);
    wait(61).await;
    assert_eq!(rig.read_now(4096), None);
    wait(1).await;
    let error = rig.guard.read(&mut [0; 1]).now_or_never().expect("ready").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(rig.guard.conn().has_stalled());
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_ends_the_wait() {
    for gone in [false, true] {
        let mut rig = rig();
        rig.client.write_all(GET.as_bytes()).await.unwrap();
        assert!(rig.read_now(4096).is_some());
        let conn = Arc::clone(rig.guard.conn());
        // An earlier request that was allowed more, and one that was allowed less.
        for wait in [Duration::from_secs(3600), Duration::from_millis(1)] {
            conn.expect_answer(clock::steady() + wait);
            assert_eq!(rig.read_now(1), None);
            conn.answer_is_here();
        }
        if gone {
            rig.client.shutdown().await.unwrap();
        }
        conn.expect_answer(clock::steady() + Duration::from_millis(50));
        let error = rig.guard.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(conn.is_answer_overdue());
        assert_eq!(conn.is_half_closed(), gone);
    }
}

#[tokio::test]
async fn a_refused_head_is_answered_and_never_shown() {
    let mut rig = rig();
    rig.client.write_all(b"BITS_POST / HTTP/1.1\r\nHost: a b\r\n\r\nbody").await.unwrap();
    assert_eq!(rig.read_now(4096).as_deref(), Some(""));
    let answer = rig.received();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\nBITS-Packet-Type: Ack\r\n"),
        "{answer}"
    );
    assert_eq!(*rig.events.0.lock().unwrap(), ["opened", "refused: Host is missing or not a host"]);
}

#[tokio::test]
async fn an_endless_head_is_refused_at_the_limit() {
    let mut rig = rig();
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(4096));
    rig.client.write_all(endless.as_bytes()).await.unwrap();
    assert_eq!(rig.read_now(4096).as_deref(), Some(""));
    assert!(rig.received().starts_with("HTTP/1.1 431 "));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_dribbles_ends_at_its_deadline() {
    let mut rig = rig();
    rig.client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(rig.read_now(4096), None);
    tokio::time::advance(Duration::from_secs(14)).await;
    rig.client.write_all(b"H").await.unwrap();
    assert_eq!(rig.read_now(4096), None, "a byte does not renew the deadline, nor end it early");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(rig.read_now(4096), None, "what lies in the socket counts");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(rig.read_now(4096).as_deref(), Some(""));
    assert_eq!(rig.received(), "");
    assert_eq!(*rig.events.0.lock().unwrap(), ["opened", "timed out"]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_has_no_head_deadline() {
    let mut rig = rig();
    assert_eq!(rig.read_now(4096), None);
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(rig.read_now(4096), None);
}

#[tokio::test]
async fn a_killed_request_ends_its_connection_and_no_later_one() {
    let mut rig = rig();
    rig.client.write_all(GET.as_bytes()).await.unwrap();
    assert!(rig.read_now(4096).is_some());
    let conn = Arc::clone(rig.guard.conn());
    let first = conn.current_request();
    conn.request_done();
    conn.kill(first);
    rig.client.write_all(GET.as_bytes()).await.unwrap();
    assert!(rig.read_now(4096).is_some(), "the killed request was over already");
    conn.kill(conn.current_request());
    let error = rig.guard.read(&mut [0; 1]).now_or_never().expect("ready").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn unread_bytes_are_drained_so_that_the_answer_can_be_read() {
    let mut rig = rig();
    rig.client.write_all(format!("{POST}he").as_bytes()).await.unwrap();
    assert!(rig.read_now(4096).is_some());
    rig.guard.write_all(b"HTTP/1.1 413 \r\n\r\n").await.unwrap();
    drop(rig.guard);
    // The half towards the client closes at once; what it still sends finds a reader.
    let mut answer = Vec::new();
    rig.client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 413"));
    assert_eq!(*rig.events.0.lock().unwrap(), ["opened"]);
    rig.client.write_all(b"llo").await.unwrap();
    rig.client.shutdown().await.unwrap();
    while rig.events.0.lock().unwrap().last().map(String::as_str) != Some("closed") {
        tokio::task::yield_now().await;
    }
}

/// The slot of the connection is free as soon as the guard is gone.
#[track_caller]
fn closes_at_once(rig: Rig) {
    drop(rig.guard);
    assert_eq!(rig.events.0.lock().unwrap().last().map(String::as_str), Some("closed"));
}

#[tokio::test]
async fn a_killed_request_does_not_linger() {
    let mut rig = rig();
    rig.client.write_all(format!("{POST}he").as_bytes()).await.unwrap();
    assert!(rig.read_now(4096).is_some());
    rig.guard.write_all(b"HTTP/1.1 413 \r\n\r\n").await.unwrap();
    let conn = Arc::clone(rig.guard.conn());
    conn.kill(conn.current_request());
    conn.request_done();
    drop(conn);
    closes_at_once(rig);
}

/// Who sends it and waits is not left waiting for the deadline.
#[tokio::test]
async fn a_bad_request_line_is_refused_once_it_is_whole_however_it_comes() {
    for (line, pieces) in [
        ("GET /\r\n", 1),
        ("GET /\r\n", 2),
        ("GET / HTTP/3.0\r\n", 3),
        ("GET / HTTP/3.0\r\n", usize::MAX),
    ] {
        let mut rig = rig();
        let length = line.len().div_ceil(pieces);
        for piece in line.as_bytes().chunks(length) {
            assert_eq!(rig.received(), "", "{line:?} in {pieces}");
            rig.client.write_all(piece).await.unwrap();
            rig.read_now(4096);
        }
        assert!(rig.received().starts_with("HTTP/1.1 400 "), "{line:?} in {pieces}");
    }
}

#[tokio::test]
async fn half_a_head_does_not_linger() {
    let mut rig = rig();
    rig.client.write_all(b"GET / HTT").await.unwrap();
    assert_eq!(rig.read_now(4096), None);
    closes_at_once(rig);
}
