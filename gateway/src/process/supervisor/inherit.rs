//! Listening sockets that are there before we open any.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};

use socket2::Socket;

/// Sockets that another process has opened: our predecessor, or the service manager.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    sockets: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    name: String,
    address: SocketAddr,
    socket: TcpListener,
    from: From,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Predecessor,
    /// Its unit says where to listen, whatever our configuration has.
    Manager,
}

impl Inherited {
    pub fn from_predecessor(sockets: Vec<(String, TcpListener)>) -> io::Result<Self> {
        let known = |(name, socket): (String, TcpListener)| {
            let address = socket.local_addr()?;
            Ok(Known { name, address, socket, from: From::Predecessor })
        };
        Ok(Self { sockets: sockets.into_iter().map(known).collect::<io::Result<_>>()? })
    }

    /// Takes what the service manager has passed on (`LISTEN_FDS`); to be called once.
    pub fn from_manager() -> io::Result<Self> {
        let mut sockets = Vec::new();
        for (descriptor, name) in sd_notify::listen_fds_with_names()? {
            // SAFETY: the service manager has opened it for us, and this is the only place that
            // takes it.
            let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
            let address = socket.local_addr().ok().and_then(|address| address.as_socket());
            let Some(address) = address.filter(|_| socket.is_listener().unwrap_or(false)) else {
                let text = "what is passed on is no TCP socket that listens";
                return Err(io::Error::other(format!("{name}: {text}")));
            };
            socket.set_nonblocking(true)?;
            sockets.push(Known { name, address, socket: socket.into(), from: From::Manager });
        }
        Ok(Self { sockets })
    }

    /// The socket for a listener: the one of its name on its address, or else one of another name
    /// on its address, for a listener that was renamed. What the service manager has opened is
    /// known by its name alone.
    pub fn take(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        // Port 0 is whatever port the listener of that name has.
        let exactly = |known: &Known| {
            known.name == name
                && (known.from == From::Manager
                    || known.address == address
                    || (address.port() == 0 && known.address.ip() == address.ip()))
        };
        let found = self.sockets.iter().position(exactly);
        let same_address = |known: &Known| known.address == address;
        let at = found.or_else(|| self.sockets.iter().position(same_address))?;
        Some(self.sockets.remove(at).socket)
    }

    /// Closes what no listener has taken.
    pub fn close(self) {
        for known in self.sockets {
            let (listener, address) = (&known.name, known.address);
            tracing::info!(%listener, %address, "no longer listening here");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(names: &[&str]) -> (Inherited, Vec<SocketAddr>) {
        let open = |name: &&str| {
            (name.to_string(), TcpListener::bind("127.0.0.1:0").expect("a free port"))
        };
        let sockets = Inherited::from_predecessor(names.iter().map(open).collect());
        let sockets = sockets.expect("their addresses");
        let addresses = sockets.sockets.iter().map(|known| known.address).collect();
        (sockets, addresses)
    }

    #[track_caller]
    fn gets(inherited: &mut Inherited, name: &str, asked: SocketAddr, expected: SocketAddr) {
        let socket = inherited.take(name, asked).expect("a socket");
        assert_eq!(socket.local_addr().expect("its address"), expected);
    }

    #[test]
    fn a_listener_gets_the_socket_of_its_name_and_address_once() {
        let (mut inherited, addresses) = inherited(&["a", "b"]);
        gets(&mut inherited, "b", addresses[1], addresses[1]);
        assert!(inherited.take("b", addresses[1]).is_none());
        gets(&mut inherited, "a", addresses[0], addresses[0]);
    }

    #[test]
    fn a_free_port_is_the_port_that_the_listener_had() {
        let (mut inherited, addresses) = inherited(&["a", "b"]);
        gets(&mut inherited, "b", "127.0.0.1:0".parse().unwrap(), addresses[1]);
        assert!(inherited.take("c", "127.0.0.1:0".parse().unwrap()).is_none());
        assert!(inherited.take("a", "127.0.0.2:0".parse().unwrap()).is_none());
    }

    #[test]
    fn a_renamed_listener_keeps_its_socket() {
        let (mut inherited, addresses) = inherited(&["old"]);
        gets(&mut inherited, "new", addresses[0], addresses[0]);
    }

    #[test]
    fn a_listener_that_moved_gets_nothing() {
        let (mut inherited, addresses) = inherited(&["a"]);
        let elsewhere = SocketAddr::new(addresses[0].ip(), addresses[0].port() ^ 1);
        assert!(inherited.take("a", elsewhere).is_none());
    }
}
