//! The conversation of two processes, with descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Two processes that differ in this do not understand each other.
pub(super) const VERSION: u32 = 1;

/// The name of a listener has 63 bytes at most.
const MESSAGE_BYTES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Message {
    /// The process id is what the service manager will be told.
    Ask {
        version: u32,
        pid: u32,
    },
    Socket {
        listener: String,
    },
    HandoverSocket,
    Elder,
    Sent,
    Ready,
    Yours,
    Refused {
        reason: String,
    },
}

/// One end of a connected `SOCK_SEQPACKET` socket: messages keep their bounds, so a descriptor
/// stays with the message that names it.
#[derive(Debug)]
pub(super) struct Channel {
    socket: AsyncFd<OwnedFd>,
}

impl Channel {
    /// Must be called inside a runtime; `socket` is non-blocking.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: registered(socket)? })
    }

    pub async fn send(&self, message: &Message, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let send = |socket: &OwnedFd| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors;
            if let Some(descriptor) = with {
                descriptors = [descriptor];
                let fits = control.push(SendAncillaryMessage::ScmRights(&descriptors));
                debug_assert!(fits, "there is space for one");
            }
            sendmsg(socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// `None` at the end of the stream: the other process has gone.
    pub async fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let receive = |socket: &OwnedFd| {
            let mut text = [0; MESSAGE_BYTES];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags)?;
            // Whatever came is owned from here, so that nothing of a strange message stays open.
            let mut descriptors: Vec<OwnedFd> = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(came) = message {
                    descriptors.extend(came);
                }
            }
            if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
                return Err(io::Error::other("a message that is too long"));
            }
            if received.bytes == 0 {
                return Ok(None);
            }
            let message = serde_json::from_slice(&text[..received.bytes])?;
            Ok(Some((message, descriptors.pop())))
        };
        self.socket.async_io(Interest::READABLE, receive).await
    }

    /// Waits for the other process to end; what it still says is of no interest.
    pub async fn closed(&self) {
        while let Ok(Some(_)) = self.receive().await {}
    }
}

/// A non-blocking socket, known to the runtime that we are in.
pub(super) fn registered(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open for as long as it lives, and its number never changes.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (Channel, Channel) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, two) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair");
        (Channel::new(one).expect("registered"), Channel::new(two).expect("registered"))
    }

    #[tokio::test]
    async fn messages_arrive_one_by_one_with_their_descriptors() {
        let (one, two) = pair();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let socket = Message::Socket { listener: "public".to_owned() };
        one.send(&Message::Ask { version: 7, pid: 1 }, None).await.expect("sent");
        one.send(&socket, Some(listener.as_fd())).await.expect("sent");
        one.send(&Message::Sent, None).await.expect("sent");
        let (first, nothing) = two.receive().await.expect("received").expect("a message");
        assert_eq!((first, nothing.is_none()), (Message::Ask { version: 7, pid: 1 }, true));
        let (second, descriptor) = two.receive().await.expect("received").expect("a message");
        assert_eq!(second, socket);
        let copy = std::net::TcpListener::from(descriptor.expect("a descriptor"));
        assert_eq!(copy.local_addr().expect("its address"), listener.local_addr().expect("ours"));
        let (third, _) = two.receive().await.expect("received").expect("a message");
        assert_eq!(third, Message::Sent);
    }

    #[tokio::test]
    async fn the_end_of_the_other_side_is_seen_by_every_holder_of_the_socket() {
        let (one, two) = pair();
        let copy = two.as_fd().try_clone_to_owned().expect("a copy");
        let copy = Channel::new(copy).expect("registered");
        drop(one);
        two.closed().await;
        copy.closed().await;
        assert!(two.receive().await.expect("the end is no error").is_none());
    }

    #[tokio::test]
    async fn a_message_that_is_none_is_an_error() {
        let (one, two) = pair();
        rustix::net::send(&one, b"hello?", SendFlags::NOSIGNAL).expect("sent");
        two.receive().await.expect_err("not a message of ours");
        rustix::net::send(&one, &[b'x'; MESSAGE_BYTES + 1], SendFlags::NOSIGNAL).expect("sent");
        two.receive().await.expect_err("too long");
    }
}
