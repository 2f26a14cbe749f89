//! One session a connection: what a client with a small file does.

use tokio::task::JoinSet;

use super::{Client, Sent, Target, all};
use e2e_tests::clock;

#[derive(Clone, Copy, Debug)]
pub struct Sessions {
    pub at_once: usize,
    /// One after the other, by each of those that are there at once.
    pub sessions: usize,
    pub tls: bool,
}

/// Of the only Fragment.
const LENGTH: usize = 1024;

/// Each time is that of a whole session, from the connection to its end.
pub async fn sessions(load: Sessions, target: &Target) -> Result<Sent, String> {
    let mut tasks = JoinSet::new();
    for _ in 0..load.at_once {
        let target = target.clone();
        tasks.spawn(async move {
            let mut sent = Sent::default();
            for _ in 0..load.sessions {
                let began = clock::now();
                let mut client = Client::connect(&target).await?;
                client.create().await?;
                client.fragment(LENGTH, false).await?;
                client.close().await?;
                sent.packets += client.take_sent();
                client.disconnect().await?;
                sent.latencies.push(began.elapsed());
            }
            Ok(sent)
        });
    }
    let mut sum = Sent::default();
    all(tasks).await?.into_iter().for_each(|sent| sum.add(sent));
    Ok(sum)
}
