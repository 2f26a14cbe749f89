//! Bodies that come over a socket.

use std::future::poll_fn;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::guard::rig;

/// A client whose request has come with these bytes behind its head.
async fn request(length: usize, here: &[u8]) -> (TcpStream, GuardStream, Body) {
    let (mut client, mut guard) = rig::tcp().await;
    let head = format!("POST / HTTP/1.1\r\nHost: up\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(&[head.as_bytes(), here].concat()).await.unwrap();
    assert!(rig::request(&mut guard).await);
    let framing = guard.skip_head();
    (client, guard, Body::of(framing))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8).collect()
}

async fn read(body: &mut Body, guard: &mut GuardStream) -> io::Result<()> {
    poll_fn(|cx| body.poll_read(cx, guard)).await
}

/// Waits until the socket has so many bytes.
async fn arrive(guard: &GuardStream, count: usize) {
    let socket = guard.socket().tcp().unwrap();
    let mut room = vec![0; count];
    while socket.peek(&mut room).await.unwrap() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_here_of_a_body_is_one_piece() {
    let sent = pattern(WHOLE);
    let (_client, mut guard, mut body) = request(WHOLE, &sent).await;
    arrive(&guard, WHOLE - 2048).await;
    read(&mut body, &mut guard).await.unwrap();
    assert_eq!(body.news(), Some((WHOLE, true)));
    assert!(body.unsent() == sent && body.is_here() && body.is_replayable());
}

#[tokio::test]
async fn a_body_in_parts_is_kept_if_it_fits_and_every_part_goes_on_at_once() {
    let sent = pattern(WHOLE);
    let (mut client, mut guard, mut body) = request(WHOLE, &sent[..100]).await;
    let mut from = 0;
    for to in [100, 101, 40_000, WHOLE] {
        if from > 0 {
            client.write_all(&sent[from..to]).await.unwrap();
            arrive(&guard, to - from).await;
        }
        read(&mut body, &mut guard).await.unwrap();
        assert!(body.unsent() == &sent[from..to], "from {from} to {to}");
        assert_eq!(body.news(), Some((to - from, to == WHOLE)));
        body.sent(to - from);
        from = to;
    }
    assert_eq!(body.forwarded, WHOLE as u64);
    body.rewind();
    assert!(body.unsent() == sent);
    assert_eq!(body.news(), Some((WHOLE, true)));
}

#[tokio::test]
async fn a_long_body_comes_in_pieces_as_large_as_there_is_room_for() {
    let length = 4 * WHOLE;
    let sent = pattern(length);
    let (mut client, mut guard, mut body) = request(length, &sent[..1000]).await;
    read(&mut body, &mut guard).await.unwrap();
    assert!(body.unsent() == &sent[..1000]);
    body.sent(1000);
    client.write_all(&sent[1000..1000 + WHOLE]).await.unwrap();
    arrive(&guard, WHOLE).await;
    read(&mut body, &mut guard).await.unwrap();
    assert!(body.unsent() == &sent[1000..1000 + WHOLE], "the first bytes take no room any more");
    assert!(!body.is_replayable());
}

#[tokio::test]
async fn no_byte_of_the_next_request_becomes_a_part_of_a_body_or_is_lost() {
    for length in [1, 5000, WHOLE, WHOLE + 5000] {
        let sent = pattern(length);
        let next = b"GET /next HTTP/1.1\r\nHost: up\r\n\r\n";
        let (mut client, mut guard, mut body) = request(length, &[]).await;
        let sending = async { client.write_all(&[&sent, &next[..]].concat()).await.unwrap() };
        let reading = async {
            let mut came = Vec::new();
            while !body.is_here() {
                read(&mut body, &mut guard).await.unwrap();
                came.extend_from_slice(body.unsent());
                body.sent(body.unsent().len());
            }
            assert!(came == sent, "of {length}");
        };
        tokio::join!(sending, reading);
        assert_eq!(body.forwarded, length as u64);
        guard.conn().request_done();
        assert!(rig::request(&mut guard).await);
        assert_eq!(guard.head(), Some(&next[..]));
    }
}

#[tokio::test]
async fn what_came_before_a_client_left_goes_on_before_that_is_known() {
    let (client, mut guard, mut body) = request(100, b"half").await;
    drop(client);
    read(&mut body, &mut guard).await.unwrap();
    assert_eq!(body.unsent(), b"half");
    body.sent(4);
    let error = read(&mut body, &mut guard).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// A client whose request has come with these bytes of a body in chunks that goes on as `length` bytes.
async fn unchunked(length: u64, here: &str) -> (TcpStream, GuardStream, Body) {
    let (mut client, mut guard) = rig::tcp().await;
    let head = "POST / HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all([head, here].concat().as_bytes()).await.unwrap();
    assert!(rig::request(&mut guard).await);
    let mut body = Body::of(guard.skip_head());
    body.unchunk(length);
    (client, guard, body)
}

#[tokio::test]
async fn a_body_without_its_chunks_holds_its_last_byte_back_until_their_end() {
    let (mut client, mut guard, mut body) = unchunked(10, "4\r\n0123\r\n").await;
    let mut went = Vec::new();
    for (more, goes, news) in [
        ("", "0123", Some((4, false))),
        ("6;x\r\n456789\r\n", "45678", Some((6, false))),
        ("0\r\nX: y\r\n\r\n", "9", Some((0, true))),
    ] {
        client.write_all(more.as_bytes()).await.unwrap();
        read(&mut body, &mut guard).await.unwrap();
        assert_eq!(body.news(), news);
        assert_eq!(String::from_utf8_lossy(body.unsent()), goes);
        went.extend_from_slice(body.unsent());
        body.sent(goes.len());
        assert!(!body.has_unsent());
    }
    assert!(body.is_here() && body.is_replayable() && went == b"0123456789");
    body.rewind();
    assert_eq!(body.news(), Some((10, true)));
    assert_eq!(body.unsent(), b"0123456789");
}

#[tokio::test]
async fn a_long_body_without_its_chunks_holds_one_byte_back_too() {
    let sent = pattern(3 * WHOLE + 5);
    let (mut client, mut guard, mut body) = unchunked(sent.len() as u64, "").await;
    let writing = async {
        for piece in sent.chunks(10_000) {
            client.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
            client.write_all(&[piece, b"\r\n"].concat()).await.unwrap();
        }
    };
    let mut went = Vec::new();
    let reading = async {
        while went.len() < sent.len() - 1 {
            read(&mut body, &mut guard).await.unwrap();
            went.extend_from_slice(body.unsent());
            body.sent(body.unsent().len());
        }
    };
    tokio::join!(writing, reading);
    assert!(!body.is_here() && !body.has_unsent());
    client.write_all(b"0\r\n\r\n").await.unwrap();
    read(&mut body, &mut guard).await.unwrap();
    went.extend_from_slice(body.unsent());
    assert!(body.is_here() && went == sent);
}

#[tokio::test]
async fn what_follows_the_length_of_a_body_in_chunks_is_new_and_does_not_go() {
    let (mut client, mut guard, mut body) = unchunked(3, "3\r\nabc\r\n").await;
    read(&mut body, &mut guard).await.unwrap();
    assert_eq!(body.unsent(), b"ab");
    body.sent(2);
    client.write_all(b"1\r\nd\r\n").await.unwrap();
    assert_eq!(body.news(), Some((3, false)));
    read(&mut body, &mut guard).await.unwrap();
    assert_eq!(body.news(), Some((1, false)), "its reader refuses it");
    assert!(!body.is_here());
}

#[tokio::test]
async fn an_empty_body_in_chunks_is_seen_to_be_empty() {
    for (chunks, empty) in [("0\r\n\r\n", true), ("1\r\nx\r\n0\r\n\r\n", false)] {
        let (_client, mut guard, mut body) = unchunked(0, chunks).await;
        read(&mut body, &mut guard).await.unwrap();
        assert_eq!(body.is_empty(), empty);
        assert!(body.is_here());
        assert!(!empty || (!body.has_unsent() && body.news() == Some((0, true))));
    }
}
