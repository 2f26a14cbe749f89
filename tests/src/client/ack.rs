//! What an answer says, and whether an Ack may say so.

use super::packet::{PROTOCOL, PacketType};
use super::wire::{Answer, Framing};

pub const SESSION_NOT_FOUND: u32 = 0x8020_001F;
pub const TOO_LARGE: u32 = 0x8020_0020;
pub const INVALID_ARGUMENT: u32 = 0x8007_0057;
pub const ACCESS_DENIED: u32 = 0x8007_0005;

/// Fields that an Ack of a farm may have. Everything else leaks from somewhere.
const ALLOWED: &[&str] = &[
    "Accept-Encoding",
    "BITS-Error",
    "BITS-Error-Code",
    "BITS-Error-Context",
    "BITS-Host-Id",
    "BITS-Host-Id-Fallback-Timeout",
    "BITS-Packet-Type",
    "BITS-Protocol",
    "BITS-Received-Content-Range",
    "BITS-Reply-URL",
    "BITS-Session-Id",
    "Cache-Control",
    "Connection",
    "Content-Length",
    "Date",
    "Keep-Alive",
    "Pragma",
    "Server",
];

/// The BITS part of an answer, read liberally: what a client could understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// `BITS-Packet-Type: Ack`, in any case.
    pub is_ack: bool,
    pub session: Option<String>,
    pub protocol: Option<String>,
    pub host_id: Option<String>,
    /// Seconds.
    pub fallback_timeout: Option<u64>,
    /// The next offset.
    pub received: Option<u64>,
    pub reply_url: Option<String>,
    /// From BITS-Error-Code or BITS-Error, zero left out.
    pub hresult: Option<u32>,
    pub context: Option<u32>,
}

impl Ack {
    pub fn read(answer: &Answer) -> Self {
        let text = |name: &str| answer.field(name).map(str::to_owned);
        let hresult = ["BITS-Error-Code", "BITS-Error"]
            .iter()
            .find_map(|name| answer.field(name).and_then(liberal_hex));
        Self {
            is_ack: answer
                .field("BITS-Packet-Type")
                .is_some_and(|value| value.eq_ignore_ascii_case("Ack")),
            session: text("BITS-Session-Id"),
            protocol: text("BITS-Protocol"),
            host_id: text("BITS-Host-Id"),
            fallback_timeout: answer.field("BITS-Host-Id-Fallback-Timeout").and_then(decimal),
            received: answer.field("BITS-Received-Content-Range").and_then(decimal),
            reply_url: text("BITS-Reply-URL"),
            hresult: hresult.filter(|&code| code != 0),
            context: answer.field("BITS-Error-Context").and_then(liberal_hex),
        }
    }

    pub fn is_session_not_found(&self) -> bool {
        self.hresult == Some(SESSION_NOT_FOUND)
    }
}

/// Which rules an answer is held to.
#[derive(Clone, Debug)]
pub struct AckRules {
    /// Off: nothing is checked.
    on: bool,
    /// The answer must be an Ack, and its error fields must be complete: what the gateway promises of its own answers.
    own: bool,
    allowed: Vec<String>,
}

impl AckRules {
    /// For answers that passed the gateway, whoever made them. Answers that are no Acks (a 401, a server's error page)
    /// pass unchanged and are not judged.
    pub fn farm() -> Self {
        Self { on: true, own: false, allowed: Vec::new() }
    }

    /// For answers that the gateway made itself.
    pub fn own_answer() -> Self {
        Self { own: true, ..Self::farm() }
    }

    /// For foreign servers.
    pub fn off() -> Self {
        Self { on: false, ..Self::farm() }
    }

    /// One more field that Acks may have, for vendor headers.
    pub fn allow(mut self, name: &str) -> Self {
        self.allowed.push(name.to_owned());
        self
    }

    /// # Panics
    /// With the rules that `answer` breaks.
    #[track_caller]
    pub fn expect(&self, packet: PacketType, answer: &Answer) -> Ack {
        let broken = self.check(packet, answer);
        assert!(broken.is_empty(), "broken rules: {broken:#?}");
        Ack::read(answer)
    }

