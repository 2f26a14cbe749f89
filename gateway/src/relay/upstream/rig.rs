//! Servers on loopback, for the tests of this folder.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;
use rcgen::PKCS_ECDSA_P256_SHA256;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server};

use super::connect::connect;
use super::socket::ServerSocket;
use crate::config::{self, CertificateFiles, Verify};
use crate::farm::Endpoint;
use crate::tls::test_pki::Pki;
use crate::tls::{BackendTls, ListenerTls};

pub const UP01: BackendId = BackendId(0);

/// The name in the certificates.
pub const NAME: &str = "up01.test";

/// Takes connections one by one, when a test says so.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    /// How the gateway is to reach it.
    pub endpoint: Arc<Endpoint>,
}

impl Server {
    pub async fn plain() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint {
            backend: UP01,
            address: listener.local_addr().unwrap(),
            tls: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(90),
        };
        Self { listener, tls: None, endpoint: Arc::new(endpoint) }
    }

    /// Shows a certificate that its own authority has issued for [`NAME`], and is trusted.
    pub async fn secure() -> Self {
        let pki = Pki::new();
        let shown = pki.issue(NAME, &PKCS_ECDSA_P256_SHA256, "");
        let ca = pki.write("ca.pem", &pki.authority.pem());
        let settings =
            config::BackendTls { name: None, ca: Some(ca), identity: None, verify: Verify::Name };
        Self::with_tls(shown, None, settings).await
    }

    /// Shows that certificate, and is trusted by those settings.
    pub async fn with_tls(
        shown: CertificateFiles,
        client_ca: Option<std::path::PathBuf>,
        trust: config::BackendTls,
    ) -> Self {
        let mut server = Self::plain().await;
        let own = config::ListenerTls { certificates: vec![shown], client_ca };
        let (own, _) = ListenerTls::load("up01", &own).unwrap();
        server.tls = Some(own.current().into());
        let (tls, _) = BackendTls::load("up01", NAME, &trust).unwrap();
        server.endpoint =
            Arc::new(Endpoint { tls: Some(tls), ..Endpoint::clone(&server.endpoint) });
        server
    }

    pub async fn accept_tcp(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    pub async fn accept_tls(&self) -> server::TlsStream<TcpStream> {
        self.shake(self.accept_tcp().await).await.unwrap()
    }

    pub async fn shake(&self, accepted: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        self.tls.as_ref().expect("a server with TLS").accept(accepted).await
    }

    /// Both ends of a new connection in the clear.
    pub async fn tcp(&self) -> (ServerSocket, TcpStream) {
        let (ours, theirs) = tokio::join!(connect(&self.endpoint), self.accept_tcp());
        (ours.unwrap(), theirs)
    }

    /// Both ends of a new connection by TLS.
    pub async fn tls(&self) -> (ServerSocket, server::TlsStream<TcpStream>) {
        let (ours, theirs) = tokio::join!(connect(&self.endpoint), self.accept_tls());
        (ours.unwrap(), theirs)
    }
}

/// How a stream ends for who reads it.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    Broken(ErrorKind),
}

/// Reads to the end.
pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes).await {
        Ok(_) => (bytes, End::Clean),
        Err(error) => (bytes, End::Broken(error.kind())),
    }
}
