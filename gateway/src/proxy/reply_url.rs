//! The URL of a reply, where its server has named itself in it.

use gateway_core::protocol::headers;
use gateway_core::protocol::passage::Edit;
use gateway_core::reply_url::{Entrance, at_gateway};
use http::{HeaderValue, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::Ctx;
use super::head::host_of;
use crate::config::ReplyUrl;
use crate::exchange::forwarding::Forwarding;

pub(super) fn edit(downstream: &Session, response: &ResponseHeader, ctx: &Ctx) -> Option<Edit> {
    let http = &ctx.arrival.farm.config.http;
    let url = response.headers.get(&headers::REPLY_URL.name)?.to_str().ok()?;
    if http.reply_url == ReplyUrl::Pass {
        return None;
    }
    let (backend, conn) = (ctx.admitted.backend?, ctx.arrival.conn.as_ref()?);
    let head = downstream.req_header();
    let host = host_of(head)?;
    let text = |value: Option<&HeaderValue>| value?.to_str().ok().map(str::to_owned);
    let sent = ctx.arrival.farm.upstream_host(backend, &host).or(head.headers.get(header::HOST));
    let said = text(sent)?;
    let configured = ctx.arrival.farm.named(backend)?.to_string();
    let found = ctx.arrival.farm.address(backend)?.to_string();
    let own = [&*configured, &*found, &*said];
    let forwarding = Forwarding::of(http);
    let scheme = forwarding.scheme(conn, &head.headers);
    let authority = forwarding.host(Some(conn), &head.headers).ok()??;
    let url = at_gateway(url, &own, Entrance { scheme, authority })?;
    Some(Edit::Set(&headers::REPLY_URL, HeaderValue::from_str(&url).ok()?))
}
