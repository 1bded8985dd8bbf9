//! Tests and measures an OCI runtime from outside, as an engine would use it.
//!
//! Nothing here links the runtime: a program is named by `ORLOP_RUNTIME` (the workspace's own `orlop` if unset), gets
//! bundles made from JSON and a busybox root filesystem, and is judged by its exit codes, its output, and what the
//! kernel says about the container. The same tests run on the peers (runc, crun), which shows that they test the
//! contract and not one program; where a peer is known to differ, the test says so by name.
//!
//! This is test support, so it panics where a test would fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test, with its reason in the message"
)]

pub mod agent;
pub mod bench;
pub mod bundle;
pub mod caller;
pub mod cases;
pub mod console;
pub mod container;
pub mod faults;
pub mod harness;
pub mod proc;
pub mod rootfs;
pub mod rootless;
pub mod run;
pub mod soak;
pub mod suite;
pub mod tmp;
pub mod traces;

pub use bundle::Bundle;
pub use container::Container;
pub use harness::{Peer, Test, driver_flag};
pub use run::{Done, Run};
