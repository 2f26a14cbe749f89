//! The question of a gateway that looks for the owner of a session.

use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::{RequestPacket, read_ack};
use gateway_core::routing::ask::{Said, Verdict, judge, question};
use http::HeaderValue;

use crate::farm::ASKED;
use crate::gateway::{Fate, Gateway, Network};
use crate::rng::Rng;
use crate::server::Request;

impl Gateway {
    /// Asks every backend whether it has the session of a packet that nothing else tells of.
    pub fn ask(
        &mut self,
        packet: &RequestPacket<'_>,
        request: &Request,
        rng: &mut Rng,
        now: u64,
        network: &mut dyn Network,
    ) -> Result<BackendId, Fault> {
        let range = question(packet).expect("a small file");
        let mut asked = request.clone();
        asked.body = vec![0];
        let fields = &mut asked.head.headers;
        let value = |text: String| HeaderValue::from_str(&text).expect("legal");
        fields.insert("BITS-Packet-Type", HeaderValue::from_static("Fragment"));
        fields.insert("Content-Length", HeaderValue::from_static("1"));
        fields.insert(ASKED, HeaderValue::from_static("yes"));
        let written = format!("bytes {}-{}/{}", range.first(), range.first(), range.total());
        fields.insert("Content-Range", value(written));
        let said: Vec<_> = self
            .view
            .backends()
            .iter()
            .map(|backend| {
                let fate = if backend.is_reachable() {
                    network.send(backend.id, &asked, rng)
                } else {
                    Fate::Unreachable
                };
                let said = match fate {
                    Fate::Answered(answer) => Said::of(&read_ack(&answer)),
                    _ => Said::Unclear(Duration::ZERO),
                };
                (backend.id, said)
            })
            .collect();
        let now = Duration::from_secs(now);
        match judge(&said, &mut self.doubts, now, Duration::MAX) {
            Verdict::Owner(owner, _) => Ok(owner),
            Verdict::Nobody => Err(Fault::UnknownSession),
            Verdict::Unclear => Err(Fault::SessionNotHere),
            Verdict::Empty(owner) => {
                let mut cancel = request.clone();
                cancel.body.clear();
                let fields = &mut cancel.head.headers;
                fields.insert("BITS-Packet-Type", HeaderValue::from_static("Cancel-Session"));
                fields.insert("Content-Length", HeaderValue::from_static("0"));
                fields.remove("Content-Range");
                match network.send(owner, &cancel, rng) {
                    Fate::Answered(answer) => {
                        let ack = read_ack(&answer);
                        let gone = ack.is_success() || ack.is_session_not_found();
                        Err(if gone { Fault::UnknownSession } else { Fault::SessionNotHere })
                    }
                    _ => Err(Fault::SessionNotHere),
                }
            }
        }
    }
}
