//! Panics on demand, so that tests can see what a mistake in a filter would cost.
//!
//! They exist in debug builds only, and there only where the environment asks for them.

use http::HeaderMap;

/// Panics when the request's `X-Panic` names this place.
#[cfg(debug_assertions)]
pub fn hit(place: &str, fields: &HeaderMap) {
    static ALLOWED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if !ALLOWED.get_or_init(|| std::env::var_os("BITS_GATEWAY_PANICS").is_some()) {
        return;
    }
    if fields.get("x-panic").is_some_and(|wanted| wanted == place) {
        panic!("on demand, in {place}");
    }
}

#[cfg(not(debug_assertions))]
pub fn hit(_: &str, _: &HeaderMap) {}
