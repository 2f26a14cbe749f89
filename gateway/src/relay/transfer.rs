//! One packet: from its client to a server, and the answer back.
//!
//! Its states are in the head of [`super`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::Fields;
use gateway_core::protocol::answer::{Answer, read_answer};
use gateway_core::protocol::head::{BodyFraming, RequestHead};
use tokio::io::AsyncWrite;
use tokio::sync::watch;

use super::body::Body;
use super::lines::Lines;
use super::server::{Line, Own, Server};
use super::splice::can_splice;
use super::upstream;
use crate::base::clock;
use crate::base::deadline::Deadline;
use crate::base::failpoint;
use crate::exchange::failure::{ConnectFailure, ExchangeFailure};
use crate::exchange::head::expects_continue;
use crate::exchange::{Course, Exchange, Gateway, Way};
use crate::guard::{Conn, GuardStream};
use crate::telemetry::metrics::Carrier;

/// A packet that is being served.
pub(super) struct Transfer<'r> {
    pub gateway: &'r Gateway,
    /// The connections of this thread.
    pub lines: &'r Arc<Lines>,
    pub guard: &'r mut GuardStream,
    pub conn: Arc<Conn>,
    /// The head as it came.
    pub head: Arc<RequestHead>,
    pub exchange: Exchange,
    pub body: Body,
    pub stop: &'r watch::Receiver<bool>,
    /// Another request may follow on the client's connection.
    pub goes_on: bool,
    /// The client was sent the head of an answer.
    pub replied: bool,
}

/// Why a packet gets no answer of its server.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is told of a fault: that which was found on the way, else this one.
    Fault(Fault),
    /// The client's half of the connection has failed.
    Client,
}

/// Why a try at a server failed.
enum Failed {
    Server {
        /// It ended before a byte of an answer.
        silent: bool,
        fault: Fault,
    },
    Stop(Stop),
}