    /// The rules that `answer` breaks, in words.
    pub fn check(&self, packet: PacketType, answer: &Answer) -> Vec<String> {
        let ack = Ack::read(answer);
        let mut broken = Vec::new();
        if !self.on || !(ack.is_ack || self.own) {
            return broken;
        }
        let mut rule = |kept: bool, what: &str| {
            if !kept {
                broken.push(format!(
                    "{} answered {}: {what}; head {:?}",
                    packet.title(),
                    answer.status,
                    answer.head
                ));
            }
        };
        rule(ack.is_ack, "BITS-Packet-Type is Ack");
        rule(answer.minor_version == 1, "the version is HTTP/1.1");
        rule(
            answer.framing == Framing::ContentLength && answer.body.is_empty(),
            "an Ack has Content-Length: 0",
        );
        rule(answer.field("Content-Encoding").is_none(), "an Ack is not compressed");
        for (name, _) in &answer.fields {
            let later = answer.status == 503 && name.eq_ignore_ascii_case("Retry-After");
            rule(self.allows(name) || later, &format!("an Ack has no field {name}"));
            rule(answer.fields_named(name).count() == 1, &format!("{name} appears once"));
        }
        self.check_errors(answer, &ack, &mut rule);
        match packet {
            PacketType::CreateSession => check_create(answer, &ack, &mut rule),
            PacketType::Fragment => check_fragment(answer, &mut rule),
            PacketType::Ping | PacketType::CloseSession | PacketType::CancelSession => {}
        }
        if packet != PacketType::CreateSession || !is_success(answer) {
            for name in ["BITS-Host-Id", "BITS-Host-Id-Fallback-Timeout", "BITS-Protocol"] {
                let what = format!("{name} only on the Ack of a successful Create-Session");
                rule(answer.field(name).is_none(), &what);
            }
        }
        broken
    }

    fn allows(&self, name: &str) -> bool {
        let mut own = self.allowed.iter().map(String::as_str);
        let mut all = ALLOWED.iter().copied();
        all.any(|a| a.eq_ignore_ascii_case(name)) || own.any(|a| a.eq_ignore_ascii_case(name))
    }

    fn check_errors(&self, answer: &Answer, ack: &Ack, rule: &mut impl FnMut(bool, &str)) {
        let old = answer.field("BITS-Error");
        let new = answer.field("BITS-Error-Code");
        let context = answer.field("BITS-Error-Context");
        if is_success(answer) {
            let none = old.is_none() && new.is_none() && context.is_none();
            rule(none, "a success carries no error fields");
        }
        if let (Some(old), Some(new)) = (old, new) {
            rule(old == new, "BITS-Error and BITS-Error-Code agree");
        }
        if !self.own {
            return;
        }
        let present = [old, new, context].iter().flatten().count();
        rule(present == 0 || present == 3, "the three error fields come together");
        for value in [old, new].into_iter().flatten() {
            rule(is_hresult(value), "an HRESULT is 0x and eight upper-case digits");
        }
        if context.is_some() {
            rule(ack.context == Some(5), "the context of our own errors is 0x5");
        }
    }
}

fn check_create(answer: &Answer, ack: &Ack, rule: &mut impl FnMut(bool, &str)) {
    if !is_success(answer) {
        return;
    }
    let protocol = ack.protocol.as_deref().unwrap_or_default();
    rule(protocol.eq_ignore_ascii_case(PROTOCOL), "BITS-Protocol is the upload protocol");
    let id = ack.session.as_deref().unwrap_or_default();
    rule(
        (1..=100).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()),
        "BITS-Session-Id is 1 to 100 visible ASCII characters",
    );
    let timeout = answer.field("BITS-Host-Id-Fallback-Timeout");
    rule(
        ack.host_id.is_some() == timeout.is_some(),
        "BITS-Host-Id and its fallback timeout come together",
    );
    if let Some(host) = &ack.host_id {
        rule(is_host(host), "BITS-Host-Id is a bare host");
    }
    if let Some(timeout) = timeout {
        let in_range = decimal(timeout).is_some_and(|t| (1..=0xFFFF_FFFF).contains(&t));
        rule(in_range, "the fallback timeout is 1 to 4294967295 seconds");
    }
}

fn check_fragment(answer: &Answer, rule: &mut impl FnMut(bool, &str)) {
    let received = answer.field("BITS-Received-Content-Range");
    match answer.status {
        200 | 416 => {
            rule(received.and_then(decimal).is_some(), "BITS-Received-Content-Range is one number")
        }
        _ => rule(received.is_none(), "BITS-Received-Content-Range only with 200 and 416"),
    }
}

