//! Acks as bytes: what each flavour writes for an outcome.

use crate::flavour::Flavour;
use crate::http::{Answer, Segment};
use crate::options::Options;
use crate::packet::Kind;
use crate::refusal::{CONTEXT_SERVER, E_INVALIDARG, Refusal, Row};

/// How a packet ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Pinged,
    Created { id: String },
    Took { next: u64, reply_url: Option<String> },
    Closed,
    Cancelled,
    Refused(Refusal),
}

/// Writes the Ack; `None` where the flavour answers nothing and keeps the connection open.
///
/// `kind` is `None` for a packet whose type could not be read; `sent_id` is the session id of the packet.
pub fn compose(
    options: &Options,
    kind: Option<Kind>,
    sent_id: Option<&str>,
    outcome: &Outcome,
) -> Option<Answer> {
    let flavour = options.flavour;
    let mut answer = match outcome {
        Outcome::Refused(refusal) => refused(flavour, kind, sent_id, refusal)?,
        done => accepted(options, sent_id, done),
    };
    answer.close = flavour.closes_with();
    if kind.is_some_and(|kind| flavour.omits_length(kind)) {
        answer.with_length = false;
    }
    Some(answer)
}

/// HRESULTs as IIS clients look for them: lower-case x, eight upper-case digits.
pub fn hresult(value: u32) -> String {
    format!("0x{value:08X}")
}

fn accepted(options: &Options, sent_id: Option<&str>, outcome: &Outcome) -> Answer {
    let flavour = options.flavour;
    let status = match outcome {
        Outcome::Created { .. } => options.create_status.unwrap_or(flavour.create_status()),
        _ => 200,
    };
    let mut answer = ack(flavour, status);
    match outcome {
        Outcome::Created { id } => {
            answer = answer
                .header("BITS-Protocol", "{7df0354d-249b-430f-820d-3d2a9bef4931}")
                .header("BITS-Session-Id", id);
            if let Some(host) = &options.host_id {
                answer = answer.header("BITS-Host-Id", host).header(
                    "BITS-Host-Id-Fallback-Timeout",
                    options.host_id_fallback_timeout.to_string(),
                );
            }
            // IIS spells this one with a small e.
            let name = if flavour == Flavour::Iis { "Accept-encoding" } else { "Accept-Encoding" };
            return answer.header(name, "identity");
        }
        Outcome::Took { next, reply_url } => {
            answer = answer.header("BITS-Received-Content-Range", next.to_string());
            if let Some(url) = reply_url {
                answer = answer.header("BITS-Reply-URL", url);
            }
        }
        Outcome::Pinged if flavour == Flavour::Simplebits || flavour == Flavour::SimplebitsPy3 => {
            return answer.header("BITS-Error-Code", "1").header("BITS-Error-Context", "");
        }
        Outcome::Closed if flavour == Flavour::Onedrive => {
            answer = answer.header("X-Resource-Id", "6F1C0DE5A1B2C3D4!105");
            answer.body.push(Segment::Bytes(b"6F1C0DE5A1B2C3D4!105".to_vec()));
        }
        _ => {}
    }
    match outcome {
        Outcome::Pinged => answer,
        _ => echo_id(answer, flavour, sent_id),
    }
}

fn refused(
    flavour: Flavour,
    kind: Option<Kind>,
    sent_id: Option<&str>,
    refusal: &Refusal,
) -> Option<Answer> {
    let row = match (flavour, refusal) {
        // IIS answers 400 where MC-BUP says 411, Appendix A note 23.
        (Flavour::Iis, Refusal::LengthRequired) => Row { status: 400, ..refusal.row() },
        _ => refusal.row(),
    };
    let out_of_step = match refusal {
        Refusal::OutOfStep { next } => Some(next.to_string()),
        _ => None,
    };
    let mut answer = match flavour {
        Flavour::SimplebitsPy3 => return None,
        Flavour::Simplebits => {
            let mut answer = Answer::new(500)
                .header("BITS-Error-Code", "0x1")
                .header("BITS-Error-Context", "0x5");
            answer.with_length = false;
            return Some(answer);
        }
        Flavour::Gobits if *refusal == Refusal::SessionNotFound => ack(flavour, 400),
        Flavour::Lab if out_of_step.is_none() => ack(flavour, 500),
        _ => ack(flavour, row.status),
    };
    answer = echo_id(answer, flavour, sent_id);
    if let Some(next) = out_of_step {
        let name = if flavour == Flavour::Gobits {
            "BITS-Recieved-Content-Range"
        } else {
            "BITS-Received-Content-Range"
        };
        answer = answer.header(name, next);
    }
    Some(error_headers(answer, flavour, kind, refusal, row))
}