/// What follows from an answer.
pub(super) enum Next {
    Over,
    /// The packet goes to another server.
    Elsewhere,
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl<'r> Transfer<'r> {
    pub fn new(
        gateway: &'r Gateway,
        lines: &'r Arc<Lines>,
        guard: &'r mut GuardStream,
        head: Arc<RequestHead>,
        stop: &'r watch::Receiver<bool>,
    ) -> Self {
        let conn = Arc::clone(guard.conn());
        let mut exchange = gateway.expect(Carrier::Relay);
        exchange.arrival.reading = guard.take_reading();
        gateway.arrive(Some(Arc::clone(&conn)), &head, &mut exchange);
        failpoint::hit("arrive", &head);
        let framing = guard.skip_head();
        let body = Body::of(framing);
        // The guard lets no request follow a chunked one.
        let chunked = framing == BodyFraming::Chunked;
        let goes_on = !chunked && !conn.is_http10() && !head.says("close");
        Self { gateway, lines, guard, conn, head, exchange, body, stop, goes_on, replied: false }
    }

    /// Serves it. Returns whether another request may follow.
    pub async fn run(&mut self) -> bool {
        if let Err(stop) = self.carry().await {
            Box::pin(self.end(stop)).await;
        }
        failpoint::hit("finish", &self.head);
        self.exchange.sent.bytes_forwarded = self.body.forwarded;
        self.gateway.finish(&self.head, &mut self.exchange).await;
        self.guard.keep_reading(&self.head, || self.exchange.take_reading());
        self.drain().await
    }

    async fn carry(&mut self) -> Result<(), Stop> {
        if let Some(page) = self.gateway.page_for(&self.head, &self.exchange) {
            return Box::pin(self.write_own(page)).await;
        }
        failpoint::hit("admit", &self.head);
        match self.gateway.admit(&self.head, &mut self.exchange).await {
            Ok(Course::Goes) => {}
            Ok(Course::Joined(answer)) => return Box::pin(self.answer_again(&answer)).await,
            Err(fault) => {
                self.exchange.findings.fault = Some(fault);
                if self.exchange.ends_unanswered() {
                    return Err(Stop::Client);
                }
                return Box::pin(self.answer_for(fault)).await;
            }
        }
        if expects_continue(&self.head) {
            // The body is wanted now, so the client need not wait for a server's 100. If the client
            // has gone, reading its body fails.
            let _ = self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        if let Some(length) = self.exchange.admitted.length {
            self.body.unchunk(length);
            if !self.exchange.arrival.has_body {
                Box::pin(self.read_empty_body()).await?;
            }
        }
        loop {
            failpoint::hit("connect", &self.head);
            let next = self.gateway.next_try(&self.head, &mut self.exchange).await;
            let (backend, way) = next.map_err(Stop::Fault)?;
            let Some(mut server) = self.connect(backend, way).await? else { continue };
            match self.converse(&mut server).await {
                Ok(answer) => match self.reply(server, answer).await? {
                    Next::Over => return Ok(()),
                    Next::Elsewhere => self.body.rewind(),
                },
                Err(failed) => {
                    let reused = server.reused;
                    self.give_up(server);
                    self.fail(failed, reused)?;
                    self.body.rewind();
                }
            }
        }
    }

    /// Reads the end of a body in chunks that has to be empty: its packet goes on without any.
    async fn read_empty_body(&mut self) -> Result<(), Stop> {
        while !self.body.is_here() {
            let read = poll_fn(|cx| self.body.poll_read(cx, self.guard)).await;
            read.map_err(|_| Stop::Client)?;
            if !self.body.is_empty() {
                return Err(Stop::Fault(Fault::BadRequest));
            }
        }
        Ok(())
    }

    /// `None` where there is another try.
    async fn connect(&mut self, backend: BackendId, way: Way) -> Result<Option<Server>, Stop> {
        let endpoint = self.exchange.arrival.farm.endpoint(backend).map(Arc::clone);
        let endpoint = endpoint.ok_or(Stop::Fault(Fault::NoBackend))?;
        let repeatable = self.exchange.admitted.repeatable;
        let now = clock::stopwatch();
        let until = now + self.gateway.connection_wait(&self.exchange);
        let connected = match way {
            Way::Shared => match self.lines.take(self.conn.id, &endpoint, repeatable, now) {
                Some((connection, previous)) => {
                    return Ok(Some(Server::again(connection, previous)));
                }
                None => {
                    let connecting = self.lines.pool.connect(&endpoint, repeatable, until);
                    self.unless_called_off(Box::pin(connecting)).await?.map(|connection| {
                        let reused = connection.is_reused();
                        Server::new(Line::Shared(connection), reused)
                    })
                }
            },
            Way::Once => {
                let connecting = self.lines.pool.connect_anew(&endpoint, until);
                let connected = self.unless_called_off(Box::pin(connecting)).await?;
                connected.map(|connection| Server::new(Line::Once(connection), false))
            }
            Way::Bound(bound_connections) if bound_connections.has(backend) => {
                return match bound_connections.take_held(backend).and_then(Own::of) {
                    Some(own) => Ok(Some(Server::new(Line::Bound(own), true))),
                    None => {
                        self.exchange.findings.fault = Some(Fault::LoginLost);
                        self.conn.lost(&bound_connections);
                        Err(Stop::Fault(Fault::LoginLost))
                    }
                };
            }
            Way::Bound(_) => {
                let connecting = self.lines.pool.connect_own(&endpoint, until);
                let connected = self.unless_called_off(Box::pin(connecting)).await?;
                connected
                    .map(|(socket, place)| Server::new(Line::Bound(Own::new(socket, place)), false))
            }
        };
        connected.map(Some).or_else(|error| self.unconnected(&error))
    }

    /// Waits for something that may take long, while nobody calls the packet off.
    async fn unless_called_off<T>(
        &mut self,
        mut waiting: Pin<Box<impl Future<Output = T>>>,
    ) -> Result<T, Stop> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = waiting.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            self.guard.poll_called_off(cx).map(|_| Err(Stop::Client))
        })
        .await
    }

    /// There is no connection. `None` where there is another try.
    fn unconnected(&mut self, error: &upstream::Unconnected) -> Result<Option<Server>, Stop> {
        let failure = ConnectFailure {
            error: error.label(),
            by_backend: error.is_backends_fault(),
            distrust: error.is_distrust(),
            busy: matches!(error, upstream::Unconnected::NoPlace),
        };
        match self.gateway.connect_failed(failure, &mut self.exchange) {
            true => Ok(None),
            false => Err(Stop::Fault(Fault::BackendFailed)),
        }
    }

    /// `Ok` where there is another try.
    fn fail(&mut self, failed: Failed, reused: bool) -> Result<(), Stop> {
        let (died_silently, fault) = match failed {
            Failed::Server { silent, fault } => (silent, fault),
            Failed::Stop(stop) => return Err(stop),
        };
        let replayable = self.body.is_replayable();
        let failure = ExchangeFailure { reused, died_silently, replayable, fault: Some(fault) };
        let again = self.gateway.exchange_failed(&self.head, failure, &mut self.exchange);
        if again && replayable { Ok(()) } else { Err(Stop::Fault(fault)) }
    }

    /// Sends the request, and reads the head of the answer.
    async fn converse(&mut self, server: &mut Server) -> Result<Answer, Failed> {
        failpoint::hit("send", &self.head);
        let reused = server.reused;
        let connected = self.gateway.connected(reused, &mut self.exchange);
        connected.map_err(Stop::Fault)?;
        self.prepare(server)?;
        let limits = &self.exchange.arrival.farm.config.limits;
        self.body.splices = can_splice(self.guard, server, limits);
        loop {
            self.send(server).await?;
            if let Some(answer) = self.hear(server).await? {
                return Ok(answer);
            }
        }
    }

    /// Returns when head and body have gone, or the server has begun to speak.
    async fn send(&mut self, server: &mut Server) -> Result<(), Failed> {
        loop {
            if server.head_is_sent() && !self.body.has_unsent() {
                if self.body.is_here() {
                    return Ok(());
                }
                if self.more_of_the_body(server).await? {
                    return Ok(());
                }
            } else if !self.body.is_here() && !self.body.has_unsent() {
                // What is here already goes with the head.
                poll_fn(|cx| match self.body.poll_read(cx, self.guard) {
                    Poll::Ready(Err(_)) => Poll::Ready(Err(Stop::Client)),
                    _ => Poll::Ready(Ok(())),
                })
                .await?;
            }
            if let Some((bytes, ends)) = self.body.news() {
                failpoint::hit("body", &self.head);
                self.exchange.sent.bytes_forwarded = self.body.forwarded;
                let came = self.gateway.body_came(bytes, ends, &mut self.exchange).await;
                came.map_err(Stop::Fault)?;
            }
            if self.write_all(server).await? {
                return Ok(());
            }
        }
    }

    /// Sends what is left of the body of a request that was answered early.
    pub async fn send_rest(&mut self, server: &mut Server) -> Result<(), Stop> {
        while !self.body.is_here() || self.body.has_unsent() {
            if !self.body.has_unsent() {
                let read = poll_fn(|cx| self.body.poll_read(cx, self.guard)).await;
                read.map_err(|_| Stop::Client)?;
            }
            if let Some((bytes, ends)) = self.body.news() {
                self.exchange.sent.bytes_forwarded = self.body.forwarded;
                let came = self.gateway.body_came(bytes, ends, &mut self.exchange).await;
                came.map_err(Stop::Fault)?;
            }
            // What it says meanwhile is no answer to anything: the connection is seen not to be quiet.
            while self.body.has_unsent() {
                self.write_all(server).await.map_err(|_| Stop::Client)?;
            }
        }
        Ok(())
    }

    /// Waits for the next bytes of the body. True if the server speaks first.
    async fn more_of_the_body(&mut self, server: &mut Server) -> Result<bool, Failed> {
        poll_fn(|cx| {
            match self.body.poll_read(cx, self.guard) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(false)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Stop::Client.into())),
                Poll::Pending => {}
            }
            poll_early(server, cx)
        })
        .await
    }

    /// Writes what is at hand. True if the server speaks before all of it has gone.
    async fn write_all(&mut self, server: &mut Server) -> Result<bool, Failed> {
        let patience = self.exchange.arrival.farm.config.timeouts.backend_write;
        let (mut deadline, mut stuck) = (Deadline::default(), false);
        let speaks = poll_fn(|cx| {
            loop {
                let polled = if server.head_is_sent() && !self.body.has_unsent() {
                    match server.poll_flush(cx) {
                        Poll::Ready(Ok(())) => return Poll::Ready(Ok(false)),
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                        Poll::Pending => Poll::Pending,
                    }
                } else {
                    self.body.poll_send(cx, server)
                };
                match polled {
                    Poll::Ready(Ok(())) => {
                        deadline.stop();
                        continue;
                    }
                    // It may have said why before it left.
                    Poll::Ready(Err(_)) => {
                        return match server.poll_hear(cx) {
                            Poll::Ready(Ok(1..)) => Poll::Ready(Ok(true)),
                            _ => Poll::Ready(Err(left(server))),
                        };
                    }
                    Poll::Pending if self.body.has_unsent() => {
                        stuck = true;
                        self.gateway.body_is_stuck(&self.exchange);
                    }
                    Poll::Pending => {}
                }
                if self.guard.poll_called_off(cx).is_ready() {
                    return Poll::Ready(Err(Stop::Client.into()));
                }
                if deadline.poll(cx, || patience).is_ready() {
                    let fault = Fault::BackendTimeout;
                    return Poll::Ready(Err(Failed::Server { silent: false, fault }));
                }
                return poll_early(server, cx);
            }
        })
        .await?;
        if stuck {
            self.gateway.body_goes_on(self.body.is_here(), &self.exchange);
        }
        Ok(speaks)
    }

    /// Whether the server has been sent the whole request.
    pub fn is_sent(&self, server: &Server) -> bool {
        self.body.is_here() && !self.body.has_unsent() && server.head_is_sent()
    }

    /// Reads the head of an answer. `None` behind a 1xx, if there is more of the request to send.
    async fn hear(&mut self, server: &mut Server) -> Result<Option<Answer>, Failed> {
        let mut deadline = Deadline::default();
        let mut goes_on = false;
        loop {
            let limits = &self.exchange.arrival.farm.config.limits.head;
            let previous = server.previous.as_mut();
            let read = match previous.and_then(|previous| previous.answered(&server.inbox)) {
                Some(answer) => Ok(Some(answer)),
                None => read_answer(&server.inbox, limits),
            };
            match read {
                Ok(Some(answer)) => {
                    server.inbox.drain(..answer.length);
                    let came = self.gateway.answer_came(&answer.head, &mut self.exchange);
                    if came.map_err(|fault| Failed::Server { silent: false, fault })? {
                        return Ok(Some(answer));
                    }
                    // The answer itself may be here already, behind the 1xx.
                    goes_on = !self.is_sent(server);
                    continue;
                }
                Ok(None) if goes_on => return Ok(None),
                Ok(None) => {}
                Err(_) => {
                    return Err(Failed::Server { silent: false, fault: Fault::BackendAnswer });
                }
            }
            let patience = self.exchange.attempt.patience;
            poll_fn(|cx| {
                match server.poll_hear(cx) {
                    Poll::Ready(Ok(1..)) => return Poll::Ready(Ok(())),
                    Poll::Ready(_) => return Poll::Ready(Err(left(server))),
                    Poll::Pending => {}
                }
                // What is left of a body is not read while its answer comes.
                let waits = if self.body.is_here() {
                    self.guard.poll_waiting(cx)
                } else {
                    match deadline.poll(cx, || patience) {
                        Poll::Ready(()) => {
                            let fault = Fault::BackendTimeout;
                            return Poll::Ready(Err(Failed::Server { silent: false, fault }));
                        }
                        Poll::Pending => self.guard.poll_called_off(cx),
                    }
                };
                waits.map(|_| Err(Stop::Client.into()))
            })
            .await?;
        }
    }

    /// Writes to the client, all of it.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let patience = self.exchange.arrival.farm.config.timeouts.client_write;
        let (mut deadline, mut rest) = (Deadline::default(), bytes);
        poll_fn(|cx| {
            loop {
                let polled = if rest.is_empty() {
                    Pin::new(&mut *self.guard).poll_flush(cx).map_ok(|()| None)
                } else {
                    self.guard.poll_write_at_once(cx, rest).map_ok(Some)
                };
                match polled {
                    Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(Some(0))) => {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    Poll::Ready(Ok(Some(count))) => {
                        rest = &rest[count..];
                        deadline.stop();
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        if self.guard.poll_called_off(cx).is_ready() {
                            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                        }
                        return deadline
                            .poll(cx, || patience)
                            .map(|()| Err(io::ErrorKind::TimedOut.into()));
                    }
                }
            }
        })
        .await
    }
}

/// Ready with true once the server speaks, and with an error when it leaves.
fn poll_early(server: &mut Server, cx: &mut std::task::Context<'_>) -> Poll<Result<bool, Failed>> {
    match server.poll_hear(cx) {
        Poll::Ready(Ok(1..)) => Poll::Ready(Ok(true)),
        Poll::Ready(_) => Poll::Ready(Err(left(server))),
        Poll::Pending => Poll::Pending,
    }
}

/// The server's connection has ended.
fn left(server: &Server) -> Failed {
    Failed::Server { silent: server.inbox.is_empty(), fault: Fault::BackendFailed }
}
