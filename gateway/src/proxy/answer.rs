//! Answers on their way to the client.

use std::time::Duration;

use gateway_core::fault::Fault;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::passage::{self, Edit, Recipient};
use gateway_core::rewrite::AckBody;
use http::{Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::errors::REFUSED_ANSWER;
use super::{Ctx, Proxy};
use crate::exchange::head::expects_continue;
use crate::exchange::own_answer::OwnAnswer;
use crate::exchange::turns::Answer;
use crate::exchange::{Exchange, Learned};

/// Ends the exchange with a backend that refused a Create: the next one has been chosen.
pub const GOES_ELSEWHERE: ErrorType = ErrorType::Custom("a Create goes to another backend");

/// So long may the rest of a body that is dropped take, for the sake of the connection. The client
/// has its Ack; its next packet on the same connection waits for this.
const REST: Duration = Duration::from_millis(250);

impl Proxy {
    /// Answers for a fault.
    pub(super) async fn answer(
        &self,
        downstream: &mut Session,
        ctx: &Ctx,
        fault: Fault,
    ) -> Result<()> {
        let answer = self.gateway.answer_for(fault, &ctx.head, &ctx.exchange);
        self.write(downstream, answer).await
    }

    pub(super) async fn write(&self, downstream: &mut Session, answer: OwnAnswer) -> Result<()> {
        let OwnAnswer { status, fields, last } = answer;
        let mut response = ResponseHeader::build(status, Some(fields.len()))?;
        for (name, value) in fields {
            response.insert_header(name, value)?;
        }
        if last {
            downstream.set_keepalive(None);
        }
        self.take_leave(downstream);
        downstream.write_response_header(Box::new(response), true).await
    }

    /// Passes what was learned of an answer on to its head and body.
    pub(super) async fn pass(
        &self,
        downstream: &mut Session,
        (answer, response): (&AnswerHead, &mut ResponseHeader),
        learned: Learned,
        ctx: &mut Ctx,
    ) -> Result<()> {
        self.gateway.share(learned.shared, answer, &learned.edits, &ctx.exchange);
        apply(learned.edits, response)?;
        match learned.body {
            AckBody::Keep => Ok(()),
            AckBody::UntilClose => {
                ctx.exchange.answered.until_close = true;
                Ok(())
            }
            AckBody::Drain | AckBody::Cut => {
                response.remove_header(&header::TRANSFER_ENCODING);
                response.insert_header("Content-Length", "0")?;
                self.drop_body(downstream, response, learned.body, ctx).await
            }
        }
    }

    async fn drop_body(
        &self,
        downstream: &mut Session,
        response: &mut ResponseHeader,
        body: AckBody,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.exchange.answered.drop_body = true;
        if !ctx.exchange.arrival.has_body || ctx.exchange.attempt.body_done.is_some() {
            ctx.early.drop_rest(if body == AckBody::Drain { REST } else { Duration::ZERO });
            return Ok(());
        }
        if body == AckBody::Drain {
            return Ok(());
        }
        // The rest of the request could not follow over a connection that is given up.
        ctx.replaced = true;
        downstream.set_keepalive(None);
        make_ours(response, Recipient { packet: true, chunks: true })?;
        downstream.write_response_header(Box::new(response.clone()), true).await?;
        Err(Error::new(REFUSED_ANSWER))
    }

    /// Answers a final Fragment that came twice with the answer to the first. Its server has those
    /// bytes, so they are read and thrown away.
    pub(super) async fn answer_again(
        &self,
        downstream: &mut Session,
        ctx: &mut Ctx,
        answer: &Answer,
    ) -> Result<()> {
        if expects_continue(&ctx.head) {
            // Its client sends no body unless it is told to.
            downstream.set_keepalive(None);
        } else {
            self.drain(downstream, &mut ctx.exchange).await?;
        }
        let mut response = ResponseHeader::build(answer.status, Some(answer.fields.len() + 1))?;
        for (name, value) in &answer.fields {
            response.append_header(name.clone(), value.clone())?;
        }
        response.insert_header("Content-Length", "0")?;
        self.take_leave(downstream);
        downstream.write_response_header(Box::new(response), true).await
    }

    /// Reads the body under the limits that it would have on its way to a server.
    async fn drain(&self, downstream: &mut Session, exchange: &mut Exchange) -> Result<()> {
        self.gateway.begin_body(exchange);
        loop {
            let read = downstream.read_request_body().await.map_err(Error::into_down)?;
            let Some(bytes) = read else { break };
            exchange.attempt.bytes_in += bytes.len() as u64;
            self.gateway.keep_pace(bytes.len(), false, exchange).await;
        }
        if exchange.admitted.range.is_some_and(|range| range.len() != exchange.attempt.bytes_in) {
            exchange.findings.fault = Some(Fault::BadRequest);
            return Err(Error::new(ErrorType::InvalidHTTPHeader).into_down());
        }
        Ok(())
    }
}

/// Last edits to every answer of a backend.
pub(super) fn finish_head(
    downstream: &mut Session,
    response: &mut ResponseHeader,
    exchange: &Exchange,
) -> Result<()> {
    let http10 = exchange.arrival.conn.as_ref().is_some_and(|conn| conn.is_http10());
    let until_close = exchange.answered.until_close || http10;
    make_ours(response, Recipient { packet: exchange.arrival.is_packet, chunks: !until_close })?;
    if until_close || exchange.admitted.login.ends {
        downstream.set_keepalive(None);
    }
    Ok(())
}

/// A Windows client works with HTTP/1.1 only (MC-BUP 2.2.1).
fn make_ours(response: &mut ResponseHeader, to: Recipient) -> Result<()> {
    response.set_version(Version::HTTP_11);
    apply(passage::answer(response.status, &response.headers, to), response)
}

fn apply(edits: Vec<Edit>, response: &mut ResponseHeader) -> Result<()> {
    for edit in edits {
        match edit {
            Edit::Remove(name) => _ = response.remove_header(&name),
            Edit::Set(field, value) => response.insert_header(field.wire, value)?,
            Edit::Append(field, value) => _ = response.append_header(field.wire, value)?,
        }
    }
    Ok(())
}

pub(super) fn apply_to_request(edits: Vec<Edit>, request: &mut RequestHeader) -> Result<()> {
    for edit in edits {
        match edit {
            Edit::Remove(name) => _ = request.remove_header(&name),
            Edit::Set(field, value) => request.insert_header(field.wire, value)?,
            Edit::Append(field, value) => _ = request.append_header(field.wire, value)?,
        }
    }
    Ok(())
}
