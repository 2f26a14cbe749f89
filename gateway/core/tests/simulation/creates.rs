//! What the Creates of a gateway say of its servers: the rule of the core, driven by what happens.

use std::time::Duration;

use gateway_core::farm::{
    Asked, BackendId, Barred, Create, Directory, Folder, FolderRules, Folders, InARow,
    ProbeFailure, Reach, Sign,
};
use gateway_core::protocol::client::ClientKey;
use gateway_core::protocol::{PacketType, read_ack};
use gateway_core::routing::{Refusal, Refusers};
use http::response;

use crate::server::Request;

/// With a second for each step.
const RULES: FolderRules = FolderRules {
    retry_after: Duration::from_secs(40),
    full_for: Duration::from_secs(60),
    create_wait: Duration::from_secs(3),
};

/// Of Pings.
const IN_A_ROW: InARow = InARow { rise: 2, fall: 2 };

/// `timeouts.answer`, in steps.
const ANSWER: u64 = 60;

#[derive(Default)]
pub struct Creates {
    folders: Folders,
    /// Creates at servers that hang, and when their time is up.
    waiting: Vec<(Asked, u64)>,
    /// How often a Create went to another server.
    pub moved: u64,
    pub verdicts: u64,
    /// Of these, by Pings.
    pub by_pings: u64,
}

impl Request {
    /// As what it counts. There are as many clients as there are addresses.
    pub fn create(&self) -> Create {
        let path = self.head.uri.path();
        let target = path.bytes().fold(7, |hash: u64, b| hash.wrapping_mul(31) + u64::from(b));
        let client = u32::try_from(self.tag.client).unwrap_or(u32::MAX);
        let client = Some(ClientKey::of(std::net::IpAddr::from(client.to_be_bytes())));
        let (folder, directory) = (Folder::of(path.as_bytes()), Directory::of(path.as_bytes()));
        Create { folder, directory, target, client, without_body: true }
    }
}

impl Creates {
    /// Ends what has waited for too long.
    pub fn settle(&mut self, steady: u64) {
        let now = Duration::from_secs(steady);
        for (asked, _) in self.waiting.extract_if(.., |(_, until)| *until <= steady) {
            self.folders.gone(&asked, &RULES, now);
        }
        self.folders.settle(&RULES, now);
        let changes = self.folders.take_changes();
        let everyone = changes.iter().filter(|change| change.reach == Reach::Everyone);
        let verdicts = everyone.filter_map(|change| change.why);
        for why in verdicts {
            self.verdicts += 1;
            self.by_pings += u64::from(why == Sign::Ping);
        }
    }

    /// A round of probes: the Pings that the backend is sent end alike.
    pub fn pinged(&mut self, backend: BackendId, outcome: Result<(), ProbeFailure>, steady: u64) {
        for ping in self.folders.pings(backend) {
            assert!(ping.directory.path().starts_with(b"/in/"), "{ping:?}");
            self.folders.pinged(&ping, outcome, IN_A_ROW, &RULES, Duration::from_secs(steady));
        }
    }

    pub fn barred(&mut self, create: Option<&Create>, steady: u64) -> Vec<Barred> {
        let now = Duration::from_secs(steady);
        create
            .map(|create| self.folders.barred(&create.folder, create.client, &RULES, now))
            .unwrap_or_default()
    }

    pub fn asked(&mut self, backend: BackendId, create: &Create, steady: u64) -> Asked {
        self.folders.asked(backend, create.clone(), Duration::from_secs(steady))
    }

    pub fn gone(&mut self, asked: &Asked, steady: u64) {
        self.folders.gone(asked, &RULES, Duration::from_secs(steady));
    }

    pub fn waits(&mut self, asked: Asked, steady: u64) {
        self.waiting.push((asked, steady + ANSWER));
    }

    /// Learns from an answer. True if another server may have the Create.
    pub fn judge(
        &mut self,
        asked: &Asked,
        answer: &response::Parts,
        refusers: &mut Refusers,
        steady: u64,
    ) -> bool {
        let now = Duration::from_secs(steady);
        let Some(refusal) = Refusal::of(&answer.headers, &read_ack(answer.status, &answer.headers))
        else {
            self.folders.accepted(asked, &refusers.signs(), &RULES, now);
            return false;
        };
        self.folders.refused(asked, refusal.sign.is_some(), &RULES, now);
        refusers.note(asked.backend, refusal);
        refusers.lets_go_elsewhere(PacketType::CreateSession, false, true)
    }
}
