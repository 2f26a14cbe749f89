//! One conversation with the gateway, and the verdict on what was heard.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use e2e_tests::client::wire;

use super::answers::{self, Answer, Wrong};
use super::conversation::{Conversation, End};
use super::recorder::{PORT, address_of};
use super::strict::{Request, Row, Rules};

/// Far longer than anything takes: who waits so long waits in vain.
const PATIENCE: Duration = Duration::from_secs(40);

/// A connection from an address of one's own.
pub fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let stream = wire::connect_from(source, to).expect("the gateway accepts connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes options");
    stream
}

/// What came back, or why not all of it.
pub struct Heard {
    pub bytes: Vec<u8>,
    pub broken: Option<std::io::Error>,
}

/// A connection for a conversation, from its own address or through a proxy that names it.
fn connect_for(number: u32, rules: Rules, entrance: SocketAddr) -> TcpStream {
    if rules != Rules::Proxied {
        return connect_from(address_of(number), entrance);
    }
    let mut stream = connect_from(Ipv4Addr::LOCALHOST, entrance);
    let client = address_of(number);
    let mut header = format!("PROXY TCP4 {client} 10.0.0.1 50000 {PORT}\r\n").into_bytes();
    if number.is_multiple_of(2) {
        header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend(client.octets());
        header.extend([10, 0, 0, 1, 0xc3, 0x50]);
        header.extend(PORT.to_be_bytes());
    }
    stream.write_all(&header).expect("a header fits");
    stream
}

pub fn converse(
    entrance: SocketAddr,
    number: u32,
    rules: Rules,
    said: &Conversation,
) -> Option<Heard> {
    let mut stream = connect_for(number, rules, entrance);
    let mut from = 0;
    for cut in said.cuts.iter().copied().chain([said.bytes.len()]) {
        // A gateway that has refused already may have stopped to read.
        if stream.write_all(&said.bytes[from..cut]).is_err() {
            break;
        }
        from = cut;
    }
    match said.end {
        End::Leave => return None,
        End::Reset => {
            let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            return None;
        }
        End::Finish => {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
    let mut bytes = Vec::new();
    let broken = stream.read_to_end(&mut bytes).err();
    Some(Heard { bytes, broken })
}

/// Judges what was heard by what was said.
pub fn judge(number: u32, said: &Conversation, row: &Row, heard: &Heard) -> Result<(), String> {
    if let Some(error) = &heard.broken {
        return Err(format!("the connection did not end well: {error}"));
    }
    let (mut at, mut count) = (0, 0);
    let mut closed = false;
    // The size of the session's file, once a Fragment has told it.
    let mut total = None;
    while at < heard.bytes.len() {
        let sent = row.requests.get(count);
        let to_head = sent.is_some_and(|sent| sent.method == b"HEAD");
        let (answer, used) = match answers::answer(&heard.bytes[at..], to_head, true) {
            Ok(read) => read,
            Err(Wrong::Cut) if only_continue(&heard.bytes[at..], sent) => break,
            Err(wrong) => return Err(format!("answer {count} is none: {wrong:?}")),
        };
        if closed {
            return Err(format!("an answer after the last: {answer:?}"));
        }
        let named = format!("answer {count} {answer:?}");
        match sent {
            Some(sent) => {
                let differs = total.is_some_and(|known| sent.total().is_some_and(|t| t != known));
                one(number, count, said, sent, &answer, differs)
                    .map_err(|e| format!("{e}: {named}"))?;
                let passed = answer.value("x-echo").is_some();
                total = total.or(sent.total().filter(|&total| passed && total > 0));
            }
            None if count == row.requests.len() && row.rest => {
                refusal(&answer).map_err(|e| format!("{e}: {named}"))?;
            }
            None => return Err(format!("more answers than requests: {named}")),
        }
        closed = answer.closes;
        count += 1;
        at += used;
    }
    let whole = row.requests.iter().take_while(|request| request.whole).count();
    if !closed && count < whole {
        return Err(format!("{count} answers to {whole} requests"));
    }
    Ok(())
}

/// A client that promised a body, was told to go on and did not.
fn only_continue(bytes: &[u8], sent: Option<&Request>) -> bool {
    let waits = sent.is_some_and(|sent| !sent.whole && sent.value("expect").is_some());
    waits && bytes == b"HTTP/1.1 100 Continue\r\n\r\n"
}

fn one(
    number: u32,
    at: usize,
    said: &Conversation,
    sent: &Request,
    answer: &Answer,
    differs: bool,
) -> Result<(), String> {
    if differs && answer.value("x-echo").is_some() {
        return Err("a Fragment of another total was passed on".to_owned());
    }
    if !answer.interim.is_empty()
        && (answer.interim != [100] || sent.value("expect").is_none() || sent.old)
    {
        return Err("an interim answer that nobody wanted".to_owned());
    }
    if let Some(echo) = answer.value("x-echo") {
        let own = format!("{number}.{at}");
        let body: &[u8] = match sent.is_packet() || sent.method == b"HEAD" {
            true => b"",
            false => own.as_bytes(),
        };
        return match echo == own && answer.status == 200 && answer.body == body {
            true => Ok(()),
            false => Err(format!("not the answer to {own}")),
        };
    }
    if sent.target == b"*" {
        return own_page(answer, &[200]);
    }
    let allowed = match sent.is_packet() {
        true => sent.is_legal_packet(),
        false => !sent.hides_a_packet(),
    };
    let legal = sent.fits() && allowed;
    // A session that the conversation has ended before.
    let ended = sent.is_packet() && matches!(answer.status, 200 | 500);
    if said.honest && !ended && !differs {
        return Err("an honest request was not passed on".to_owned());
    }
    if legal && !differs && sent.whole && matches!(answer.status, 400..=499 | 501) {
        return Err("a legal request was refused".to_owned());
    }
    match sent.is_packet() {
        true => own_ack(answer),
        false => own_page(answer, &[400, 502, 503, 504]),
    }
}

/// The answer to what is no request.
fn refusal(answer: &Answer) -> Result<(), String> {
    if !answer.closes {
        return Err("it does not close".to_owned());
    }
    match answer.count("bits-packet-type") {
        0 => own_page(answer, &[400, 417, 431, 501]),
        _ if answer.status != 400 => Err("a packet is refused with 400".to_owned()),
        _ => own_ack(answer),
    }
}

fn own_page(answer: &Answer, statuses: &[u16]) -> Result<(), String> {
    let bits = answer.fields.iter().any(|(name, _)| name.starts_with("bits-") || name == "server");
    let fits =
        statuses.contains(&answer.status) && answer.value("content-length").as_deref() == Some("0");
    if fits && !bits { Ok(()) } else { Err("not a page of the gateway's".to_owned()) }
}

fn own_ack(answer: &Answer) -> Result<(), String> {
    let error = match answer.status {
        400 | 411 => Some("0x80070057"),
        500 => Some("0x8020001F"),
        413 | 502 | 503 | 504 | 200 => None,
        _ => return Err("not a status of the fault table".to_owned()),
    };
    let value = |name: &str| answer.value(name);
    let is = |name: &str, wanted: Option<&str>| value(name).as_deref() == wanted;
    let fits = is("bits-packet-type", Some("Ack"))
        && is("content-length", Some("0"))
        && is("bits-error", error)
        && is("bits-error-code", error)
        && is("bits-error-context", error.map(|_| "0x5"))
        && is("server", None);
    if fits { Ok(()) } else { Err("not an Ack of the gateway's".to_owned()) }
}
