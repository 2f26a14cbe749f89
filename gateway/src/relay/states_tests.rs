//! Packets on their way, by the cells of the table of states.

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scene::*;
use super::*;
use crate::base::rig::nobody;
use crate::exchange::rig::{ID, Rig, UP01};
use gateway_core::fault::Fault;

#[tokio::test]
async fn a_packet_goes_its_way() {
    let scene = Scene::with_session().await;
    let (left, ()) = scene
        .play(&fragment("01234"), async |mut peers| {
            let (mut server, text) = peers.head().await;
            peers.client.write_all(b"56789").await.unwrap();
            if !text.ends_with(WHOLE) {
                read_until(&mut server, "56789").await;
            }
            server.write_all(ACK).await.unwrap();
            let answer = read_until(&mut peers.client, "\r\n\r\n").await;
            assert!(answer.contains("BITS-Received-Content-Range: 110"), "{answer}");
            // The connection stays open for the next one.
            reset(server);
        })
        .await;
    assert_eq!(left, Left::answered(200));
    assert_eq!(scene.rig.next_offset(ID), Some(110));
    assert_eq!(scene.told(), 1);
}

/// In each state behind the body.
#[tokio::test]
async fn a_client_that_ends_its_half_is_served() {
    for ends in ["at once", "hear", "pass"] {
        let scene = Scene::new().await;
        let (left, ()) = scene
            .play(&ping(), async |mut peers| {
                if ends == "at once" {
                    peers.client.shutdown().await.unwrap();
                }
                let (mut server, _) = peers.head().await;
                if ends == "hear" {
                    peers.client.shutdown().await.unwrap();
                }
                server.write_all(PAGE).await.unwrap();
                if ends == "pass" {
                    read_until(&mut peers.client, "hello").await;
                    peers.client.shutdown().await.unwrap();
                }
                server.write_all(b"world").await.unwrap();
                read_until(&mut peers.client, "world").await;
            })
            .await;
        assert_eq!(left.fault, None, "{ends}");
        assert_eq!(left.status, Some(404), "{ends}");
        assert_eq!(scene.told(), 1);
    }
}

#[tokio::test]
async fn half_a_body_is_never_a_whole_one() {
    for how in ["fin", "reset", "superseded"] {
        let scene = Scene::with_session().await;
        let (left, ()) = scene
            .play(&fragment("01234"), async |peers| {
                let (mut server, mut text) = peers.head().await;
                if !text.ends_with("01234") {
                    text += &read_until(&mut server, "01234").await;
                }
                let Peers { mut client, conn, .. } = peers;
                match how {
                    "fin" => client.shutdown().await.unwrap(),
                    "reset" => reset(client),
                    _ => supersede(&conn),
                }
                assert_eq!(end(&mut server).await, (String::new(), RESET), "{how}");
            })
            .await;
        assert_eq!(left, Left::nothing(), "{how}");
        assert_eq!(scene.rig.next_offset(ID), Some(100), "{how}");
        assert_eq!(scene.told(), 1);
    }
}

#[tokio::test]
async fn an_answer_is_learned_though_its_client_is_gone() {
    let scene = Scene::with_session().await;
    let (left, ()) = scene
        .play(&fragment(WHOLE), async |peers| {
            let (mut server, text) = peers.head().await;
            if !text.ends_with(WHOLE) {
                read_until(&mut server, WHOLE).await;
            }
            reset(peers.client);
            server.write_all(ACK).await.unwrap();
            // Held until it is read: the end of the test would be a reset.
            let mut rest = [0];
            let _ = server.read(&mut rest).now_or_never();
            reset(server);
        })
        .await;
    assert!(!left.goes_on && left.fault.is_none());
    assert_eq!(scene.rig.next_offset(ID), Some(110));
    assert_eq!(scene.told(), 1);
}

