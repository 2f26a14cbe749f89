//! Small pieces of an answer, held until they go out together.
//!
//! Pingora writes the head of an answer and each piece of its body by themselves. A send costs more
//! than all else that is done for a small packet, and a client may be woken by each.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

/// So much is held. An Ack has some hundred bytes; what is longer goes out as it comes, with what is
/// held in front of it.
const MOST: usize = 2048;

/// Pieces that go out in one call.
const PIECES: usize = 8;

/// What was written and not sent. Nobody has seen it.
#[derive(Default)]
pub(super) struct Held(BytesMut);

impl Held {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes up `pieces`, or sends from them; returns how many of their bytes are done with. `sent`
    /// becomes true once `io` has taken any byte, whatever comes of the call.
    pub fn poll_write<W: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
        sent: &mut bool,
    ) -> Poll<io::Result<usize>> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.0.len().saturating_add(length) <= MOST {
            self.0.reserve(if self.is_empty() { length.max(MOST / 4) } else { length });
            pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
            return Poll::Ready(Ok(length));
        }
        loop {
            let held = self.0.len();
            let mut all = [IoSlice::new(&[]); PIECES];
            all[0] = IoSlice::new(&self.0);
            let from = usize::from(held > 0);
            let others = pieces.iter().filter(|piece| !piece.is_empty());
            let mut count = from;
            for (place, piece) in all[from..].iter_mut().zip(others) {
                *place = IoSlice::new(piece);
                count += 1;
            }
            let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &all[..count]))?;
            if written == 0 {
                return Poll::Ready(Ok(0));
            }
            *sent = true;
            self.drop_first(written.min(held));
            if written > held {
                return Poll::Ready(Ok(written - held));
            }
        }
    }

    /// Sends what is held; flushing `io` is left to the caller.
    pub fn poll_send<W: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
        sent: &mut bool,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, &self.0))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent = true;
            self.drop_first(written);
        }
        Poll::Ready(Ok(()))
    }

    fn drop_first(&mut self, count: usize) {
        self.0.advance(count);
        if self.is_empty() {
            // A connection that waits for its next request holds nothing.
            self.0 = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes in each call, and says what it got.
    #[derive(Default)]
    struct Socket {
        takes: Vec<usize>,
        got: Vec<String>,
        broken: bool,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            if self.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let Some(room) = self.takes.pop() else { return Poll::Pending };
            let mut all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter()).copied().collect();
            all.truncate(room);
            let count = all.len();
            self.got.push(String::from_utf8(all).unwrap());
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    struct Rig {
        held: Held,
        socket: Socket,
        sent: bool,
    }

    /// A socket that takes so much in each call, and then nothing.
    fn rig<const N: usize>(mut takes: [usize; N]) -> Rig {
        takes.reverse();
        let socket = Socket { takes: takes.to_vec(), ..Socket::default() };
        Rig { held: Held::default(), socket, sent: false }
    }

    impl Rig {
        fn write(&mut self, pieces: &[&str]) -> Poll<io::Result<usize>> {
            let pieces: Vec<_> =
                pieces.iter().map(|piece| IoSlice::new(piece.as_bytes())).collect();
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            self.held.poll_write(&mut self.socket, cx, &pieces, &mut self.sent)
        }

        #[track_caller]
        fn writes(&mut self, pieces: &[&str], expected: usize) {
            let Poll::Ready(Ok(count)) = self.write(pieces) else { panic!("it is taken") };
            assert_eq!(count, expected);
        }

        fn send(&mut self) -> Poll<io::Result<()>> {
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            self.held.poll_send(&mut self.socket, cx, &mut self.sent)
        }
    }

    #[test]
    fn small_pieces_go_out_together_when_they_are_sent() {
        let mut rig = rig([usize::MAX]);
        rig.writes(&["head", ""], 4);
        rig.writes(&["", "bo", "dy"], 4);
        assert!(!rig.sent && rig.socket.got.is_empty());
        assert!(matches!(rig.send(), Poll::Ready(Ok(()))));
        assert_eq!(rig.socket.got, ["headbody"]);
        assert!(rig.sent && rig.held.is_empty());
        assert!(matches!(rig.send(), Poll::Ready(Ok(()))), "there is nothing to send");
    }

    #[test]
    fn a_long_piece_goes_out_with_what_is_held() {
        let long = "x".repeat(MOST);
        let mut rig = rig([usize::MAX]);
        rig.writes(&["head"], 4);
        rig.writes(&[&long], MOST);
        assert_eq!(rig.socket.got, [format!("head{long}")]);
        assert!(rig.sent && rig.held.is_empty());
    }

    #[test]
    fn more_pieces_than_one_call_takes_are_written_in_part() {
        let piece = "x".repeat(MOST);
        let mut rig = rig([usize::MAX]);
        rig.writes(&["head"], 4);
        rig.writes(&[&*piece; PIECES], MOST * (PIECES - 1));
    }

    #[test]
    fn a_socket_that_takes_little_gets_each_byte_once_and_in_order() {
        let long = "x".repeat(MOST) + "y";
        // Part of what is held, the rest of it, part of what is new.
        let mut rig = rig([1, 3, 10]);
        rig.writes(&["head"], 4);
        rig.writes(&[&long], 10);
        assert_eq!(rig.socket.got, ["h", "ead", "xxxxxxxxxx"]);
        assert!(rig.write(&[&long]).is_pending(), "nothing is held, and nothing was taken up");
        assert!(rig.held.is_empty());
    }

    #[test]
    fn what_a_full_socket_does_not_take_is_seen_by_nobody() {
        let mut rig = rig([]);
        rig.writes(&["head"], 4);
        assert!(rig.send().is_pending());
        assert!(!rig.sent);
        rig.socket.takes = vec![2];
        assert!(rig.send().is_pending());
        assert!(rig.sent, "two bytes of it are on their way");
        rig.socket.takes = vec![2];
        assert!(matches!(rig.send(), Poll::Ready(Ok(()))));
        assert_eq!(rig.socket.got, ["he", "ad"]);
    }

    #[test]
    fn what_a_broken_connection_does_not_take_is_seen_by_nobody() {
        for long in ["", &"x".repeat(MOST)] {
            let mut rig = rig([]);
            rig.socket.broken = true;
            rig.writes(&["head"], 4);
            let failed = match long {
                "" => rig.send().map_ok(|()| 0),
                long => rig.write(&[long]),
            };
            assert!(matches!(failed, Poll::Ready(Err(_))));
            assert!(!rig.sent);
        }
    }
}
