//! An immutable picture of the farm; one request sees one picture.

use std::collections::HashMap;
use std::sync::Arc;

use crate::protocol::host::Host;

use super::backend::{AdminState, Backend, BackendId, Health};
use super::health::{Condition, Standing};

#[derive(Debug, Clone, Default)]
pub struct FarmView {
    backends: Vec<Backend>,
    configured: Arc<Configured>,
}

/// What does not change from picture to picture.
#[derive(Debug, Default)]
struct Configured {
    /// In the order of the backends.
    weights: Vec<u32>,
    /// Position in `backends` by id. Ids are small and dense: one per configured name.
    positions: Vec<Option<u32>>,
    /// Host names that stand for one backend, in the form of [`Host::with_key`].
    aliases: HashMap<Vec<u8>, BackendId>,
}

impl FarmView {
    /// `aliases` maps host names, in the form of [`crate::protocol::host::key_of`], to backends.
    pub fn new(backends: Vec<Backend>, aliases: HashMap<String, BackendId>) -> Self {
        let highest = backends.iter().map(|backend| backend.id.0 as usize + 1).max();
        let mut positions = vec![None; highest.unwrap_or(0)];
        for (position, backend) in (0u32..).zip(&backends) {
            positions[backend.id.0 as usize] = Some(position);
        }
        let aliases = aliases.into_iter().map(|(name, id)| (name.into_bytes(), id)).collect();
        let weights = backends.iter().map(|backend| backend.weight).collect();
        Self { backends, configured: Arc::new(Configured { weights, positions, aliases }) }
    }

    /// The same farm as it stands now. It does not matter how often that was done before.
    ///
    /// A suspicion must not close the farm: backends that seem to fail are spared only while
    /// there is another for new sessions.
    pub fn revised(&self, now: impl Fn(BackendId) -> (AdminState, Standing)) -> Self {
        let mut revised = self.clone();
        let standings: Vec<_> = self.backends.iter().map(|backend| now(backend.id)).collect();
        let others = standings.iter().any(|(admin, standing)| {
            *admin == AdminState::Ready && standing.condition == Condition::Up
        });
        // Weights are shares, so they only have to be finer where one of them is reduced.
        let reduced = standings.iter().any(|(_, standing)| standing.weight_percent != 100);
        let configured = revised.backends.iter_mut().zip(&self.configured.weights);
        for ((backend, weight), (admin, standing)) in configured.zip(standings) {
            let percent = standing.weight_percent.clamp(1, 100);
            backend.weight = if reduced { weight.saturating_mul(percent) } else { *weight };
            backend.admin = admin;
            backend.health = match standing.condition {
                Condition::Up => Health::Up,
                Condition::Failing if others => Health::Spared,
                Condition::Failing => Health::Up,
                Condition::Down => Health::Down,
            };
        }
        revised
    }

    /// `None` once the backend was removed from the configuration.
    pub fn backend(&self, id: BackendId) -> Option<&Backend> {
        let position = (*self.configured.positions.get(id.0 as usize)?)?;
        self.backends.get(position as usize)
    }

    /// In the order of the configuration.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The backend that a host name stands for.
    pub fn alias(&self, host: &Host<'_>) -> Option<BackendId> {
        let aliases = &self.configured.aliases;
        if aliases.is_empty() {
            return None;
        }
        host.with_key(|key| aliases.get(key).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Standing = Standing { condition: Condition::Up, weight_percent: 100 };

    fn farm(weights: &[u32]) -> FarmView {
        let backend = |(id, weight): (u32, &u32)| Backend {
            id: BackendId(id),
            name: format!("up{id:02}").into(),
            weight: *weight,
            admin: AdminState::Ready,
            health: Health::Up,
            announce: None,
        };
        FarmView::new((0..).zip(weights).map(backend).collect(), HashMap::new())
    }

    fn standing(condition: Condition) -> Standing {
        Standing { condition, ..UP }
    }

    #[track_caller]
    fn check(now: &[(AdminState, Condition)], expected: &[Health]) {
        let farm = farm(&vec![1; now.len()]);
        let revised = farm.revised(|id| {
            let (admin, condition) = now[id.0 as usize];
            (admin, standing(condition))
        });
        let health: Vec<_> = revised.backends().iter().map(|backend| backend.health).collect();
        assert_eq!(health, expected);
    }

    #[test]
    fn failing_backends_are_spared_while_another_is_ready() {
        use AdminState::{Drain, Ready};
        check(
            &[(Ready, Condition::Up), (Ready, Condition::Failing)],
            &[Health::Up, Health::Spared],
        );
        check(
            &[(Ready, Condition::Down), (Ready, Condition::Failing)],
            &[Health::Down, Health::Up],
        );
        check(&[(Drain, Condition::Up), (Ready, Condition::Failing)], &[Health::Up, Health::Up]);
        check(&[(Ready, Condition::Failing); 2], &[Health::Up; 2]);
    }

    #[test]
    fn shares_are_reduced_from_what_is_configured_however_often() {
        let weights = |farm: &FarmView| -> Vec<u32> {
            farm.backends().iter().map(|backend| backend.weight).collect()
        };
        let slow = |id: BackendId| {
            let percent = if id.0 == 0 { 30 } else { 100 };
            (AdminState::Ready, Standing { weight_percent: percent, ..UP })
        };
        let once = farm(&[2, 3]).revised(slow);
        assert_eq!(weights(&once), [60, 300]);
        let again = once.revised(slow);
        assert_eq!(weights(&again), [60, 300]);
        assert_eq!(weights(&again.revised(|_| (AdminState::Drain, UP))), [2, 3]);
        assert!(once.backends().iter().all(Backend::is_eligible));
    }
}
