//! Whatever goes wrong at whichever system call, of the command or of the init that it spawns: killed with SIGKILL or
//! refused by the kernel, a command fails with a message that says what failed, or it has done all that it was asked
//! for; a container that runs is confined as it must be, and `delete --force` leaves nothing.
//!
//! Each call goes wrong once, and in sweeps that repeat much of another one only every third or fifth call;
//! with `ORLOP_FAULTS=all`, each in every way that is known for it. `ORLOP_FAULT` names one, by a part of what a
//! complaint begins with, such as `command.0 92`.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::path::Path;

use orlop_conformance::faults::{
    Fault, HOOKS, Inside, Kind, Shape, Sweep, Victim, both, is_confined, model, wait_a_little,
};
use orlop_conformance::run::{Done, lossy};
use orlop_conformance::{Peer, Test, traces};

/// Every call; every third or fifth where much is as in another sweep.
const ALL: usize = 1;
const THIRD: usize = 3;
const FIFTH: usize = 5;

fn begin() -> Option<Test> {
    let t = Test::begin()?;
    // runc executes itself and has many threads; crun has its own idea of an interrupted create.
    if t.differs(&[Peer::Runc, Peer::Crun], "is not made to fail anywhere") {
        None
    } else {
        Some(t)
    }
}

fn sweep_create(kind: Kind, shape: Shape, stride: usize) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t, shape);
    let model = model(&victim);
    let args = victim.making(&["create"]);
    let sweep = Sweep { victim: &victim, args, code: 1, kind, stride };
    let before = || {
        victim.forget();
        None
    };
    sweep.run(before, |outcome| {
        // Nothing runs: the init has ended when it was created, and before it was started.
        let ended = outcome.succeeded() && outcome.fault.process != "command";
        let status = victim.status();
        let result = if ended && status == Ok(Some("stopped".to_owned())) {
            Ok(())
        } else if outcome.succeeded() {
            start_and_look(&victim, &model, outcome.fault)
        } else if outcome.was_killed() {
            victim.status_is(&["created", "stopped"]).map(drop)
        } else {
            victim.nothing_left()
        };
        both(result, victim.removed())
    });
}

fn start_and_look(victim: &Victim<'_>, model: &Inside, fault: &Fault) -> Result<(), String> {
    let done: Done = victim.t.call(&["start", victim.id()]);
    if !done.status.success() {
        return Err(format!("SUCCESS, BUT {done}"));
    }
    both(is_confined(victim, model, fault), victim.hooks_ran(&HOOKS[..4]))
}

fn sweep_run(kind: Kind, shape: Shape, stride: usize) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t, shape);
    let model = model(&victim);
    let args = victim.making(&["run", "--detach"]);
    let sweep = Sweep { victim: &victim, args, code: 1, kind, stride };
    let before = || {
        victim.forget();
        None
    };
    sweep.run(before, |outcome| {
        let result = if outcome.killed_another() && outcome.succeeded() {
            victim.status_is(&["running", "stopped"]).map(drop)
        } else if outcome.succeeded() {
            both(is_confined(&victim, &model, outcome.fault), victim.hooks_ran(&HOOKS[..4]))
        } else if outcome.was_killed() {
            victim.status_is(&["running", "stopped"]).map(drop)
        } else {
            victim.nothing_left()
        };
        both(result, victim.removed())
    });
}

fn sweep_start(kind: Kind) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t, Shape::Plain);
    let model = model(&victim);
    let sweep =
        Sweep { victim: &victim, args: args(&victim, &["start"]), code: 1, kind, stride: ALL };
    let before = || {
        victim.made(&["create"]);
        let state = victim.t.call(&["state", victim.id()]).ok().json();
        Some(i32::try_from(state["pid"].as_i64().unwrap()).unwrap())
    };
    sweep.run(before, |outcome| {
        let mut result = victim.status_is(&["created", "running", "stopped"]).map(drop);
        if outcome.succeeded() && !outcome.killed_another() {
            let looked =
                both(is_confined(&victim, &model, outcome.fault), victim.hooks_ran(&HOOKS[..4]));
            result = both(result, looked);
        } else if victim.status() == Ok(Some("created".to_owned())) {
            // Whoever finds it so can start it; the released one may have begun to run since.
            let done = t.call(&["start", victim.id()]);
            if done.status.success() {
                result = both(result, is_confined(&victim, &model, outcome.fault));
            } else if !done.stderr.contains("cannot start") {
                result = both(result, Err(format!("{done}")));
            }
        }
        both(result, victim.removed())
    });
}

