//! The runtime under the engines, in the machine that `conformance/machine.sh` boots: Docker and Podman with both
//! cgroup drivers, containerd's `ctr` and CRI plugin, and what builds images.
//!
//! A check that fails is tried with runc: what fails with that too is not ours, which is said loudly
//! and fails no test. With `ORLOP_CONTROL=1` every check runs with both, to test the checks.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod cli;
mod containers;
mod cri;
mod ctr;
mod daemons;
mod images;
mod z_afterwards;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What manages the cgroups of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    Cgroupfs,
    Systemd,
}

/// Whose containers a check makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runtime {
    Ours,
    /// Debian's runc.
    Control,
}

impl Runtime {
    /// The runtime's file.
    fn path(self) -> String {
        match self {
            Self::Ours => std::env::var("ORLOP_RUNTIME").expect("ORLOP_RUNTIME"),
            Self::Control => "/usr/sbin/runc".to_owned(),
        }
    }
}

/// Runs a check with our runtime; where that fails, once more, and with the control.
#[track_caller]
fn check(body: impl Fn(Runtime)) {
    if std::env::var_os("ORLOP_MACHINE").is_none() {
        assert!(std::env::var_os("ORLOP_NO_SKIP").is_none(), "run with conformance/machine.sh");
        say("SKIPPED an engine's test: run it with conformance/machine.sh");
        return;
    }
    let ours = catch_unwind(AssertUnwindSafe(|| body(Runtime::Ours)));
    match ours {
        Ok(()) => {
            if std::env::var_os("ORLOP_CONTROL").is_some() {
                body(Runtime::Control);
            }
        }
        Err(reason) => {
            let text = reason.downcast_ref::<String>().cloned().unwrap_or_default();
            // Engines wait in seconds of a clock that goes fifteen times too fast for them here.
            if catch_unwind(AssertUnwindSafe(|| body(Runtime::Ours))).is_ok() {
                say(&format!("UNSTEADY, passes when it is tried again: {text}"));
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| body(Runtime::Control))).is_ok() {
                resume_unwind(reason);
            }
            say(&format!("NOT OURS, fails with the control too: {text}"));
        }
    }
}

/// Says something even where the test succeeds.
fn say(text: &str) {
    let _: std::io::Result<()> = writeln!(std::io::stderr(), "{text}");
}
