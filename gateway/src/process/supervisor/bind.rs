//! Opening every listening socket before anything is served.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::handover::{OldGone, Predecessor};
use super::inherit::Inherited;
use crate::process::exit::Exit;

/// As much as a burst may need; the kernel caps it at `net.core.somaxconn`. Pingora asks for the
/// same number.
const BACKLOG: i32 = 65_535;

/// So much of an answer the kernel takes beyond what is on its way to the client. It would take some
/// megabytes, for as long as a client does not read; what is on its way is not limited by it, so
/// neither is the rate.
const UNSENT: libc::c_int = 128 * 1024;

/// One listener as it is: the address has the real port when 0 was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    pub name: String,
    pub address: SocketAddr,
}

/// Sockets that listen and are not served yet: connections wait in the kernel's queue until they
/// are.
#[derive(Debug)]
pub struct Bound {
    sockets: Vec<(Listening, TcpListener)>,
    /// The process that some of them come from.
    pub(super) predecessor: Option<Predecessor>,
    pub(super) lock: Option<OwnedFd>,
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "listener {listener}: cannot listen on {address}: the address is in use by another process"
    )]
    InUse { listener: String, address: SocketAddr },
    #[error(
        "listener {listener}: cannot listen on {address}: the address is in use by listener {other}"
    )]
    InUseByListener { listener: String, address: SocketAddr, other: String },
    #[error(
        "listener {listener}: cannot listen on {address}: permission denied \
         (a port below 1024 needs CAP_NET_BIND_SERVICE)"
    )]
    Permission { listener: String, address: SocketAddr },
    #[error("listener {listener}: cannot listen on {address}: {cause}")]
    Other { listener: String, address: SocketAddr, cause: io::Error },
    #[error("two listeners are named {listener}")]
    SameName { listener: String },
}

impl Bound {
    pub fn listening(&self) -> impl Iterator<Item = &Listening> {
        self.sockets.iter().map(|(listening, _)| listening)
    }

    /// Tells when the processes that listened here before us have ended; they go on to change what
    /// we share with them until then.
    pub fn old_gone(&self) -> OldGone {
        self.predecessor.as_ref().map_or_else(OldGone::already, Predecessor::gone)
    }

    /// The descriptor of a lock that our predecessor shares with us: see [`Plan::lock`].
    ///
    /// [`Plan::lock`]: super::Plan::lock
    pub fn take_lock(&mut self) -> Option<OwnedFd> {
        self.lock.take()
    }

    /// Copies of all sockets, with the names of their listeners.
    pub(super) fn copies(&self) -> io::Result<Vec<(String, TcpListener)>> {
        let copy = |(listening, socket): &(Listening, TcpListener)| {
            Ok((listening.name.clone(), socket.try_clone()?))
        };
        self.sockets.iter().map(copy).collect()
    }

    /// Takes one socket out, to be served by other means than the rest.
    pub(super) fn take(&mut self, name: &str) -> Option<(Listening, TcpListener)> {
        let at = self.sockets.iter().position(|(listening, _)| listening.name == name)?;
        Some(self.sockets.remove(at))
    }

    pub(super) fn into_sockets(self) -> Vec<(Listening, TcpListener)> {
        self.sockets
    }
}

impl BindError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Permission { .. } => Exit::Permission,
            Self::SameName { .. } => Exit::Config,
            Self::InUse { .. } | Self::InUseByListener { .. } | Self::Other { .. } => Exit::Io,
        }
    }

    fn new(listener: &str, address: SocketAddr, cause: io::Error) -> Self {
        let listener = listener.to_owned();
        match cause.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { listener, address },
            io::ErrorKind::PermissionDenied => Self::Permission { listener, address },
            _ => Self::Other { listener, address, cause },
        }
    }
}

/// Takes what is inherited and binds the rest, then lets all listen: no client gets through to a
/// process that then finds a port taken.
pub(super) fn bind<N: AsRef<str>>(
    listeners: &[(N, SocketAddr)],
    inherited: &mut Inherited,
) -> Result<Bound, BindError> {
    let mut sockets: Vec<(Listening, Socket)> = Vec::with_capacity(listeners.len());
    let mut ours = Vec::new();
    for (name, address) in listeners {
        let name = name.as_ref();
        if sockets.iter().any(|(listening, _)| listening.name == name) {
            return Err(BindError::SameName { listener: name.to_owned() });
        }
        let socket = match inherited.take(name, *address) {
            Some(socket) => socket.into(),
            None => {
                ours.push(sockets.len());
                open(*address).map_err(|cause| refused(name, *address, cause, &sockets))?
            }
        };
        limit_unsent(&socket);
        let address =
            local_address(&socket).map_err(|cause| BindError::new(name, *address, cause))?;
        sockets.push((Listening { name: name.to_owned(), address }, socket));
    }
    for at in ours {
        let (listening, socket) = &sockets[at];
        // With SO_REUSEADDR two sockets may share an address until one of them listens: this is
        // where it shows.
        socket
            .listen(BACKLOG)
            .map_err(|cause| refused(&listening.name, listening.address, cause, &sockets[..at]))?;
    }
    let listening = |(listening, socket): (Listening, Socket)| (listening, socket.into());
    Ok(Bound {
        sockets: sockets.into_iter().map(listening).collect(),
        predecessor: None,
        lock: None,
    })
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the TIME_WAIT of its predecessor's connections.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` serves IPv4 too, whatever the system's default is (`net.ipv6.bindv6only`).
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Of the connections that will be accepted: they inherit it. Without it a slow reader costs more.
fn limit_unsent(socket: &Socket) {
    let (value, size) = (&UNSENT, size_of_val(&UNSENT) as libc::socklen_t);
    // SAFETY: the option takes an integer, which outlives the call, and its size.
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            std::ptr::from_ref(value).cast(),
            size,
        )
    };
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket has no internet address"))
}

