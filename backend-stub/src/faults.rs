//! Misbehaviour on demand, one request at a time.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// A fault as `POST /faults` describes it.
///
/// # Shape
/// `{"packet":"fragment","skip":0,"times":1,"do":{"kind":"die"}}`
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// A packet's name in the statistics, or `any`.
    pub packet: String,
    /// Matching requests to let pass first.
    #[serde(default)]
    pub skip: u64,
    /// Requests to hit after that.
    #[serde(default = "once")]
    pub times: u64,
    #[serde(rename = "do")]
    pub action: Action,
}

/// What a fault does to a request.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// The process ends at once, as by `kill -9`.
    Die,
    DieAfterBytes {
        n: u64,
    },
    /// RST as soon as the head is read.
    Reset,
    ResetAfterBytes {
        n: u64,
    },
    /// FIN as soon as the head is read, without an answer.
    Close,
    /// FIN after the body, which is thrown away.
    CloseAfterBody,
    /// Reads nothing more and answers nothing, until the peer closes.
    Stall,
    StallAfterBytes {
        n: u64,
    },
    /// Takes the body and gives the answer at this speed.
    Slow {
        bytes_per_second: u64,
    },
    /// A made-up answer after the body was read; nothing is done.
    Answer(Canned),
    /// The same before the body is read.
    EarlyAnswer(Canned),
    /// Exact bytes instead of an answer, after the body was read; nothing is done.
    Raw {
        latin1: String,
    },
    /// Does the work and closes with FIN.
    ApplyThenClose,
    /// Does the work and ends the process.
    ApplyThenDie,
    /// The real answer without Content-Length; the connection stays open.
    NoContentLength,
    /// The real answer with an HTTP/1.0 status line; the connection is closed after it.
    Http10,
    /// The real answer with `Connection: close`.
    ConnectionClose,
    /// `100 Continue` unasked, then the real answer.
    #[serde(rename = "continue_100")]
    Continue100,
    /// Forgets every session, then goes on.
    LoseSessions,
    DiskFull,
    TooLarge,
    /// Does the work and holds the answer back.
    Delay {
        ms: u64,
    },
}

/// An answer made up by a test. Content-Length is added unless given.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Canned {
    pub status: u16,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    #[serde(default)]
    pub body: String,
}

/// The faults that wait for their request.
#[derive(Debug, Default)]
pub struct Faults {
    list: Mutex<Vec<Fault>>,
}

impl Faults {
    /// Names that a fault may give for its packet.
    pub const PACKETS: [&str; 7] =
        ["ping", "create_session", "fragment", "close_session", "cancel_session", "other", "any"];

    pub fn add(&self, fault: Fault) {
        self.list().push(fault);
    }

    pub fn clear(&self) {
        self.list().clear();
    }

    pub fn all(&self) -> Vec<Fault> {
        self.list().clone()
    }

    /// The fault for this request, if any: the first one that matches and has nothing left to skip. Those before it
    /// count the request as skipped, those after it do not see it.
    pub fn take(&self, packet: &str) -> Option<Action> {
        let mut list = self.list();
        let mut hit = None;
        for (at, fault) in list.iter_mut().enumerate() {
            if fault.packet != "any" && fault.packet != packet {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times = fault.times.saturating_sub(1);
            hit = Some((at, fault.action.clone(), fault.times == 0));
            break;
        }
        let (at, action, used_up) = hit?;
        if used_up {
            list.remove(at);
        }
        Some(action)
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.list.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn once() -> u64 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> Fault {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_kind_is_read() {
        for action in [
            r#"{"kind":"die"}"#,
            r#"{"kind":"die_after_bytes","n":3}"#,
            r#"{"kind":"reset"}"#,
            r#"{"kind":"reset_after_bytes","n":3}"#,
            r#"{"kind":"close"}"#,
            r#"{"kind":"close_after_body"}"#,
            r#"{"kind":"stall"}"#,
            r#"{"kind":"stall_after_bytes","n":3}"#,
            r#"{"kind":"slow","bytes_per_second":10}"#,
            r#"{"kind":"answer","status":503,"headers":[["A","b"]],"body":""}"#,
            r#"{"kind":"early_answer","status":413}"#,
            r#"{"kind":"raw","latin1":"x"}"#,
            r#"{"kind":"apply_then_close"}"#,
            r#"{"kind":"apply_then_die"}"#,
            r#"{"kind":"no_content_length"}"#,
            r#"{"kind":"http10"}"#,
            r#"{"kind":"connection_close"}"#,
            r#"{"kind":"continue_100"}"#,
            r#"{"kind":"lose_sessions"}"#,
            r#"{"kind":"disk_full"}"#,
            r#"{"kind":"too_large"}"#,
            r#"{"kind":"delay","ms":5}"#,
        ] {
            let read: Result<Fault, _> =
                serde_json::from_str(&format!(r#"{{"packet":"any","do":{action}}}"#));
            assert!(read.is_ok(), "{action}: {read:?}");
        }
        assert!(
            serde_json::from_str::<Fault>(r#"{"packet":"any","do":{"kind":"explode"}}"#).is_err()
        );
    }

    #[test]
    fn a_fault_skips_then_hits_then_is_used_up() {
        let faults = Faults::default();
        faults.add(fault(r#"{"packet":"fragment","skip":1,"times":2,"do":{"kind":"reset"}}"#));
        assert_eq!(faults.take("ping"), None);
        assert_eq!(faults.take("fragment"), None);
        assert_eq!(faults.take("fragment"), Some(Action::Reset));
        assert_eq!(faults.take("fragment"), Some(Action::Reset));
        assert_eq!(faults.take("fragment"), None);
        assert!(faults.all().is_empty());
    }

    #[test]
    fn the_first_matching_fault_is_used() {
        let faults = Faults::default();
        faults.add(fault(r#"{"packet":"any","do":{"kind":"close"}}"#));
        faults.add(fault(r#"{"packet":"ping","do":{"kind":"reset"}}"#));
        assert_eq!(faults.take("ping"), Some(Action::Close));
        assert_eq!(faults.take("ping"), Some(Action::Reset));
    }
}