#[tokio::test]
async fn a_packet_that_is_called_off_ends_wherever_it_is() {
    for state in ["hear", "pass"] {
        let scene = Scene::with_session().await;
        let (left, ()) = scene
            .play(&fragment(WHOLE), async |mut peers| {
                let (mut server, text) = peers.head().await;
                if !text.ends_with(WHOLE) {
                    read_until(&mut server, WHOLE).await;
                }
                if state == "pass" {
                    server.write_all(PAGE).await.unwrap();
                    read_until(&mut peers.client, "hello").await;
                }
                supersede(&peers.conn);
                // The request was whole: what its server sees is the end, and of an answer that was not
                // read no more than that.
                let (more, ended) = end(&mut server).await;
                assert_eq!(more, "", "{state}");
                assert!(state == "pass" || ended == RESET, "{state}: {ended:?}");
                let (more, _) = end(&mut peers.client).await;
                assert_eq!(more, "", "{state}");
            })
            .await;
        assert!(!left.goes_on, "{state}");
        assert_eq!(left.fault, None, "{state}");
        assert_eq!(scene.told(), 1);
    }
}

/// A server that ends its connection before a byte of an answer, with the body half there and with all
/// of it: a new connection is no stale one, and the packet does not go twice.
#[tokio::test]
async fn a_server_that_ends_before_its_answer_is_told_as_502() {
    for (how, body) in [("fin", "01234"), ("reset", "01234"), ("fin", WHOLE), ("reset", WHOLE)] {
        let scene = Scene::with_session().await;
        let (left, ()) = scene
            .play(&fragment(body), async |mut peers| {
                let (mut server, text) = peers.head().await;
                if !text.ends_with(body) {
                    read_until(&mut server, body).await;
                }
                if how == "reset" {
                    reset(server);
                } else {
                    drop(server);
                }
                let answer = read_until(&mut peers.client, "\r\n\r\n").await;
                assert!(answer.starts_with("HTTP/1.1 502 "), "{how} {body}: {answer}");
            })
            .await;
        assert_eq!(left, Left::fault(Fault::BackendFailed), "{how} {body}");
        assert_eq!(scene.told(), 1);
    }
}

