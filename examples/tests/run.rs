//! The examples run, and print what they promise.
#![allow(clippy::unwrap_used, reason = "a failed test panics, in its helpers too")]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// What an example printed; `None` where the machine cannot run containers, said loudly.
fn output_of(example: &str) -> Option<String> {
    let reason = if !rustix::process::geteuid().is_root() {
        Some("needs root")
    } else if !orlop_examples::has_cgroup2() {
        Some("no cgroup v2 at /sys/fs/cgroup (run with conformance/in-cgroup2.sh)")
    } else {
        None
    };
    if let Some(reason) = reason {
        assert!(std::env::var_os("ORLOP_NO_SKIP").is_none(), "not skipped: {reason}");
        // Past the capture of tests that pass.
        let name = Path::new(example).file_name().unwrap_or_default().display();
        let line = format!("SKIPPED {name}: {reason}\n");
        let _: std::io::Result<()> = std::io::stderr().write_all(line.as_bytes());
        return None;
    }
    Some(run(example))
}

fn run(example: &str) -> String {
    let out = Command::new(example).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && errors.is_empty(), "{}\n{text}{errors}", out.status);
    text
}

#[test]
fn hello_speaks_from_inside_and_ends() {
    let Some(text) = output_of(env!("CARGO_BIN_EXE_hello")) else { return };
    for line in [
        "inside:  hello from pid 1\n",
        "inside:  hostname lower-deck\n",
        "inside:  1 process(es) to be seen\n",
        "inside:  effective capabilities 0000000000000000\n",
        "inside:  no new privileges 1\n",
        "outside: it ended with 0\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

/// A short run of it; the long one is for running by hand (docs/robustness.md).
#[test]
fn nothing_stays_in_a_process_that_has_made_many_containers() {
    let Some(text) = output_of(env!("CARGO_BIN_EXE_soak")) else { return };
    assert!(text.ends_with("nothing stays\n"), "{text}");
}

#[test]
fn threads_each_get_their_own_exit_code() {
    let Some(text) = output_of(env!("CARGO_BIN_EXE_threads")) else { return };
    let expected: Vec<_> = (1..=8).map(|n| format!("thread-{n} exited with {n}")).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn lifecycle_goes_from_created_to_gone() {
    let Some(text) = output_of(env!("CARGO_BIN_EXE_lifecycle")) else { return };
    let mut rest = text.as_str();
    for part in [
        "created, with a pid",
        "running, with a pid",
        "InvalidState: cannot start an already running container",
        "InvalidState: cannot delete container life that is not stopped: running",
        "AlreadyExists: container with given ID already exists",
        "kill and poll            stopped",
        "InvalidState: the container's init is not a child of this process",
        "stopped, with no pid",
        "Signaled(9)",
        "InvalidState: container not running",
        "NotFound: container does not exist",
    ] {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("no {part:?} in {text}")).1;
    }
}

#[test]
fn poll_hears_of_the_first_end_first() {
    let Some(text) = output_of(env!("CARGO_BIN_EXE_poll")) else { return };
    let expected = ["after-0", "after-300", "after-600"].map(|id| format!("{id} ended with 0"));
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn explain_prints_the_plan_as_any_user_on_any_host() {
    let text = run(env!("CARGO_BIN_EXE_explain"));
    assert!(text.lines().any(|line| line.starts_with("init    pivot-root")), "{text}");
    assert!(text.contains("linux.maskedPaths[0]"), "{text}");
}
