//! Servers on loopback, for the tests of this folder.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::farm::BackendId;
use gateway_core::protocol::keep_alive::KeepAlive;
use rcgen::PKCS_ECDSA_P256_SHA256;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, server};

use super::{Connection, IdleConnection, Pool, ServerSocket, Servers, Unconnected, connect};
use crate::base::backend_ids::BackendIds;
use crate::base::clock;
use crate::config::Config;
use crate::farm::pool::OpenConnections;
use crate::farm::{Endpoint, Farm};
use crate::tls::settings::{self, CertificateFiles, Verify};
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
        let settings = settings::BackendTlsSettings {
            name: None,
            ca: Some(ca),
            identity: None,
            verify: Verify::Name,
        };
        Self::with_tls(shown, None, settings).await
    }

    /// Shows that certificate, and is trusted by those settings.
    pub async fn with_tls(
        shown: CertificateFiles,
        client_ca: Option<std::path::PathBuf>,
        trust: settings::BackendTlsSettings,
    ) -> Self {
        let mut server = Self::plain().await;
        let own = settings::ListenerTlsSettings { certificates: vec![shown], client_ca };
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

/// One thread of the gateway, and the only server that it knows.
pub struct Thread {
    pub server: Server,
    pub servers: Arc<Servers>,
    pub open: &'static OpenConnections,
    pub farm: Arc<ArcSwap<Farm>>,
    pub pool: Arc<Pool>,
}

impl Thread {
    pub async fn new() -> Self {
        Self::keeping(100).await
    }

    /// So many idle connections at most.
    pub async fn keeping(most: usize) -> Self {
        let server = Server::plain().await;
        let open: &'static OpenConnections = Box::leak(Box::default());
        let servers = Servers::new(open);
        let farm = Arc::new(ArcSwap::from_pointee(farm("up01", server.endpoint.address)));
        let pool = Pool::new(&servers, Arc::clone(&farm), most);
        Self { server, servers, open, farm, pool }
    }

    /// Another one of the same process.
    pub fn another_pool(&self) -> Arc<Pool> {
        Pool::new(&self.servers, Arc::clone(&self.farm), 100)
    }

    /// A new connection with a request on it, and the server's end.
    pub async fn busy(&self) -> (Connection, TcpStream) {
        self.accepts(self.pool.connect(&self.server.endpoint, true, soon())).await
    }

    /// Has the server accept what is being made.
    pub async fn accepts(
        &self,
        connecting: impl Future<Output = Result<Connection, Unconnected>>,
    ) -> (Connection, TcpStream) {
        let accepting = async { Ok(self.server.accept_tcp().await) };
        tokio::try_join!(connecting, accepting).expect("a new connection")
    }

    /// A new connection whose first answer has ended at `now`.
    pub async fn idle(&self, now: Instant) -> (IdleConnection, TcpStream) {
        let (ours, theirs) = self.busy().await;
        (ours.answered(KeepAlive::default(), now).unwrap(), theirs)
    }

    /// The connection that a packet gets, without a new one.
    pub fn take(&self, repeatable: bool, now: Instant) -> Option<Connection> {
        self.pool.take(None, &self.server.endpoint, repeatable, now)
    }

    pub fn kept(&self) -> usize {
        self.pool.idle(UP01)
    }
}

/// A deadline that nothing reaches which goes well.
pub fn soon() -> Instant {
    clock::stopwatch() + Duration::from_secs(20)
}

/// With one backend.
pub fn farm(name: &str, address: SocketAddr) -> Farm {
    let text = format!(
        "[listeners.a]\naddress = \"127.0.0.1:0\"\n\
         [[backends]]\nname = \"{name}\"\naddress = \"{address}\"\n"
    );
    let ids = BackendIds::of(["up01"]);
    Farm::build(Arc::new(Config::from_toml(&text).unwrap()), &ids, &[], None).unwrap()
}

/// Whether the two are the ends of one connection.
pub fn is_one(ours: &mut Connection, theirs: &TcpStream) -> bool {
    ours.socket().tcp().local_addr().unwrap() == theirs.peer_addr().unwrap()
}
