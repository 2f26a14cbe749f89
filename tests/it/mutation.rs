//! Thousands of mutated conversations through a real gateway, judged by one rule: every byte that a backend received is
//! a well-formed request that the gateway wrote, of one client's request; and everything that a client heard is an
//! answer to what it sent.
//!
//! `MUTATIONS` says how many (a million, say), `MUTATION_SEED` replays a run and `MUTATION_NUMBER` one conversation of it.
//!
//! Reading order: [`conversation`] and [`words`] make the input, [`strict`] says what an honest server reads in it,
//! [`recorder`] judges what arrives at the backend, [`client`] what comes back, [`run`] drives.

mod answers;
mod backend;
mod client;
mod conversation;
mod mirror;
mod recorder;
mod run;
mod strict;
mod words;
