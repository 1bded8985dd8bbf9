//! Seccomp filters that ask an agent.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use orlop_conformance::agent::{Agent, Answer};
use orlop_conformance::{Bundle, Peer, Test};
use serde_json::{Value, json};

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

fn begin() -> Option<Test> {
    let t = Test::begin()?;
    let differs = t.differs(&[Peer::Crun], "the descriptor does not come with the message");
    (!differs).then_some(t)
}

/// A bundle whose profile, otherwise Docker's, asks the agent for these calls.
fn asking<'t>(t: &'t Test, agent: &Agent, names: &[&str]) -> Bundle<'t> {
    let docker: Value = serde_json::from_str(include_str!("../bundles/docker.json")).unwrap();
    let mut profile = docker["linux"]["seccomp"].clone();
    let blocks = profile["syscalls"].as_array_mut().unwrap();
    for block in blocks.iter_mut() {
        let list = block["names"].as_array_mut().unwrap();
        list.retain(|name| !names.contains(&name.as_str().unwrap()));
    }
    blocks.retain(|block| !block["names"].as_array().unwrap().is_empty());
    blocks.push(json!({"names": names, "action": "SCMP_ACT_NOTIFY"}));
    profile["listenerPath"] = json!(agent.path);
    profile["listenerMetadata"] = json!("for the agent");
    t.bundle().set("/linux/seccomp", profile).set("/annotations", json!({"org.example": "note"}))
}

fn check_told(told: &Value, bundle: &Bundle<'_>, status: &str) {
    assert_eq!(told["fds"], json!(["seccompFd"]), "{told}");
    assert_eq!(told["metadata"], "for the agent", "{told}");
    assert!(told["ociVersion"].as_str().unwrap().starts_with("1."), "{told}");
    let state = &told["state"];
    assert_eq!(state["id"], bundle.id.as_str(), "{told}");
    assert_eq!(state["status"], status, "{told}");
    assert_eq!(state["bundle"], bundle.dir.to_str().unwrap(), "{told}");
    assert_eq!(state["annotations"]["org.example"], "note", "{told}");
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{told}");
}

/// Whether a process still holds the listener of its filter.
fn holds_listener(pid: i32) -> bool {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    links
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .any(|link| link.to_string_lossy().contains("seccomp"))
}

#[test]
fn agent_answers_for_the_program() {
    let Some(t) = begin() else { return };
    let agent = Agent::listen(&t, Answer::Errno(libc::EXDEV));
    for nnp in [true, false] {
        let bundle = asking(&t, &agent, &MKDIR).set("/process/noNewPrivileges", json!(nnp));
        let done = bundle.args(&["/bin/mkdir", "/tmp/x"]).run().exits(1);
        assert!(done.stderr.contains("Invalid cross-device link"), "{nnp}: {done}");
    }
    let calls = agent.log().calls;
    assert!(!calls.is_empty() && calls.iter().all(|call| [83, 258].contains(call)), "{calls:?}");
}

#[test]
fn agent_is_told_of_the_container_before_it_is_created() {
    let Some(t) = begin() else { return };
    let agent = Agent::listen(&t, Answer::Continue);
    for nnp in [true, false] {
        let bundle = asking(&t, &agent, &MKDIR).set("/process/noNewPrivileges", json!(nnp));
        let c = bundle.sh("mkdir /tmp/x && echo made; sleep 100").create();
        let told = agent.next_told();
        check_told(&told, &c.bundle, "creating");
        assert_eq!((&told["pid"], &told["state"]["pid"]), (&json!(c.pid), &json!(c.pid)));
        assert!(!holds_listener(c.pid), "others in the container could take it from the init");
        assert_eq!(c.status(), "created");
        let _ = c.start().ok();
        c.wait_for_output("made");
    }
}

