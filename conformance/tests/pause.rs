//! pause and resume, and what the other commands make of a paused container.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use orlop_conformance::{Container, Peer, Test, proc};

const TICKING: &str = "while :; do echo tick; sleep 0.02; done";

fn freeze_file(c: &Container<'_>) -> String {
    std::fs::read_to_string(c.bundle.cgroup().join("cgroup.freeze")).unwrap().trim().to_owned()
}

#[test]
fn paused_container_does_not_run_until_it_is_resumed() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh(TICKING).run_detached();
    c.wait_for_output("tick");
    let done = c.call("pause", &[], &[]).ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert_eq!(c.status(), "paused");
    assert_eq!(c.state()["pid"], c.pid);
    let before = c.written().len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(c.written().len(), before, "nothing runs");
    let done = c.call("resume", &[], &[]).ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert_eq!(c.status(), "running");
    orlop_conformance::run::wait_for("more output", || c.written().len() > before);
}

#[test]
fn created_container_can_be_paused_and_is_created_after() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "resumes to running, or refuses") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let _ = c.call("pause", &[], &[]).ok();
    assert_eq!(c.status(), "paused");
    let _ = c.start().fails("paused");
    let _ = c.call("resume", &[], &[]).ok();
    assert_eq!(c.status(), "created");
    let _ = c.start().ok();
    assert_eq!(c.status(), "running");
}

#[test]
fn only_what_runs_is_paused_and_only_what_is_paused_is_resumed() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "takes both in any state") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let _ = c.call("resume", &[], &[]).fails("container not paused");
    let _ = c.call("pause", &[], &[]).ok();
    let _ = c.call("pause", &[], &[]).fails("container not running");
    let _ = c.call("resume", &[], &[]).ok();
    let _ = c.kill("KILL").ok();
    let _ = c.reap();
    let _ = c.call("pause", &[], &[]).fails("container not running");
    let _ = c.call("resume", &[], &[]).fails("container not paused");
    assert_eq!(c.status(), "stopped");
}

#[test]
fn sigkill_ends_a_paused_container() {
    let Some(t) = Test::begin() else { return };
    for own_pid_namespace in [true, false] {
        let mut bundle = t.bundle().args(&["/bin/sleep", "100"]);
        if !own_pid_namespace {
            bundle = bundle.without_namespace("pid");
            bundle = bundle.remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
        }
        let c = bundle.run_detached();
        let _ = c.call("pause", &[], &[]).ok();
        let _ = c.kill("KILL").ok();
        c.wait_gone();
        let _ = c.reap();
        assert_eq!(c.status(), "stopped");
        if t.peer() != Peer::Crun {
            assert_eq!(freeze_file(&c), "0", "it is thawed as well");
        }
        let _ = c.delete().ok();
    }
}

#[test]
fn other_signals_wait_for_the_end_of_the_pause() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh("trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done");
    let c = c.run_detached();
    c.wait_for_output("ready");
    let _ = c.call("pause", &[], &[]).ok();
    let _ = c.kill("TERM").ok();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(c.status(), "paused");
    assert!(!proc::is_gone(c.pid));
    let _ = c.call("resume", &[], &[]).ok();
    assert_eq!(c.reap(), nix::sys::wait::WaitStatus::Exited(nix::unistd::Pid::from_raw(c.pid), 5));
}

#[test]
fn paused_container_is_deleted_only_by_force() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let _ = c.call("pause", &[], &[]).ok();
    let text = format!("cannot delete container {} that is not stopped: paused", c.bundle.id);
    let _ = c.delete().fails_with_any(&[&text, "is not in `created` or `stopped` state"]);
    let _ = c.call("delete", &["--force"], &[]).ok();
    assert!(proc::is_gone(c.pid));
    c.bundle.assert_nothing_left();
}

#[test]
fn what_is_frozen_when_its_init_dies_otherwise_can_be_deleted() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "calls it paused until it is resumed") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let _ = c.call("pause", &[], &[]).ok();
    let pid = nix::unistd::Pid::from_raw(c.pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let _ = c.reap();
    assert_eq!(c.status(), "stopped");
    // The engine's shim resumes what it knows as paused.
    let _ = c.call("resume", &[], &[]).ok();
    let _ = c.delete().ok();
}

#[test]
fn pause_of_what_does_not_exist_says_so() {
    let Some(t) = Test::begin() else { return };
    for command in ["pause", "resume"] {
        let _ = t.call(&[command, "nosuch"]).fails_with_any(&["does not exist", "No such file"]);
    }
}
