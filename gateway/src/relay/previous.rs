//! What became of the previous packet of a client's connection, for the next one if that repeats it.
//!
//! The Fragments of an upload differ in two numbers, and so do the heads that go to the server. Where
//! nothing else has changed by which a head is written, the one before goes again with new numbers. An
//! answer that repeats the one before is compared with it, and not read.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use gateway_core::farm::BackendId;
use gateway_core::protocol::answer::Answer;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::headers;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::buffer::Buffer;
use super::head::{Edited, write_request};
use super::server::Server;
use super::transfer::{Stop, Transfer};
use crate::exchange::Exchange;
use crate::farm::Farm;

/// Larger heads of answers are not kept: they would lie here while their servers work.
const MOST: usize = 2048;

/// The previous packet of a client's connection.
pub struct Previous {
    /// All by which the head for the server was written, beside the numbers.
    cause: Cause,
    /// That head.
    request: Vec<u8>,
    /// Where the numbers stand in the head that came, and in that one.
    numbers: [Option<(Range<usize>, Range<usize>)>; 2],
    /// Where the id of the request stands in it.
    id: Option<Range<usize>>,
    /// The answer to it.
    answer: Option<Answer>,
}

/// What decides the head of a packet for its server.
struct Cause {
    /// The head that came, as the guard numbers those that it keeps.
    series: u64,
    farm: Arc<Farm>,
    backend: BackendId,
    /// The id by which the server knows the session, where that is not the client's.
    session: Option<Box<str>>,
}

impl Cause {
    /// `None` where there is more to it.
    fn is(&self, series: u64, exchange: &Exchange) -> bool {
        let admitted = &exchange.admitted;
        self.series == series
            && Arc::ptr_eq(&self.farm, &exchange.arrival.farm)
            && admitted.backend == Some(self.backend)
            && admitted.backend_session == self.session
            && is_usual(exchange)
    }
}

/// Whether the head goes on with its own target and length.
fn is_usual(exchange: &Exchange) -> bool {
    exchange.admitted.spelling.is_none() && exchange.admitted.length.is_none()
}

impl Previous {
    /// The packet whose head goes to its server as `written`.
    pub fn of(
        series: u64,
        head: &RequestHead,
        exchange: &Exchange,
        written: &[u8],
    ) -> Option<Box<Self>> {
        let backend = exchange.admitted.backend.filter(|_| is_usual(exchange))?;
        let farm = Arc::clone(&exchange.arrival.farm);
        let session = exchange.admitted.backend_session.clone();
        let cause = Cause { series, farm, backend, session };
        let read = RequestHead::read(written.to_vec())?;
        let numbers = [&headers::CONTENT_RANGE, &headers::CONTENT_LENGTH]
            .map(|field| head.place(field).zip(read.place(field)));
        if numbers.iter().flatten().any(|(from, to)| from.len() != to.len()) {
            return None;
        }
        let id = read.place(&headers::REQUEST_ID);
        let request = read.into_bytes();
        Some(Box::new(Self { cause, request, numbers, id, answer: None }))
    }

    /// Makes the head for the server that of the next packet. False where that is not the same but for
    /// its numbers.
    pub fn repeat(
        &mut self,
        series: u64,
        head: &RequestHead,
        id: Option<Uuid>,
        exchange: &Exchange,
    ) -> bool {
        if !self.cause.is(series, exchange) {
            return false;
        }
        for (from, to) in self.numbers.iter().flatten() {
            self.request[to.clone()].copy_from_slice(&head.bytes()[from.clone()]);
        }
        match (id, &self.id) {
            (Some(id), Some(place)) if place.len() == Hyphenated::LENGTH => {
                id.as_hyphenated().encode_lower(&mut self.request[place.clone()]);
                true
            }
            (id, _) => id.is_none(),
        }
    }

    /// The head for the server.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Keeps the answer, if it is a small one.
    pub fn keep(&mut self, answer: Answer) {
        self.answer = Some(answer).filter(|answer| answer.length <= MOST);
    }

    /// The answer that `bytes` begin with, if it repeats the one before.
    pub fn answered(&mut self, bytes: &[u8]) -> Option<Answer> {
        let repeated = self.answer.as_mut().is_some_and(|answer| answer.repeat(bytes));
        self.answer.take_if(|_| repeated)
    }
}

impl fmt::Debug for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Previous").field("series", &self.cause.series).finish_non_exhaustive()
    }
}

impl Transfer<'_> {
    /// Writes the head of the packet for the server, or has the previous one go again.
    pub fn prepare(&mut self, server: &mut Server) -> Result<(), Stop> {
        let (series, id) = (self.guard.series(), self.gateway.request_id(&self.exchange));
        let again = |previous: &mut Box<Previous>| {
            series.is_some_and(|series| previous.repeat(series, &self.head, id, &self.exchange))
        };
        server.repeats = server.previous.as_mut().is_some_and(again);
        if let Some(previous) = server.previous.as_ref().filter(|_| server.repeats) {
            debug_assert!(
                self.write_head(id).is_ok_and(|written| *written == *previous.request()),
                "all that decides a head is its cause"
            );
            return Ok(());
        }
        server.out = self.write_head(id)?;
        // The first packet of a series may be the only one. And only a connection that serves everybody
        // stays with its client.
        let series = series.filter(|_| server.is_shared());
        let repeated =
            series.and_then(|series| Previous::of(series, &self.head, &self.exchange, &server.out));
        server.previous = repeated;
        Ok(())
    }

    fn write_head(&self, id: Option<Uuid>) -> Result<Buffer, Stop> {
        let edits = self.gateway.onward(&self.head, &self.exchange).map_err(Stop::Fault)?;
        let mut edited = Edited::default();
        edits.into_iter().for_each(|edit| edited.add(edit));
        edited.set_request_id(id);
        let target = self.exchange.admitted.spelling.as_deref();
        let mut out = Buffer::of(self.head.bytes().len() + 256);
        write_request(&self.head, target, &edited, &mut out);
        Ok(out)
    }
}
