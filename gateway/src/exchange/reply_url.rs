//! The URL of a reply, where its server has named itself in it.

use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::passage::Edit;
use gateway_core::protocol::{Fields, headers};
use gateway_core::reply_url::{GatewayUrl, at_gateway};
use http::HeaderValue;

use super::Exchange;
use super::forwarding::Forwarding;
use super::head::host_of;
use crate::config::ReplyUrl;

pub(super) fn edit(head: &RequestHead, response: &AnswerHead, exchange: &Exchange) -> Option<Edit> {
    let http = &exchange.arrival.farm.config.http;
    let url = response.text(&headers::REPLY_URL)?;
    if http.reply_url == ReplyUrl::Pass {
        return None;
    }
    let (backend, conn) = (exchange.admitted.backend?, exchange.arrival.conn.as_ref()?);

    let host = host_of(head)?;
    let said = match exchange.arrival.farm.upstream_host(backend, &host) {
        Some(host) => host.to_str().ok()?,
        None => head.text(&headers::HOST)?,
    };
    let configured = exchange.arrival.farm.named(backend)?.to_string();
    let found = exchange.arrival.farm.address(backend)?.to_string();
    let own = [&*configured, &*found, said];
    let forwarding = Forwarding::of(http);
    let scheme = forwarding.scheme(conn, head);
    let authority = std::str::from_utf8(forwarding.host(Some(conn), head).ok()??).ok()?;
    let url = at_gateway(url, &own, GatewayUrl { scheme, authority })?;
    Some(Edit::Set(&headers::REPLY_URL, HeaderValue::from_str(&url).ok()?))
}
