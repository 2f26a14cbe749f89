//! Answers on their way to the client.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use gateway_core::fault::Fault;
use gateway_core::protocol::answer::{Answer, AnswerBody};
use gateway_core::protocol::chunked::ChunkScanner;
use gateway_core::protocol::keep_alive::KeepAlive;
use gateway_core::protocol::passage::{self, Edit, Recipient};
use gateway_core::protocol::{Fields, headers};
use gateway_core::rewrite::AckBody;
use http::{HeaderValue, header};

use super::body::write_chunk;
use super::buffer::{Buffer, SMALL};
use super::head::{Edited, write_answer, write_field, write_status};
use super::server::{Line, PIECE, Server, stays_open};
use super::transfer::{Next, Stop, Transfer};
use crate::base::clock;
use crate::base::deadline::within;
use crate::base::failpoint;
use crate::exchange::NotPassed;
use crate::exchange::head::expects_continue;
use crate::exchange::own_answer::OwnAnswer;
use crate::exchange::turns;

/// So long may the rest of a body that is dropped take, for the sake of the connection. The client
/// has its Ack; its next packet on the same connection waits for this.
const REST: Duration = Duration::from_millis(250);

/// How the body of an answer goes on.
enum Framing {
    /// As its server frames it: so many bytes.
    Length(u64),
    /// The same in chunks.
    Chunks(ChunkScanner),
    /// The data of chunks, ended by the connection.
    Unchunked(ChunkScanner),
    /// Until the server closes, and so for the client.
    UntilClose,
    /// Until the server closes. The client gets chunks, by which it sees whether that was the end.
    Chunked,
}

