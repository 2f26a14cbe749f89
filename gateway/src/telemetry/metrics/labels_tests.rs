//! Every value has a place and a name of its own.

use super::*;
use gateway_core::fault::Fault;
use gateway_core::protocol::read_ack;

#[track_caller]
fn check_order<L: Label>() {
    for (position, value) in L::ALL.iter().enumerate() {
        assert_eq!(value.index(), position, "{}", value.label());
    }
    let mut labels: Vec<_> = L::ALL.iter().map(|value| value.label()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), L::ALL.len());
}

#[test]
fn every_value_finds_its_own_counter() {
    check_order::<PacketLabel>();
    check_order::<StatusLabel>();
    check_order::<StatusClass>();
    check_order::<Rejection>();
    check_order::<ProtocolError>();
    check_order::<ConnectError>();
    check_order::<FailoverReason>();
    check_order::<LookupSource>();
    check_order::<LookupResult>();
    check_order::<AskResult>();
    check_order::<LostCloseResult>();
    check_order::<OrphanResult>();
    check_order::<BackendState>();
    check_order::<CheckResult>();
    check_order::<SessionState>();
    check_order::<StoreKind>();
    check_order::<HandshakeFailure>();
    check_order::<StoreOperation>();
    check_order::<StoreResult>();
    check_order::<ReloadResult>();
    check_order::<LogLevel>();
    check_order::<LogName>();
    check_order::<EndReason>();
}

#[test]
fn packets_have_the_names_that_the_core_gives_them() {
    for packet in PacketType::ALL {
        assert_eq!(PacketLabel::from(packet).label(), packet.label());
    }
}

#[test]
fn every_status_has_a_label_of_its_class() {
    for status in 200..600u16 {
        let digit = char::from_digit(u32::from(status) / 100, 10).unwrap();
        assert!(StatusLabel::of(status).label().starts_with(digit), "{status}");
        assert!(StatusClass::of(Some(status)).label().starts_with(digit), "{status}");
    }
    for status in [0, 99, 100, 101, 600, 999, u16::MAX] {
        assert_eq!(StatusLabel::of(status), StatusLabel::None);
        assert_eq!(StatusClass::of(Some(status)), StatusClass::None);
    }
    for label in StatusLabel::ALL {
        if let Ok(status) = label.label().parse() {
            assert_eq!(StatusLabel::of(status), *label);
        }
    }
}

#[test]
fn every_answer_of_our_own_has_an_exact_code() {
    for fault in Fault::ALL {
        let status = fault.row().status;
        assert_eq!(StatusLabel::of(status.as_u16()).label(), status.as_str());
    }
}

#[track_caller]
fn check_error(status: u16, fields: &[(&str, &str)], expected: Option<ProtocolError>) {
    let mut answer = http::Response::builder().status(status);
    for (name, value) in fields {
        answer = answer.header(*name, *value);
    }
    let head = answer.body(()).unwrap().into_parts().0;
    assert_eq!(
        ProtocolError::of(&read_ack(head.status, &head.headers)),
        expected,
        "{status} {fields:?}"
    );
}

#[test]
fn complaints_of_backends_are_told_apart() {
    use ProtocolError::*;
    let ack = ("BITS-Packet-Type", "Ack");
    check_error(200, &[ack], None);
    check_error(200, &[ack, ("BITS-Error-Code", "1")], None);
    check_error(404, &[], None);
    check_error(500, &[], None);
    check_error(500, &[("BITS-Error-Code", "0x8020001F")], Some(SessionNotFound));
    check_error(403, &[ack, ("BITS-Error", "0x80070005")], Some(AccessDenied));
    check_error(400, &[ack, ("BITS-Error", "0x80070057")], Some(InvalidArgument));
    check_error(413, &[ack, ("BITS-Error", "0x80200020")], Some(TooLarge));
    check_error(500, &[ack, ("BITS-Error", "0x80070112")], Some(DiskFull));
    check_error(500, &[ack, ("BITS-Error", "0x80070070")], Some(DiskFull));
    check_error(416, &[ack, ("BITS-Received-Content-Range", "7")], Some(Range));
    let application = [ack, ("BITS-Error", "0x80070005"), ("BITS-Error-Context", "0x7")];
    check_error(500, &application, Some(RemoteApplication));
    check_error(500, &[ack, ("BITS-Error", "0x80004005")], Some(Other));
}