fn refused(
    listener: &str,
    address: SocketAddr,
    cause: io::Error,
    ours: &[(Listening, Socket)],
) -> BindError {
    let rival = ours.iter().map(|(listening, _)| listening).find(|other| {
        let (one, two) = (other.address.ip(), address.ip());
        other.address.port() == address.port()
            && (one == two || one.is_unspecified() || two.is_unspecified())
    });
    match (cause.kind(), rival) {
        (io::ErrorKind::AddrInUse, Some(other)) => BindError::InUseByListener {
            listener: listener.to_owned(),
            address,
            other: other.name.clone(),
        },
        _ => BindError::new(listener, address, cause),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    fn bind(listeners: &[(&str, SocketAddr)]) -> Result<Bound, BindError> {
        super::bind(listeners, &mut Inherited::default())
    }

    fn loopback(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn only(bound: &Bound) -> Listening {
        bound.listening().next().expect("one listener").clone()
    }

    #[test]
    fn port_0_is_reported_as_the_real_port_and_takes_connections() {
        let bound = bind(&[("a", loopback(0)), ("b", loopback(0))]).expect("two free ports");
        let listening: Vec<_> = bound.listening().collect();
        assert_eq!(listening[0].name, "a");
        assert_ne!(listening[0].address.port(), 0);
        assert_ne!(listening[0].address, listening[1].address);
        for listening in listening {
            TcpStream::connect(listening.address).expect("the socket listens");
        }
    }

    #[test]
    fn a_client_that_does_not_read_costs_the_kernel_little() {
        let bound = bind(&[("a", loopback(0))]).expect("a free port");
        let address = only(&bound).address;
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        client.set_recv_buffer_size(8 * 1024).expect("a small window");
        client.connect(&address.into()).expect("the socket listens");
        let (_, listener) = bound.into_sockets().remove(0);
        listener.set_nonblocking(false).expect("a socket option");
        let (mut accepted, _) = listener.accept().expect("the client");
        accepted.set_nonblocking(true).expect("a socket option");
        let mut taken = 0;
        let full = loop {
            match accepted.write(&[0; 16 * 1024]) {
                Ok(count) => taken += count,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(full, io::ErrorKind::WouldBlock);
        assert!((1..512 * 1024).contains(&taken), "{taken}");
    }

    #[test]
    fn an_address_in_use_is_named_with_its_listener() {
        let other = TcpListener::bind(loopback(0)).expect("a free port");
        let address = other.local_addr().expect("its address");
        let error = bind(&[("public", address)]).expect_err("the port is taken");
        assert_eq!(
            error.to_string(),
            format!(
                "listener public: cannot listen on {address}: the address is in use by another process"
            )
        );
        assert_eq!(error.exit(), Exit::Io);
    }

    #[test]
    fn one_address_for_two_listeners_names_both() {
        let address = only(&bind(&[("probe", loopback(0))]).expect("a free port")).address;
        let everywhere = (Ipv4Addr::UNSPECIFIED, address.port()).into();
        for second in [address, everywhere] {
            let error = bind(&[("a", address), ("b", second)]).expect_err("the same port twice");
            assert_eq!(
                error.to_string(),
                format!(
                    "listener b: cannot listen on {second}: the address is in use by listener a"
                )
            );
        }
    }

    #[test]
    fn a_failed_bind_leaves_no_socket_behind() {
        let other = TcpListener::bind(loopback(0)).expect("a free port");
        let free = only(&bind(&[("probe", loopback(0))]).expect("a free port")).address;
        let taken = other.local_addr().expect("its address");
        bind(&[("a", free), ("b", taken)]).expect_err("b is taken");
        bind(&[("a", free)]).expect("a is free again");
    }

    #[test]
    fn a_foreign_address_is_an_input_output_error() {
        // 192.0.2.0/24 is set aside for documentation (RFC 5737): no machine has it.
        let error = bind(&[("public", ([192, 0, 2, 1], 0).into())]).expect_err("not our address");
        let text = error.to_string();
        assert!(text.starts_with("listener public: cannot listen on 192.0.2.1:0: "), "{text}");
        assert_eq!(error.exit(), Exit::Io);
    }

    #[test]
    fn permission_denied_has_its_own_exit_code() {
        let error = BindError::new("public", loopback(80), io::ErrorKind::PermissionDenied.into());
        assert_eq!(error.exit(), Exit::Permission);
        assert!(
            error
                .to_string()
                .starts_with("listener public: cannot listen on 127.0.0.1:80: permission denied")
        );
    }

    #[test]
    fn a_name_is_used_once() {
        let error = bind(&[("ops", loopback(0)), ("ops", loopback(0))]).expect_err("the same name");
        assert_eq!(error.exit(), Exit::Config);
    }

    #[test]
    fn the_unspecified_ipv6_address_serves_ipv4_too() {
        match bind(&[("public", (Ipv6Addr::UNSPECIFIED, 0).into())]) {
            Ok(bound) => {
                let port = only(&bound).address.port();
                TcpStream::connect(loopback(port)).expect("IPv4 gets in");
            }
            // A machine without IPv6 says so instead of listening on something else.
            Err(error) => assert_eq!(error.exit(), Exit::Io),
        }
    }
}