fn is_success(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

fn is_hresult(value: &str) -> bool {
    value.strip_prefix("0x").is_some_and(|digits| {
        digits.len() == 8
            && digits.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
    })
}

/// No scheme, no port, no path; a name, an IPv4 address, or an IPv6 address with or without brackets.
fn is_host(value: &str) -> bool {
    let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(value);
    let is_name = !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    value.len() <= 300 && (is_name || inner.parse::<std::net::Ipv6Addr>().is_ok())
}

fn decimal(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits)
}

/// `0x8020001F`, `x8020001f`, `8020001f`: servers disagree.
fn liberal_hex(value: &str) -> Option<u32> {
    let lower = value.to_ascii_lowercase();
    let digits = ["0x", "x"].iter().find_map(|prefix| lower.strip_prefix(prefix));
    u32::from_str_radix(digits.unwrap_or(&lower), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, fields: &[(&str, &str)]) -> Answer {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Answer {
            minor_version: 1,
            status,
            reason: String::new(),
            fields: fields.iter().map(owned).collect(),
            body: Vec::new(),
            framing: Framing::ContentLength,
            interim: Vec::new(),
            head: String::new(),
        }
    }

    #[track_caller]
    fn check(
        rules: AckRules,
        packet: PacketType,
        status: u16,
        fields: &[(&str, &str)],
        broken: usize,
    ) {
        let mut all = vec![("BITS-Packet-Type", "Ack"), ("Content-Length", "0")];
        all.extend(fields);
        let found = rules.check(packet, &answer(status, &all));
        assert_eq!(found.len(), broken, "{found:#?}");
    }

    #[test]
    fn acks_as_specified_keep_the_rules() {
        let create = [
            ("BITS-Protocol", PROTOCOL),
            ("BITS-Session-Id", "{A}"),
            ("BITS-Host-Id", "n3.up.test"),
            ("BITS-Host-Id-Fallback-Timeout", "3600"),
            ("Accept-Encoding", "identity"),
        ];
        check(AckRules::farm(), PacketType::CreateSession, 200, &create, 0);
        let fragment = [("BITS-Received-Content-Range", "5120")];
        check(AckRules::farm(), PacketType::Fragment, 416, &fragment, 0);
        let lost = [
            ("BITS-Error", "0x8020001F"),
            ("BITS-Error-Code", "0x8020001F"),
            ("BITS-Error-Context", "0x5"),
        ];
        check(AckRules::own_answer(), PacketType::Fragment, 500, &lost, 0);
        check(AckRules::own_answer(), PacketType::Fragment, 503, &[], 0);
    }

    #[test]
    fn broken_rules_are_found() {
        let without_timeout = [
            ("BITS-Protocol", PROTOCOL),
            ("BITS-Session-Id", "{A}"),
            ("BITS-Host-Id", "n3.up.test"),
        ];
        check(AckRules::farm(), PacketType::CreateSession, 200, &without_timeout, 1);
        check(AckRules::farm(), PacketType::Ping, 200, &[("X-Backend", "up01")], 1);
        check(AckRules::farm(), PacketType::Fragment, 200, &[], 1);
        check(AckRules::farm(), PacketType::Ping, 200, &[("BITS-Error", "0x0")], 1);
        let half = [("BITS-Error", "0x8020001F"), ("BITS-Error-Context", "0x5")];
        check(AckRules::own_answer(), PacketType::Fragment, 500, &half, 1);
        let lower = [
            ("BITS-Error", "0x8020001f"),
            ("BITS-Error-Code", "0x8020001f"),
            ("BITS-Error-Context", "0x5"),
        ];
        check(AckRules::own_answer(), PacketType::Fragment, 500, &lower, 2);
    }

    #[test]
    fn hresults_are_read_in_every_spelling_of_the_field() {
        for value in ["0x8020001F", "x8020001f", "8020001f", "0X8020001F"] {
            assert_eq!(liberal_hex(value), Some(SESSION_NOT_FOUND), "{value}");
        }
        assert_eq!(liberal_hex(""), None);
        assert_eq!(liberal_hex("0x0"), Some(0));
    }
}
