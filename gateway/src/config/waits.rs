//! The section `[timeouts]`: one key for each wait of `docs/architecture.md`.

use super::defaults;
use super::keys::{Key, Section, Shape};
use super::kind::Kind;
use super::sections::{DAY, PERIOD, SECOND, TIMEOUT, span};

pub const TIMEOUTS: Section = Section {
    name: "timeouts",
    shape: Shape::Once,
    about: "Each counts from the last progress, so a slow upload may take days and a stalled \
            one does not hold memory.",
    keys: &[
        Key {
            name: "handshake",
            kind: TIMEOUT,
            preset: span(defaults::HANDSHAKE),
            about: "From a new connection to the end of its TLS handshake, with the header of the \
                    PROXY protocol where there is one.",
        },
        Key {
            name: "client_head",
            kind: TIMEOUT,
            preset: span(defaults::CLIENT_HEAD),
            about: "For a whole request head, from its first byte.",
        },
        Key {
            name: "client_body",
            kind: TIMEOUT,
            preset: span(defaults::CLIENT_BODY),
            about: "Without a byte of the body. Must be shorter than `answer_long`.",
        },
        Key {
            name: "client_idle",
            kind: Kind::Duration { min: SECOND, max: DAY, whole_seconds: true },
            preset: span(defaults::CLIENT_IDLE),
            about: "Between two requests on one connection.",
        },
        Key {
            name: "client_write",
            kind: TIMEOUT,
            preset: span(defaults::CLIENT_WRITE),
            about: "Without the client taking a byte of the answer.",
        },
        Key {
            name: "connect",
            kind: TIMEOUT,
            preset: span(defaults::CONNECT),
            about: "To connect to a backend.",
        },
        Key {
            name: "answer_long",
            kind: TIMEOUT,
            preset: span(defaults::ANSWER_LONG),
            about: "For the answer to a Fragment or a Close-Session: an application behind \
                    the server may take 5 minutes. It also runs while the gateway waits for \
                    the client's body, so it must be longer than `client_body`.",
        },
        Key {
            name: "answer",
            kind: TIMEOUT,
            preset: span(defaults::ANSWER),
            about: "For every other answer.",
        },
        Key {
            name: "ask",
            kind: TIMEOUT,
            preset: span(defaults::ASK),
            about: "For the answer of a backend that is asked for a lost session, or told to \
                    cancel one that no client knows of; the connection included.",
        },
        Key {
            name: "backend_write",
            kind: TIMEOUT,
            preset: span(defaults::BACKEND_WRITE),
            about: "Without the backend taking a byte of the body.",
        },
        Key {
            name: "backend_idle",
            kind: TIMEOUT,
            preset: span(defaults::BACKEND_IDLE),
            about: "How long an unused connection to a backend is kept. \
                    Must be shorter than the keep-alive time of the backends: 120 s for IIS.",
        },
        Key {
            name: "shutdown",
            kind: PERIOD,
            preset: span(defaults::SHUTDOWN),
            about: "After SIGTERM: how long requests under way may go on, once the listeners \
                    are closed. Give the process manager more than \
                    `shutdown_delay + shutdown`.",
        },
        Key {
            name: "shutdown_delay",
            kind: PERIOD,
            preset: span(defaults::SHUTDOWN_DELAY),
            about: "After SIGTERM: how long `/readyz` says no before the listeners are \
                    closed, for a balancer in front to notice.",
        },
    ],
    later: &[],
};