impl Transfer<'_> {
    /// Learns from an answer, and passes it on.
    pub async fn reply(&mut self, mut server: Server, answer: Answer) -> Result<Next, Stop> {
        failpoint::hit("reply", &self.head);
        let Answer { head, body, length: head_length } = answer;
        let early = !self.is_sent(&server);
        let bound = self.exchange.admitted.login.bound;
        // What was not read of a request would be taken for the next one.
        let stays = stays_open(&head) && (!early || bound);
        let said = KeepAlive::read(&head);
        let exchange = &mut self.exchange;
        exchange.answered.backend_status = Some(head.status.as_u16());
        exchange.attempt.replayable = self.body.is_replayable();
        let refused = |_| Stop::Fault(Fault::BackendAnswer);
        let challenges = self.gateway.refuse_login(&head, exchange).map_err(refused)?;
        self.gateway.note_challenge(&head, exchange);
        let learned = match self.gateway.learn(&self.head, &head, exchange).await {
            Ok(learned) => learned,
            Err(NotPassed::Elsewhere) => return Ok(Next::Elsewhere),
            Err(NotPassed::Refused) => return Err(Stop::Fault(Fault::BackendAnswer)),
        };
        let drop_body = learned.as_ref().map_or(AckBody::Keep, |learned| learned.body);
        let until_close = drop_body == AckBody::UntilClose || self.conn.is_http10();
        let drops = matches!(drop_body, AckBody::Drain | AckBody::Cut);
        // What is true of this connection, then what was learned, then how the body goes on.
        let mut edits = Edited::default();
        let to = Recipient { packet: exchange.arrival.is_packet, chunks: !until_close };
        passage::answer(head.status, &head, to).into_iter().for_each(|edit| edits.add(edit));
        if let Some(challenges) = challenges {
            edits.add(Edit::Drop(header::WWW_AUTHENTICATE));
            for challenge in challenges {
                edits.add(Edit::Append(&headers::WWW_AUTHENTICATE, challenge));
            }
        }
        if let Some(learned) = learned {
            self.gateway.share(learned.shared, &head, &learned.edits, exchange);
            learned.edits.into_iter().for_each(|edit| edits.add(edit));
        }
        let length = match head.status {
            status if !passage::may_say_length(status) => None,
            _ if drops => Some(0),
            _ => head.length,
        };
        if drops {
            edits.add(Edit::Drop(header::TRANSFER_ENCODING));
        }
        let mut framing = match body {
            _ if self.head.method() == b"HEAD" => Framing::Length(0),
            AnswerBody::Length(length) => Framing::Length(length),
            AnswerBody::Chunked if until_close => Framing::Unchunked(ChunkScanner::default()),
            AnswerBody::Chunked => Framing::Chunks(ChunkScanner::default()),
            AnswerBody::UntilClose if until_close || drops => Framing::UntilClose,
            AnswerBody::UntilClose => {
                let chunked = HeaderValue::from_static("chunked");
                edits.add(Edit::Set(&headers::TRANSFER_ENCODING, chunked));
                Framing::Chunked
            }
        };
        let endless = matches!(framing, Framing::Unchunked(_) | Framing::UntilClose) && !drops;
        self.goes_on &= !endless && !exchange.admitted.login.ends && !until_close;
        let drained = exchange.arrival.farm.config.limits.drain_bytes;
        self.goes_on &= bound || self.body.left() <= drained;
        let mut out = Buffer::of(SMALL);
        write_answer(&head, length, &mut edits, &mut out);
        self.exchange.sent.status = Some(head.status.as_u16());
        self.finish_head(head.has(&headers::DATE) && !edits.removes_all(&headers::DATE), &mut out);
        self.replied = true;
        if let Some(previous) = &mut server.previous {
            previous.keep(Answer { head, body, length: head_length });
        }
        if drops {
            let written = self.write(&out).await;
            self.conn.answer_is_here();
            written.map_err(|_| Stop::Client)?;
            let patience = if drop_body == AckBody::Drain { REST } else { Duration::ZERO };
            let rest = read_away(&mut server, &mut framing);
            let read = Box::pin(within_rest(patience, rest)).await;
            self.keep(server, (stays && read).then_some(said), early);
            return Ok(Next::Over);
        }
        let ended = self.pass_body(&mut server, &mut framing, out).await;
        self.conn.answer_is_here();
        if early && bound && ended.is_ok() {
            // The login goes on over this connection, behind the whole of this request.
            Box::pin(self.send_rest(&mut server)).await?;
        }
        // What stands behind an answer must not become the next one.
        let marked = !matches!(framing, Framing::UntilClose | Framing::Chunked);
        let keeps = ended.is_ok() && stays && marked && server.inbox.is_empty();
        self.keep(server, keeps.then_some(said), early && !bound);
        ended.map(|()| Next::Over)
    }

    /// Passes the body of an answer on, behind its head in `out`.
    async fn pass_body(
        &mut self,
        server: &mut Server,
        framing: &mut Framing,
        mut out: Buffer,
    ) -> Result<(), Stop> {
        loop {
            let here = server.inbox.len();
            let ended = framing.take(&mut server.inbox, &mut out).map_err(|()| Stop::Client)?;
            self.exchange.sent.bytes += (here - server.inbox.len()) as u64;
            if !out.is_empty() {
                self.write(&out).await.map_err(|_| Stop::Client)?;
                out.clear();
            }
            if ended {
                return Ok(());
            }
            let patience = self.exchange.attempt.patience;
            self.conn.expect_answer(clock::steady() + patience);
            let here = self.body.is_here();
            let read = poll_fn(|cx| {
                server.inbox.reserve(PIECE);
                match server.poll_hear(cx) {
                    Poll::Pending if here => match self.guard.poll_waiting(cx) {
                        Poll::Ready(error) => Poll::Ready(Err(error)),
                        Poll::Pending => Poll::Pending,
                    },
                    Poll::Pending => self.guard.poll_called_off(cx).map(Err),
                    read => read,
                }
            });
            match read.await {
                Ok(0) if matches!(framing, Framing::UntilClose) => return Ok(()),
                Ok(0) if matches!(framing, Framing::Chunked) => {
                    return self.write(b"0\r\n\r\n").await.map_err(|_| Stop::Client);
                }
                Ok(1..) => {}
                // The client sees that the answer is not whole.
                Ok(0) | Err(_) => return Err(Stop::Client),
            }
        }
    }

    /// The connection to the server has served this request. It can serve another if its answer has
    /// `said` for how long.
    fn keep(&mut self, server: Server, said: Option<KeepAlive>, cut: bool) {
        let Some(said) = said.filter(|_| !cut) else {
            if cut {
                self.give_up(server);
            } else {
                self.lose(server.over().0);
            }
            return;
        };
        let (line, previous) = server.over();
        match line {
            Line::Shared(connection) => {
                let ended = clock::steady();
                self.exchange.sent.ended = Some(ended);
                let now = clock::at(ended);
                if let Some(idle) = connection.answered(said, now) {
                    self.lines.keep(self.conn.id, idle, previous, now);
                }
            }
            Line::Bound(own) => {
                let bound_connections = self.exchange.admitted.login.bound_connections.as_ref();
                if let Some((bound_connections, backend)) =
                    bound_connections.zip(self.exchange.admitted.backend)
                {
                    bound_connections.hold(backend, Box::new(own));
                }
            }
            line @ Line::Once(_) => self.lose(line),
        }
    }

    /// Ends a connection whose request is not over.
    pub fn give_up(&mut self, server: Server) {
        let is_bound = server.is_bound();
        drop(server);
        if is_bound {
            self.lose_login();
        }
    }

    /// Ends a connection between two requests.
    fn lose(&mut self, line: Line) {
        match line {
            Line::Shared(connection) | Line::Once(connection) => connection.close(),
            Line::Bound(own) => {
                drop(own);
                self.lose_login();
            }
        }
    }

    fn lose_login(&mut self) {
        if let Some(bound_connections) = &self.exchange.admitted.login.bound_connections {
            self.conn.lost(bound_connections);
        }
    }

    /// What is said of the connection, and the end of the head.
    fn finish_head(&mut self, is_dated: bool, out: &mut Vec<u8>) {
        if !is_dated {
            super::date::write(out);
        }
        let ends = self.conn.is_half_closed() || self.gateway.is_leaving() || *self.stop.borrow();
        self.goes_on &= !ends;
        let connection: &[u8] = if self.goes_on { b"keep-alive" } else { b"close" };
        write_field(out, b"Connection", connection);
        out.extend_from_slice(b"\r\n");
    }

    /// Answers for a fault.
    pub async fn answer_for(&mut self, fault: Fault) -> Result<(), Stop> {
        let answer = self.gateway.answer_for(fault, &self.head, &self.exchange);
        self.write_own(answer).await
    }

    pub async fn write_own(&mut self, answer: OwnAnswer) -> Result<(), Stop> {
        let mut out = Vec::with_capacity(512);
        write_status(&mut out, answer.status, b"");
        for (name, value) in &answer.fields {
            write_field(&mut out, name.as_bytes(), value.as_bytes());
        }
        self.goes_on &= !answer.last;
        self.finish_head(false, &mut out);
        self.replied = true;
        self.exchange.sent.status = Some(answer.status.as_u16());
        self.write(&out).await.map_err(|_| Stop::Client)
    }

    /// Ends a packet that has no answer of a server: with one of our own, if there is somebody to
    /// read it.
    pub async fn end(&mut self, stop: Stop) {
        self.goes_on = false;
        if self.replied {
            return;
        }
        let seen = match stop {
            Stop::Fault(fault) => Some(fault),
            Stop::Client => None,
        };
        if let Some(fault) = self.gateway.fault_of_failure(seen, &mut self.exchange) {
            // A client that has gone meanwhile hears nothing.
            let _ = self.answer_for(fault).await;
        }
    }

    /// Answers a final Fragment that came twice with the answer to the first. Its server has those
    /// bytes, so they are read and thrown away.
    pub async fn answer_again(&mut self, answer: &turns::SharedAnswer) -> Result<(), Stop> {
        let mut last = false;
        if expects_continue(&self.head) {
            // Its client sends no body unless it is told to.
            last = true;
        } else {
            self.gateway.begin_body(&mut self.exchange);
            while !self.body.is_here() {
                poll_fn(|cx| self.body.poll_read(cx, self.guard))
                    .await
                    .map_err(|_| Stop::Client)?;
                if let Some((bytes, _)) = self.body.news() {
                    self.exchange.attempt.bytes_in += bytes as u64;
                    self.gateway.keep_pace(bytes, false, &mut self.exchange).await;
                }
                self.body.skip();
            }
            let came = self.exchange.attempt.bytes_in;
            if self.exchange.admitted.range().is_some_and(|range| range.len() != came) {
                return Err(Stop::Fault(Fault::BadRequest));
            }
        }
        let mut out = Vec::with_capacity(512);
        write_status(&mut out, answer.status, b"");
        for (name, value) in &answer.fields {
            write_field(&mut out, name.as_str().as_bytes(), value.as_bytes());
        }
        write_field(&mut out, b"Content-Length", b"0");
        self.goes_on &= !last;
        self.finish_head(false, &mut out);
        self.replied = true;
        self.exchange.sent.status = Some(answer.status.as_u16());
        self.write(&out).await.map_err(|_| Stop::Client)
    }

    /// Reads what is left of the body, which nobody wants. False if the client did not send it.
    ///
    /// On a connection that ends, only what is here is read: the guard sees to the rest.
    pub async fn drain(&mut self) -> bool {
        self.body.release();
        let waits = self.goes_on;
        while !self.body.is_here() {
            let read = poll_fn(|cx| match self.body.poll_read(cx, self.guard) {
                Poll::Pending if !waits => Poll::Ready(Err(io::ErrorKind::WouldBlock.into())),
                polled => polled,
            });
            if read.await.is_err() {
                return false;
            }
            self.body.skip();
        }
        waits
    }
}

