//! Rounds: in each, every peer carries the same load, one after the other, so that what changes on the machine changes for all.

mod measure;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_rustls::rustls::ClientConfig;

use crate::cases::Case;
use crate::figure::{Figure, Figures};
use crate::load::Target;
use crate::peers::{Peer, Program, Running, Setup};
use crate::progress;
use crate::sink::Farm;

/// A part of a round that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(1800);

pub struct Bench {
    pub setup: Setup,
    pub farm: Farm,
    pub runtime: Runtime,
    pub tls: Arc<ClientConfig>,
    pub rounds: usize,
    pub percent: usize,
}

/// What one peer did in one case.
pub struct Row {
    pub peer: Peer,
    /// One of each round.
    pub rounds: Vec<Figures>,
    /// Why there are no figures that count.
    pub void: Option<String>,
}

/// A row and the processes behind it.
struct Turn {
    row: Row,
    running: Option<Running>,
}

impl Bench {
    pub fn run(&self, case: &Case, peers: &[Peer]) -> Vec<Row> {
        let peers = peers.iter().filter(|peer| (case.peers)(peer));
        let row = |peer: &Peer| Row { peer: *peer, rounds: Vec::new(), void: None };
        let mut turns: Vec<_> = peers.map(|peer| Turn { row: row(peer), running: None }).collect();
        let rounds = self.rounds.min(case.most_rounds);
        for round in 0..rounds {
            for number in 0..turns.len() {
                // Each is the first one once: what the one before left behind falls on all.
                let place = (number + round) % turns.len();
                let turn = &mut turns[place];
                if turn.row.void.is_some() {
                    continue;
                }
                let (name, peer) = (case.name, turn.row.peer.name);
                progress!("{name}: round {} of {rounds}, {peer}", round + 1);
                match self.turn(case, turn) {
                    Ok(figures) => turn.row.rounds.push(figures),
                    Err(why) => {
                        let words = turn.running.as_ref().map(Running::last_words);
                        let words = words.unwrap_or_default();
                        progress!("{name}: {peer} is void: {why}\n{words}");
                        turn.row.void = Some(why);
                    }
                }
            }
        }
        let mut rows: Vec<_> = turns.into_iter().map(|turn| turn.row).collect();
        add_to_direct(&mut rows);
        rows
    }

    fn turn(&self, case: &Case, turn: &mut Turn) -> Result<Figures, String> {
        if case.fresh {
            turn.running = None;
            self.farm.forget_sessions();
        }
        if turn.running.is_none() {
            turn.row.peer.forget(&self.setup)?;
            turn.running = Some(turn.row.peer.start(&self.setup)?);
        }
        let running = turn.running.as_mut().expect("it was started");
        self.farm.take_errors();
        let before = self.farm.arrived();
        let measured = self.measure(case.load.scaled(self.percent), &turn.row.peer, running);
        // What a server saw says more than what the client got for it.
        if let Some(error) = self.farm.take_errors().first() {
            return Err(error.clone());
        }
        let (figures, sent) = measured?;
        let arrived = self.farm.arrived().since(before);
        if arrived != sent {
            return Err(format!("{sent:?} was acknowledged, and {arrived:?} arrived"));
        }
        Ok(figures)
    }

    fn target(&self, peer: &Running, tls: bool) -> Target {
        match tls {
            true => Target { address: peer.tls, tls: Some(Arc::clone(&self.tls)) },
            false => Target { address: peer.plain, tls: None },
        }
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let ended = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await });
        ended.map_err(|_| format!("not done after {DEADLINE:?}"))?
    }
}

/// What each peer adds to the times of the row without a proxy.
fn add_to_direct(rows: &mut [Row]) {
    let is_direct = |row: &&Row| row.peer.program == Program::Direct && row.void.is_none();
    let Some(direct) = rows.iter().find(is_direct).map(|row| row.rounds.clone()) else { return };
    let added = [(Figure::P50Us, Figure::AddedP50Us), (Figure::P99Us, Figure::AddedP99Us)];
    for row in rows.iter_mut().filter(|row| row.peer.program != Program::Direct) {
        for (round, base) in row.rounds.iter_mut().zip(&direct) {
            for (time, added) in added {
                if let (Some(time), Some(base)) = (round.get(&time), base.get(&time)) {
                    round.insert(added, time - base);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::PEERS;

    #[test]
    fn what_a_proxy_adds_is_of_the_same_round() {
        let round = |p50| Figures::from([(Figure::P50Us, p50)]);
        let row = |peer: usize, times: [f64; 2]| Row {
            peer: PEERS[peer],
            rounds: times.map(round).to_vec(),
            void: None,
        };
        let mut rows = [row(1, [30.0, 70.0]), row(0, [10.0, 40.0])];
        add_to_direct(&mut rows);
        let added = |row: &Row| -> Vec<_> {
            row.rounds.iter().map(|round| round.get(&Figure::AddedP50Us).copied()).collect()
        };
        assert_eq!(added(&rows[0]), [Some(20.0), Some(30.0)]);
        assert_eq!(added(&rows[1]), [None, None]);
    }
}
