//! More sessions than connections: each connection opens many, and visits those of all.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use super::client::Session;
use super::{Client, Target, all};
use crate::sink::Packets;

#[derive(Clone, Copy, Debug)]
pub struct Pins {
    pub sessions: usize,
    /// Enough for commits of a store to be shared.
    pub connections: usize,
}

/// In no order of their creation, because connections take turns.
pub async fn create(load: Pins, target: &Target) -> Result<(Vec<Session>, Packets), String> {
    let mut tasks = JoinSet::new();
    for number in 0..load.connections {
        let target = target.clone();
        let sessions = load.sessions / load.connections
            + usize::from(number < load.sessions % load.connections);
        tasks.spawn(async move {
            let mut client = Client::connect(&target).await?;
            let mut created = Vec::with_capacity(sessions);
            for _ in 0..sessions {
                client.create().await?;
                created.push(client.take_session());
            }
            let packets = client.take_sent();
            client.disconnect().await.map(|()| (created, packets))
        });
    }
    let (mut sessions, mut packets) = (Vec::with_capacity(load.sessions), Packets::default());
    for (created, sent) in all(tasks).await? {
        sessions.extend(created);
        packets += sent;
    }
    Ok((sessions, packets))
}

/// One Fragment of 1 KiB in each session, in an order that has nothing to do with that of their creation.
pub async fn visit(
    load: Pins,
    sessions: Vec<Session>,
    target: &Target,
) -> Result<(Vec<Session>, Packets), String> {
    let all_of_them = sessions.len();
    let mixed = mixed(sessions);
    let left = Arc::new(Mutex::new(mixed));
    let mut tasks = JoinSet::new();
    for _ in 0..load.connections {
        let (target, left) = (target.clone(), Arc::clone(&left));
        tasks.spawn(async move {
            let mut client = Client::connect(&target).await?;
            let mut visited = Vec::new();
            let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
            while let Some(session) = next() {
                client.put_session(session);
                client.fragment(1024, false).await?;
                visited.push(client.take_session());
            }
            let packets = client.take_sent();
            client.disconnect().await.map(|()| (visited, packets))
        });
    }
    let (mut sessions, mut packets) = (Vec::with_capacity(all_of_them), Packets::default());
    for (visited, sent) in all(tasks).await? {
        sessions.extend(visited);
        packets += sent;
    }
    Ok((sessions, packets))
}

fn mixed(mut sessions: Vec<Session>) -> Vec<Session> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..sessions.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sessions.swap(last, (state % (last as u64 + 1)) as usize);
    }
    sessions
}
