//! The section `[placement]`: which backend gets a new upload.

use gateway_core::routing::Placement;

use super::keys::{DefaultValue, word};
use super::names::named;
use super::section::section;

section! {
    pub struct PlacementConfig in "placement";
    about: "Which backend gets a new upload.";
    later: &[];

    policy: Placement {
        kind: word::<Placement>(),
        default: DefaultValue::word("least-sessions"),
        applies: Reload,
        about: "How a backend is chosen.",
    }

    hash_key: HashKey {
        kind: word::<HashKey>(),
        default: DefaultValue::word("target"),
        applies: Reload,
        about: "What `policy = \"hash\"` looks at.",
    }
}

/// What [`Placement::Hash`] hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKey {
    Target,
    Client,
}

named!(Placement {
    LeastSessions = "least-sessions": "the backend with the fewest sessions for its weight",
    LeastBytesLeft = "least-bytes-left": "the backend whose uploads have the fewest bytes still to come for its weight",
    RoundRobin = "round-robin": "one after the other, a backend of weight 3 three times a round",
    Hash = "hash": "the same `hash_key` goes to the same backend while that is not much fuller than its share",
});

named!(HashKey {
    Target = "target": "path and query of the request",
    Client = "client": "the client's IP address",
});
