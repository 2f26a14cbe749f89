//! The question of a gateway that looks for the owner of a session.

use std::time::Duration;

use gateway_core::farm::{Backend, BackendId};
use gateway_core::fault::Fault;
use gateway_core::protocol::{RequestPacket, read_ack};
use gateway_core::routing::Absence;
use gateway_core::routing::failover::BeforeAsking;
use gateway_core::routing::recovery::{
    OwnershipAnswer, Question, Verdict, confirm, elsewhere, judge, settle,
};
use http::HeaderValue;

use crate::farm::ASKED;
use crate::gateway::{Fate, Gateway, Network, Time};
use crate::rng::Rng;
use crate::server::Request;
use crate::table::Table;

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
        table: &Table,
        rng: &mut Rng,
        time: Time,
        network: &mut dyn Network,
    ) -> Result<Found, Fault> {
        let question = Question::of(packet, self.shares_its_farm()).expect("a small file");
        let asked = written(request, question);
        let id = packet.session().expect("it has an id");
        self.wait_for_all(rng, time, network)?;
        let answers: Vec<_> = self
            .view
            .backends()
            .iter()
            .map(|backend| {
                // One that is given up has no session any more. What a backend calls so is the
                // session of a client that was given another id.
                let answer = match backend.is_reachable() && !table.is_hidden(backend.id, id) {
                    true => said(backend.id, &asked, question, rng, network),
                    false => OwnershipAnswer::NotFound,
                };
                (backend.id, answer)
            })
            .collect();
        let now = Duration::from_secs(time.steady);
        let verdict = judge(&answers, &mut self.unclear, now, Duration::MAX);
        let mut verdict = settle(verdict, question);
        if let Verdict::Newborn(owner) = verdict {
            let mut other = asked.clone();
            let target = elsewhere(request.head.uri.path().as_bytes(), "made-up");
            let target = String::from_utf8(target).expect("text");
            other.head.uri = target.parse().expect("a path");
            verdict = confirm(verdict, said(owner, &other, question, rng, network));
        }
        match verdict {
            Verdict::Owner(owner, _) | Verdict::Newborn(owner) if table.is_hidden(owner, id) => {
                Err(Fault::UnknownSession)
            }
            Verdict::Owner(owner, _) => Ok(Found::Owner(owner)),
            Verdict::Newborn(owner) => Ok(Found::Newborn(owner)),
            Verdict::Nobody => Err(Fault::UnknownSession),
            Verdict::Unclear => Err(Fault::SessionNotHere),
            Verdict::Corrupted(backend) => panic!("{backend:?} took the byte of {question:?}"),
        }
    }

    /// Until no backend is away that may have the session.
    fn wait_for_all(
        &mut self,
        rng: &mut Rng,
        time: Time,
        network: &mut dyn Network,
    ) -> Result<(), Fault> {
        loop {
            let away = || self.view.backends().iter().filter(|backend| !backend.is_reachable());
            let absences = away().map(|backend| self.absence(backend.id, time.steady));
            let rule = self.scenario.failover.rule();
            let unclear = Err(Fault::SessionNotHere);
            match rule.before_asking(absences, Duration::ZERO) {
                BeforeAsking::Ask => return Ok(()),
                BeforeAsking::Unclear => return unclear,
                BeforeAsking::Wait(_) => {
                    let waits = |b: &&Backend| self.absence(b.id, time.steady) != Absence::Kept;
                    let first = away().find(waits).map(|backend| backend.id);
                    let first = first.expect("one is waited for");
                    if !network.comes_back(first, rng) {
                        return unclear;
                    }
                    self.came_back(first, time.steady);
                }
            }
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
) -> OwnershipAnswer {
    match network.send(backend, asked, rng) {
        Fate::Answered(answer) => {
            OwnershipAnswer::of(&read_ack(answer.status, &answer.headers), question)
        }
        _ => OwnershipAnswer::Unclear(Duration::ZERO),
    }
}
