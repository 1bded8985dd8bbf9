//! What is left of many containers, in a short run: the long one is for running by hand (docs/robustness.md).
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::Command;

use orlop_conformance::{Test, rootfs};

/// Whether a soak of some containers found nothing, and what it said.
fn soak(t: &Test, runtime: &Path, cycles: &str, execs: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop-conformance"));
    command.args(["soak", "--jobs", "2", "--cycles", cycles, "--execs", execs, "--runtime"]);
    // What it leaves behind where the runtime is at fault is in the test's directory.
    let done = command.arg(runtime).env("TMPDIR", t.dir()).output().unwrap();
    let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    (done.status.success(), text)
}

#[test]
fn nothing_is_left_of_150_containers_and_50_processes() {
    let Some(t) = Test::begin() else { return };
    let (clean, text) = soak(&t, t.runtime(), "150", "50");
    assert!(clean && text.contains("150 containers and 50 processes"), "{text}");
}

#[test]
fn what_a_runtime_leaves_behind_is_found_out() {
    let Some(t) = Test::begin() else { return };
    let leaks = [
        ("processes", "sleep 60 & echo $! >> \"$0.pids\""),
        ("cgroups", "mkdir $(echo /sys/fs/cgroup/orlop-soak-$PPID-*)/left-$$"),
        ("files in /run", ": > /run/left-$$"),
        ("files in /dev/shm", ": > /dev/shm/left-$$"),
        ("mounts", "mount -t tmpfs left /mnt"),
    ];
    let all: Vec<_> = leaks.iter().map(|(_, leak)| *leak).collect();
    let leaky = t.dir().join("leaky");
    let script = format!(
        "#!/bin/sh\n{} \"$@\" || exit\n\
         for arg; do [ \"$arg\" != delete ] || {{ exec >&- 2>&-\n{}\n}}; done\nexit 0\n",
        t.runtime().display(),
        all.join("\n")
    );
    std::fs::write(&leaky, script).unwrap();
    rootfs::mode(&leaky, 0o755);
    let (clean, text) = soak(&t, &leaky, "4", "2");
    for pid in orlop_conformance::run::lossy(&t.dir().join("leaky.pids")).lines() {
        let _gone = Command::new("kill").args(["-9", pid]).status();
    }
    assert!(!clean, "{text}");
    for (figure, _) in leaks {
        let found = text.lines().any(|line| line.starts_with(figure) && line.ends_with("LEFT"));
        assert!(found, "{figure}: {text}");
    }
}
