//! End-to-end harness: real processes, real sockets, real files.
//!
//! Nothing here knows the gateway's code. The client writes the header names of MC-BUP as literals, so that a mistake
//! in the product's codec cannot hide behind itself.
//!
//! A test reads like this:
//!
//! ```text
//! let farm = Farm::of_stubs(3).set("affinity.fallback_timeout", "\"1h\"").start();
//! let content = Content::seeded(1, 50_000);
//! let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
//! let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
//! assert!(upload.run_until(|upload| upload.position() >= 20_000));
//! farm.stub(0).fault(StubFault::on(PacketType::Fragment, "reset"));
//! let report = upload.run();
//! report.expect_complete();
//! farm.expect_stored("/in/a.bin", &content);
//! farm.expect_healthy();
//! ```
//!
//! Environment: `BITS_GATEWAY_BIN` and `BACKEND_STUB_BIN` name the programs under test (else they lie beside the test's
//! own target directory, and are built when missing), `E2E_TLS=front|both|mutual` has every farm speak TLS that says
//! nothing of it, `E2E_SEED` replays a randomised test, `E2E_KEEP` keeps the
//! files, `E2E_ALL` also runs what needs root and a loop device.
//!
//! Reading order: [`farm`] starts stubs and a gateway, [`client`] uploads through them, [`fault_link`] breaks the
//! network between any two parties, [`fleet`] lets many clients upload at once and judges them, [`raw_backend`] records
//! what arrives, [`wait`] replaces every sleep.

pub mod binaries;
pub mod browser;
pub mod client;
pub mod clock;
pub mod crowd;
pub mod data;
pub mod farm;
pub mod fault_link;
pub mod fleet;
pub mod hosts;
pub mod mount;
pub mod open_files;
pub mod pki;
pub mod ports;
pub mod raw_backend;
pub mod temp;
pub mod tls_link;
pub mod wait;
