//! The question of a gateway that looks for the owner of a session.

use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::{RequestPacket, read_ack};
use gateway_core::routing::ask::{Question, Said, Verdict, confirm, elsewhere, judge, settle};
use http::HeaderValue;

use crate::farm::ASKED;
use crate::gateway::{Fate, Gateway, Network};
use crate::rng::Rng;
use crate::server::Request;

/// Where the packet of a lost session goes.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    /// Its pin is to be made there.
    Owner(BackendId),
    /// It has no byte yet, and no pin before it has some.
    Newborn(BackendId),
}

impl Gateway {
    /// Asks every backend whether it has the session of a packet that nothing else tells of.
    pub fn ask(
        &mut self,
        packet: &RequestPacket,
        request: &Request,
        rng: &mut Rng,
        now: u64,
        network: &mut dyn Network,
    ) -> Result<Found, Fault> {
        let question = Question::of(packet, self.shares_its_farm()).expect("a small file");
        let asked = written(request, question);
        let answers: Vec<_> = self
            .view
            .backends()
            .iter()
            .map(|backend| {
                let answer = match backend.is_reachable() {
                    true => said(backend.id, &asked, question, rng, network),
                    false => Said::Unclear(Duration::ZERO),
                };
                (backend.id, answer)
            })
            .collect();
        let now = Duration::from_secs(now);
        let verdict = judge(&answers, &mut self.doubts, now, Duration::MAX);
        let mut verdict = settle(verdict, question);
        if let Verdict::Newborn(owner) = verdict {
            let mut other = asked.clone();
            let target = elsewhere(request.head.uri.path().as_bytes(), "made-up");
            let target = String::from_utf8(target).expect("text");
            other.head.uri = target.parse().expect("a path");
            verdict = confirm(verdict, said(owner, &other, question, rng, network));
        }
        match verdict {
            Verdict::Owner(owner, _) => Ok(Found::Owner(owner)),
            Verdict::Newborn(owner) => Ok(Found::Newborn(owner)),
            Verdict::Nobody => Err(Fault::UnknownSession),
            Verdict::Unclear => Err(Fault::SessionNotHere),
            Verdict::Spoilt(backend) => panic!("{backend:?} took the byte of {question:?}"),
        }
    }
}

fn written(request: &Request, question: Question) -> Request {
    let mut asked = request.clone();
    asked.body = if question.sends_its_byte() { vec![0] } else { Vec::new() };
    let fields = &mut asked.head.headers;
    let value = |text: String| HeaderValue::from_str(&text).expect("legal");
    fields.insert("BITS-Packet-Type", HeaderValue::from_static("Fragment"));
    fields.insert("Content-Length", HeaderValue::from_static("1"));
    fields.insert(ASKED, HeaderValue::from_static("yes"));
    let range = question.range();
    let written = format!("bytes {}-{}/{}", range.first(), range.first(), range.total());
    fields.insert("Content-Range", value(written));
    if !question.sends_its_byte() {
        fields.insert("Expect", HeaderValue::from_static("100-continue"));
    }
    asked
}

fn said(
    backend: BackendId,
    asked: &Request,
    question: Question,
    rng: &mut Rng,
    network: &mut dyn Network,
) -> Said {
    match network.send(backend, asked, rng) {
        Fate::Answered(answer) => Said::of(&read_ack(answer.status, &answer.headers), question),
        _ => Said::Unclear(Duration::ZERO),
    }
}
