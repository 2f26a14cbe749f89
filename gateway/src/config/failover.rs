//! The section `[failover]`: what happens to an upload while its server is away.

use std::time::Duration;

use gateway_core::routing::{Failover, Then};

use super::keys::{DefaultValue, word};
use super::kind::Kind;
use super::names::named;
use super::section::section;

section! {
    fill Failover in "failover";
    about: "What happens to an upload while the server that has its file is away.";
    later: &["replay"];

    hold: Duration {
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: Duration::from_secs(100),
            whole_seconds: false,
        },
        // Longer than a service takes to restart, and well under the 5 minutes for which a Windows
        // client waits for an answer. A 503 would cost it 10 minutes.
        default: DefaultValue::seconds(20),
        applies: Reload,
        about: "A packet waits that long in the gateway for its server to come back, with its body \
                unread; then it is answered 503, and the client keeps its place.",
    }

    restart_after: Duration {
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: Duration::from_secs(365 * 24 * 60 * 60),
            whole_seconds: false,
        },
        // A client waits 14 days: starting over costs it more than a server that is patched, moved
        // or repaired within a day. One that is gone for good is given up by an operator.
        default: DefaultValue::hours(24),
        applies: Reload,
        about: "With `then = \"restart\"`: a server that has been away for that long is given up, \
                and its uploads start over on another one. `bits-gateway backends lost NAME` gives \
                one up at once that is gone for good.",
    }

    reassign_after: Duration {
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: Duration::from_secs(365 * 24 * 60 * 60),
            whole_seconds: false,
        },
        // Nothing is lost by going on elsewhere; a restart of a server takes less.
        default: DefaultValue::seconds(60),
        applies: Reload,
        about: "With `then = \"reassign\"`: from when a server went away until its uploads go on \
                at another one.",
    }

    then: Then {
        kind: word::<Then>(),
        default: DefaultValue::word("restart"),
        applies: Reload,
        about: "What becomes of the uploads of a server that was given up.",
    }
}

named!(Then {
    Restart = "restart": "session not found: the clients start over on another server",
    Reassign = "reassign": "another server goes on with them; only for servers that share one storage",
});
