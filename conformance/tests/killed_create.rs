//! A runtime that is killed between any two of its system calls leaves what `delete --force` removes.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use orlop_conformance::{Bundle, Peer, Test, driver_flag, run::wait_for, traces};
use serde_json::json;

mod sys {
    #![allow(unsafe_code)]

    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use nix::sys::ptrace;

    /// Makes the command stop at its execve(2), traced by the thread that spawns it.
    pub(super) fn trace(command: &mut Command) {
        let trace_me = || ptrace::traceme().map_err(std::io::Error::from);
        // SAFETY: the closure runs between fork and execve of a process with other threads, where a lock could be held
        // forever and memory must not be allocated; it is one system call and the conversion of a number.
        unsafe { command.pre_exec(trace_me) };
    }
}

/// How a traced command ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// By our signal, before it made the system call of that number.
    Killed,
    /// By itself, as it has no such call.
    Exited(i32),
}

/// Runs a command up to its `count`th system call (from 1), and kills it before the kernel executes that.
///
/// Only the command's own first thread is traced, not what it spawns.
fn killed_at(count: u32, runtime: &Path, errors: &Path, args: &[&str]) -> End {
    let mut command = Command::new(runtime);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::create(errors).unwrap());
    sys::trace(&mut command);
    #[expect(clippy::zombie_processes, reason = "waitpid(2) below sees its stops and its end")]
    let child = command.spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(_, Signal::SIGTRAP)));
    ptrace::setoptions(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL).unwrap();
    let (mut stops, mut signal) = (0, None);
    loop {
        ptrace::syscall(pid, signal.take()).unwrap();
        match waitpid(pid, None).unwrap() {
            // Each call stops twice: before the kernel executes it and after.
            WaitStatus::PtraceSyscall(_) => {
                stops += 1;
                if stops == 2 * count - 1 {
                    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
                    assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Signaled(..)));
                    return End::Killed;
                }
            }
            WaitStatus::Stopped(_, received) => signal = Some(received),
            WaitStatus::Exited(_, code) => return End::Exited(code),
            other => panic!("{other:?}"),
        }
    }
}

/// A container that is created and killed over and over, with as little in it as creates in an instant.
struct Victim<'t> {
    t: &'t Test,
    bundle: Bundle<'t>,
    root: String,
}

impl<'t> Victim<'t> {
    fn new(t: &'t Test) -> Self {
        let bundle = t.bundle().args(&["/bin/sleep", "1000"]).set(
            "/mounts",
            json!([
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}
            ]),
        );
        bundle.write();
        Self { t, bundle, root: t.root().to_str().unwrap().to_owned() }
    }

    fn id(&self) -> &str {
        &self.bundle.id
    }

    /// The runtime with the arguments, killed at a system call.
    fn killed_at(&self, count: u32, args: &[&str]) -> End {
        let mut all = vec!["--root", &self.root];
        all.extend(driver_flag());
        all.extend(args);
        let errors = self.t.dir().join("traced.stderr");
        let end = killed_at(count, self.t.runtime(), &errors, &all);
        if let End::Exited(code) = end {
            let said = std::fs::read_to_string(&errors).unwrap();
            assert_eq!((code, said.as_str()), (0, ""), "{args:?} that is not killed succeeds");
        }
        end
    }

    fn created(&self) {
        let _ =
            self.t.command(["create", "--bundle"]).arg(&self.bundle.dir).arg(self.id()).done().ok();
    }

    /// The state is one of those, or there is none.
    #[track_caller]
    fn status(&self, when: &str, possible: &[&str]) -> Option<String> {
        let done = self.t.call(&["state", self.id()]);
        if !done.status.success() {
            assert_eq!(done.code(), 1, "{when}: {done}");
            assert!(done.stderr.contains("container does not exist"), "{when}: {done}");
            return None;
        }
        let state = done.json();
        assert_eq!(state["id"], self.id(), "{when}");
        assert_eq!(state["bundle"], self.bundle.dir.to_str().unwrap(), "{when}");
        let status = state["status"].as_str().unwrap().to_owned();
        assert!(possible.contains(&status.as_str()), "{when}: {status}");
        let pid = state["pid"].as_i64().unwrap();
        assert_eq!(pid == 0, status == "stopped", "{when}: {state}");
        Some(status)
    }

    /// `delete --force` succeeds, and nothing is there then.
    #[track_caller]
    fn removed(&self, when: &str) {
        let done = self.t.call(&["delete", "--force", self.id()]);
        assert!(done.status.success() && done.stderr.is_empty(), "{when}: {done}");
        self.bundle.assert_nothing_left();
        let left = traces::processes_after_reaping(self.id());
        // A killed process goes when the kernel gets to it.
        assert!(left.iter().all(|process| process.zombie), "{when}: {left:?}");
        wait_for("the zombies' end", || traces::processes_after_reaping(self.id()).is_empty());
        let _ = self.t.call(&["state", self.id()]).fails("does not exist");
    }
}

