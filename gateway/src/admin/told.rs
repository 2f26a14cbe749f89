//! What is told of an admin request afterwards.

use gateway_core::events::{Event, Kind, Level};

use super::access::Peer;
use super::refusal::Refusal;
use crate::telemetry::log::Untrusted;
use crate::telemetry::metrics::{AdminAction, AdminResult};

/// An event for what has changed something, for what should have and did not, and for whoever was
/// not let in.
pub(super) fn event(
    peer: &Peer,
    action: AdminAction,
    subject: Option<&String>,
    outcome: Result<(), &Refusal>,
) -> Option<Event> {
    let changes = !matches!(action, AdminAction::Read | AdminAction::Unknown);
    let whom = subject;
    let subject =
        subject.map_or(String::new(), |subject| format!(" {}", Untrusted(subject.as_bytes())));
    let what = format!("{}{subject}", action.label().replace('_', " "));
    let (name, level, message) = match outcome {
        Err(refusal) if refusal.result == AdminResult::Refused => {
            let message = format!("a request was refused, {}: {}", refusal.code, refusal.message);
            ("refused", Level::Warning, message)
        }
        _ if !changes => return None,
        Ok(()) => (action.label(), Level::Info, what),
        Err(refusal) => {
            let error = Untrusted(refusal.message.as_bytes());
            ("failed", Level::Warning, format!("{what} did not take place: {error}"))
        }
    };
    let event = Event::new(Kind::Admin, name, level, message).by(peer);
    let of_backend = matches!(
        action,
        AdminAction::BackendReady
            | AdminAction::BackendDrain
            | AdminAction::BackendMaintenance
            | AdminAction::BackendLost
    );
    // A name that somebody else has made up is none.
    let backend = whom.filter(|_| of_backend && outcome.is_ok());
    Some(backend.into_iter().fold(event, |event, name| event.backend(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_told_with_whoever_did_it() {
        let peer = Peer::Unix { uid: Some(7) };
        let (name, missing) = ("up01".to_owned(), Refusal::not_found("not_found", "no such one"));
        let token =
            Refusal { result: AdminResult::Refused, ..Refusal::invalid("token_wrong", "no") };
        for (action, subject, outcome, told) in [
            (
                AdminAction::BackendDrain,
                Some(&name),
                Ok(()),
                Some(("backend_drain", "backend drain up01")),
            ),
            (AdminAction::Reload, None, Ok(()), Some(("reload", "reload"))),
            (AdminAction::Read, Some(&name), Ok(()), None),
            (AdminAction::Read, None, Err(&missing), None),
            (
                AdminAction::SessionForget,
                None,
                Err(&missing),
                Some(("failed", "session forget did not take place: no such one")),
            ),
            (
                AdminAction::Read,
                None,
                Err(&token),
                Some(("refused", "a request was refused, token_wrong: no")),
            ),
        ] {
            let event = event(&peer, action, subject, outcome);
            let found = event.as_ref().map(|event| (&*event.name, &*event.message));
            assert_eq!(found, told, "{action:?}");
            let by = event.map(|event| event.by.unwrap_or_default());
            assert!(by.is_none_or(|by| by.contains('7')), "{action:?}");
        }
    }
}
