//! What no log line may hold, whatever becomes of the request.

use e2e_tests::client::exchange;
use e2e_tests::farm::{ORIGIN, Signal};
use e2e_tests::raw_backend::{RawBackend, Reply};
use e2e_tests::wait;

use crate::packets::{Servers, TARGET, close, ping, server};

/// Stands in every place of a request where a secret may stand.
const SECRET: &str = "s3cret-Token-4711";

/// Item 97.
///
/// Threat: T14.
#[test]
fn no_log_line_holds_an_id_a_query_a_credential_or_a_line_break_of_a_client() {
    let honest = server(0);
    let backend = RawBackend::answering(move |request| match request.field("X-Lost") {
        Some(_) => Reply::SendAndClose(Vec::new()),
        None => honest(request),
    });
    let servers = Servers::of(vec![backend], |farm| farm.set("log.level", "\"trace\""));
    let query = format!("{TARGET}?token={SECRET}");
    let (id, _) = servers.open(&query);
    let fields = format!(
        "Authorization: Bearer {SECRET}\r\nProxy-Authorization: Basic {SECRET}\r\nCookie: s={SECRET}\r\n\
        X-Api-Key: {SECRET}\r\nReferer: http://{ORIGIN}/?{SECRET}\r\nContent-Name: {SECRET}\r\n"
    );
    let packet = |kind: &str, target: &str, id: &str, more: &str| {
        format!(
            "BITS_POST {target} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: {kind}\r\nBITS-Session-Id: {id}\r\n\
            {fields}{more}Content-Length: 0\r\n\r\n"
        )
    };
    let stranger = format!("{{{SECRET}-of-nobody}}");
    let requests = [
        packet("Ping", &query, &id, ""),
        packet("Ping", &query, &id, "X-Lost: 1\r\n"),
        packet("Ping", &format!("http://{ORIGIN}{query}"), &id, ""),
        packet("Close-Session", &query, &stranger, ""),
        packet("Close-Session", "/in/elsewhere", &id, ""),
        packet("Fragment", &query, &id, "Content-Range: bytes 0-4/9\r\n"),
        packet("Nonsense", &query, &id, ""),
        // Refused by their heads.
        packet("Ping", &query, &id, "Content-Length: 5\r\n"),
        packet("Ping", &query, &id, &format!("X {SECRET}: 1\r\n")),
        packet("Ping", &format!("{query}\\"), &id, ""),
        packet("Ping", &query, &id, &format!("Host: {SECRET}.test\r\n")),
        packet("Ping", &format!("http://user:{SECRET}@{ORIGIN}/"), &id, ""),
        format!("GET {query} HTTP/1.1\r\nHost: {ORIGIN}\r\n{fields}\r\n"),
        format!(
            "GET /BITS-Sessions/Replies/{}/r.bin?{SECRET} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n",
            id.replace(['{', '}'], "")
        ),
        packet("Cancel-Session", &query, &id, ""),
    ];
    for request in &requests {
        exchange(servers.farm.entrance(), request.as_bytes())
            .unwrap_or_else(|e| panic!("{e}: {request:?}"));
    }
    // A value that tries to begin a line of its own, in the form that a client can send.
    let forged = "/in/%0a%7B%22event%22:%22request%22%7D";
    exchange(servers.farm.entrance(), packet("Ping", forged, &id, "").as_bytes())
        .expect("an answer");
    // Of those that are requests at all there is a line each; and the Create.
    let gateway = servers.farm.gateway();
    wait::until("the last request is logged", || {
        gateway.access_log().iter().any(|line| line["path"] == forged)
    });
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait_ended().code(), Some(0));
    let told = gateway.access_log().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        + &gateway.log();
    assert!(told.contains(TARGET), "the path is told");
    let bare = id.trim_matches(['{', '}']);
    for hidden in
        [SECRET, &SECRET.to_ascii_lowercase(), bare, &bare.to_ascii_lowercase(), "Bearer", "token="]
    {
        let line = told.lines().find(|line| line.contains(hidden));
        assert_eq!(line, None, "{hidden} was logged");
    }
    for line in gateway.log().lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok_and(|line| line.is_object()), "{line}");
    }
}

#[test]
fn the_log_tells_where_each_request_goes_and_why_at_debug() {
    let servers = Servers::with(1, |farm| farm.set("log.level", "\"debug\""));
    let (id, _) = servers.open(TARGET);
    servers.passes(&close(TARGET, &id));
    servers.stays(&close("/in/other.bin", &id));
    servers.passes(&ping(TARGET));
    let gateway = servers.farm.gateway();
    for line in [
        r#""packet":"create_session","backend":"up01","why":"placement""#,
        r#""packet":"close_session","session":"#,
        r#""backend":"up01","why":"pin""#,
        "decided: answer",
    ] {
        gateway.expect_logged(line);
    }
}
