//! The carrier of packets: from a client's connection to a server's and back.
//!
//! A `Transfer` is one packet on its way. What is decided of it is decided by
//! [`crate::exchange`]; here are the bytes.
//!
//! # States
//!
//! | state | client bytes | client FIN | client RST | server bytes | server FIN or RST | time over | called off | told to end | panic |
//! |---|---|---|---|---|---|---|---|---|---|
//! | Admit: turn, hold, recovery | stay unread `a1` | is served `a2` | shows later `a3` | - | - | 503 of the exchange `a6` | 503 `a7` | goes on, last answer `e8` | ends this request `e9` |
//! | Connect: place, TCP, TLS | stay unread `c1` | is served `c2` | shows later `c3` | - | refused: again, elsewhere, or 503 `c5` | as refused; 503 busy `c6` | ends unanswered `c7` | goes on, last answer `c8` | ends this request `e9` |
//! | Send: head and what is here | stay unread `s1` | server is reset `b2` | server is reset `b3` | Hear, sending stops `b4` | Hear if it spoke; again, or 502 `b5` | 504 `s6` | server is reset `s7` | goes on, last answer `e8` | ends this request `e9` |
//! | Body: the rest of the request | Send `b1` | server is reset `b2` | server is reset `b3` | Hear, sending stops `b4` | again, or 502 `b5` | client has stalled: 503 `b6` | server is reset `b7` | goes on, last answer `e8` | ends this request `e9` |
//! | Hear: the head of the answer | wait for their turn `h1` | is served `h2` | learned of all the same `h3` | 1xx: Hear; else Reply; no head: 502 `h4` | again, or 502 `h5` | 504 `h6` | server is reset `h7` | goes on, last answer `e8` | ends this request `e9` |
//! | Reply: learn, head of the answer | wait for their turn `h1` | is served `h2` | learned; orphan is cancelled `r3` | Pass `r4` | Pass `r5` | client is closed `r6` | ends unanswered `h7` | goes on, last answer `e8` | ends this request `e9` |
//! | Pass: body of the answer | wait for their turn `h1` | is served `p2` | server is closed `p3` | go on; behind the end: server is closed `p4` | client is closed, or that is the end `p5` | client is closed `p6` | both are closed `p7` | goes on `p8` | ends this request `e9` |
//! | Drain: rest of a body nobody wants | thrown away `d1` | client is closed `d2` | client is closed `d2` | server is closed by now `d1` | server is closed by now `d1` | client is closed `d6` | client is closed `d2` | goes on `p8` | ends this request `e9` |
//!
//! Behind `Drain` the guard lingers, or waits for the next request. Wherever a request ends, it is told
//! of once: its `Exchange` tells when it is dropped.
//!
//! Each cell has a test:
//! `a1` clients_of_a_server_that_is_back_within_the_hold_see_no_error_at_all,
//! `a2` a_client_that_ends_its_half_is_served,
//! `a3` clients_that_leave_at_once_fill_no_server_beyond_the_limit,
//! `a6` a_packet_whose_server_is_away_is_told_to_wait_and_keeps_its_pin,
//! `a7` of_three_the_newest_goes_on,
//! `c1` whatever_comes_while_a_connection_is_awaited,
//! `c2` whatever_comes_while_a_connection_is_awaited,
//! `c3` whatever_comes_while_a_connection_is_awaited,
//! `c5` a_server_that_refuses_connections_is_no_answer_to_its_owner,
//! `c6` a_packet_that_finds_no_place_comes_again_and_a_create_goes_elsewhere,
//! `c7` whatever_comes_while_a_connection_is_awaited,
//! `c8` whatever_comes_while_a_connection_is_awaited,
//! `s1` a_backend_that_does_not_read_holds_its_clients_back,
//! `s6` a_backend_that_stops_reading_ends_the_request_and_nothing_else,
//! `s7` the_older_of_two_requests_is_cancelled_while_its_body_is_stuck_in_the_backend,
//! `b1` a_packet_goes_its_way,
//! `b2` half_a_body_is_never_a_whole_one,
//! `b3` half_a_body_is_never_a_whole_one,
//! `b4` an_answer_before_the_end_of_the_body_goes_on_and_the_rest_of_the_body_does_not,
//! `b5` a_server_that_ends_before_its_answer_is_told_as_502,
//! `b6` a_client_that_stops_inside_a_body_is_given_up_and_keeps_its_pin,
//! `b7` half_a_body_is_never_a_whole_one,
//! `h1` what_a_client_sends_ahead_waits,
//! `h2` a_client_that_ends_its_half_is_served,
//! `h3` an_answer_is_learned_though_its_client_is_gone,
//! `h4` interim_answers_go_to_nobody,
//! `h5` a_server_that_ends_before_its_answer_is_told_as_502,
//! `h6` a_backend_that_never_answers_is_given_up_in_the_end,
//! `h7` a_packet_that_is_called_off_ends_wherever_it_is,
//! `r3` a_session_whose_client_has_gone_before_the_ack_is_cancelled_at_its_server,
//! `r4` pages_of_a_backend_pass_unchanged_and_become_no_acks,
//! `r5` an_ack_counts_whatever_becomes_of_its_body,
//! `r6` a_client_that_takes_nothing_of_its_answer_is_given_up,
//! `p2` a_client_that_ends_its_half_is_served,
//! `p3` a_server_hears_no_more_of_a_client_that_left_inside_its_answer,
//! `p4` what_a_server_says_behind_its_answer_ends_its_connection,
//! `p5` a_server_that_ends_inside_its_answer_is_seen_to_have_ended,
//! `p6` a_backend_that_stops_inside_its_answer_is_given_up,
//! `p7` a_packet_that_is_called_off_ends_wherever_it_is,
//! `p8` a_process_that_is_told_to_end_inside_an_answer_passes_all_of_it,
//! `d1` an_answer_before_the_end_of_the_body_goes_on_and_the_rest_of_the_body_does_not,
//! `d2` a_client_that_leaves_before_the_rest_of_its_body_has_its_answer,
//! `d6` the_rest_of_a_body_is_not_waited_for_for_ever,
//! `e8` a_packet_of_a_process_that_is_told_to_end_is_served_to_its_end,
//! `e9` t19_a_panic_anywhere_ends_that_request_only.
//!
//! What is absent: every type of Pingora, which carries plain HTTP.

