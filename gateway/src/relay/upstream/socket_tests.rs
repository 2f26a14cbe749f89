use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::rig::{End, Server, read_to_end};
use super::*;

async fn news(socket: &mut ServerSocket) {
    poll_fn(|cx| socket.poll_news(cx)).await;
}

/// A byte each way: what was sent before it has been read.
async fn round_trip<S>(ours: &mut ServerSocket, theirs: &mut S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    theirs.write_all(b"a").await.unwrap();
    theirs.flush().await.unwrap();
    assert_eq!(ours.read_u8().await.unwrap(), b'a');
}

#[tokio::test]
async fn several_pieces_go_out_at_once_and_answers_come_back() {
    let (plain, secure) = (Server::plain().await, Server::secure().await);
    let (mut ours, mut theirs) = plain.tcp().await;
    speak(&mut ours, &mut theirs).await;
    let (mut ours, mut theirs) = secure.tls().await;
    speak(&mut ours, &mut theirs).await;
}

async fn speak<S>(ours: &mut ServerSocket, theirs: &mut S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    assert!(ours.is_write_vectored());
    let pieces = [IoSlice::new(b"head "), IoSlice::new(b"and body")];
    assert_eq!(ours.write_vectored(&pieces).await.unwrap(), 13);
    ours.flush().await.unwrap();
    let mut got = [0; 13];
    theirs.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"head and body");
    round_trip(ours, theirs).await;
}

#[tokio::test]
async fn a_reset_is_seen_as_one_and_never_as_an_end() {
    let (plain, secure) = (Server::plain().await, Server::secure().await);
    let (mut ours, mut theirs) = plain.tcp().await;
    ours.write_all(b"half a body").await.unwrap();
    ours.reset();
    drop(ours);
    let (_, end) = read_to_end(&mut theirs).await;
    assert_eq!(end, End::Broken(ErrorKind::ConnectionReset));

    let (mut ours, mut theirs) = secure.tls().await;
    ours.write_all(b"half a body").await.unwrap();
    ours.flush().await.unwrap();
    ours.reset();
    drop(ours);
    let (_, end) = read_to_end(&mut theirs).await;
    assert_eq!(end, End::Broken(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_goodbye_is_a_clean_end_by_tls_too() {
    let (plain, secure) = (Server::plain().await, Server::secure().await);
    let (mut ours, mut theirs) = plain.tcp().await;
    ours.write_all(b"all").await.unwrap();
    ours.goodbye();
    drop(ours);
    assert_eq!(read_to_end(&mut theirs).await, (b"all".to_vec(), End::Clean));

    // Who closes with bytes unread sends a reset, so the tickets are read.
    let (mut ours, mut theirs) = secure.tls().await;
    round_trip(&mut ours, &mut theirs).await;
    ours.write_all(b"all").await.unwrap();
    ours.goodbye();
    drop(ours);
    assert_eq!(read_to_end(&mut theirs).await, (b"all".to_vec(), End::Clean));

    // What the two would be without it.
    let (mut ours, mut theirs) = secure.tls().await;
    round_trip(&mut ours, &mut theirs).await;
    drop(ours);
    let (_, end) = read_to_end(&mut theirs).await;
    assert_eq!(end, End::Broken(ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn a_connection_is_quiet_until_its_server_speaks_or_ends_it() {
    let server = Server::plain().await;
    for what in ["speaks", "ends it", "resets it"] {
        let (mut ours, mut theirs) = server.tcp().await;
        assert!(ours.is_quiet() && ours.is_quiet_in_kernel(), "nobody {what}");
        // The buffer of the read is full, so the runtime does not know that nothing is left.
        round_trip(&mut ours, &mut theirs).await;
        assert!(ours.is_quiet(), "nobody {what}");
        match what {
            "speaks" => theirs.write_all(b"408").await.unwrap(),
            "resets it" => {
                theirs.set_zero_linger().unwrap();
                drop(theirs);
            }
            _ => drop(theirs),
        }
        news(&mut ours).await;
        assert!(!ours.is_quiet() && !ours.is_quiet_in_kernel(), "the server {what}");
    }
}

#[tokio::test]
async fn by_tls_tickets_are_no_news_and_data_and_ends_are() {
    let server = Server::secure().await;
    for what in ["speaks", "says goodbye", "ends TCP"] {
        let (mut ours, mut theirs) = server.tls().await;
        // The server sends tickets behind the handshake. They have come once what follows has.
        round_trip(&mut ours, &mut theirs).await;
        assert!(ours.is_quiet(), "nobody {what}");
        match what {
            "speaks" => {
                theirs.write_all(b"408").await.unwrap();
                theirs.flush().await.unwrap();
            }
            "says goodbye" => theirs.shutdown().await.unwrap(),
            _ => theirs.get_mut().0.shutdown().await.unwrap(),
        }
        news(&mut ours).await;
        assert!(!ours.is_quiet(), "the server {what}");
    }
}

#[tokio::test]
async fn tickets_alone_leave_a_connection_quiet() {
    let server = Server::secure().await;
    let (mut ours, theirs) = server.tls().await;
    // Nothing has been read, so they wait in the kernel.
    while ours.is_quiet_in_kernel() {
        std::thread::yield_now();
    }
    ours.tcp().readable().await.unwrap();
    assert!(ours.is_quiet() && ours.is_quiet_in_kernel(), "they are read and forgotten");
    drop(theirs);
    news(&mut ours).await;
}

/// An end that has come with the answer is in no buffer of the kernel any more.
#[tokio::test]
async fn a_goodbye_that_was_read_with_the_answer_is_remembered() {
    let server = Server::secure().await;
    let (mut ours, mut theirs) = server.tls().await;
    theirs.write_all(b"answer").await.unwrap();
    theirs.shutdown().await.unwrap();
    ours.tcp().readable().await.unwrap();
    let mut answer = [0; 6];
    ours.read_exact(&mut answer).await.unwrap();
    assert!(!ours.is_quiet());
}

/// What the kernel knows costs a system call, and is not asked for.
#[tokio::test]
async fn a_look_without_a_system_call_sees_what_the_runtime_was_told() {
    let server = Server::plain().await;
    let (mut ours, theirs) = server.tcp().await;
    drop(theirs);
    while ours.is_quiet_in_kernel() {
        std::thread::yield_now();
    }
    // This task has not let the runtime look at its sockets since.
    assert!(ours.is_quiet());
    news(&mut ours).await;
    assert!(!ours.is_quiet());
}
