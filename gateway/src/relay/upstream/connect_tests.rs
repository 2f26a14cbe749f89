use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::PKCS_ECDSA_P256_SHA256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::rig::{NAME, Server};
use super::*;
use crate::base::rig::nobody;
use crate::tls::settings::{self, CertificateFiles, Verify};
use crate::tls::test_pki::Pki;

fn failure(connected: Result<ServerSocket, Unconnected>) -> Unconnected {
    connected.expect_err("no connection")
}

fn trust(ca: PathBuf) -> settings::BackendTlsSettings {
    settings::BackendTlsSettings { name: None, ca: Some(ca), identity: None, verify: Verify::Name }
}

fn issue(pki: &Pki, name: &str) -> CertificateFiles {
    pki.issue(name, &PKCS_ECDSA_P256_SHA256, "")
}

fn ca(pki: &Pki) -> PathBuf {
    pki.write("ca.pem", &pki.authority.pem())
}

#[test]
fn errors_of_tcp_are_told_apart() {
    use ConnectError::{Other, Refused, Reset, Timeout};
    for (errno, backends_fault, label) in [
        (Errno::CONNREFUSED, true, Refused),
        (Errno::TIMEDOUT, true, Timeout),
        (Errno::NETUNREACH, true, Other),
        (Errno::HOSTUNREACH, true, Other),
        (Errno::CONNRESET, true, Reset),
        (Errno::INVAL, true, Other),
        (Errno::MFILE, false, Other),
        (Errno::NFILE, false, Other),
        (Errno::NOBUFS, false, Other),
        (Errno::NOMEM, false, Other),
        (Errno::ADDRNOTAVAIL, false, Other),
    ] {
        let failure = Unconnected::of_tcp(io::Error::from(errno));
        let got = (failure.is_backends_fault(), failure.label(), failure.is_distrust());
        assert_eq!(got, (backends_fault, label, false), "{errno:?}");
    }
}

#[tokio::test]
async fn a_connection_has_no_delay_and_notices_dead_hosts() {
    let (ours, _theirs) = Server::plain().await.tcp().await;
    let socket = SockRef::from(ours.tcp());
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_COUNT);
}

#[tokio::test]
async fn a_port_at_which_nobody_listens_refuses() {
    let (_socket, address) = nobody();
    let endpoint = Endpoint { address, ..(*Server::plain().await.endpoint).clone() };
    let failure = failure(connect(&endpoint).await);
    assert!(matches!(failure, Unconnected::Refused(_)), "{failure:?}");
    assert!(failure.is_backends_fault());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_connection_has_until_the_timeout() {
    let (socket, address) = nobody();
    socket.listen(0).unwrap();
    // Its queue is full.
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let client =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address.into());
        waiting.push(client);
    }
    let endpoint = Endpoint { address, ..(*Server::plain().await.endpoint).clone() };
    let begun = clock::stopwatch();
    let failure = failure(connect(&endpoint).await);
    assert!(matches!(failure, Unconnected::TimedOut), "{failure:?}");
    assert_eq!(failure.label(), ConnectError::Timeout);
    let took = begun.elapsed();
    assert!(took >= endpoint.connect_timeout && took < 2 * endpoint.connect_timeout, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_handshake_has_what_is_left_of_the_same_time() {
    let server = Server::secure().await;
    let begun = clock::stopwatch();
    let (connected, _silent) = tokio::join!(connect(&server.endpoint), server.accept_tcp());
    let failure = failure(connected);
    assert!(matches!(failure, Unconnected::TimedOut), "{failure:?}");
    assert!(begun.elapsed() < server.endpoint.connect_timeout + Duration::from_secs(1));
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_has_failed_the_handshake() {
    let server = Server::secure().await;
    let (connected, _) = tokio::join!(connect(&server.endpoint), async {
        let mut theirs = server.accept_tcp().await;
        theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let mut hello = Vec::new();
        let _ = theirs.read_to_end(&mut hello).await;
    });
    let spoke = failure(connected);
    assert!(matches!(spoke, Unconnected::Handshake(_)), "{spoke:?}");
    assert_eq!(spoke.label(), ConnectError::Other);

    let (connected, _) = tokio::join!(connect(&server.endpoint), async {
        let mut theirs = server.accept_tcp().await;
        theirs.read_u8().await.unwrap();
    });
    let closed = failure(connected);
    assert!(matches!(closed, Unconnected::Handshake(_)), "{closed:?}");
    assert_eq!(closed.label(), ConnectError::Reset);
}

/// What a server shows, and what of it is trusted.
async fn shown(
    shown: CertificateFiles,
    trust: settings::BackendTlsSettings,
) -> Result<(), Unconnected> {
    let server = Server::with_tls(shown, None, trust).await;
    let endpoint = Arc::clone(&server.endpoint);
    let serving = tokio::spawn(async move {
        let theirs = server.accept_tcp().await;
        let _ = server.shake(theirs).await;
    });
    let connected = connect(&endpoint).await;
    serving.await.unwrap();
    connected.map(drop)
}

#[tokio::test]
async fn a_certificate_is_trusted_for_its_name_and_its_authority() {
    let (own, other) = (Pki::new(), Pki::new());
    shown(issue(&own, NAME), trust(ca(&own))).await.unwrap();
    let named =
        settings::BackendTlsSettings { name: Some("other.test".to_owned()), ..trust(ca(&own)) };
    shown(issue(&own, "other.test"), named.clone()).await.unwrap();
    for (what, files, trust) in [
        ("another authority", issue(&own, NAME), trust(ca(&other))),
        ("another name", issue(&own, "other.test"), trust(ca(&own))),
        ("another name than configured", issue(&own, NAME), named),
    ] {
        let failure = shown(files, trust).await.unwrap_err();
        assert!(failure.is_distrust() && failure.is_backends_fault(), "{what}: {failure:?}");
    }
    let any = settings::BackendTlsSettings { verify: Verify::Off, ..trust(ca(&other)) };
    shown(issue(&own, "other.test"), any).await.unwrap();
}

#[tokio::test]
async fn the_certificate_of_the_gateway_is_shown_where_it_is_asked_for() {
    let pki = Pki::new();
    let own = issue(&pki, "gateway.test");
    let authority = ca(&pki);
    let trust = settings::BackendTlsSettings { identity: Some(own), ..trust(authority.clone()) };
    let server = Server::with_tls(issue(&pki, NAME), Some(authority), trust).await;
    let (_ours, theirs) = server.tls().await;
    let (_, session) = theirs.get_ref();
    assert_eq!(session.peer_certificates().map(<[_]>::len), Some(1));
    assert_eq!(session.server_name(), Some(NAME));
    assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// As much as a server's processor needs: a handshake in full costs it a signature.
#[tokio::test]
async fn the_second_connection_resumes_the_first() {
    let server = Server::secure().await;
    for expected in
        [tokio_rustls::rustls::HandshakeKind::Full, tokio_rustls::rustls::HandshakeKind::Resumed]
    {
        let (mut ours, mut theirs) = server.tls().await;
        // The tickets are read with what follows them.
        theirs.write_all(b"a").await.unwrap();
        theirs.flush().await.unwrap();
        ours.read_u8().await.unwrap();
        assert_eq!(theirs.get_ref().1.handshake_kind(), Some(expected));
    }
}
