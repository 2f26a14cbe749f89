//! Packets that follow each other on one connection, beside the same packets on connections of their own.

use std::sync::Mutex;

use gateway_core::protocol::head::find_field;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::scene::*;
use super::*;
use crate::exchange::rig::{ID, Rig, UP01};
use crate::guard::rig;

/// What the server is sent of a packet, and what the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    request: String,
    answer: String,
}

struct Step {
    packet: String,
    /// The configuration changes before it.
    reload: Option<&'static str>,
}

fn fragment_at(offset: u64, more: &str) -> Step {
    let packet = format!(
        "BITS_POST /in/report.cab?site=7 HTTP/1.1\r\nHost: up.test\r\nBITS-Packet-Type: Fragment\r\n\
         BITS-Session-Id: {ID}\r\n{more}Content-Range: bytes {offset}-{}/10000\r\n\
         Content-Length: 10\r\n\r\n0123456789",
        offset + 9
    );
    Step { packet, reload: None }
}

/// Reads packets, and acknowledges each.
async fn serve(mut server: TcpStream, heard: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some(head) = text.find("\r\n\r\n").map(|end| &text[..end + 4]) else {
            if server.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let body: usize = find_field(head.as_bytes(), "content-length").unwrap().parse().unwrap();
        while bytes.len() < head.len() + body {
            assert!(server.read_buf(&mut bytes).await.unwrap() > 0);
        }
        let whole: Vec<u8> = bytes.drain(..head.len() + body).collect();
        let range = find_field(head.as_bytes(), "content-range").unwrap_or("bytes 0-0/1");
        let last: u64 = range[6..].split(['-', '/']).nth(1).unwrap().parse().unwrap();
        let ack = format!(
            "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nBITS-Received-Content-Range: {}\r\n\
             Date: Tue, 01 Dec 2026 12:46:{:02} GMT\r\nContent-Length: 0\r\n\r\n",
            last + 1,
            last % 60
        );
        heard.lock().unwrap().push(String::from_utf8(whole).unwrap());
        server.write_all(ack.as_bytes()).await.unwrap();
    }
}

/// Sends the packets one after the other, over one connection or each over its own.
async fn send(steps: &[Step], one: bool) -> (Vec<Seen>, u32) {
    let scene = Scene::with_session().await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let server = scene.listener.local_addr().unwrap();
    let accepting = tokio::spawn(accept(scene.listener, Arc::clone(&heard)));
    let stop = scene.stop.subscribe();
    let mut connection = rig::tcp().await;
    let (mut seen, mut repeated) = (Vec::new(), 0);
    for step in steps {
        if let Some(more) = step.reload {
            let farm = Rig::of(server, more).gateway.farms().load_full();
            scene.rig.gateway.farms().store(farm);
        }
        if !one {
            connection = rig::tcp().await;
        }
        let (client, guard) = &mut connection;
        client.write_all(step.packet.as_bytes()).await.unwrap();
        assert!(rig::request(guard).await);
        repeated += u32::from(guard.series().is_some());
        let head = guard.read_head().unwrap();
        let mut transfer = Transfer::new(&scene.rig.gateway, &scene.lines, guard, head, &stop);
        assert!(transfer.run().await, "{:?}", transfer.exchange.findings.fault);
        drop(transfer);
        let answer = read_until(client, "\r\n\r\n").await;
        let request = heard.lock().unwrap().pop().expect("the server has the packet");
        seen.push(Seen { request, answer });
    }
    accepting.abort();
    (seen, repeated)
}

async fn accept(listener: TcpListener, heard: Arc<Mutex<Vec<String>>>) {
    while let Ok((server, _)) = listener.accept().await {
        tokio::spawn(serve(server, Arc::clone(&heard)));
    }
}

/// Takes the id off that each request has of its own.
fn take_id(seen: &mut Seen) -> Option<String> {
    let id = find_field(seen.request.as_bytes(), "x-request-id")?.to_owned();
    seen.request = seen.request.replace(&id, "");
    Some(id)
}

#[tokio::test]
async fn packets_that_repeat_each_other_go_on_as_any_others() {
    let reload = |more, step| Step { reload: Some(more), ..step };
    let ping = || Step { packet: String::from_utf8(ping()).unwrap(), reload: None };
    let steps = [
        fragment_at(100, ""),
        fragment_at(110, ""),
        fragment_at(120, ""),
        fragment_at(130, ""),
        fragment_at(140, "X-Own: 1\r\n"),
        fragment_at(150, "X-Own: 1\r\n"),
        fragment_at(160, "X-Own: 1\r\n"),
        fragment_at(170, "X-Own: 2\r\n"),
        ping(),
        ping(),
        ping(),
        fragment_at(180, ""),
        fragment_at(190, ""),
        reload("[http]\nrequest_id = \"pass\"\n", fragment_at(200, "")),
        fragment_at(210, ""),
        fragment_at(220, ""),
        reload("", fragment_at(230, "")),
        fragment_at(240, ""),
        fragment_at(250, ""),
        // One digit more.
        fragment_at(1000, ""),
        fragment_at(1010, ""),
    ];
    let ((mut one, repeated), (mut each, none)) =
        (send(&steps, true).await, send(&steps, false).await);
    assert_eq!((repeated, none), (15, 0));
    let mut ids: Vec<_> = one.iter_mut().filter_map(take_id).collect();
    each.iter_mut().for_each(|seen| drop(take_id(seen)));
    assert_eq!(one, each);
    assert!(ids.len() >= 16 && ids.iter().all(|id| id.len() == 36), "{ids:?}");
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() >= 16, "each has its own: {ids:?}");
    assert!(one[3].request.contains("bytes 130-139/10000"), "{:?}", one[3]);
    assert!(one[3].answer.contains("Range: 140") && one[3].answer.contains(":19 GMT"));
    let told_of_id = |index: usize| one[index].request.contains("X-Request-Id");
    assert_eq!([12, 13, 15, 16].map(told_of_id), [true, false, false, true]);
}

/// The server of a moved session knows it by another id.
#[tokio::test]
async fn an_id_of_the_server_alone_is_part_of_what_repeats() {
    let head = RequestHead::read(b"BITS_POST / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()).unwrap();
    let rig = Rig::new();
    let mut exchange = rig.arrive(&Arc::new(head.clone()));
    exchange.admitted.backend = Some(UP01);
    exchange.admitted.backend_session = Some("{A}".into());
    let written = b"BITS_POST / HTTP/1.1\r\nHost: a\r\nBITS-Session-Id: {A}\r\n\r\n";
    let mut previous = previous::Previous::of(1, &head, &exchange, written).unwrap();
    assert!(previous.repeat(1, &head, None, &exchange));
    assert!(!previous.repeat(2, &head, None, &exchange), "another head came between");
    exchange.admitted.backend_session = Some("{B}".into());
    assert!(!previous.repeat(1, &head, None, &exchange));
    exchange.admitted.backend_session = Some("{A}".into());
    exchange.admitted.spelling = Some("/x".into());
    assert!(!previous.repeat(1, &head, None, &exchange));
}