/// The command, and the id.
fn args(victim: &Victim<'_>, command: &[&str]) -> Vec<String> {
    command.iter().chain(&[victim.id()]).map(|arg| (*arg).to_owned()).collect()
}

/// Attached, or with a terminal and detached.
fn sweep_exec(kind: Kind, shape: Shape, terminal: bool, stride: usize) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t, shape);
    let file = |name: &str| victim.bundle.dir.join(name).to_str().unwrap().to_owned();
    let console = victim.console();
    let process = file(if terminal { "terminal.json" } else { "process.json" });
    let mut command = vec!["exec", "--process", process.as_str()];
    if terminal {
        command.extend(["--detach", "--console-socket", console.as_str()]);
    }
    victim.started();
    victim.forget();
    let output = std::fs::File::options().append(true).create(true).open(&victim.output).unwrap();
    let _ = victim.t.command(args(&victim, &command)).stdout(output).done().ok();
    let model = victim.inside().unwrap();
    assert_eq!(model.status("Uid"), "1001\t1001\t1001\t1001");
    assert_eq!(
        (model.status("CapEff").as_str(), model.status("Seccomp").as_str()),
        ("0000000000000400", "2")
    );
    victim.removed().unwrap();
    let args = args(&victim, &command);
    let sweep = Sweep { victim: &victim, args, code: 255, kind, stride };
    // The container's own processes.
    let own = RefCell::new(Vec::new());
    let before = || {
        if victim.status().unwrap().as_deref() != Some("running") {
            victim.started();
            let mut processes = Vec::new();
            wait_a_little(|| {
                processes = traces::processes(victim.id());
                processes.iter().any(|process| process.name == "sleep")
            });
            *own.borrow_mut() = processes.iter().map(|process| process.pid).collect();
        }
        victim.forget();
        None
    };
    sweep.run(before, |outcome| {
        let mut result = victim.status_is(&["running"]).map(drop);
        if outcome.succeeded() && !outcome.killed_another() {
            result = both(result, is_confined(&victim, &model, outcome.fault));
        }
        // A program whose `exec` was killed runs on to its end.
        let mut left = Vec::new();
        wait_a_little(|| {
            drop(victim.said());
            left = traces::processes_after_reaping(victim.id());
            // What has ended and is the container's program's to wait for, as pid 1, is that program's business.
            let own = own.borrow();
            left.retain(|process| {
                let orphan = process.zombie && own.contains(&process.parent);
                !own.contains(&process.pid) && !orphan
            });
            left.is_empty()
        });
        if left.is_empty() { result } else { both(result, Err(format!("left: {left:?}"))) }
    });
    victim.removed().unwrap();
}

/// Frozen and thawed, over and over. `from` is what it is before the command, and `to` after it.
fn sweep_freezing(kind: Kind, command: &str, from: &str, to: &str) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t, Shape::Plain);
    let sweep =
        Sweep { victim: &victim, args: args(&victim, &[command]), code: 1, kind, stride: ALL };
    let back = if command == "pause" { "resume" } else { "pause" };
    let before = || {
        let mut status = victim.status().unwrap();
        if status.is_none() {
            victim.started();
            status = victim.status().unwrap();
        }
        if status.as_deref() != Some(from) {
            let _ = t.call(&[back, victim.id()]).ok();
        }
        None
    };
    sweep.run(before, |outcome| {
        if outcome.succeeded() {
            victim.status_is(&[to]).map(drop)
        } else if outcome.was_killed() {
            victim.status_is(&[from, to]).map(drop)
        } else {
            victim.status_is(&[from]).map(drop)
        }
    });
    victim.removed().unwrap();
}

