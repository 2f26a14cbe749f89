//! The handling of a request, independent of what carries its bytes.
//!
//! A request passes through states, each of which holds what is known by then: it arrives
//! ([`arrival`]), is admitted ([`Gateway::admit`]), is tried at a backend ([`Gateway::next_try`]),
//! and is answered ([`Gateway::learn`]). What is known of it is an [`Exchange`]. When it is over,
//! however it ends, one [`report`] tells of it.
//!
//! No rule of BITS is decided here: each step asks the core and does what it says.
//!
//! What is absent: sockets, and every type of the library that carries plain HTTP.

mod absence;
mod admission;
pub mod arrival;
pub mod bandwidth;
mod creates;
pub mod creating;
pub mod deliveries;
mod evidence;
pub mod failure;
pub mod forwarding;
mod gateway;
pub mod head;
mod hosts;
mod learning;
mod life;
pub mod login;
mod logins;
mod lost_close;
mod notes;
mod orphans;
pub mod outages;
pub mod own_answer;
mod recovery;
mod reply_url;
pub mod report;
mod room;
pub mod state;
mod taking_turns;
mod tries;
pub mod turns;

pub use admission::Admission;
pub use gateway::Gateway;
pub use learning::{Learned, NotPassed};
pub use orphans::OrphanCanceller;
pub use state::Exchange;
pub use tries::Way;
