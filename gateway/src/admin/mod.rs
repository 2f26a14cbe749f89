//! The listener for changes: `/api/v1`, over a loopback address with a token or a Unix socket.
//!
//! The hazard: whoever may call this may stop a farm, and a browser on the same machine will send
//! requests for any page that asks it to. So: a listener of its own, never a path on a public
//! port; loopback only; a token, or the permissions of a socket file; no change by GET; no foreign
//! `Host` or `Origin`. Every change is logged with who asked for it, and counted.
//!
//! Ids of sessions are bearer secrets, so no answer and no log holds a whole one; see
//! [`crate::sessions::view::Mark`] for what stands in their place.
//!
//! Reading order: [`control`], [`route`], [`access`], [`api`], [`server`].

pub mod access;
pub mod api;
pub mod control;
pub mod estimate;
pub mod operator;
pub mod ops;
pub mod rates;
pub mod refusal;
pub mod route;
pub mod server;
mod told;
pub mod unix;
pub mod view;
mod which;

pub use api::Api;
pub use control::{
    Action, ActionError, BackendInfo, BarredFolder, Control, Reloaded, StoreInfo, Touched,
};
pub use server::{attach, serve_tcp, serve_unix};
pub use unix::{Entry, UnixSocket};

/// The listener of `[admin]`; no traffic listener may have this name.
pub const ADMIN: &str = "admin";
