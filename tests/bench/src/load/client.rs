//! One client with one connection and at most one session.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::sink::Packets;
use crate::wire;

/// The name in the certificate of every peer.
pub const NAME: &str = "uploads.example.com";

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a file is to go, and how much of it is there.
#[derive(Debug, Default)]
pub struct Session {
    path: String,
    id: String,
    next: u64,
}

pub struct Client {
    stream: Box<dyn Stream>,
    session: Session,
    head: Vec<u8>,
    answer: Vec<u8>,
    /// What has got its Ack since the last [`Client::take_sent`].
    sent: Packets,
}

impl Client {
    pub async fn connect(target: &Target) -> Result<Self, String> {
        let stream = open(target).await.map_err(|error| format!("cannot connect: {error}"))?;
        Ok(Self {
            stream,
            session: Session::default(),
            head: Vec::with_capacity(512),
            answer: Vec::with_capacity(512),
            sent: Packets::default(),
        })
    }

    pub fn take_sent(&mut self) -> Packets {
        std::mem::take(&mut self.sent)
    }

    /// Leaves this client without one.
    pub fn take_session(&mut self) -> Session {
        std::mem::take(&mut self.session)
    }

    pub fn put_session(&mut self, session: Session) {
        self.session = session;
    }

    /// A new session for a file of its own.
    pub async fn create(&mut self) -> Result<(), String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        self.session.path = format!("/in/pc-{number:08}/report.cab");
        wire::create(&mut self.head, &self.session.path);
        self.send(&[]).await?;
        self.receive().await?;
        let ack = wire::read_ack(&self.answer)?.expect("it is complete");
        let id = String::from_utf8_lossy(ack.session).into_owned();
        if id.len() != wire::ID_LENGTH {
            return Err(format!("a Create-Session was answered with the id {id:?}"));
        }
        (self.session.id, self.session.next) = (id, 0);
        self.sent.creates += 1;
        Ok(())
    }

    pub async fn ping(&mut self) -> Result<(), String> {
        wire::ping(&mut self.head, &self.session.path);
        self.send(&[]).await?;
        self.receive().await?;
        self.sent.pings += 1;
        Ok(())
    }

    /// The next bytes of the file, in one send with the head or in another one behind it.
    pub async fn fragment(&mut self, length: usize, apart: bool) -> Result<(), String> {
        let body = self.begin_fragment(length);
        if apart {
            self.send(&[]).await?;
            // Whatever waits goes first, the proxy above all where there are few processors.
            tokio::task::yield_now().await;
            self.send_more(body).await?;
        } else {
            self.send(body).await?;
        }
        self.end_fragment(length).await
    }

    /// Writes the head of the next Fragment, which [`Self::send`] sends, and returns its body.
    pub fn begin_fragment(&mut self, length: usize) -> &'static [u8] {
        wire::fragment(
            &mut self.head,
            &self.session.path,
            &self.session.id,
            self.session.next,
            length,
        );
        wire::content(self.session.next, length)
    }

    pub async fn end_fragment(&mut self, length: usize) -> Result<(), String> {
        self.receive().await?;
        let next = self.session.next + length as u64;
        let ack = wire::read_ack(&self.answer)?.expect("it is complete");
        if ack.received != Some(next) {
            return Err(format!(
                "a Fragment up to {next} was acknowledged up to {:?}",
                ack.received
            ));
        }
        self.session.next = next;
        self.sent.fragments += 1;
        self.sent.body_bytes += length as u64;
        Ok(())
    }

    pub async fn close(&mut self) -> Result<(), String> {
        wire::close(&mut self.head, &self.session.path, &self.session.id);
        self.send(&[]).await?;
        self.receive().await?;
        self.sent.closes += 1;
        Ok(())
    }

    /// The end of the connection, with the end of TLS where that is spoken.
    pub async fn disconnect(mut self) -> Result<(), String> {
        self.stream.shutdown().await.map_err(|error| format!("cannot disconnect: {error}"))
    }

    /// The head that was written last, and a body, in as few system calls as it takes.
    pub async fn send(&mut self, body: &[u8]) -> Result<(), String> {
        let mut parts = [IoSlice::new(&self.head), IoSlice::new(body)];
        let mut parts = &mut parts[..];
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.stream.write_vectored(parts).await {
                Ok(0) => return Err("the connection takes no more".to_owned()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) => return Err(format!("cannot send: {error}")),
            }
        }
        self.flush().await
    }

    pub async fn send_more(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = self.stream.write_all(bytes).await;
        sent.map_err(|error| format!("cannot send: {error}"))?;
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), String> {
        self.stream.flush().await.map_err(|error| format!("cannot send: {error}"))
    }

    /// One Ack, which is then in `answer`.
    async fn receive(&mut self) -> Result<(), String> {
        self.answer.clear();
        loop {
            match self.stream.read_buf(&mut self.answer).await {
                Ok(0) => return Err(format!("the end after {} bytes", self.answer.len())),
                Ok(_) => {}
                Err(error) => return Err(format!("no answer: {error}")),
            }
            match wire::read_ack(&self.answer)? {
                Some(ack) if ack.head_bytes == self.answer.len() => return Ok(()),
                Some(_) => return Err("more than one answer to a packet".to_owned()),
                None => {}
            }
        }
    }
}

async fn open(target: &Target) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let Some(config) = &target.tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    Ok(Box::new(stream))
}
