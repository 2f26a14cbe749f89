//! Many clients on slow lines: each sends a piece of its Fragment now and then.

use std::time::Duration;

use tokio::task::JoinSet;

use super::closed::gather;
use super::{Client, Sent};
use e2e_tests::clock;

#[derive(Clone, Copy, Debug)]
pub struct Throttled {
    pub clients: usize,
    /// Fragments of each.
    pub fragments: usize,
}

const FRAGMENT: usize = 64 * 1024;
const PIECE: usize = 4096;
/// Between two pieces of a client: 20 KiB a second.
const PAUSE: Duration = Duration::from_millis(200);

pub async fn throttled(
    load: Throttled,
    clients: Vec<Client>,
) -> Result<(Vec<Client>, Sent), String> {
    let mut tasks = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        // All over the pause, as clients that know nothing of each other are.
        let start = PAUSE.mul_f64(number as f64 / load.clients as f64);
        tasks.spawn(async move {
            let mut latencies = Vec::with_capacity(load.fragments);
            tokio::time::sleep(start).await;
            for _ in 0..load.fragments {
                let began = clock::now();
                let body = client.begin_fragment(FRAGMENT);
                client.send(&body[..PIECE]).await?;
                for piece in body[PIECE..].chunks(PIECE) {
                    tokio::time::sleep(PAUSE).await;
                    client.send_more(piece).await?;
                }
                client.end_fragment(FRAGMENT).await?;
                latencies.push(began.elapsed());
            }
            let packets = client.take_sent();
            Ok((client, Sent { packets, latencies }))
        });
    }
    gather(tasks).await
}
