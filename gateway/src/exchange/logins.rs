//! Requests that go over a connection of their client's own.
//!
//! With NTLM and Negotiate a server believes the TCP connection. So from the first such challenge
//! or credentials on, a client has connections of its own at the backends: made for it, used by
//! nobody else, and closed with its own. That one is closed with them as well, and never goes on
//! over a second one, or half a login would be continued where it did not begin, and a request that
//! was meant to come from somebody would come from nobody.
//!
//! A connection from a proxy carries many clients. Each that a trusted proxy names has connections
//! of its own, from its first such credentials on. A client that is not named has none: its
//! credentials go over a connection that is used once, and it is offered no such login.
//!
//! What is absent: any look into the tokens.

use std::sync::Arc;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::login::{self, Challenge, Left};
use gateway_core::protocol::speaker::Speaker;
use gateway_core::protocol::{Fields, headers};
use http::{HeaderValue, StatusCode, Version};
use tokio::sync::Semaphore;

use super::Exchange;
use super::forwarding::Forwarding;
use super::login::Login;
use super::report::Reporter;
use super::tries::Way;

/// Has the clients that log in to connections have some of their own.
pub(super) struct Logins {
    /// Room for connections that belong to one client each.
    pub bound: Arc<Semaphore>,
    pub reporter: Arc<Reporter>,
}

impl Logins {
    /// Over which connection the request goes to `backend`.
    pub fn keep_apart(
        &self,
        head: &RequestHead,
        backend: BackendId,
        exchange: &mut Exchange,
    ) -> Result<Way, Fault> {
        let Some(conn) = &exchange.arrival.conn else { return Ok(Way::Shared) };
        let login = &mut exchange.admitted.login;
        let credentials = head.first(&headers::AUTHORIZATION);
        let logs_in = credentials.is_some_and(login::binds);
        if logs_in && login.speaker == Speaker::Unnamed {
            login.once = true;
            return Ok(Way::Once);
        }
        let needed = logs_in || exchange.arrival.farm.is_per_client(backend);
        if login.bound_connections.is_none() && needed {
            login.bound_connections = Some(conn.bind(login.speaker));
        }
        let Some(bound_connections) = &login.bound_connections else { return Ok(Way::Shared) };
        let elsewhere = bound_connections.pending().is_some_and(|pending| pending != backend);
        if conn.is_ending() || bound_connections.is_lost() || (logs_in && elsewhere) {
            return Err(Fault::LoginLost);
        }
        if bound_connections.has(backend) {
            login.permit = None;
        } else {
            let permit = Arc::clone(&self.bound).try_acquire_owned();
            login.permit = Some(permit.map_err(|_| Fault::LoginsFull)?);
        }
        login.bound = true;
        Ok(Way::Bound(Arc::clone(bound_connections)))
    }

    /// A connection for the request is there.
    pub fn bind_connected(
        &self,
        backend: BackendId,
        reused: bool,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        if !exchange.admitted.login.bound || reused {
            return Ok(());
        }
        let Login { bound_connections, permit, .. } = &mut exchange.admitted.login;
        let taken = bound_connections.as_ref().zip(permit.take()).is_some_and(
            |(bound_connections, permit)| {
                let counted = self.reporter.metrics.bound_connection();
                bound_connections.take(backend, permit, counted)
            },
        );
        if taken { Ok(()) } else { Err(Fault::LoginLost) }
    }

    /// A client that is not known is offered no login that would count for others too. Returns the
    /// challenges that stand in place of those of the answer, if not all of them may pass.
    ///
    /// # Errors
    /// None is left. The findings hold the fault.
    pub fn refuse_login(
        &self,
        response: &AnswerHead,
        exchange: &mut Exchange,
    ) -> Result<Option<Vec<HeaderValue>>, Fault> {
        let unnamed = exchange.admitted.login.speaker == Speaker::Unnamed;
        let Some(conn) = exchange.arrival.conn.as_ref().filter(|_| unnamed) else {
            return Ok(None);
        };
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        let left = login::without_bound(response);
        let challenges = match left {
            Left::All => return Ok(None),
            Left::Some(challenges) => challenges,
            Left::Nothing => Vec::new(),
        };
        self.reporter.note_shared_login(conn, &Forwarding::of(&exchange.arrival.farm.config.http));
        if challenges.is_empty() {
            exchange.findings.fault = Some(Fault::LoginShared);
            return Err(Fault::LoginShared);
        }
        Ok(Some(challenges))
    }
}

/// What the answer says of the login.
pub fn note_challenge(response: &AnswerHead, exchange: &mut Exchange) {
    let Some(conn) = &exchange.arrival.conn else { return };
    let challenges = response.values(&headers::WWW_AUTHENTICATE);
    let challenge = challenges.map(login::challenge).max();
    let binds = challenge.is_some_and(|challenge| challenge != Challenge::Other);
    // Of the clients of a proxy, only those that do log in are told apart.
    if binds && exchange.admitted.login.speaker == Speaker::Peer {
        conn.bind(Speaker::Peer);
    }
    let Some(bound_connections) = exchange
        .admitted
        .login
        .bound_connections
        .as_ref()
        .filter(|_| exchange.admitted.login.bound)
    else {
        return;
    };
    let goes_on =
        challenge == Some(Challenge::Token) && response.status == StatusCode::UNAUTHORIZED;
    bound_connections.set_pending(exchange.admitted.backend.filter(|_| goes_on));
    // A proxy goes on with the requests of its other clients.
    let alone = !matches!(exchange.admitted.login.speaker, Speaker::Named(..));
    exchange.admitted.login.ends = alone && closes(response);
}

/// Whether the backend's connection ends with its answer.
fn closes(response: &AnswerHead) -> bool {
    let says = |word| response.says(word);
    says("close") || (response.version < Version::HTTP_11 && !says("keep-alive"))
}

#[cfg(test)]
#[path = "logins_tests.rs"]
mod tests;
