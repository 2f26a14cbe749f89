//! More sessions than connections: each connection opens many, and visits those of all.

use std::collections::VecDeque;
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

pub async fn connect(load: Pins, target: &Target) -> Result<Vec<Client>, String> {
    let mut tasks = JoinSet::new();
    for _ in 0..load.connections {
        let target = target.clone();
        tasks.spawn(async move { Client::connect(&target).await });
    }
    all(tasks).await
}

/// So many Fragments of 1 KiB, all sessions in turn, in an order that has nothing to do with that of their creation.
pub async fn visit(
    clients: Vec<Client>,
    sessions: Vec<Session>,
    visits: usize,
) -> Result<(Vec<Session>, Packets), String> {
    let waiting = Arc::new(Mutex::new((VecDeque::from(mixed(sessions)), visits)));
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let waiting = Arc::clone(&waiting);
        tasks.spawn(async move {
            let next = || {
                let (sessions, left) = &mut *waiting.lock().unwrap_or_else(PoisonError::into_inner);
                *left = left.checked_sub(1)?;
                sessions.pop_front()
            };
            while let Some(session) = next() {
                client.put_session(session);
                client.fragment(1024, false).await?;
                let session = client.take_session();
                waiting.lock().unwrap_or_else(PoisonError::into_inner).0.push_back(session);
            }
            let packets = client.take_sent();
            client.disconnect().await.map(|()| packets)
        });
    }
    let mut packets = Packets::default();
    all(tasks).await?.into_iter().for_each(|sent| packets += sent);
    let (sessions, _) = &mut *waiting.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((std::mem::take(sessions).into(), packets))
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
