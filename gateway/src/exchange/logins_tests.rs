use std::sync::Arc;

use super::super::rig::*;
use super::*;
use crate::guard::rig::{LIMITS, over};
use crate::guard::{ClientSocket, Conn};

/// A client's connection that carries nothing.
fn conn() -> Arc<Conn> {
    let (_, server) = tokio::io::duplex(1024);
    Arc::clone(over(ClientSocket::pipe(server), "", LIMITS).0.conn())
}

fn with_login(login: &str) -> Arc<RequestHead> {
    head("GET", "/", &[("Authorization", login)])
}

/// A request over that connection.
fn over_conn(rig: &Rig, conn: &Arc<Conn>, speaker: Speaker, head: &Arc<RequestHead>) -> Exchange {
    let mut exchange = rig.gateway.expect(crate::telemetry::metrics::Carrier::Relay);
    rig.gateway.arrive(Some(Arc::clone(conn)), head, &mut exchange);
    exchange.admitted.login = Login::of(conn, speaker);
    exchange
}

fn way(rig: &Rig, conn: &Arc<Conn>, speaker: Speaker, login: &str) -> Result<Way, Fault> {
    let head = with_login(login);
    let mut exchange = over_conn(rig, conn, speaker, &head);
    rig.gateway.tries.logins.keep_apart(&head, UP01, &mut exchange)
}

#[tokio::test]
async fn a_login_to_a_connection_gets_one_of_its_own() {
    let rig = Rig::new();
    for (login, owns) in
        [("NTLM TlRMTVNTUAAB", true), ("Negotiate YII", true), ("Basic eDp5", false)]
    {
        let way = way(&rig, &conn(), Speaker::Peer, login);
        assert_eq!(matches!(way, Ok(Way::Bound(_))), owns, "{login}");
    }
}

#[tokio::test]
async fn a_client_that_nobody_names_logs_in_for_one_request() {
    let rig = Rig::new();
    let way = way(&rig, &conn(), Speaker::Unnamed, "NTLM TlRMTVNTUAAB");
    assert!(matches!(way, Ok(Way::Once)));
}

#[tokio::test]
async fn there_are_only_so_many_connections_of_clients() {
    let rig = Rig::new();
    let heads = with_login("NTLM TlRMTVNTUAAB");
    // The rig has room for two.
    let conns = [conn(), conn(), conn()];
    let mut held = Vec::new();
    for (number, conn) in conns.iter().enumerate() {
        let mut exchange = over_conn(&rig, conn, Speaker::Peer, &heads);
        let way = rig.gateway.tries.logins.keep_apart(&heads, UP01, &mut exchange);
        match number {
            0 | 1 => assert!(way.is_ok()),
            _ => assert_eq!(way.err(), Some(Fault::LoginsFull)),
        }
        held.push(exchange);
    }
    held.remove(0);
    assert!(matches!(way(&rig, &conn(), Speaker::Peer, "NTLM x"), Ok(Way::Bound(_))));
}

#[tokio::test]
async fn a_login_does_not_go_on_where_it_did_not_begin() {
    let rig = Rig::new();
    let conn = conn();
    conn.bind(Speaker::Peer).set_pending(Some(UP02));
    assert_eq!(way(&rig, &conn, Speaker::Peer, "NTLM x").err(), Some(Fault::LoginLost));
}

/// A 401 with these challenges, and what a client hears of them.
fn refused(
    speaker: Speaker,
    challenges: &[&'static str],
) -> Result<Option<Vec<HeaderValue>>, Fault> {
    let rig = Rig::new();
    let mut exchange = over_conn(&rig, &conn(), speaker, &get("/"));
    let fields = challenges.iter().map(|challenge| ("WWW-Authenticate", *challenge));
    let fields: Vec<_> = fields.collect();
    let response = answer((401, fields.leak()));
    rig.gateway.refuse_login(&response, &mut exchange)
}

#[tokio::test]
async fn a_client_that_nobody_names_is_offered_no_login_for_all() {
    let basic = HeaderValue::from_static("Basic realm=\"x\"");
    assert_eq!(refused(Speaker::Unnamed, &["NTLM"]), Err(Fault::LoginShared));
    assert_eq!(refused(Speaker::Unnamed, &["Negotiate", "NTLM"]), Err(Fault::LoginShared));
    let left = refused(Speaker::Unnamed, &["NTLM", "Basic realm=\"x\""]);
    assert_eq!(left, Ok(Some(vec![basic])));
    assert_eq!(refused(Speaker::Unnamed, &["Basic realm=\"x\""]), Ok(None));
    assert_eq!(refused(Speaker::Peer, &["NTLM"]), Ok(None));
}

#[tokio::test]
async fn from_its_first_challenge_on_a_client_is_kept_apart() {
    let rig = Rig::new();
    for (challenge, binds) in [("NTLM", true), ("Negotiate", true), ("Basic realm=\"x\"", false)] {
        let conn = conn();
        let mut exchange = over_conn(&rig, &conn, Speaker::Peer, &get("/"));
        let fields = vec![("WWW-Authenticate", challenge)];
        note_challenge(&answer((401, fields.leak())), &mut exchange);
        assert_eq!(conn.has_bound_connections(), binds, "{challenge}");
    }
}
