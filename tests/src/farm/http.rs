//! Small requests to control and ops listeners.

use std::net::SocketAddr;

use serde_json::Value;

use crate::client::{Answer, Head, exchange};

/// # Panics
/// When no answer comes.
#[track_caller]
pub fn request(address: SocketAddr, method: &str, target: &str, body: &str) -> Answer {
    let bytes = Head::new(method, target)
        .field("Host", address)
        .field("Content-Type", "application/json")
        .field("Content-Length", body.len())
        .field("Connection", "close")
        .with_body(body.as_bytes());
    exchange(address, &bytes).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

/// # Panics
/// When the answer is no success, or no JSON.
#[track_caller]
pub fn json(address: SocketAddr, method: &str, target: &str, body: &str) -> Value {
    let answer = request(address, method, target, body);
    let text = answer.body_text();
    assert!((200..300).contains(&answer.status), "{method} {target}: {} {text}", answer.status);
    match text.trim() {
        "" => Value::Null,
        text => serde_json::from_str(text)
            .unwrap_or_else(|error| panic!("{method} {target}: {error} in {text:?}")),
    }
}
