//! TLS in front of a server that speaks none.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use crate::pki;

/// A listener on loopback: each of its connections goes over one of its own to the server, and both end together.
pub struct TlsLink {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl TlsLink {
    /// Shows the certificate of [`pki::server`].
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (stopping, config) = (Arc::new(AtomicBool::new(false)), config());
        let told = stopping.clone();
        let acceptor = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                let config = config.clone();
                // Ends with its connections, which end with the gateway's or the server's process.
                std::thread::spawn(move || {
                    let _ = relay(config, stream, server);
                });
            }
        });
        Self { address, stopping, acceptor: Some(acceptor) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TlsLink {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor; nothing is lost when it has already gone.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn config() -> Arc<ServerConfig> {
    let own = pki::server();
    let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes());
    let chain = chain.collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring serves TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a usable certificate");
    Arc::new(config)
}

fn relay(config: Arc<ServerConfig>, mut secure: TcpStream, server: SocketAddr) -> io::Result<()> {
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut secure)?;
    }
    let mut plain = TcpStream::connect(server)?;
    let passed = pass(&mut tls, &mut secure, &mut plain);
    let _ = plain.shutdown(Shutdown::Both);
    let _ = secure.shutdown(Shutdown::Both);
    passed
}

/// Until either side ends.
fn pass(
    tls: &mut ServerConnection,
    secure: &mut TcpStream,
    plain: &mut TcpStream,
) -> io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        // What came along with the handshake waits for nothing.
        loop {
            match tls.reader().read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => plain.write_all(&chunk[..count])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let (from_gateway, from_server) = {
            let mut both = [PollFd::new(secure, PollFlags::IN), PollFd::new(plain, PollFlags::IN)];
            poll(&mut both, None)?;
            (!both[0].revents().is_empty(), !both[1].revents().is_empty())
        };
        if from_gateway {
            if tls.read_tls(secure)? == 0 {
                return Ok(());
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
        if from_server {
            let count = plain.read(&mut chunk)?;
            if count == 0 {
                tls.send_close_notify();
            }
            tls.writer().write_all(&chunk[..count])?;
            while tls.wants_write() {
                tls.write_tls(secure)?;
            }
            if count == 0 {
                return Ok(());
            }
        }
    }
}
