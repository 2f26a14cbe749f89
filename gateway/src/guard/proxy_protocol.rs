//! The header by which a proxy in front says for whom it speaks: PROXY protocol, versions 1 and 2.
//!
//! # Source
//! "The PROXY protocol", Willy Tarreau, revision 2020/03/05, section 2. Read strictly: whoever sends
//! it is a proxy of ours, so anything odd is a mistake or an attack, and never a client's slip.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What the beginning of a connection was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyHeader {
    /// For that client, who connected to that port of the proxy.
    For(SocketAddr, u16),
    /// The proxy has something to say itself, a health check mostly, or does not know.
    Local,
    /// These bytes, which are no header.
    NotAHeader(Vec<u8>),
}

#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("the connection ended without a byte")]
    Silent,
    #[error("the connection ended in the header")]
    Cut(#[from] io::Error),
    #[error("the line is longer than 107 bytes")]
    LongLine,
    #[error("not a header of version 1")]
    Line,
    #[error("neither version 2 nor a command of it")]
    Version,
    #[error("a family or transport that is not TCP over IPv4 or IPv6")]
    Family,
    #[error("longer than {LONGEST} bytes, or too short for its addresses")]
    Length,
    #[error("what follows the addresses is not made of whole fields")]
    Fields,
}

const V1: &[u8; 6] = b"PROXY ";
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Section 2.1: the longest line, with its CRLF.
const LINE: usize = 107;

/// Behind the first 16 bytes of version 2. Addresses take 36; a balancer adds some fields, and one
/// that passes on a client certificate's names adds some hundred bytes.
const LONGEST: usize = 2048;

/// Reads a header and not a byte more.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxyHeader, HeaderError> {
    let mut start = [0; V1.len()];
    match stream.read(&mut start[..1]).await {
        Ok(0) | Err(_) => return Err(HeaderError::Silent),
        Ok(_) => stream.read_exact(&mut start[1..]).await?,
    };
    if &start == V1 {
        return version_1(stream).await;
    }
    if start != V2[..V1.len()] {
        return Ok(ProxyHeader::NotAHeader(start.to_vec()));
    }
    let mut rest = [0; V2.len() - V1.len()];
    stream.read_exact(&mut rest).await?;
    if rest != V2[V1.len()..] {
        return Ok(ProxyHeader::NotAHeader([&start[..], &rest[..]].concat()));
    }
    version_2(stream).await
}

async fn version_1(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxyHeader, HeaderError> {
    let mut line = Vec::with_capacity(LINE);
    // The stream is buffered; what follows the line belongs to somebody else.
    while !line.ends_with(b"\r\n") {
        if line.len() + V1.len() == LINE {
            return Err(HeaderError::LongLine);
        }
        line.push(stream.read_u8().await?);
    }
    line.truncate(line.len() - 2);
    parse_line(&line).ok_or(HeaderError::Line)
}

/// What follows `PROXY `, without the line end.
fn parse_line(line: &[u8]) -> Option<ProxyHeader> {
    let line = std::str::from_utf8(line).ok()?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        // Section 2.1: the rest of such a line is ignored.
        return Some(ProxyHeader::Local);
    }
    let words: Vec<&str> = line.split(' ').collect();
    let [family, from, to, from_port, to_port] = words[..] else { return None };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (from, _) = (address(from)?, address(to)?);
    let (port, to_port) = (port(from_port)?, port(to_port)?);
    Some(ProxyHeader::For(SocketAddr::new(from.to_canonical(), port), to_port))
}

/// Decimal digits without a sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| digits && plain)
}

async fn version_2(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxyHeader, HeaderError> {
    let command = stream.read_u8().await?;
    let family = stream.read_u8().await?;
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST {
        return Err(HeaderError::Length);
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match command {
        // LOCAL: whatever else it says is to be ignored.
        0x20 => return Ok(ProxyHeader::Local),
        0x21 => {}
        _ => return Err(HeaderError::Version),
    }
    let (client, port, fields) = match family {
        0x00 => return Ok(ProxyHeader::Local),
        0x11 => {
            let (addresses, fields) = rest.split_at_checked(12).ok_or(HeaderError::Length)?;
            let from: [u8; 4] = head(addresses, 0);
            let [from_port, port] = [8, 10].map(|at| u16::from_be_bytes(head(addresses, at)));
            (SocketAddr::from((from, from_port)), port, fields)
        }
        0x21 => {
            let (addresses, fields) = rest.split_at_checked(36).ok_or(HeaderError::Length)?;
            let from = IpAddr::from(head::<16>(addresses, 0)).to_canonical();
            let [from_port, port] = [32, 34].map(|at| u16::from_be_bytes(head(addresses, at)));
            (SocketAddr::from((from, from_port)), port, fields)
        }
        _ => return Err(HeaderError::Family),
    };
    check_fields(fields)?;
    Ok(ProxyHeader::For(client, port))
}

/// `N` bytes from `at` on, which the caller knows to be there.
fn head<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[at..at + N]);
    taken
}

/// Section 2.2: type, length of two bytes, value. Nothing in them matters here.
fn check_fields(mut fields: &[u8]) -> Result<(), HeaderError> {
    while let [_, high, low, rest @ ..] = fields {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        fields = rest.get(length..).ok_or(HeaderError::Fields)?;
    }
    if fields.is_empty() { Ok(()) } else { Err(HeaderError::Fields) }
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
