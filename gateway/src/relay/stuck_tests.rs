//! Bodies of which a server takes no more for a while.

use gateway_core::session::live::Wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::scene::*;
use crate::base::clock;
use crate::exchange::rig::{ID, key};
use crate::sessions::live_uploads::LiveUpload;

async fn until(scene: &Scene, holds: impl Fn(&LiveUpload) -> bool) -> LiveUpload {
    loop {
        let live = scene.rig.sessions.live_uploads().find(&key(ID), clock::steady());
        match live.expect("the upload is shown") {
            live if holds(&live) => return live,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// What is stuck is the last that the client sends for now.
#[tokio::test]
async fn a_body_that_was_stuck_waits_for_what_is_next() {
    const HERE: usize = (64 << 10) - 1;
    for rest in [&b""[..], b"x"] {
        let scene = Scene::narrow().await;
        let length = HERE + rest.len();
        let packet = [whole_file(length), vec![b'x'; HERE]].concat();
        let (left, ()) = scene
            .play(&packet, async |mut peers| {
                let (mut server, text) = peers.head().await;
                let came = text.len() - (text.find("\r\n\r\n").unwrap() + 4);
                let stuck = until(&scene, |live| live.wait == Wait::Write).await;
                assert_eq!(stuck.came, HERE as u64);
                server.read_exact(&mut vec![0; HERE - came]).await.unwrap();
                if !rest.is_empty() {
                    until(&scene, |live| live.wait == Wait::Client).await;
                    peers.client.write_all(rest).await.unwrap();
                    server.read_exact(&mut vec![0; rest.len()]).await.unwrap();
                }
                until(&scene, |live| live.wait == Wait::Answer).await;
                server.write_all(ACK).await.unwrap();
                let answer = read_until(&mut peers.client, "\r\n\r\n").await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            })
            .await;
        assert_eq!(left, Left::answered(200));
    }
}
