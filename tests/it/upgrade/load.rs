//! Clients that upload one file after the other until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use e2e_tests::client::{Connections, FragmentSizes, Report};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::wait;

const CLIENTS: u64 = 6;

type Upload = (String, Content, Report);

pub struct Load<'s> {
    clients: Vec<ScopedJoinHandle<'s, Vec<Upload>>>,
    /// Steps of all clients.
    steps: Arc<AtomicU64>,
}

impl<'s> Load<'s> {
    /// Every second client takes a new connection for each packet, every third goes by the origin name alone.
    pub fn start<'e>(scope: &'s Scope<'s, 'e>, farm: &'e Farm, stop: &'e AtomicBool) -> Self {
        let steps = Arc::<AtomicU64>::default();
        let client = |number: u64| {
            let steps = Arc::clone(&steps);
            scope.spawn(move || upload(farm, number, stop, &steps))
        };
        Self { clients: (0..CLIENTS).map(client).collect(), steps }
    }

    /// Waits until every client has probably sent a packet or two.
    #[track_caller]
    pub fn expect_progress(&self) {
        let before = self.steps.load(Ordering::Relaxed);
        let enough = before + 3 * CLIENTS;
        wait::until("the uploads get on", || self.steps.load(Ordering::Relaxed) >= enough);
    }

    pub fn finish(self) -> Vec<Upload> {
        let ended = self.clients.into_iter().map(|client| client.join());
        ended.flat_map(|uploads| uploads.expect("a client does not panic")).collect()
    }
}

fn upload(farm: &Farm, client: u64, stop: &AtomicBool, steps: &AtomicU64) -> Vec<Upload> {
    let mut uploads = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = uploads.len() as u64;
        let content = Content::seeded(client << 32 | number, 200_000 + 1_000 * client);
        let path = format!("/in/{client}-{number}.bin");
        let options = farm.client().with(|o| {
            o.fragments = FragmentSizes::Fixed(10_000);
            if client % 2 == 1 {
                o.connections = Connections::PerPacket;
            }
            o.ignore_host_id = client % 3 == 2;
        });
        let mut upload = options.begin(&farm.url(&path), &content);
        while upload.step() {
            steps.fetch_add(1, Ordering::Relaxed);
        }
        uploads.push((path, content, upload.run()));
    }
    uploads
}