#[test]
fn agent_answers_for_processes_of_exec() {
    let Some(t) = begin() else { return };
    let agent = Agent::listen(&t, Answer::Errno(libc::EXDEV));
    for own_pids in [true, false] {
        let mut bundle = asking(&t, &agent, &MKDIR);
        if !own_pids {
            bundle = bundle.without_namespace("pid");
        }
        let c = bundle.args(&["/bin/sleep", "100"]).run_detached();
        check_told(&agent.next_told(), &c.bundle, "creating");
        for flag in ["--no-new-privs=true", "--no-new-privs=false"] {
            let done = c.call("exec", &[flag], &["/bin/mkdir", "/tmp/x"]).exits(1);
            assert!(done.stderr.contains("Invalid cross-device link"), "{flag}: {done}");
            let told = agent.next_told();
            check_told(&told, &c.bundle, "running");
            assert_eq!(told["state"]["pid"], c.pid, "{flag}: {told}");
        }
        let pid_file = t.dir().join("exec.pid");
        let flags = ["--detach", "--pid-file", pid_file.to_str().unwrap()];
        let _ = c.call("exec", &flags, &["/bin/sleep", "100"]).ok();
        let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
        assert_eq!(agent.next_told()["pid"], pid, "the pid of the process that stays");
        assert!(!holds_listener(pid));
        // Unreaped, it would hold up the end of its pid namespace.
        let pid = Pid::from_raw(pid);
        kill(pid, Signal::SIGKILL).unwrap();
        waitpid(pid, None).unwrap();
    }
}

/// The calls that the runtime itself makes once the filter is loaded.
#[test]
fn agent_may_be_asked_for_what_the_start_takes() {
    let Some(t) = begin() else { return };
    let agent = Agent::listen(&t, Answer::Continue);
    let names = ["execve", "openat", "open", "read", "close"];
    for nnp in [true, false] {
        let bundle = asking(&t, &agent, &names).set("/process/noNewPrivileges", json!(nnp));
        let _ = bundle.args(&["/bin/true"]).run().ok();
        let bundle = asking(&t, &agent, &names).set("/process/noNewPrivileges", json!(nnp));
        let c = bundle.args(&["/bin/sleep", "100"]).create();
        let _ = c.start().ok();
        if nnp || t.peer() != Peer::Orlop {
            let _ = c.call("exec", &[], &["/bin/true"]).ok();
        }
    }
    // What only a filter before no_new_privs has to let pass.
    if t.differs(&[Peer::Runc], "not looked into") {
        return;
    }
    let names = ["prctl", "setgroups", "setresuid", "setresgid", "capset", "chdir", "getcwd"];
    let bundle = asking(&t, &agent, &names)
        .set("/process/noNewPrivileges", json!(false))
        .set("/process/user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(bundle.sh("id -u").run().ok().stdout, "1000\n");
}

/// A process that enters a pid namespace has its pid late, and the agent is told that one.
#[test]
fn what_needs_an_agent_before_it_can_be_called_is_refused() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "their processes of exec have their pid from the start") {
        return;
    }
    let agent = Agent::listen(&t, Answer::Continue);
    let bundle = asking(&t, &agent, &["clone"]).set("/process/noNewPrivileges", json!(false));
    let c = bundle.args(&["/bin/sleep", "100"]).run_detached();
    let done = c.call("exec", &[], &["/bin/true"]).exits(255);
    assert!(done.stderr.contains("linux.seccomp: the agent would be asked for clone(2)"), "{done}");
    let _ = c.call("exec", &["--no-new-privs"], &["/bin/true"]).ok();
}

#[test]
fn containers_in_a_joined_pid_namespace_have_an_agent() {
    let Some(t) = begin() else { return };
    let agent = Agent::listen(&t, Answer::Errno(libc::EXDEV));
    let other = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    for nnp in [true, false] {
        let path = format!("/proc/{}/ns/pid", other.pid);
        let bundle = asking(&t, &agent, &MKDIR)
            .without_namespace("pid")
            .push("/linux/namespaces", json!({"type": "pid", "path": path}))
            .set("/process/noNewPrivileges", json!(nnp));
        let c = bundle.sh("mkdir /tmp/x || echo refused; sleep 100").create();
        let told = agent.next_told();
        check_told(&told, &c.bundle, "creating");
        assert_eq!((&told["pid"], &told["state"]["pid"]), (&json!(c.pid), &json!(c.pid)));
        assert!(!holds_listener(c.pid));
        let _ = c.start().ok();
        c.wait_for_output("refused");
    }
}

