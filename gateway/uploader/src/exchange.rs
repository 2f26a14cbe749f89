//! One request and its answer on one connection.
//!
//! Why not an HTTP library: a packet must leave with the header names spelt as Windows spells
//! them, and an answer must be understood while the body is still being sent. No client library
//! in reach does both.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::response::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::connect::Transport;

/// A connection that may carry several requests, one after the other.
pub struct Connection {
    stream: Box<dyn Transport>,
    buffer: BytesMut,
    /// `host:port` that it leads to.
    pub authority: String,
    /// Requests answered on it.
    pub answered: u32,
    reusable: bool,
    /// What is left of the last answer's body.
    body: Body,
}

/// How long the peer may take, always without any progress.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To take the next bytes of a request. Windows: 2 minutes for all of it (MC-BUP 3.1.2.1).
    pub send: Duration,
    /// From the last byte of the request to the answer. Windows: 5 minutes (MC-BUP 3.1.2.2).
    pub answer: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection ended before a byte of the answer: on a used connection, most likely it was
    /// idle for too long.
    #[error("the connection was closed without an answer")]
    Closed,
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("nobody answered within {}", humantime::format_duration(*.0))]
    Silent(Duration),
    #[error("the server stopped reading for {}", humantime::format_duration(*.0))]
    Stalled(Duration),
    #[error("the answer is not HTTP")]
    NotHttp,
    /// The body could not be produced; says nothing about the server.
    #[error("the file cannot be read")]
    Source(#[source] io::Error),
}

/// Where the bytes of a request body come from.
pub trait Supply: Send {
    /// Fills the front of `buffer` and returns how many bytes; never 0 before the end.
    fn next(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
    /// Called after bytes have been handed to the connection.
    fn sent(&mut self, bytes: usize) -> impl Future<Output = ()> + Send;
}

/// For requests without a body.
pub struct Nothing;

impl Supply for Nothing {
    async fn next(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    async fn sent(&mut self, _: usize) {}
}

/// The rest of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    UntilClose,
    Chunked,
}

/// Bytes handed over at once: small enough for a smooth progress bar.
const CHUNK: usize = 64 << 10;
const HEAD_LIMIT: usize = 64 << 10;
const FIELD_LIMIT: usize = 128;
/// A longer body of an Ack is not worth reading: a new connection costs less.
const DRAIN_LIMIT: u64 = 64 << 10;
/// A server that refuses early answers and resets; the answer is then on its way or never comes.
const AFTER_BREAK: Duration = Duration::from_secs(2);

impl Connection {
    pub fn new(stream: Box<dyn Transport>, authority: String) -> Self {
        let (buffer, body) = (BytesMut::with_capacity(8 << 10), Body::Length(0));
        Self { stream, buffer, authority, answered: 0, reusable: true, body }
    }

    /// Whether another request may follow.
    pub fn is_reusable(&self) -> bool {
        self.reusable
    }

    /// Sends a head and `body_bytes` bytes, and returns the head of the final answer, which may
    /// come before the body has been sent. The connection is then not reusable.
    pub async fn exchange(
        &mut self,
        head: &[u8],
        body_bytes: u64,
        supply: &mut impl Supply,
        patience: Patience,
    ) -> Result<Parts, ExchangeError> {
        self.reusable = false;
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let sending = send(&mut writer, head, body_bytes, supply, patience.send);
        let receiving = receive(&mut reader, &mut self.buffer);
        tokio::pin!(sending, receiving);
        let mut whole = false;
        let parts = tokio::select! {
            biased;
            parts = &mut receiving => parts?,
            sent = &mut sending => match sent {
                Ok(()) => {
                    whole = true;
                    timeout(patience.answer, receiving)
                        .await
                        .map_err(|_| ExchangeError::Silent(patience.answer))??
                }
                Err(error @ ExchangeError::Source(_)) => return Err(error),
                // Whoever stops reading may have said why before.
                Err(error) => match timeout(AFTER_BREAK, receiving).await {
                    Ok(Ok(parts)) => parts,
                    _ => return Err(error),
                },
            },
        };
        self.answered += 1;
        self.body = body_of(&parts);
        self.reusable = whole && keeps_alive(&parts);
        Ok(parts)
    }

    /// Reads what is left of an answer nobody wants, or gives the connection up.
    ///
    /// Without a length, an answer ends with the connection. Some servers leave the length out
    /// and keep the connection open, so waiting for the end could take for ever.
    pub async fn finish(&mut self, patience: Duration) {
        let Body::Length(length) = self.body else {
            self.reusable = false;
            return;
        };
        if !self.reusable || length > DRAIN_LIMIT {
            self.reusable = false;
            return;
        }
        let mut rest = [0; 4096];
        while let Body::Length(1..) = self.body {
            match timeout(patience, self.read_body(&mut rest)).await {
                Ok(Ok(1..)) => {}
                _ => {
                    self.reusable = false;
                    return;
                }
            }
        }
    }