fn sweep_kill(kind: Kind, shape: Shape) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t, shape);
    let args = [args(&victim, &["kill"]), vec!["KILL".to_owned()]].concat();
    let sweep = Sweep { victim: &victim, args, code: 1, kind, stride: ALL };
    let before = || {
        if victim.status().unwrap().as_deref() != Some("running") {
            if victim.status().unwrap().is_some() {
                victim.removed().unwrap();
            }
            victim.started();
        }
        None
    };
    sweep.run(before, |outcome| {
        if !outcome.succeeded() {
            return victim.status_is(&["running", "stopped"]).map(drop);
        }
        // All of it, not its init alone.
        wait_a_little(|| traces::processes_after_reaping(victim.id()).is_empty());
        let left = traces::processes_after_reaping(victim.id());
        let left = if left.is_empty() { Ok(()) } else { Err(format!("left: {left:?}")) };
        both(left, victim.status_is(&["stopped"]).map(drop))
    });
    victim.removed().unwrap();
}

/// A limit that is another one after a success, and the same after a failure.
fn sweep_update(kind: Kind) {
    const FILE: &str = "hugetlb.2MB.max";
    let Some(t) = begin() else { return };
    let controllers = lossy(Path::new("/sys/fs/cgroup/cgroup.controllers"));
    if t.lacks("hugetlb", !controllers.split_whitespace().any(|name| name == "hugetlb")) {
        return;
    }
    let victim = Victim::new(&t, Shape::Limited);
    let limit = |limit: u64| {
        let path = victim.bundle.dir.join(format!("{limit}.json"));
        let text = serde_json::json!({"unified": {FILE: limit.to_string()}}).to_string();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (old, new) = (4 << 20, 8 << 20);
    let (old_file, new_file) = (limit(old), limit(new));
    let args = args(&victim, &["update", "--resources", &new_file]);
    let sweep = Sweep { victim: &victim, args, code: 1, kind, stride: ALL };
    let before = || {
        if victim.status().unwrap().is_none() {
            victim.started();
        }
        let _ = t.call(&["update", "--resources", &old_file, victim.id()]).ok();
        None
    };
    sweep.run(before, |outcome| {
        let value: u64 = lossy(&victim.bundle.cgroup().join(FILE)).trim().parse().unwrap();
        let possible: &[u64] = if outcome.succeeded() {
            &[new]
        } else if outcome.was_killed() {
            &[old, new]
        } else {
            &[old]
        };
        let right = possible.contains(&value);
        let limit = if right { Ok(()) } else { Err(format!("the limit is {value}")) };
        both(limit, victim.status_is(&["running"]).map(drop))
    });
    victim.removed().unwrap();
}

fn sweep_delete(kind: Kind, made: &[&str], delete: &[&str]) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t, Shape::Plain);
    let sweep = Sweep { victim: &victim, args: args(&victim, delete), code: 1, kind, stride: ALL };
    let before = || {
        victim.made(made);
        None
    };
    let here = if made == ["create"] { "created" } else { "running" };
    sweep.run(before, |outcome| {
        let result = if outcome.succeeded() {
            both(victim.nothing_left(), victim.hooks_ran(&["poststop"]))
        } else {
            victim.status_is(&[here, "stopped"]).map(drop)
        };
        both(result, victim.removed())
    });
}

#[test]
fn create_survives_every_refused_system_call_or_says_what_failed() {
    sweep_create(Kind::Errnos, Shape::Plain, ALL);
}

#[test]
fn create_and_its_init_can_be_killed_before_any_system_call() {
    sweep_create(Kind::Kills, Shape::Plain, ALL);
}

#[test]
fn run_survives_every_refused_system_call_or_says_what_failed() {
    sweep_run(Kind::Errnos, Shape::Plain, THIRD);
}

#[test]
fn run_and_its_init_can_be_killed_before_any_system_call() {
    sweep_run(Kind::Kills, Shape::Plain, THIRD);
}

#[test]
fn start_survives_every_refused_system_call_or_says_what_failed() {
    sweep_start(Kind::Errnos);
}

#[test]
fn start_and_the_init_can_be_killed_before_any_system_call() {
    sweep_start(Kind::Kills);
}

#[test]
fn exec_survives_every_refused_system_call_or_says_what_failed() {
    sweep_exec(Kind::Errnos, Shape::Plain, false, ALL);
}