/// The agent is called while the creator is there: so they run under the filter.
#[test]
fn agent_answers_for_hooks_that_run_at_the_start() {
    let Some(t) = begin() else { return };
    let agent = Agent::listen(&t, Answer::Errno(libc::EXDEV));
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "mkdir /tmp/x || echo >/refused"]});
    let bundle = asking(&t, &agent, &MKDIR).push("/hooks/startContainer", hook);
    let c = bundle.sh("mkdir /tmp/x || echo refused; sleep 100").create();
    let _ = c.start().ok();
    c.wait_for_output("refused");
    assert!(c.bundle.rootfs().join("refused").exists());
}

#[test]
fn agent_that_is_not_there_fails_the_creation() {
    let Some(t) = begin() else { return };
    let agent = Agent::listen(&t, Answer::Continue);
    for nnp in [true, false] {
        let bundle = asking(&t, &agent, &MKDIR)
            .set("/process/noNewPrivileges", json!(nnp))
            .set("/linux/seccomp/listenerPath", json!("/nonexistent/agent.sock"));
        let done = bundle.try_create().fails("no such file or directory");
        assert!(t.peer() != Peer::Orlop || done.stderr.contains("linux.seccomp.listenerPath: "));
        bundle.assert_nothing_left();
    }
    let c = asking(&t, &agent, &MKDIR).args(&["/bin/sleep", "100"]).run_detached();
    std::fs::remove_file(&agent.path).unwrap();
    let _ = c.call("exec", &[], &["/bin/true"]).exits(255);
    let processes = std::fs::read_to_string(c.bundle.cgroup().join("cgroup.procs")).unwrap();
    assert_eq!(processes.lines().count(), 1, "nothing is left of the failed process");
}

#[test]
fn filters_that_would_hang_are_refused_in_runcs_words() {
    let Some(t) = begin() else { return };
    let agent = Agent::listen(&t, Answer::Continue);
    let _ = asking(&t, &agent, &["write"])
        .run()
        .fails("SCMP_ACT_NOTIFY cannot be used for the write syscall");
    let _ = asking(&t, &agent, &MKDIR)
        .set("/linux/seccomp/defaultAction", json!("SCMP_ACT_NOTIFY"))
        .run()
        .fails("SCMP_ACT_NOTIFY cannot be used as default action");
    let _ = asking(&t, &agent, &MKDIR)
        .remove("/linux/seccomp/listenerMetadata")
        .remove("/linux/seccomp/listenerPath")
        .run()
        .fails("listenerPath is not set");
}

#[test]
fn agent_without_a_rule_is_not_called() {
    let Some(t) = begin() else { return };
    let agent = Agent::listen(&t, Answer::Continue);
    let bundle = asking(&t, &agent, &MKDIR);
    let last = bundle.config["linux"]["seccomp"]["syscalls"].as_array().unwrap().len() - 1;
    let pointer = format!("/linux/seccomp/syscalls/{last}/action");
    let bundle = bundle.set(&pointer, json!("SCMP_ACT_ALLOW"));
    let _ = bundle.args(&["/bin/mkdir", "/tmp/x"]).run().ok();
    assert!(agent.log().told.is_empty());
}

#[test]
fn flag_of_waiting_until_killed_is_accepted_with_an_agent() {
    let Some(t) = begin() else { return };
    if t.differs(&[Peer::Runc], "Debian's do not know the flag") {
        return;
    }
    let agent = Agent::listen(&t, Answer::Errno(libc::EXDEV));
    let flags = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    let bundle = asking(&t, &agent, &MKDIR).set("/linux/seccomp/flags", flags);
    let _ = bundle.args(&["/bin/mkdir", "/tmp/x"]).run().exits(1);
    let _ = agent.next_told();
}
