//! Logins that count for a connection, over a gateway that shares its connections to backends: threat T4.
//!
//! Items 89 and 90 of the conformance checklist. [`server`] is a server with the three legs of NTLM, which writes down
//! every request that comes to it under another's identity.

mod binding;
mod chaos;
mod crowd;
mod hostile;
mod nginx;
mod proxied;
pub mod server;
mod tls;
