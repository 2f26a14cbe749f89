//! The listener for changes: `/api/v1` and the page, over an address with a token or a Unix socket.
//!
//! The hazard: whoever may call this may stop a farm, and a browser on the same machine will send
//! requests for any page that asks it to. So: a listener of its own, never a path on a public
//! port; beyond loopback only TLS; a token, or the permissions of a socket file; no change by GET; no foreign
//! `Host` or `Origin`. Every change is logged with who asked for it, and counted.
//!
//! Ids of sessions are bearer secrets, so no answer and no log holds a whole one; see
//! [`crate::sessions::view::Mark`] for what stands in their place.
//!
//! Reading order: [`control`], [`route`], [`access`], [`api`], `look`, `page`, [`server`]. Behind it, and behind
//! [`ops`], is one HTTP service, `service`.

pub mod access;
pub mod api;
mod body;
pub mod control;
pub mod estimate;
mod live;
mod look;
pub mod operator;
pub mod ops;
mod page;
pub mod rates;
pub mod refusal;
pub mod route;
pub mod server;
mod service;
mod signed_in;
mod stay;
mod told;
pub mod unix;
pub mod view;
mod which;

pub use access::Access;
pub use api::Api;
pub use control::{
    Action, ActionError, BackendInfo, BarredFolder, Control, Reloaded, StoreInfo, Touched,
};
pub use page::keep_up_to_date;
pub use server::{attach, serve_tcp, serve_unix};
pub use unix::{Entry, UnixSocket};

/// The listener of `[admin]`; no traffic listener may have this name.
pub const ADMIN: &str = "admin";
