//! The handling of a request, independent of what carries its bytes.
//!
//! A [`Gateway`] is what carriers ask. It puts together the owners of the steps, each of which holds
//! what it needs and no more:
//!
//! | step | owner | asks |
//! |---|---|---|
//! | a head is here: whose is it, and where does it go? | `admission` | `router`, `session_turns`, `room`, `recovery`, `failover` |
//! | which backend now, over which connection? | `tries` | `router`, `logins`, `failover`, `creates` |
//! | its body passes | `bodies` | `session_turns` |
//! | an answer is here: what does it teach? | `learning` | `creates`, `ends`, `lost_close`, `cancellation` |
//! | it is over | `state` | `report`, `cancellation` |
//!
//! What is known of a request is an [`Exchange`], which passes from step to step. When it is over,
//! however it ends, one [`report`] tells of it.
//!
//! No rule of BITS is decided here: each step asks the core and does what it says.
//!
//! What is absent: sockets, and every type of the library that carries plain HTTP.

mod admission;
pub mod arrival;
pub mod bandwidth;
mod bodies;
mod cancellation;
mod creates;
pub mod creating;
pub mod deliveries;
mod ends;
mod failover;
pub mod failure;
pub mod forwarding;
mod gateway;
pub mod head;
mod learning;
mod live;
pub mod login;
mod logins;
mod lookup;
mod lost_close;
mod onward;
mod orphans;
pub mod outages;
pub mod own_answer;
mod recovery;
mod reply_url;
pub mod report;
#[cfg(test)]
pub(crate) mod rig;
mod room;
mod router;
mod session_turns;
pub mod state;
mod told;
mod tries;
pub mod turns;

pub use admission::Course;
pub use gateway::Gateway;
pub use learning::{Learned, NotPassed};
pub use orphans::OrphanCanceller;
pub use state::Exchange;
pub use tries::Way;