fn error_headers(
    answer: Answer,
    flavour: Flavour,
    kind: Option<Kind>,
    refusal: &Refusal,
    row: Row,
) -> Answer {
    let context = format!("0x{:X}", row.context);
    match flavour {
        Flavour::Gobits => answer
            .header("BITS-Error-Code", "0")
            .header("BITS-Error-Context", format!("{CONTEXT_SERVER:x}")),
        Flavour::Lab if row.status != 416 => answer.header("BITS-Error-Code", "1"),
        Flavour::TransfervmVhd if row.status == 416 => answer
            .header("BITS-Error-Code", hresult(E_INVALIDARG))
            .header("BITS-Error-Context", "0x7"),
        Flavour::Usis if kind == Some(Kind::Fragment) && row.status == 400 => answer,
        _ => {
            let Some(code) = row.hresult.map(hresult) else {
                return answer;
            };
            match flavour {
                Flavour::Iis => {
                    answer.header("BITS-Error", code).header("BITS-Error-Context", context)
                }
                Flavour::Transfervm | Flavour::TransfervmVhd => {
                    answer.header("BITS-Error-Code", code).header("BITS-Error-Context", "0x7")
                }
                Flavour::Onedrive => {
                    let answer = answer
                        .header("BITS-Error", code.clone())
                        .header("BITS-Error-Code", code)
                        .header("BITS-Error-Context", context);
                    if *refusal == Refusal::SessionNotFound {
                        answer.header("X-ClientErrorCode", "UploadSessionNotFound")
                    } else {
                        answer
                    }
                }
                _ => answer.header("BITS-Error-Code", code).header("BITS-Error-Context", context),
            }
        }
    }
}

fn ack(flavour: Flavour, status: u16) -> Answer {
    let answer = Answer::new(status);
    match flavour {
        Flavour::Iis | Flavour::Onedrive | Flavour::Usis => answer.header("Pragma", "no-cache"),
        _ => answer,
    }
    .header("BITS-Packet-Type", "Ack")
}

