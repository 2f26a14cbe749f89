//! Ports that stay a program's own while it restarts.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketFlags, SocketType, bind, getsockname, socket_with,
};

/// A loopback port, reserved until drop.
///
/// A bound socket that never listens: programs that set SO_REUSEADDR (all servers do) can bind and listen beside it,
/// while the kernel gives the port to nobody who asks for any. A port that was merely free a moment ago is lost to some
/// outgoing connection as soon as the machine is busy.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _held: OwnedFd,
}

impl Port {
    pub fn reserve() -> Self {
        let reserve = || -> rustix::io::Result<(OwnedFd, SocketAddrAny)> {
            // Not inherited by children: they would hold the port beyond the test.
            let flags = SocketFlags::CLOEXEC;
            let held = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            set_socket_reuseaddr(&held, true)?;
            bind(&held, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            let address = getsockname(&held)?;
            Ok((held, address))
        };
        let (held, address) = reserve().expect("loopback has free ports");
        let address = SocketAddr::try_from(address).expect("an IPv4 socket has an IPv4 address");
        Self { address, _held: held }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_reserved_port_serves_listeners_one_after_the_other() {
        let port = Port::reserve();
        for _ in 0..3 {
            assert!(TcpStream::connect(port.address()).is_err());
            let listener = TcpListener::bind(port.address()).unwrap();
            TcpStream::connect(port.address()).unwrap();
            drop(listener);
        }
    }

    #[test]
    fn the_kernel_gives_a_reserved_port_to_nobody() {
        let port = Port::reserve();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        // More than a tenth of the range that the kernel chooses from.
        let mut taken: Vec<TcpStream> = Vec::new();
        for _ in 0..400 {
            taken.push(TcpStream::connect(target).unwrap());
            drop(listener.accept().unwrap());
        }
        assert!(taken.iter().all(|stream| stream.local_addr().unwrap() != port.address()));
        let listeners: Vec<_> =
            (0..400).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        assert!(listeners.iter().all(|l| l.local_addr().unwrap() != port.address()));
    }
}
