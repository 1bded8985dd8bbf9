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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use orlop_conformance::run::limit;

/// What manages the cgroups of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    Cgroupfs,
    Systemd,
}

/// Whether an engine hears of an OOM kill. It does not always, whatever the runtime: conmon and containerd's shim look for
/// memory.events when they are woken, and find nothing where the cgroup has gone meanwhile (by systemd at once, by `delete`
/// soon). Older shims tell of the kill beside the exit, not before it (containerd's #8893, mended by #12714). A
/// runtime whose kills cannot be heard of fails each time.
fn is_heard(try_it: impl Fn() -> bool) -> bool {
    (0..6).any(|_| try_it())
}

/// Polls until `ready` is true. Not at once again: what is asked is a program that takes the one processor from what is
/// waited for.
#[track_caller]
fn wait_for(what: &str, ready: impl Fn() -> bool) {
    wait_for_none(|| if ready() { String::new() } else { format!("timed out: {what}") });
}

/// Polls until nothing is left, and fails with what is.
#[track_caller]
fn wait_for_none(left: impl Fn() -> String) {
    let end = Instant::now() + limit();
    loop {
        let left = left();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{left}");
        std::thread::sleep(Duration::from_millis(300));
    }
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

/// How many checks failed with the control too.
static NOT_OURS: AtomicUsize = AtomicUsize::new(0);

/// Runs a check with our runtime; where that fails, once more, and with the control.
#[track_caller]
fn check(body: impl Fn(Runtime)) {
    if !on_the_machine() {
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
            daemons::remove_containers();
            // Engines wait in seconds of a clock that goes fifteen times too fast for them here.
            if catch_unwind(AssertUnwindSafe(|| body(Runtime::Ours))).is_ok() {
                say(&format!("UNSTEADY, passes when it is tried again: {text}"));
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| body(Runtime::Control))).is_ok() {
                resume_unwind(reason);
            }
            let _before = NOT_OURS.fetch_add(1, Ordering::Relaxed);
            say(&format!("NOT OURS, fails with the control too: {text}"));
        }
    }
}

/// Whether this is the machine; elsewhere these tests are skipped.
#[track_caller]
fn on_the_machine() -> bool {
    if std::env::var_os("ORLOP_MACHINE").is_some() {
        return true;
    }
    assert!(std::env::var_os("ORLOP_NO_SKIP").is_none(), "run with conformance/machine.sh");
    say("SKIPPED an engine's test: run it with conformance/machine.sh");
    false
}

/// Says something even where the test succeeds.
fn say(text: &str) {
    let _: std::io::Result<()> = writeln!(std::io::stderr(), "{text}");
}