fn echo_id(answer: Answer, flavour: Flavour, sent_id: Option<&str>) -> Answer {
    match sent_id {
        Some(id) if flavour.echoes_id() => answer.header("BITS-Session-Id", flavour.read_id(id)),
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const ID: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";

    fn options(more: &[&str]) -> Options {
        let mut args = vec!["backend-stub", "--listen", "127.0.0.1:0", "--root", "/r"];
        args.extend(more);
        Options::try_parse_from(args).unwrap()
    }

    #[track_caller]
    fn check(more: &[&str], kind: Kind, outcome: Outcome, expected: &str) {
        let sent = (kind != Kind::CreateSession && kind != Kind::Ping).then_some(ID);
        let answer = compose(&options(more), Some(kind), sent, &outcome).unwrap();
        let text = String::from_utf8(answer.head_bytes()).unwrap();
        let expected = format!("{}\r\n\r\n", expected.replace('\n', "\r\n"));
        assert_eq!(text, expected);
    }

    #[test]
    fn the_create_ack_of_iis_carries_id_and_host_in_its_order() {
        check(
            &["--host-id", "n3.up.example.net", "--host-id-fallback-timeout", "3600"],
            Kind::CreateSession,
            Outcome::Created { id: ID.to_owned() },
            "HTTP/1.1 200 OK\nPragma: no-cache\nBITS-Packet-Type: Ack\n\
             BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}\n\
             BITS-Session-Id: {3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}\n\
             BITS-Host-Id: n3.up.example.net\nBITS-Host-Id-Fallback-Timeout: 3600\n\
             Accept-encoding: identity\nContent-Length: 0",
        );
    }

    #[test]
    fn later_acks_of_iis_carry_no_id() {
        check(
            &[],
            Kind::Fragment,
            Outcome::Took { next: 5120, reply_url: None },
            "HTTP/1.1 200 OK\nPragma: no-cache\nBITS-Packet-Type: Ack\n\
             BITS-Received-Content-Range: 5120\nContent-Length: 0",
        );
        check(
            &[],
            Kind::CloseSession,
            Outcome::Refused(Refusal::SessionNotFound),
            "HTTP/1.1 500 Internal Server Error\nPragma: no-cache\nBITS-Packet-Type: Ack\n\
             BITS-Error: 0x8020001F\nBITS-Error-Context: 0x5\nContent-Length: 0",
        );
        check(
            &[],
            Kind::Fragment,
            Outcome::Refused(Refusal::OutOfStep { next: 7 }),
            "HTTP/1.1 416 Requested Range Not Satisfiable\nPragma: no-cache\nBITS-Packet-Type: Ack\n\
             BITS-Received-Content-Range: 7\nContent-Length: 0",
        );
    }

    #[test]
    fn gobits_misspells_and_writes_zero() {
        check(
            &["--flavour", "gobits"],
            Kind::Fragment,
            Outcome::Refused(Refusal::OutOfStep { next: 7 }),
            "HTTP/1.1 416 Requested Range Not Satisfiable\nBITS-Packet-Type: Ack\n\
             BITS-Session-Id: {3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}\nBITS-Recieved-Content-Range: 7\n\
             BITS-Error-Code: 0\nBITS-Error-Context: 5\nContent-Length: 0",
        );
    }

    #[test]
    fn simplebits_errors_have_no_length_and_its_forks_say_nothing() {
        check(
            &["--flavour", "simplebits"],
            Kind::Fragment,
            Outcome::Refused(Refusal::SessionNotFound),
            "HTTP/1.1 500 Internal Server Error\nBITS-Error-Code: 0x1\nBITS-Error-Context: 0x5",
        );
        let silent = compose(
            &options(&["--flavour", "simplebits-py3"]),
            Some(Kind::Fragment),
            Some(ID),
            &Outcome::Refused(Refusal::SessionNotFound),
        );
        assert!(silent.is_none());
        check(
            &["--flavour", "simplebits"],
            Kind::Ping,
            Outcome::Pinged,
            "HTTP/1.1 200 OK\nBITS-Packet-Type: Ack\nBITS-Error-Code: 1\nBITS-Error-Context: \nContent-Length: 0",
        );
    }

    #[test]
    fn onedrive_answers_201_and_names_the_resource() {
        check(
            &["--flavour", "onedrive"],
            Kind::CreateSession,
            Outcome::Created { id: ID.to_owned() },
            "HTTP/1.1 201 Created\nPragma: no-cache\nBITS-Packet-Type: Ack\n\
             BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}\n\
             BITS-Session-Id: {3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}\n\
             Accept-Encoding: identity\nContent-Length: 0",
        );
        check(
            &["--flavour", "onedrive"],
            Kind::CloseSession,
            Outcome::Closed,
            "HTTP/1.1 200 OK\nPragma: no-cache\nBITS-Packet-Type: Ack\n\
             X-Resource-Id: 6F1C0DE5A1B2C3D4!105\nContent-Length: 20",
        );
    }

    #[test]
    fn the_other_flavours_have_their_own_errors() {
        check(
            &["--flavour", "transfervm"],
            Kind::CloseSession,
            Outcome::Refused(Refusal::InvalidArgument("a body")),
            "HTTP/1.1 400 Bad Request\nBITS-Packet-Type: Ack\n\
             BITS-Session-Id: {3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}\n\
             BITS-Error-Code: 0x80070057\nBITS-Error-Context: 0x7\nContent-Length: 0",
        );
        check(
            &["--flavour", "transfervm-vhd"],
            Kind::Fragment,
            Outcome::Refused(Refusal::OutOfStep { next: 7 }),
            "HTTP/1.1 416 Requested Range Not Satisfiable\nBITS-Packet-Type: Ack\n\
             BITS-Session-Id: {3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}\nBITS-Received-Content-Range: 7\n\
             BITS-Error-Code: 0x80070057\nBITS-Error-Context: 0x7\nContent-Length: 0",
        );
        check(
            &["--flavour", "lab"],
            Kind::Fragment,
            Outcome::Refused(Refusal::InvalidArgument("bad")),
            "HTTP/1.1 500 Internal Server Error\nBITS-Packet-Type: Ack\n\
             BITS-Session-Id: {3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}\nBITS-Error-Code: 1\nContent-Length: 0",
        );
        check(
            &["--flavour", "usis"],
            Kind::Ping,
            Outcome::Pinged,
            "HTTP/1.1 200 OK\nPragma: no-cache\nBITS-Packet-Type: Ack",
        );
        check(
            &["--flavour", "path-id"],
            Kind::Ping,
            Outcome::Pinged,
            "HTTP/1.1 200 OK\nBITS-Packet-Type: Ack\nContent-Length: 0\nConnection: Close",
        );
    }
}
