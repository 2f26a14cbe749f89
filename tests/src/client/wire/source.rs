//! Connections from an address of one's own: all of 127/8 is.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::{Connection, Stream, Timeouts, WireError};

/// A connection from `source`, without TLS.
pub fn connect_from(source: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::from((source, 0)))?;
    connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connection {
    /// From that address and without TLS.
    pub fn open_from(source: Ipv4Addr, address: SocketAddr) -> Result<Self, WireError> {
        let timeouts = Timeouts::short();
        let connect = || {
            let stream = connect_from(source, address)?;
            stream.set_write_timeout(Some(timeouts.send))?;
            Ok(Stream::Plain(stream))
        };
        let stream = connect().map_err(|source| WireError::Connect { address, source })?;
        Ok(Self { stream, timeouts, surplus: Vec::new() })
    }
}
