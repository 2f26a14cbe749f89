//! Uploads through real proxies in front of the gateway, by the lines that `docs/behind-a-proxy.md` and `docs/behind-a-balancer.md` give to operators.
//!
//! [`document`] reads these lines, [`front`] starts the proxy, [`cases`] are what has to work through each of them:
//! with nginx and HAProxy in [`light`], with all five and with the clients of [`programs`] in [`field`], which
//! `tests/field` runs. [`claims`] is what the document says beside its blocks. What the other three send, and these clients, is replayed by [`captured`].

mod captured;
mod cases;
mod claims;
mod document;
mod field;
pub mod front;
mod light;
mod logins;
mod programs;