#[test]
fn exec_and_its_init_can_be_killed_before_any_system_call() {
    sweep_exec(Kind::Kills, Shape::Plain, false, ALL);
}

#[test]
fn forced_delete_survives_every_refused_system_call_or_says_what_failed() {
    sweep_delete(Kind::Errnos, &["run", "--detach"], &["delete", "--force"]);
}

#[test]
fn forced_delete_can_be_killed_before_any_system_call() {
    sweep_delete(Kind::Kills, &["run", "--detach"], &["delete", "--force"]);
}

#[test]
fn delete_of_a_created_container_survives_every_refused_system_call_or_says_what_failed() {
    sweep_delete(Kind::Errnos, &["create"], &["delete"]);
}

#[test]
fn delete_of_a_created_container_can_be_killed_before_any_system_call() {
    sweep_delete(Kind::Kills, &["create"], &["delete"]);
}

#[test]
fn create_with_a_user_namespace_survives_every_refused_system_call_or_says_what_failed() {
    sweep_create(Kind::Errnos, Shape::Ranges, FIFTH);
}

#[test]
fn create_with_a_user_namespace_can_be_killed_before_any_system_call() {
    sweep_create(Kind::Kills, Shape::Ranges, FIFTH);
}

#[test]
fn create_with_a_terminal_survives_every_refused_system_call_or_says_what_failed() {
    sweep_create(Kind::Errnos, Shape::Terminal, FIFTH);
}

#[test]
fn create_with_a_terminal_can_be_killed_before_any_system_call() {
    sweep_create(Kind::Kills, Shape::Terminal, FIFTH);
}

#[test]
fn run_in_a_joined_pid_namespace_survives_every_refused_system_call_or_says_what_failed() {
    sweep_run(Kind::Errnos, Shape::JoinedPid, FIFTH);
}

#[test]
fn run_in_a_joined_pid_namespace_can_be_killed_before_any_system_call() {
    sweep_run(Kind::Kills, Shape::JoinedPid, FIFTH);
}

#[test]
fn exec_with_a_terminal_survives_every_refused_system_call_or_says_what_failed() {
    sweep_exec(Kind::Errnos, Shape::Plain, true, FIFTH);
}

#[test]
fn exec_with_a_terminal_can_be_killed_before_any_system_call() {
    sweep_exec(Kind::Kills, Shape::Plain, true, FIFTH);
}

#[test]
fn exec_in_a_user_namespace_survives_every_refused_system_call_or_says_what_failed() {
    sweep_exec(Kind::Errnos, Shape::Ranges, false, FIFTH);
}

#[test]
fn exec_in_a_user_namespace_can_be_killed_before_any_system_call() {
    sweep_exec(Kind::Kills, Shape::Ranges, false, FIFTH);
}

#[test]
fn pause_survives_every_refused_system_call_or_says_what_failed() {
    sweep_freezing(Kind::Errnos, "pause", "running", "paused");
}

#[test]
fn pause_can_be_killed_before_any_system_call() {
    sweep_freezing(Kind::Kills, "pause", "running", "paused");
}

#[test]
fn resume_survives_every_refused_system_call_or_says_what_failed() {
    sweep_freezing(Kind::Errnos, "resume", "paused", "running");
}

#[test]
fn resume_can_be_killed_before_any_system_call() {
    sweep_freezing(Kind::Kills, "resume", "paused", "running");
}

#[test]
fn update_survives_every_refused_system_call_or_says_what_failed() {
    sweep_update(Kind::Errnos);
}

#[test]
fn update_can_be_killed_before_any_system_call() {
    sweep_update(Kind::Kills);
}

#[test]
fn kill_survives_every_refused_system_call_or_says_what_failed() {
    sweep_kill(Kind::Errnos, Shape::Plain);
}

#[test]
fn kill_can_be_killed_before_any_system_call() {
    sweep_kill(Kind::Kills, Shape::Plain);
}

#[test]
fn kill_in_a_joined_pid_namespace_survives_every_refused_system_call_or_says_what_failed() {
    sweep_kill(Kind::Errnos, Shape::JoinedPid);
}

#[test]
fn kill_in_a_joined_pid_namespace_can_be_killed_before_any_system_call() {
    sweep_kill(Kind::Kills, Shape::JoinedPid);
}