impl Framing {
    /// Moves what is here of the body from `inbox` to `out`. True at its end.
    ///
    /// # Errors
    /// Chunks that are none.
    fn take(&mut self, inbox: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<bool, ()> {
        let (used, ended) = match self {
            Self::Length(left) => {
                let used = usize::try_from(*left).unwrap_or(usize::MAX).min(inbox.len());
                out.extend_from_slice(&inbox[..used]);
                *left -= used as u64;
                (used, *left == 0)
            }
            Self::Chunks(scanner) => {
                let scanned = scanner.scan(inbox).map_err(|_| ())?;
                out.extend_from_slice(&inbox[..scanned.used]);
                (scanned.used, scanned.ended)
            }
            Self::Unchunked(scanner) => {
                let scanned = scanner.scan_data(inbox, |data| out.extend_from_slice(data));
                let scanned = scanned.map_err(|_| ())?;
                (scanned.used, scanned.ended)
            }
            Self::UntilClose => {
                out.extend_from_slice(inbox);
                (inbox.len(), false)
            }
            Self::Chunked => {
                if !inbox.is_empty() {
                    write_chunk(inbox, out);
                }
                (inbox.len(), false)
            }
        };
        inbox.drain(..used);
        Ok(ended)
    }
}

/// Reads the rest of an answer that nobody wants. Whether its end was found.
async fn read_away(server: &mut Server, framing: &mut Framing) -> bool {
    let mut nowhere = Vec::new();
    loop {
        match framing.take(&mut server.inbox, &mut nowhere) {
            Ok(true) => return server.inbox.is_empty(),
            Ok(false) => nowhere.clear(),
            Err(()) => return false,
        }
        if !matches!(poll_fn(|cx| server.poll_hear(cx)).await, Ok(1..)) {
            return false;
        }
    }
}

async fn within_rest(patience: Duration, reading: impl Future<Output = bool>) -> bool {
    let mut reading = std::pin::pin!(reading);
    let at_once = poll_fn(|cx| match Pin::new(&mut reading).poll(cx) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending => Poll::Ready(None),
    });
    match at_once.await {
        Some(read) => read,
        None if patience.is_zero() => false,
        None => within(patience, reading).await.unwrap_or(false),
    }
}
