//! The connections to servers that one thread has, and which of them a client used a moment ago.
//!
//! A client's next Fragment comes at once, and goes best over the connection of the one before: some
//! servers know a session by its connection. So a connection stays with its client for [`HOLD`] after a
//! packet, unless another client has none, and then serves anybody.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use foldhash::fast::FixedState;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::previous::Previous;
use super::upstream::{Connection, HOLD, IdleConnection, Pool};
use crate::base::clock;
use crate::farm::Endpoint;

/// Of one thread.
#[derive(Debug)]
pub struct Lines {
    pub pool: Arc<Pool>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the number of the client's connection, which is ours and not the client's to choose.
    held: HashMap<u64, Held, FixedState>,
    /// A task looks for those that were held for long enough.
    swept: bool,
}

/// A connection that stays with its client for a while.
#[derive(Debug)]
struct Held {
    idle: IdleConnection,
    previous: Option<Box<Previous>>,
}

impl Lines {
    pub fn new(pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self { pool, state: Mutex::default() })
    }

    /// An open connection for a packet of that client, if there is one that may be used; and what became
    /// of the client's previous packet, on whichever connection.
    pub fn take(
        &self,
        client: u64,
        endpoint: &Endpoint,
        repeatable: bool,
        now: Instant,
    ) -> Option<(Connection, Option<Box<Previous>>)> {
        let held = self.state.lock().held.remove(&client);
        let (held, previous) = held.map(|held| (held.idle, held.previous)).unzip();
        let own = self.pool.take(held, endpoint, repeatable, now);
        if let Some(connection) = own {
            return Some((connection, previous.flatten()));
        }
        let other = || {
            // One that another client holds costs less than a new one, and that client may have gone
            // on to something else.
            let mut state = self.state.lock();
            let held =
                state.held.iter().find(|(_, held)| held.idle.endpoint().is_same_as(endpoint));
            let of = held.map(|(of, _)| *of)?;
            let held = state.held.remove(&of);
            drop(state);
            self.pool.take(held.map(|held| held.idle), endpoint, repeatable, now)
        };
        other().map(|connection| (connection, None))
    }

    /// Keeps a connection that has served a packet of that client.
    pub fn keep(
        self: &Arc<Self>,
        client: u64,
        idle: IdleConnection,
        previous: Option<Box<Previous>>,
        now: Instant,
    ) {
        let Some(idle) = self.pool.hold(idle, now) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut state = self.state.lock();
        let before = state.held.insert(client, Held { idle, previous });
        let starts = !std::mem::replace(&mut state.swept, true);
        drop(state);
        if let Some(before) = before {
            self.pool.give_back(before.idle, now);
        }
        if starts {
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// The client has gone.
    pub fn release(&self, client: u64) {
        let held = self.state.lock().held.remove(&client);
        if let Some(held) = held {
            self.pool.give_back(held.idle, clock::stopwatch());
        }
    }

    /// Gives back what was held for long enough. False if nothing is held any more.
    fn look(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let due: Vec<_> = state.held.extract_if(|_, held| held.idle.is_due(now)).collect();
        state.swept = !state.held.is_empty();
        let goes_on = state.swept;
        drop(state);
        due.into_iter().for_each(|(_, held)| self.pool.give_back(held.idle, now));
        goes_on
    }
}

async fn sweep(lines: Weak<Lines>) {
    loop {
        sleep(HOLD).await;
        let Some(lines) = lines.upgrade() else { return };
        if !lines.look(clock::stopwatch()) {
            return;
        }
    }
}
