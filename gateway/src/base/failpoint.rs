//! Panics on demand, so that tests can see what a mistake in a filter would cost.
//!
//! They exist in debug builds only, and there only where the environment asks for them.

#[cfg(debug_assertions)]
use gateway_core::protocol::Fields;
use gateway_core::protocol::head::RequestHead;

/// Panics when the request's `X-Panic` names this place.
#[cfg(debug_assertions)]
pub fn hit(place: &str, head: &RequestHead) {
    static ALLOWED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if !ALLOWED.get_or_init(|| std::env::var_os("BITS_GATEWAY_PANICS").is_some()) {
        return;
    }
    let is_here = |(_, name, value): (_, &[u8], &[u8])| {
        name.eq_ignore_ascii_case(b"x-panic") && value == place.as_bytes()
    };
    if head.all().any(is_here) {
        panic!("on demand, in {place}");
    }
}

#[cfg(not(debug_assertions))]
pub fn hit(_: &str, _: &RequestHead) {}

/// Panics where the environment names this place, for what no request comes to.
#[cfg(debug_assertions)]
pub fn hit_anyway(place: &str) {
    if std::env::var_os("BITS_GATEWAY_PANICS").is_some_and(|named| named == place) {
        panic!("on demand, in {place}");
    }
}

#[cfg(not(debug_assertions))]
pub fn hit_anyway(_: &str) {}