mod body;
mod buffer;
mod date;
mod head;
mod lines;
pub mod pipe;
mod previous;
mod reply;
mod server;
mod splice;
mod transfer;
pub mod upstream;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use gateway_core::protocol::head::{RequestHead, has_field};
use gateway_core::protocol::{Fields, headers, login, packet};
use thread_local::ThreadLocal;
use tokio::sync::watch;

use crate::exchange::Gateway;
use crate::guard::{Carrier, Conn, GuardStream};
use lines::Lines;
use transfer::Transfer;
use upstream::{Pool, Servers};

/// Carries packets over connections that everybody shares.
pub struct Relay {
    gateway: Arc<Gateway>,
    servers: Arc<Servers>,
    /// One for each thread.
    lines: ThreadLocal<Arc<Lines>>,
    /// Idle connections that each thread keeps at most.
    most_idle: usize,
}

impl Relay {
    pub fn new(gateway: Arc<Gateway>, servers: Arc<Servers>, most_idle: usize) -> Self {
        Self { gateway, servers, lines: ThreadLocal::new(), most_idle }
    }

    fn lines(&self) -> &Arc<Lines> {
        let pool = || Pool::new(&self.servers, Arc::clone(self.gateway.farms()), self.most_idle);
        self.lines.get_or(|| Lines::new(pool()))
    }

    /// Whether a request is to be carried here: a packet, or any request that goes over a connection of
    /// its client's own. Over a second one its client would be somebody else.
    fn is_ours(&self, head: &RequestHead, guard: &GuardStream) -> bool {
        let farm = self.gateway.farm();
        packet::is_packet(head, farm.config.http.method_override)
            || guard.conn().has_bound_connections()
            || farm.has_per_client()
            || head.values(&headers::AUTHORIZATION).any(login::binds)
    }

    /// Whether it can be one of those, at a first look.
    fn may_be_ours(&self, head: &[u8], guard: &GuardStream) -> bool {
        head.starts_with(b"BITS_POST ")
            || head.starts_with(b"POST ")
            || guard.conn().has_bound_connections()
            || has_field(head, "authorization")
            || self.gateway.farm().has_per_client()
    }
}

impl Carrier for Relay {
    fn carry<'g>(
        &'g self,
        guard: &'g mut GuardStream,
        stop: &'g watch::Receiver<bool>,
    ) -> Option<BoxFuture<'g, bool>> {
        let head = guard.head()?;
        if !self.may_be_ours(head, guard) {
            // It may take hours.
            guard.forget_last();
            return None;
        }
        // What the future begins with is a few pointers: more would be copied with all the room that it
        // has for a packet.
        let head = guard.read_head()?;
        if !self.is_ours(&head, guard) {
            guard.forget_last();
            return None;
        }
        // Made first, or all the room of the future would be copied there.
        let room = Box::new_uninit();
        let carried = async move {
            let mut transfer = Transfer::new(&self.gateway, self.lines(), guard, head, stop);
            transfer.run().await
        };
        let carried: Box<_> = Box::write(room, carried);
        Some(Box::into_pin(carried))
    }

    fn ended(&self, conn: &Conn) {
        if let Some(lines) = self.lines.get() {
            lines.release(conn.id);
        }
    }
}

#[cfg(test)]
mod interim_tests;
#[cfg(test)]
mod previous_tests;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod states_tests;
#[cfg(test)]
mod stuck_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_packet_takes_little_room() {
        let running = size_of_future(|transfer: &'static mut Transfer<'static>| transfer.run());
        let whole = size_of::<Transfer<'static>>() + running;
        assert!(whole <= 3 * 1024, "what hardly a packet needs belongs in a box: {whole} bytes");
    }
}