#[tokio::test]
async fn a_server_that_ends_inside_its_answer_is_seen_to_have_ended() {
    for how in ["fin", "reset"] {
        let scene = Scene::new().await;
        let (left, ()) = scene
            .play(&ping(), async |mut peers| {
                let (mut server, _) = peers.head().await;
                server.write_all(PAGE).await.unwrap();
                read_until(&mut peers.client, "hello").await;
                if how == "reset" {
                    reset(server);
                } else {
                    drop(server);
                }
                let (rest, _) = end(&mut peers.client).await;
                assert_eq!(rest, "", "{how}");
            })
            .await;
        assert!(!left.goes_on, "{how}");
        assert_eq!(scene.told(), 1);
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_goes_on_and_the_rest_of_the_body_does_not() {
    let scene = Scene::with_session().await;
    let (left, ()) = scene
        .play(&fragment("01234"), async |mut peers| {
            let (mut server, text) = peers.head().await;
            if !text.ends_with("01234") {
                read_until(&mut server, "01234").await;
            }
            server.write_all(ACK).await.unwrap();
            read_until(&mut peers.client, "\r\n\r\n").await;
            // What nobody wants is read, and another request may follow.
            peers.client.write_all(b"56789").await.unwrap();
            assert_eq!(end(&mut server).await.0, "");
        })
        .await;
    assert_eq!(left, Left::answered(200));
    assert_eq!(scene.told(), 1);
}

#[tokio::test]
async fn what_a_server_says_behind_its_answer_ends_its_connection() {
    let scene = Scene::new().await;
    let (left, ()) = scene
        .play(&ping(), async |mut peers| {
            let (mut server, _) = peers.head().await;
            server.write_all(&[ACK, b"HTTP/1.1 200 Nobody asked\r\n\r\n"].concat()).await.unwrap();
            let answer = read_until(&mut peers.client, "\r\n\r\n").await;
            assert!(!answer.contains("Nobody"), "{answer}");
            let _ = end(&mut server).await;
        })
        .await;
    assert_eq!(left, Left::answered(200));
}

/// 1xx are not passed on, and are no answer.
#[tokio::test]
async fn interim_answers_go_to_nobody() {
    let scene = Scene::with_session().await;
    let (left, ()) = scene
        .play(&fragment("01234"), async |mut peers| {
            let (mut server, text) = peers.head().await;
            if !text.ends_with("01234") {
                read_until(&mut server, "01234").await;
            }
            server.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            peers.client.write_all(b"56789").await.unwrap();
            read_until(&mut server, "56789").await;
            server.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.unwrap();
            server.write_all(ACK).await.unwrap();
            let answer = read_until(&mut peers.client, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            reset(server);
        })
        .await;
    assert_eq!(left, Left::answered(200));
}

/// The next request is here before the answer to this one.
#[tokio::test]
async fn what_a_client_sends_ahead_waits() {
    let scene = Scene::new().await;
    let both = [ping(), ping()].concat();
    let (left, ()) = scene
        .play(&both, async |mut peers| {
            let (mut server, text) = peers.head().await;
            assert_eq!(text.matches("BITS_POST").count(), 1, "{text}");
            peers.client.write_all(&ping()).await.unwrap();
            server.write_all(ACK).await.unwrap();
            read_until(&mut peers.client, "\r\n\r\n").await;
            let mut more = [0];
            assert!(server.read(&mut more).now_or_never().is_none(), "nothing has followed");
            reset(server);
        })
        .await;
    assert_eq!(left, Left::answered(200));
}

/// In each state, the answer is the last one of its connection.
#[tokio::test]
async fn a_packet_of_a_process_that_is_told_to_end_is_served_to_its_end() {
    for state in ["at once", "body", "hear"] {
        let scene = Scene::with_session().await;
        let (left, ()) = scene
            .play(&fragment("01234"), async |mut peers| {
                let tell = || peers.scene.stop.send_replace(true);
                if state == "at once" {
                    tell();
                }
                let (mut server, text) = peers.head().await;
                if !text.ends_with("01234") {
                    read_until(&mut server, "01234").await;
                }
                if state == "body" {
                    tell();
                }
                peers.client.write_all(b"56789").await.unwrap();
                read_until(&mut server, "56789").await;
                if state == "hear" {
                    peers.scene.stop.send_replace(true);
                }
                server.write_all(ACK).await.unwrap();
                let (answer, _) = end(&mut peers.client).await;
                assert!(answer.contains("Connection: close"), "{state}: {answer}");
                reset(server);
            })
            .await;
        assert_eq!(left, Left::answered(200).last(), "{state}");
        assert_eq!(scene.rig.next_offset(ID), Some(110));
    }
}

#[tokio::test]
async fn a_server_that_refuses_connections_is_no_answer_to_its_owner() {
    // Held, or another test would listen there.
    let (_held, address) = nobody();
    let scene = Scene { rig: Rig::of(address, ""), ..Scene::new().await };
    let pool = Pool::new(&scene.servers, Arc::clone(scene.rig.gateway.farms()), 100);
    let scene = Scene { lines: Lines::new(pool), ..scene };
    // A Ping has no owner, and there is no other server.
    let (left, answer) = scene
        .play(&ping(), async |mut peers| read_until(&mut peers.client, "\r\n\r\n").await)
        .await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(left.fault, Some(Fault::NoBackend));
    assert_eq!(scene.told(), 1);
}

/// The only place at the server is taken at first.
#[tokio::test]
async fn whatever_comes_while_a_connection_is_awaited() {
    for event in ["bytes", "fin", "reset", "superseded", "told to end"] {
        let scene = Scene::with_session().await;
        scene.servers.set_ceiling(1);
        let soon = crate::base::clock::stopwatch() + std::time::Duration::from_secs(10);
        let place = scene.servers.place_elsewhere(UP01, soon).await;
        let (left, ()) = scene
            .play(&fragment("01234"), async |peers| {
                let Peers { mut client, conn, scene } = peers;
                assert!(scene.listener.accept().now_or_never().is_none(), "{event}");
                match event {
                    "reset" => reset(client),
                    "superseded" => {
                        supersede(&conn);
                        let (answer, _) = end(&mut client).await;
                        assert_eq!(answer, "");
                        assert!(scene.listener.accept().now_or_never().is_none(), "it has left");
                    }
                    "told to end" => {
                        scene.stop.send_replace(true);
                        client.write_all(b"56789").await.unwrap();
                        drop(place);
                        answers(scene, &mut client).await;
                    }
                    _ => {
                        client.write_all(b"56789").await.unwrap();
                        if event == "fin" {
                            client.shutdown().await.unwrap();
                        }
                        drop(place);
                        answers(scene, &mut client).await;
                    }
                }
            })
            .await;
        match event {
            "reset" | "superseded" => assert_eq!(left, Left::nothing(), "{event}"),
            _ => assert_eq!((left.fault, left.status), (None, Some(200)), "{event}"),
        }
        assert!(event != "told to end" || !left.goes_on);
        assert_eq!(scene.told(), 1);
    }
}

/// The server takes a whole Fragment and answers.
async fn answers(scene: &Scene, client: &mut TcpStream) {
    let (mut server, _) = scene.listener.accept().await.unwrap();
    read_until(&mut server, "56789").await;
    server.write_all(ACK).await.unwrap();
    read_until(client, "\r\n\r\n").await;
    reset(server);
}

/// Their bodies are read no further, and no request follows.
#[tokio::test]
async fn a_client_that_leaves_before_the_rest_of_its_body_has_its_answer() {
    for how in ["fin", "reset"] {
        let scene = Scene::with_session().await;
        let (left, ()) = scene
            .play(&fragment("01234"), async |mut peers| {
                let (mut server, text) = peers.head().await;
                if !text.ends_with("01234") {
                    read_until(&mut server, "01234").await;
                }
                server.write_all(ACK).await.unwrap();
                read_until(&mut peers.client, "\r\n\r\n").await;
                match how {
                    "fin" => peers.client.shutdown().await.unwrap(),
                    _ => reset(peers.client),
                }
                assert_eq!(end(&mut server).await.0, "");
            })
            .await;
        assert_eq!(left, Left::answered(200).last(), "{how}");
        assert_eq!(scene.told(), 1);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let scene = Scene::configured("[timeouts]\nclient_write = \"1s\"\n").await;
    let (left, ()) = scene
        .play(&ping(), async |peers| {
            let (mut server, _) = peers.head().await;
            server
                .write_all(b"HTTP/1.1 404 X\r\nContent-Length: 1000000000\r\n\r\n")
                .await
                .unwrap();
            let piece = [0; 64 * 1024];
            // Until the connection is closed: so much fits nowhere.
            while server.write_all(&piece).await.is_ok() {}
            drop(peers);
        })
        .await;
    assert!(!left.goes_on);
    assert_eq!(scene.told(), 1);
}

#[tokio::test]
async fn a_server_hears_no_more_of_a_client_that_left_inside_its_answer() {
    let scene = Scene::new().await;
    let (left, ()) = scene
        .play(&ping(), async |mut peers| {
            let (mut server, _) = peers.head().await;
            server.write_all(PAGE).await.unwrap();
            read_until(&mut peers.client, "hello").await;
            reset(peers.client);
            // Found out by what is written to it.
            server.write_all(b"world").await.unwrap();
            assert_eq!(end(&mut server).await.0, "");
        })
        .await;
    assert!(!left.goes_on);
    assert_eq!((left.fault, scene.told()), (None, 1));
}

/// What its client was told of the connection holds.
#[tokio::test]
async fn a_process_that_is_told_to_end_inside_an_answer_passes_all_of_it() {
    let scene = Scene::new().await;
    let (left, ()) = scene
        .play(&ping(), async |mut peers| {
            let (mut server, _) = peers.head().await;
            server.write_all(PAGE).await.unwrap();
            let answer = read_until(&mut peers.client, "hello").await;
            assert!(answer.contains("Connection: keep-alive"), "{answer}");
            peers.scene.stop.send_replace(true);
            server.write_all(b"world").await.unwrap();
            read_until(&mut peers.client, "world").await;
            reset(server);
        })
        .await;
    assert_eq!(left, Left::answered(404));
}

#[tokio::test]
async fn the_rest_of_a_body_is_not_waited_for_for_ever() {
    let scene = Scene::configured("[timeouts]\nclient_body = \"1s\"\n").await;
    scene.rig.pin(ID, UP01, 100).await;
    let (left, ()) = scene
        .play(&fragment("01234"), async |mut peers| {
            let (mut server, text) = peers.head().await;
            if !text.ends_with("01234") {
                read_until(&mut server, "01234").await;
            }
            server.write_all(ACK).await.unwrap();
            read_until(&mut peers.client, "\r\n\r\n").await;
            // Nothing more comes of it, and its end of the connection stays open.
            assert_eq!(end(&mut peers.client).await.0, "");
        })
        .await;
    assert_eq!(left, Left::answered(200).last());
}
