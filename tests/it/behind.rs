//! Uploads through real proxies in front of the gateway, by the lines that `docs/behind-a-proxy.md` gives to operators.

mod document;
mod front;
mod nginx;
