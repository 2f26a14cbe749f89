//! A Close whose session its server does not know: closed and forgotten, or lost with its bytes.

mod deaths;
mod evidence;

use e2e_tests::farm::Farm;

/// Closes that came to that result.
#[track_caller]
fn closes(farm: &Farm, result: &str) -> f64 {
    farm.metric("bitsgw_lost_closes_total", &[("result", result)])
}
