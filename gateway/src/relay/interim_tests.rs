//! 1xx answers that come while a request is still on its way.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::scene::*;

/// An early answer that comes together with a 1xx.
#[tokio::test]
async fn an_answer_behind_an_interim_one_is_heard_at_once() {
    let scene = Scene::with_session().await;
    let (left, ()) = scene
        .play(&fragment("01234"), async |mut peers| {
            let (mut server, text) = peers.head().await;
            if !text.ends_with("01234") {
                read_until(&mut server, "01234").await;
            }
            let both = [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], ACK].concat();
            server.write_all(&both).await.unwrap();
            // The client sends the rest only once it has its answer.
            let answer = read_until(&mut peers.client, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            peers.client.write_all(b"56789").await.unwrap();
        })
        .await;
    assert_eq!(left, Left::answered(200));
}

/// Whether the kernel holds bytes that the owner of the socket at `local` has not read.
fn has_unread(local: SocketAddr) -> bool {
    let local = format!(":{:04X} ", local.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let queues = fields.filter(|fields| format!("{} ", fields[1]).ends_with(&local));
    let mut unread = queues.map(|fields| fields[4].ends_with(":00000000"));
    !unread.next().expect("a socket of the gateway")
}

/// The server speaks when it has taken a part of the body: of some of these lengths, all of it is at the
/// gateway by then.
#[tokio::test]
async fn what_is_left_of_a_body_goes_on_behind_an_interim_answer() {
    for length in (48..256).step_by(8).map(|kib| kib << 10) {
        let scene = Scene::narrow().await;
        let packet = [whole_file(length), vec![b'x'; length]].concat();
        let (left, ()) = scene
            .play(&packet, async |mut peers| {
                let (mut server, text) = peers.head().await;
                let mut came = text.len() - (text.find("\r\n\r\n").unwrap() + 4);
                server.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.unwrap();
                while has_unread(server.peer_addr().unwrap()) {
                    tokio::task::yield_now().await;
                }
                let mut piece = vec![0; length];
                while came < length {
                    let count = server.read(&mut piece).await.unwrap();
                    assert!(count > 0, "{came} of {length} bytes came");
                    came += count;
                }
                server.write_all(ACK).await.unwrap();
                let answer = read_until(&mut peers.client, "\r\n\r\n").await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                reset(server);
            })
            .await;
        assert_eq!(left, Left::answered(200), "{length}");
    }
}
