//! The commands of a runtime, and what each must have come to whatever went wrong.

use std::cell::RefCell;
use std::path::Path;

use super::{
    Fault, HOOKS, Inside, Kind, Shape, Sweep, Victim, both, ids, is_confined, model, wait_a_little,
};
use crate::run::{Done, lossy};
use crate::{Peer, Test, traces};

/// Every call: for the stride of a sweep that is not like another one.
const ALL: usize = 1;

fn begin() -> Option<Test> {
    let t = Test::begin()?;
    // runc executes itself and has many threads; crun has its own idea of an interrupted create.
    if t.differs(&[Peer::Runc, Peer::Crun], "is not made to fail anywhere") {
        None
    } else {
        Some(t)
    }
}

/// The same, where what a shape takes is there.
fn begin_with(shape: Shape) -> Option<Test> {
    let t = begin()?;
    let ranges = shape == Shape::RootlessRanges;
    let lacks = ranges && t.lacks("newuidmap", !Path::new("/usr/bin/newuidmap").exists());
    (!lacks).then_some(t)
}

/// `create`: where it succeeds, `start` as well, and the container is what it is undisturbed.
///
/// # Panics
/// With all that is not as it must be.
pub fn create(kind: Kind, shape: Shape, stride: usize) {
    let Some(t) = begin_with(shape) else { return };
    let victim = Victim::new(&t, shape);
    let model = model(&victim);
    let args = victim.making(&["create"]);
    let sweep = Sweep { victim: &victim, args, code: 1, stays: false, kind, stride };
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
    let done: Done = victim.call(&["start", victim.id()]);
    if !done.status.success() {
        return Err(format!("SUCCESS, BUT {done}"));
    }
    both(is_confined(victim, model, fault), victim.hooks_ran(&HOOKS[..4]))
}

/// `run --detach`
///
/// # Panics
/// With all that is not as it must be.
pub fn run(kind: Kind, shape: Shape, stride: usize) {
    let Some(t) = begin_with(shape) else { return };
    let victim = Victim::new(&t, shape);
    let model = model(&victim);
    let args = victim.making(&["run", "--detach"]);
    let sweep = Sweep { victim: &victim, args, code: 1, stays: false, kind, stride };
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

/// Attached: its end is the container's, and it deletes that.
///
/// # Panics
/// With all that is not as it must be.
pub fn attached_run(kind: Kind, stride: usize) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t, Shape::Brief);
    let model = model(&victim);
    let args = victim.making(&["run"]);
    let sweep = Sweep { victim: &victim, args, code: 1, stays: true, kind, stride };
    let before = || {
        victim.forget();
        None
    };
    sweep.run(before, |outcome| {
        let result = if outcome.was_killed() {
            victim.status_is(&["running", "stopped"]).map(drop)
        } else if !outcome.succeeded() {
            victim.nothing_left()
        } else if outcome.stderr.is_empty() {
            let ran = both(is_confined(&victim, &model, outcome.fault), victim.hooks_ran(&HOOKS));
            both(ran, victim.nothing_left())
        } else {
            // It could not be deleted, or is and its hook failed.
            let ran =
                both(is_confined(&victim, &model, outcome.fault), victim.hooks_ran(&HOOKS[..4]));
            both(ran, victim.status_is(&["stopped"]).map(drop))
        };
        both(result, victim.removed())
    });
}

/// `start`, with the init that it releases.
///
/// # Panics
/// With all that is not as it must be.
pub fn start(kind: Kind, shape: Shape, stride: usize) {
    let Some(t) = begin_with(shape) else { return };
    let victim = Victim::new(&t, shape);
    let model = model(&victim);
    let args = args(&victim, &["start"]);
    let sweep = Sweep { victim: &victim, args, code: 1, stays: false, kind, stride };
    let before = || {
        victim.made(&["create"]);
        let state = victim.call(&["state", victim.id()]).ok().json();
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
            let done = victim.call(&["start", victim.id()]);
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
///
/// # Panics
/// With all that is not as it must be.
pub fn exec(kind: Kind, shape: Shape, terminal: bool, stride: usize) {
    let Some(t) = begin_with(shape) else { return };
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
    victim.does(args(&victim, &command));
    let model = victim.inside().unwrap();
    assert_eq!(model.status("Uid"), ids(victim.users()[1]));
    assert_eq!(
        (model.status("CapEff").as_str(), model.status("Seccomp").as_str()),
        ("0000000000000400", "2")
    );
    victim.removed().unwrap();
    let args = args(&victim, &command);
    let sweep = Sweep { victim: &victim, args, code: 255, stays: false, kind, stride };
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
///
/// # Panics
/// With all that is not as it must be.
pub fn freezing(kind: Kind, command: &str, from: &str, to: &str) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t, Shape::Plain);
    let sweep = Sweep {
        victim: &victim,
        args: args(&victim, &[command]),
        code: 1,
        stays: false,
        kind,
        stride: ALL,
    };
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

/// `kill` with SIGKILL, which reaches all processes.
///
/// # Panics
/// With all that is not as it must be.
pub fn kill(kind: Kind, shape: Shape) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t, shape);
    let args = [args(&victim, &["kill"]), vec!["KILL".to_owned()]].concat();
    let sweep = Sweep { victim: &victim, args, code: 1, stays: false, kind, stride: ALL };
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
            // What still runs may be about to end: it is not there for the next one.
            let status = victim.status_is(&["running", "stopped"]);
            return both(status, victim.removed());
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
///
/// # Panics
/// With all that is not as it must be.
pub fn update(kind: Kind) {
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
    let sweep = Sweep { victim: &victim, args, code: 1, stays: false, kind, stride: ALL };
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

/// `delete`, of a container that was made by a command, or by none: what a `create` that was killed has left.
///
/// # Panics
/// With all that is not as it must be.
pub fn delete(kind: Kind, shape: Shape, (made, delete): (&[&str], &[&str]), stride: usize) {
    let Some(t) = begin_with(shape) else { return };
    let victim = Victim::new(&t, shape);
    let args = args(&victim, delete);
    let sweep = Sweep { victim: &victim, args, code: 1, stays: false, kind, stride };
    let stuck = made.is_empty();
    let before = || {
        if stuck {
            victim.left_by_create()
        } else {
            victim.made(made)
        }
        None
    };
    let known: &[&str] = match made {
        [] => &[],
        ["create"] => &["created", "stopped"],
        _ => &["running", "stopped"],
    };
    sweep.run(before, |outcome| {
        let result = if outcome.succeeded() {
            both(victim.nothing_left(), victim.hooks_ran(&["poststop"]))
        } else {
            victim.status_is(known).map(drop)
        };
        both(result, victim.removed())
    });
}
