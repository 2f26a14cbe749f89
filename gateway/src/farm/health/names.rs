//! Following the name of a backend.
//!
//! Lookups can hang for as long as a resolver likes, so they have a task of their own: the probes
//! go on meanwhile, and there is never more than one lookup per backend.

use std::sync::Arc;
use std::time::Duration;

use super::BackendSpec;
use super::state::BackendHealth;
use super::watcher::{Ways, around};

/// Between two lookups, whoever asks.
const LEAST: Duration = Duration::from_secs(1);

pub(super) async fn follow(backend: Arc<BackendHealth>, spec: BackendSpec, ways: Ways) {
    let name = spec.address.to_string();
    if backend.address().is_some() {
        // Somebody has just looked.
        pause(&backend, spec.resolve).await;
    }
    let mut lost = false;
    loop {
        match (ways.lookup)(name.clone()).await {
            Ok(found) if !found.is_empty() => {
                lost = false;
                backend.found(&found);
            }
            // No answer is no reason to leave an address that works.
            answer => {
                let error = answer.err();
                if !lost {
                    let reason = error.as_ref().map(ToString::to_string);
                    let backend = &*backend.name;
                    tracing::warn!(backend, name, reason, "the name of a backend has no address");
                }
                lost = true;
            }
        }
        pause(&backend, spec.resolve).await;
    }
}

/// Until the next lookup: a backend that falls wants one soon.
async fn pause(backend: &BackendHealth, resolve: Duration) {
    tokio::time::sleep(LEAST.min(resolve)).await;
    tokio::select! {
        () = tokio::time::sleep(around(resolve.saturating_sub(LEAST))) => {}
        () = backend.look_up.notified() => {}
    }
}
