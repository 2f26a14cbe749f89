//! Closed loop: each client sends its next packet when it has the Ack of the one before.

use tokio::task::JoinSet;

use super::{Client, Sent, Target};
use crate::sink::Packets;
use e2e_tests::clock;

/// What one client does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    Ping,
    Fragment {
        length: usize,
        /// Head and body in two sends.
        apart: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Closed {
    pub packet: Packet,
    pub connections: usize,
    /// Of each connection, in the measured time.
    pub packets: usize,
    pub tls: bool,
}

/// Before the measured time, so that connections to the servers are there and buffers have their size.
const WARM_UP: usize = 3;

impl Closed {
    /// Connected clients with open sessions, that have sent some packets already.
    pub async fn warm_up(self, target: &Target) -> Result<Vec<Client>, String> {
        let mut tasks = JoinSet::new();
        for _ in 0..self.connections {
            let target = target.clone();
            tasks.spawn(async move {
                let mut client = Client::connect(&target).await?;
                client.create().await?;
                for _ in 0..WARM_UP {
                    self.packet.send(&mut client).await?;
                }
                Ok(client)
            });
        }
        all(tasks).await
    }
}

/// The measured time.
pub async fn closed(load: Closed, clients: Vec<Client>) -> Result<(Vec<Client>, Sent), String> {
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut latencies = Vec::with_capacity(load.packets);
            for _ in 0..load.packets {
                let began = clock::now();
                load.packet.send(&mut client).await?;
                latencies.push(began.elapsed());
            }
            let packets = client.take_sent();
            Ok((client, Sent { packets, latencies }))
        });
    }
    gather(tasks).await
}

/// The clients of all tasks, and what they have sent.
pub async fn gather(
    tasks: JoinSet<Result<(Client, Sent), String>>,
) -> Result<(Vec<Client>, Sent), String> {
    let mut sum = Sent::default();
    let mut clients = Vec::new();
    for (client, sent) in all(tasks).await? {
        sum.add(sent);
        clients.push(client);
    }
    Ok((clients, sum))
}

/// Ends sessions and connections.
pub async fn close(clients: Vec<Client>) -> Result<Packets, String> {
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            client.close().await?;
            let packets = client.take_sent();
            client.disconnect().await.map(|()| packets)
        });
    }
    let mut sum = Packets::default();
    all(tasks).await?.into_iter().for_each(|packets| sum += packets);
    Ok(sum)
}

impl Packet {
    pub async fn send(self, client: &mut Client) -> Result<(), String> {
        match self {
            Self::Ping => client.ping().await,
            Self::Fragment { length, apart } => client.fragment(length, apart).await,
        }
    }
}

/// What every task returned, or the first error.
pub async fn all<T: 'static>(mut tasks: JoinSet<Result<T, String>>) -> Result<Vec<T>, String> {
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        results.push(ended.map_err(|error| error.to_string())??);
    }
    Ok(results)
}