/// Kills at every system call; `each` gets its number and is told whether the command has got through.
fn sweep(mut each: impl FnMut(u32) -> End) {
    let calls = (1..10_000).find(|count| each(*count) != End::Killed).unwrap();
    assert!(calls > 20, "a command makes more system calls than {calls}");
    eprintln!("killed before each of {calls} system calls");
}

fn begin() -> Option<Test> {
    let t = Test::begin()?;
    // runc is many threads, which its tracer would have to follow; crun has its own idea of an interrupted create.
    if t.differs(&[Peer::Runc, Peer::Crun], "is not made to be killed anywhere") {
        None
    } else {
        Some(t)
    }
}

#[test]
fn create_can_be_killed_before_any_system_call() {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t);
    let bundle = victim.bundle.dir.to_str().unwrap();
    sweep(|count| {
        let end = victim.killed_at(count, &["create", "--bundle", bundle, victim.id()]);
        let when = format!("create {end:?} before system call {count}");
        let status = victim.status(&when, &["created", "stopped"]);
        if end != End::Killed {
            assert_eq!(status.as_deref(), Some("created"), "{when}");
        }
        victim.removed(&when);
        end
    });
}

#[test]
fn run_can_be_killed_before_any_system_call() {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t);
    let bundle = victim.bundle.dir.to_str().unwrap();
    sweep(|count| {
        let end = victim.killed_at(count, &["run", "--detach", "--bundle", bundle, victim.id()]);
        let when = format!("run {end:?} before system call {count}");
        let _ = victim.status(&when, &["running", "stopped"]);
        victim.removed(&when);
        end
    });
}

#[test]
fn start_can_be_killed_before_any_system_call() {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t);
    sweep(|count| {
        victim.created();
        let end = victim.killed_at(count, &["start", victim.id()]);
        let when = format!("start {end:?} before system call {count}");
        let status = victim.status(&when, &["created", "running"]);
        if status.as_deref() == Some("created") {
            // Whoever finds it so can start it; the released one may have begun to run since.
            let done = victim.t.call(&["start", victim.id()]);
            let begun = done.stderr.contains("cannot start an already running container");
            assert!(done.status.success() || begun, "{when}: {done}");
            wait_for("the program", || {
                victim.status(&when, &["created", "running"]).as_deref() == Some("running")
            });
        }
        victim.removed(&when);
        end
    });
}

#[test]
fn forced_delete_of_a_running_container_can_be_killed_before_any_system_call() {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t);
    sweep(|count| {
        victim.created();
        let _ = t.call(&["start", victim.id()]).ok();
        let end = victim.killed_at(count, &["delete", "--force", victim.id()]);
        let when = format!("delete --force {end:?} before system call {count}");
        let _ = victim.status(&when, &["running", "stopped"]);
        victim.removed(&when);
        end
    });
}

#[test]
fn delete_of_a_created_container_can_be_killed_before_any_system_call() {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t);
    sweep(|count| {
        victim.created();
        let end = victim.killed_at(count, &["delete", victim.id()]);
        let when = format!("delete {end:?} before system call {count}");
        let _ = victim.status(&when, &["created", "stopped"]);
        victim.removed(&when);
        end
    });
}
