use super::super::rig::*;
use super::*;

fn answered(
    rig: &Rig,
    fault: Fault,
    head: &std::sync::Arc<RequestHead>,
    packet: bool,
) -> OwnAnswer {
    let mut exchange = rig.arrive(head);
    exchange.arrival.is_packet = packet;
    answer_for(fault, head, &exchange)
}

fn field(answer: &OwnAnswer, name: &str) -> Option<String> {
    let found = answer.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_str().unwrap().to_owned())
}

#[test]
fn a_packet_gets_an_ack_with_the_code_of_its_fault() {
    let rig = Rig::new();
    let head = fragment(ID, "100-199/10000");
    for fault in Fault::ALL {
        let answer = answered(&rig, fault, &head, true);
        assert_eq!(answer.status, fault.row().status, "{fault:?}");
        assert_eq!(field(&answer, "BITS-Packet-Type").as_deref(), Some("Ack"), "{fault:?}");
        assert_eq!(field(&answer, "BITS-Session-Id").as_deref(), Some(ID), "{fault:?}");
        assert_eq!(field(&answer, "Content-Length").as_deref(), Some("0"), "{fault:?}");
        let code = fault.row().hresult.map(|code| code.to_string());
        assert_eq!(field(&answer, "BITS-Error-Code").is_some(), code.is_some(), "{fault:?}");
    }
}

#[test]
fn another_request_hears_nothing_of_the_protocol() {
    let rig = Rig::new();
    for fault in Fault::ALL {
        let answer = answered(&rig, fault, &get("/"), false);
        let names = answer.fields.iter().map(|(name, _)| name.to_ascii_lowercase());
        assert!(names.into_iter().all(|name| !name.starts_with("bits-")), "{fault:?}");
        assert_eq!(field(&answer, "Content-Length").as_deref(), Some("0"), "{fault:?}");
    }
    let lost = answered(&rig, Fault::UnknownSession, &get("/"), false);
    assert_eq!(lost.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn a_method_that_is_not_served_hears_which_are() {
    let rig = Rig::with("[http]\nmethods = [\"GET\", \"HEAD\"]");
    let answer = answered(&rig, Fault::MethodNotServed, &get("/"), false);
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(field(&answer, "Allow").as_deref(), Some("GET, HEAD"));
}

#[test]
fn a_connection_goes_on_where_the_rest_of_the_body_is_short() {
    let rig = Rig::with("[limits]\ndrain = 1000");
    let last = |head| answered(&rig, Fault::BackendDown, &head, false).last;
    let put = |fields: &[(&str, &str)]| head("PUT", "/", fields);
    assert!(!last(get("/")));
    assert!(!last(put(&[("Content-Length", "1000")])));
    assert!(last(put(&[("Content-Length", "1001")])));
    assert!(last(put(&[("Transfer-Encoding", "chunked")])));
    assert!(last(put(&[("Content-Length", "1"), ("Expect", "100-continue")])));
    let unframed = answered(&rig, Fault::LengthRequired, &put(&[]), true);
    assert!(unframed.last, "what follows is a body of unknown length");
}

#[test]
fn balancers_get_the_two_pages_where_those_are_public_and_nothing_else() {
    let page = |head: &RequestHead, public, phase| {
        page_for(head, public, phase).map(|answer| answer.status.as_u16())
    };
    for (phase, ready) in [(Phase::Starting, 503), (Phase::Ready, 200), (Phase::Draining, 503)] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let asked = |target| page(&head(method, target, &[]), true, phase);
            assert_eq!((asked("/readyz"), asked("/livez")), (Some(ready), Some(200)), "{method}");
        }
    }
    for target in ["/readyz?verbose", "/readyz?", "/readyz/", "//readyz", "/Readyz", "/metrics"] {
        assert_eq!(page(&get(target), true, Phase::Ready), None, "{target}");
    }
    for method in ["POST", "DELETE", "BITS_POST", "get"] {
        assert_eq!(page(&head(method, "/readyz", &[]), true, Phase::Ready), None, "{method}");
    }
    assert_eq!(page(&get("/readyz"), false, Phase::Ready), None);
    let body = head("GET", "/livez", &[("Content-Length", "5")]);
    assert_eq!(page(&body, true, Phase::Ready), None, "its body would be read as a request");
    assert_eq!(page(&head("OPTIONS", "*", &[]), false, Phase::Draining), Some(200));
}
