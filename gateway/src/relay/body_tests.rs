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
