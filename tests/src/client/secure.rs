//! TLS for the connections of the tests.
//!
//! A connection speaks TLS when its address is known to: so a whole suite can be run over TLS without a word in its
//! tests.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::pki::Issued;

/// How to speak TLS to somebody.
#[derive(Clone, Debug)]
pub struct Secure {
    config: Arc<ClientConfig>,
    roots: RootCertStore,
    name: ServerName<'static>,
}

impl Secure {
    /// Trusts this authority, with a certificate of its own if there is one.
    pub fn new(authority: &str, name: &str, own: Option<&Issued>) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("an authority");
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring serves TLS 1.2 and 1.3")
            .with_root_certificates(roots.clone());
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes());
                let chain = chain.collect::<Result<_, _>>().expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a usable certificate")
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.to_owned()).expect("a host name");
        Self { config: Arc::new(config), roots, name }
    }

    /// Asks for another host.
    pub fn named(&self, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a host name");
        Self { name, ..self.clone() }
    }

    /// Speaks one version of TLS only, with what it had otherwise.
    pub fn only(&self, version: &'static rustls::SupportedProtocolVersion) -> Self {
        let old = &self.config;
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .expect("ring serves TLS 1.2 and 1.3")
            .with_root_certificates(self.roots.clone())
            .with_client_cert_resolver(Arc::clone(&old.client_auth_cert_resolver));
        config.alpn_protocols.clone_from(&old.alpn_protocols);
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Changes what rustls is told.
    pub fn with(mut self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// A handshake to its end.
    pub fn handshake(&self, tcp: TcpStream) -> io::Result<Session> {
        let client = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)?;
        let mut session = Session(StreamOwned::new(client, tcp));
        let StreamOwned { conn, sock } = &mut session.0;
        while conn.is_handshaking() {
            conn.complete_io(sock)?;
        }
        Ok(session)
    }
}

/// A TLS connection after its handshake.
#[derive(Debug)]
pub struct Session(StreamOwned<ClientConnection, TcpStream>);

impl Session {
    pub fn tcp(&self) -> &TcpStream {
        &self.0.sock
    }

    /// What the server has shown, its own certificate first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        self.0.conn.peer_certificates().unwrap_or_default()
    }

    pub fn connection(&self) -> &ClientConnection {
        &self.0.conn
    }

    /// Says goodbye, then closes the sending direction.
    pub fn finish(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()?;
        self.0.sock.shutdown(Shutdown::Write)
    }

    /// A peer that closes without a goodbye has closed; HTTP says itself where messages end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            result => result,
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }
}

/// Addresses that speak TLS, for as long as this lives.
#[derive(Debug)]
pub struct Known(SocketAddr);

impl Known {
    #[must_use]
    pub fn new(address: SocketAddr, secure: Secure) -> Self {
        known().insert(address, secure);
        Self(address)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        known().remove(&self.0);
    }
}

/// How to speak to an address, if it speaks TLS.
pub fn lookup(address: SocketAddr) -> Option<Secure> {
    known().get(&address).cloned()
}

fn known() -> MutexGuard<'static, HashMap<SocketAddr, Secure>> {
    static KNOWN: LazyLock<Mutex<HashMap<SocketAddr, Secure>>> = LazyLock::new(Mutex::default);
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}
