//! Fuzz targets: functions of bytes that must hold for every input. Each checks what follows from being accepted, not
//! only that nothing panics.
//!
//! libFuzzer calls them through `fuzz_targets` (`fuzz/run`), the test run through a seeded driver
//! (`gateway/tests/fuzz.rs`), which includes the same files.

#[cfg(feature = "shell")]
mod shell;
mod wire;

#[cfg(feature = "shell")]
pub use shell::*;
pub use wire::*;
