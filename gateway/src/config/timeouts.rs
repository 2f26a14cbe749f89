//! The section `[timeouts]`: one key for each wait of `docs/architecture.md`.

use std::time::Duration;

use super::keys::{DAY, DefaultValue, PERIOD, SECOND, TIMEOUT};
use super::kind::Kind;
use super::section::section;

section! {
    /// Every one counts from the last progress, never from the start of a transfer.
    pub struct Timeouts in "timeouts";
    about: "Each counts from the last progress, so a slow upload may take days and a stalled one \
            does not hold memory.";
    later: &[];

    /// Everything before the first request: the header of a proxy, and a TLS handshake.
    handshake: Duration {
        kind: TIMEOUT,
        // A handshake has two round trips; a slow line and a slow smart card fit in many times
        // over.
        default: DefaultValue::seconds(10),
        applies: Reload,
        about: "From a new connection to the end of its TLS handshake, with the header of the \
                PROXY protocol where there is one.",
    }

    /// First to last byte of a request head.
    client_head: Duration {
        kind: TIMEOUT,
        // A head is one or two segments; who needs longer is not a client.
        default: DefaultValue::seconds(15),
        applies: Reload,
        about: "For a whole request head, from its first byte.",
    }

    client_body: Duration {
        kind: TIMEOUT,
        // Without a single byte. Cuts dead connections; a client that Windows throttles pauses for
        // up to two minutes inside a body, and IIS waits as long.
        default: DefaultValue::seconds(130),
        applies: Reload,
        about: "Without a byte of the body. Must be shorter than `answer_long`.",
    }

    /// Whole seconds, at least 1: pingora takes 0 for "never".
    client_idle: Duration {
        kind: Kind::Duration { min: SECOND, max: DAY, whole_seconds: true },
        // Between two Fragments a client reads its file, and a minute of that is rare; longer than
        // the 60 s for which balancers in front of us commonly keep a connection.
        default: DefaultValue::seconds(75),
        applies: Reload,
        about: "Between two requests on one connection.",
    }

    client_write: Duration {
        kind: TIMEOUT,
        // A client that reads nothing of an Ack for that long is gone.
        default: DefaultValue::seconds(60),
        applies: Reload,
        about: "Without the client taking a byte of the answer.",
    }

    connect: Duration {
        kind: TIMEOUT,
        // A handshake within a farm takes a millisecond; 5 s outlasts two lost SYNs (1 s and 2 s).
        default: DefaultValue::seconds(5),
        applies: Reload,
        about: "To connect to a backend.",
    }

    /// Fragment and Close-Session. Longer than `client_body`.
    answer_long: Duration {
        kind: TIMEOUT,
        // IIS gives an application 5 minutes to take the file of a Close-Session or of the final
        // Fragment; its own answer about that has to come first.
        default: DefaultValue::seconds(310),
        applies: Reload,
        about: "For the answer to a Fragment or a Close-Session: an application behind the server \
                may take 5 minutes. It also runs while the gateway waits for the client's body, so \
                it must be longer than `client_body`.",
    }

    /// Everything else.
    answer: Duration {
        kind: TIMEOUT,
        // A Ping, a Create-Session or a Cancel-Session touches a directory at most.
        default: DefaultValue::seconds(60),
        applies: Reload,
        about: "For every other answer.",
    }

    /// A question of ours, from the connection to the head of the answer.
    ask: Duration {
        kind: TIMEOUT,
        // A server that knows a session by heart answers in milliseconds; one that is busy with
        // uploads, in seconds. What comes later is no answer, and the client comes again.
        default: DefaultValue::seconds(10),
        applies: Restart,
        about: "For the answer of a backend that is asked for a lost session, or told to cancel \
                one that no client knows of; the connection included.",
    }

    backend_write: Duration {
        kind: TIMEOUT,
        // Until a backend takes the next 64 KiB: a disk that is busy, not one that is dead.
        default: DefaultValue::seconds(60),
        applies: Reload,
        about: "Without the backend taking a byte of the body.",
    }

    backend_idle: Duration {
        kind: TIMEOUT,
        // Below the 120 s after which IIS closes an idle connection, so that a Fragment hardly ever
        // goes out on a connection that is being closed.
        default: DefaultValue::seconds(90),
        applies: Reload,
        about: "How long an unused connection to a backend is kept. Must be shorter than the \
                keep-alive time of the backends: 120 s for IIS.",
    }

    /// How long requests under way may go on once the listeners are closed.
    shutdown: Duration {
        kind: PERIOD,
        // As long as a client waits for an answer: what has not ended by then, its client gave up
        // on.
        default: DefaultValue::minutes(5),
        applies: Reload,
        about: "After SIGTERM: how long requests under way may go on, once the listeners are \
                closed. Give the process manager more than `shutdown_delay + shutdown`.",
    }

    /// How long the gateway is unready before it closes the listeners.
    shutdown_delay: Duration {
        kind: PERIOD,
        // Only a balancer in front of several gateways needs time to notice.
        default: DefaultValue::seconds(0),
        applies: Reload,
        about: "After SIGTERM: how long `/readyz` says no before the listeners are closed, for a \
                balancer in front to notice.",
    }
}
