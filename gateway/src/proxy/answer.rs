//! Answers on their way to the client.

use gateway_core::fault::Fault;
use gateway_core::protocol::passage::{self, Edit, Recipient};
use http::Version;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::{Ctx, Proxy};
use crate::exchange::own_answer::OwnAnswer;

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
        self.close_if_draining(downstream);
        downstream.write_response_header(Box::new(response), true).await
    }
}

/// Last edits to every answer of a backend.
pub(super) fn finish_head(
    downstream: &mut Session,
    response: &mut ResponseHeader,
    http10: bool,
) -> Result<()> {
    response.set_version(Version::HTTP_11);
    let to = Recipient { packet: false, chunks: !http10 };
    for edit in passage::answer(response.status, &response.headers, to) {
        match edit {
            Edit::Drop(name) => _ = response.remove_header(&name),
            Edit::Set(field, value) => response.insert_header(field.wire, value)?,
            Edit::Append(field, value) => _ = response.append_header(field.wire, value)?,
        }
    }
    if http10 {
        downstream.set_keepalive(None);
    }
    Ok(())
}

pub(super) fn apply_to_request(edits: Vec<Edit>, request: &mut RequestHeader) -> Result<()> {
    for edit in edits {
        match edit {
            Edit::Drop(name) => _ = request.remove_header(&name),
            Edit::Set(field, value) => request.insert_header(field.wire, value)?,
            Edit::Append(field, value) => _ = request.append_header(field.wire, value)?,
        }
    }
    Ok(())
}