    /// Length of the answer's body where it is known.
    pub fn body_length(&self) -> Option<u64> {
        match self.body {
            Body::Length(length) => Some(length),
            _ => None,
        }
    }

    /// The next bytes of the answer's body; 0 at its end.
    pub async fn read_body(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let limit = match self.body {
            Body::Length(0) => return Ok(0),
            Body::Length(left) => usize::try_from(left).unwrap_or(usize::MAX).min(out.len()),
            Body::UntilClose => out.len(),
            Body::Chunked => return Err(io::Error::other("a chunked body is not supported here")),
        };
        let read = if self.buffer.is_empty() {
            self.stream.read(&mut out[..limit]).await?
        } else {
            let ready = limit.min(self.buffer.len());
            self.buffer.copy_to_slice(&mut out[..ready]);
            ready
        };
        if let Body::Length(left) = &mut self.body {
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            *left -= read as u64;
        }
        Ok(read)
    }
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    head: &[u8],
    body_bytes: u64,
    supply: &mut impl Supply,
    patience: Duration,
) -> Result<(), ExchangeError> {
    write(writer, head, patience).await?;
    let mut left = body_bytes;
    let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(CHUNK).min(chunk.len());
        let got = supply.next(&mut chunk[..want]).await.map_err(ExchangeError::Source)?;
        if got == 0 {
            return Err(ExchangeError::Source(io::ErrorKind::UnexpectedEof.into()));
        }
        write(writer, &chunk[..got], patience).await?;
        supply.sent(got).await;
        left -= got as u64;
    }
    // TLS keeps bytes back until it is told that there are no more.
    match timeout(patience, writer.flush()).await {
        Ok(flushed) => flushed.map_err(ExchangeError::Broken),
        Err(_) => Err(ExchangeError::Stalled(patience)),
    }
}

/// Every `write` that takes bytes counts as progress, so that a slow link never runs out of time.
async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    patience: Duration,
) -> Result<(), ExchangeError> {
    while !bytes.is_empty() {
        let written = timeout(patience, writer.write(bytes))
            .await
            .map_err(|_| ExchangeError::Stalled(patience))?
            .map_err(ExchangeError::Broken)?;
        if written == 0 {
            return Err(ExchangeError::Broken(io::ErrorKind::WriteZero.into()));
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Reads heads until one is final; 100 Continue and its like are skipped.
async fn receive(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<Parts, ExchangeError> {
    loop {
        while let Some((parts, length)) = parse(buffer)? {
            buffer.advance(length);
            if !parts.status.is_informational() {
                return Ok(parts);
            }
        }
        if buffer.len() > HEAD_LIMIT {
            return Err(ExchangeError::NotHttp);
        }
        match reader.read_buf(buffer).await {
            Ok(0) if buffer.is_empty() => return Err(ExchangeError::Closed),
            Ok(0) => return Err(ExchangeError::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(_) if buffer.is_empty() => return Err(ExchangeError::Closed),
            Err(error) => return Err(ExchangeError::Broken(error)),
        }
    }
}

/// The head at the front of `bytes` and its length, if it is complete.
fn parse(bytes: &[u8]) -> Result<Option<(Parts, usize)>, ExchangeError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELD_LIMIT];
    let mut answer = httparse::Response::new(&mut fields);
    let length = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ExchangeError::NotHttp),
    };
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status.ok_or(ExchangeError::NotHttp)?;
    parts.version =
        if answer.version == Some(0) { http::Version::HTTP_10 } else { http::Version::HTTP_11 };
    for field in answer.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        match (name, value) {
            (Ok(name), Ok(value)) => parts.headers.append(name, value),
            _ => return Err(ExchangeError::NotHttp),
        };
    }
    Ok(Some((parts, length)))
}

fn body_of(parts: &Parts) -> Body {
    let has = |name, word: &str| {
        let values = parts.headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .any(|v| v.to_ascii_lowercase().contains(word))
    };
    if matches!(parts.status.as_u16(), 204 | 304) {
        return Body::Length(0);
    }
    if has(http::header::TRANSFER_ENCODING, "chunked") {
        return Body::Chunked;
    }
    let length = parts.headers.get(http::header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    length.map_or(Body::UntilClose, Body::Length)
}

fn keeps_alive(parts: &Parts) -> bool {
    let connection = parts.headers.get(http::header::CONNECTION);
    let words = connection.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let says = |word: &str| words.split(',').any(|w| w.trim().eq_ignore_ascii_case(word));
    if parts.version == http::Version::HTTP_10 { says("keep-alive") } else { !says("close") }
}
