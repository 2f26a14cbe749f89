use super::super::rig::*;
use super::*;

fn came(rig: &Rig, status: u16) -> (Result<bool, Fault>, Exchange) {
    let mut exchange = rig.arrive(&create());
    let came = exchange.answer_came(&answer((status, &[])));
    (came, exchange)
}

#[test]
fn an_answer_has_a_first_byte_and_an_interim_one_has_none() {
    let rig = Rig::new();
    for status in [200, 204, 304, 416, 500] {
        let (final_one, exchange) = came(&rig, status);
        assert_eq!(final_one, Ok(true), "{status}");
        assert!(exchange.attempt.answer_began && exchange.answered.first_byte.is_some());
    }
    for status in [100, 102, 103] {
        let (final_one, exchange) = came(&rig, status);
        assert_eq!(final_one, Ok(false), "{status}");
        assert!(exchange.attempt.answer_began && exchange.answered.first_byte.is_none());
    }
}

#[test]
fn nobody_has_asked_for_another_protocol() {
    let (switched, exchange) = came(&Rig::new(), 101);
    assert_eq!(switched, Err(Fault::BackendAnswer));
    assert_eq!(exchange.findings.fault, Some(Fault::BackendAnswer));
}

#[test]
fn a_server_cannot_put_its_answer_off_for_ever() {
    let rig = Rig::new();
    let mut exchange = rig.arrive(&create());
    let interim = answer((102, &[]));
    for _ in 0..MAX_INTERIM {
        assert_eq!(exchange.answer_came(&interim), Ok(false));
    }
    assert_eq!(exchange.answer_came(&interim), Err(Fault::BackendAnswer));
}
