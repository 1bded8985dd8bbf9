//! create, start, state, kill, delete: the state machine, its error texts and exit codes.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use orlop_conformance::run::{lossy, wait_for};
use orlop_conformance::{Peer, Run, Test, proc, tmp};
use serde_json::json;

#[test]
fn run_returns_the_exit_code_and_the_output_of_the_payload() {
    let Some(t) = Test::begin() else { return };
    let done = t.bundle().sh("echo out; echo err >&2; exit 3").run().exits(3);
    assert_eq!(done.stdout, "out\n");
    assert_eq!(done.stderr, "err\n");
}

#[test]
fn run_leaves_nothing_behind() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle();
    let _ = bundle.run().ok();
    bundle.assert_nothing_left();
    assert_eq!(std::fs::read_dir(t.root()).map_or(0, Iterator::count), 0, "the root is empty");
}

#[test]
fn run_returns_128_plus_the_signal_that_ended_the_payload() {
    let Some(t) = Test::begin() else { return };
    // The init of a pid namespace is safe from its own signals; without the namespace a signal counts.
    let bundle = t.bundle().without_namespace("pid").remove("/linux/maskedPaths");
    let _ = bundle.remove("/linux/readonlyPaths").sh("kill -9 $$").run().exits(137);
}

#[test]
fn run_returns_137_when_the_container_is_killed() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().sh("echo ready; exec sleep 100");
    let running = bundle.command("run", &[]).spawn();
    wait_for("the program", || running.stdout_so_far().contains("ready"));
    let _ = t.call(&["kill", &bundle.id, "KILL"]).ok();
    let _ = running.done().exits(137);
    bundle.assert_nothing_left();
}

#[test]
fn attached_run_forwards_signals_and_returns_the_payloads_own_exit_code() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().sh("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    let running = bundle.command("run", &[]).spawn();
    wait_for("the payload", || running.stdout_so_far().contains("ready"));
    let pid = nix::unistd::Pid::from_raw(running.pid());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    let _ = running.done().exits(5);
}

#[test]
fn container_goes_from_created_to_running_to_stopped() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh("echo started; sleep 100").create();
    assert_eq!(c.status(), "created");
    assert_eq!(c.written(), "", "nothing of the payload runs before start");
    let done = c.start().ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert_eq!(c.status(), "running");
    c.wait_for_output("started");
    let _ = c.kill("KILL").ok();
    c.wait_gone();
    assert_eq!(c.status(), "stopped", "a zombie counts as stopped");
    assert_eq!(c.state()["pid"], 0);
    assert_eq!(
        c.reap(),
        WaitStatus::Signaled(nix::unistd::Pid::from_raw(c.pid), Signal::SIGKILL, false)
    );
    assert_eq!(c.status(), "stopped");
    let _ = c.delete().ok();
    let _ = c.call("state", &[], &[]).fails("does not exist");
}

#[test]
fn init_is_the_callers_child_and_its_exit_status_is_the_payloads() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh("exit 42").create();
    let _ = c.start().ok();
    assert_eq!(c.reap(), WaitStatus::Exited(nix::unistd::Pid::from_raw(c.pid), 42));
    let _ = c.delete().ok();
}

#[test]
fn state_has_the_fields_of_the_specification() {
    let Some(t) = Test::begin() else { return };
    let c = t
        .bundle()
        .args(&["/bin/sleep", "100"])
        .set("/annotations", json!({"org.example.key": "value"}))
        .create();
    let state = c.state();
    assert_eq!(state["id"], c.bundle.id.as_str());
    assert_eq!(state["pid"], c.pid);
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], c.bundle.dir.to_str().unwrap());
    assert_eq!(state["rootfs"], c.bundle.rootfs().to_str().unwrap());
    assert_eq!(state["annotations"]["org.example.key"], "value");
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    let created = state["created"].as_str().unwrap();
    assert!(created.contains('T') && created.ends_with('Z'), "RFC 3339 in UTC: {created}");
    assert_eq!(state["owner"], "");
    let raw = c.call("state", &[], &[]).ok().stdout;
    assert!(raw.starts_with("{\n  \""), "indented by two blanks: {raw}");
    assert!(t.peer() == Peer::Crun || raw.ends_with('}'), "no newline at the end");
}

#[test]
fn pid_file_holds_digits_alone() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let text = std::fs::read_to_string(c.bundle.dir.join("pid")).unwrap();
    assert!(text.bytes().all(|b| b.is_ascii_digit()), "{text:?}");
    assert_eq!(c.state()["pid"].to_string(), text);
}

#[test]
fn pid_file_path_is_relative_to_the_callers_directory() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().args(&["/bin/sleep", "100"]);
    let _ = bundle.command("create", &["--pid-file", "here.pid"]).cwd(t.dir()).done().ok();
    assert!(t.dir().join("here.pid").exists());
}

#[test]
fn pid_file_replaces_one_that_is_there() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().args(&["/bin/sleep", "100"]);
    std::fs::write(bundle.dir.join("pid"), "a text that is longer than a pid").unwrap();
    let c = bundle.create();
    assert!(c.pid > 1);
}

#[test]
fn failed_create_leaves_no_pid_file_and_nothing_else() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().args(&["/no/such/program"]);
    let pid_file = bundle.dir.join("pid");
    let flag = pid_file.to_str().unwrap();
    let done = bundle.command("create", &["--pid-file", flag]).done().exits(1);
    assert!(done.stderr.contains("no such file or directory"), "{done}");
    assert!(!pid_file.exists());
    bundle.assert_nothing_left();
}

#[test]
fn create_finds_out_that_the_program_is_missing() {
    let Some(t) = Test::begin() else { return };
    for command in ["create", "run"] {
        let bundle = t.bundle().args(&["nosuchprogram"]);
        let done = bundle.command(command, &[]).done().exits(1);
        assert!(done.stderr.contains("executable file not found in $PATH"), "{done}");
        let bundle = t.bundle().args(&["/no/such/program"]);
        let done = bundle.command(command, &[]).done().exits(1);
        assert!(done.stderr.contains("no such file or directory"), "{done}");
        assert!(!done.stderr.contains("os error"), "{done}");
    }
}

#[test]
fn create_finds_out_that_the_program_cannot_be_executed() {
    let Some(t) = Test::begin() else { return };
    let done = t.bundle().file("/etc/data", "x", 0o644).args(&["/etc/data"]).try_create();
    let _ = done.fails("permission denied");
    if t.differs(&[Peer::Crun], "calls a directory `permission denied`") {
        return;
    }
    let done = t.bundle().args(&["/etc"]).try_create();
    let _ = done.fails_with_any(&["is a directory", "permission denied"]);
}

#[test]
fn create_refuses_an_id_that_exists() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let again = c.bundle.command("create", &[]).done();
    let _ = again.fails_with_any(&["container with given ID already exists", "already exists"]);
    assert_eq!(c.status(), "created", "the first one is unharmed");
}

#[test]
fn create_refuses_ids_that_are_not_plain_names() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has its own rules for ids") {
        return;
    }
    let bundle = t.bundle();
    bundle.write();
    for id in ["../x", "a/b", "a b", "a\nb", "..", ".", "ä", "a:b", "a*"] {
        let done = t.command(["create", "--bundle"]).arg(&bundle.dir).arg(id).done();
        let _ = done.fails("invalid container ID format");
    }
    let done = t.command(["create", "--bundle"]).arg(&bundle.dir).arg("").done();
    let _ = done.fails("container id cannot be empty");
    assert_eq!(std::fs::read_dir(t.root()).map_or(0, Iterator::count), 0);
}

#[test]
fn ids_may_have_plus_dot_dash_and_underscore() {
    let Some(t) = Test::begin() else { return };
    let mut bundle = t.bundle();
    bundle.id = format!("A-z_0.9+{}", tmp::unique("x"));
    let bundle = bundle.remove("/linux/cgroupsPath");
    let _ = bundle.run().ok();
}

#[test]
fn create_needs_a_config_json() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle();
    let _ = t.command(["create", "--bundle"]).arg(&bundle.dir).arg("x").done().fails("config.json");
}

#[test]
fn bundle_is_the_working_directory_when_none_is_named() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().sh("exit 7");
    bundle.write();
    let _ = t.command(["run", &bundle.id]).cwd(&bundle.dir).done().exits(7);
}

#[test]
fn start_twice_is_an_error_each_way() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let _ = c.start().ok();
    let texts = ["cannot start an already running container", "is not in the created state"];
    let _ = c.start().fails_with_any(&texts);
    assert_eq!(c.status(), "running", "the second start did no harm");
    let _ = c.kill("KILL").ok();
    let _ = c.reap();
    let texts =
        ["cannot start a container that has stopped", "is not in the created state", "not running"];
    let _ = c.start().fails_with_any(&texts);
}

#[test]
fn commands_on_a_missing_container_say_that_it_does_not_exist() {
    let Some(t) = Test::begin() else { return };
    std::fs::create_dir(t.root()).unwrap();
    for args in [
        &["start", "nobody"][..],
        &["state", "nobody"],
        &["kill", "nobody", "TERM"],
        &["kill", "--all", "nobody", "9"],
        &["delete", "nobody"],
    ] {
        let done = t.call(args).exits(1);
        assert!(done.stderr.contains("does not exist"), "{done}");
    }
}

#[test]
fn delete_force_of_a_missing_container_succeeds() {
    let Some(t) = Test::begin() else { return };
    let _ = t.call(&["delete", "--force", "nobody"]).ok();
    std::fs::create_dir_all(t.root()).unwrap();
    let done = t.call(&["delete", "-f", "nobody"]).ok();
    assert_eq!(done.stdout, "");
}

#[test]
fn delete_of_a_running_container_needs_force() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let done = c.delete().exits(1);
    let said = format!("cannot delete container {} that is not stopped: running", c.bundle.id);
    assert!(t.peer() == Peer::Crun || done.stderr.contains(&said), "{done}");
    assert_eq!(c.status(), "running");
    let _ = c.call("delete", &["--force"], &[]).ok();
    assert!(proc::is_gone(c.pid), "the init is dead when delete --force returns");
    c.bundle.assert_nothing_left();
}

#[test]
fn delete_of_a_created_container_kills_it_silently() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "wants --force for a created container") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let done = c.delete().ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert!(proc::is_gone(c.pid));
    c.bundle.assert_nothing_left();
}

#[test]
fn delete_takes_its_flag_after_the_id() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "wants flags first") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let _ = c.call("delete", &[], &["--force"]).ok();
}

#[test]
fn kill_takes_numbers_and_names_in_any_case() {
    let Some(t) = Test::begin() else { return };
    for signal in ["10", "USR1", "SIGUSR1", "usr1", "sigusr1"] {
        if t.peer() == Peer::Crun && signal.starts_with(|c: char| c.is_lowercase()) {
            continue;
        }
        let script = "trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.05; done";
        let c = t.bundle().sh(script).run_detached();
        c.wait_for_output("ready");
        let _ = c.kill(signal).ok();
        assert_eq!(c.reap(), WaitStatus::Exited(nix::unistd::Pid::from_raw(c.pid), 9), "{signal}");
    }
}

#[test]
fn kill_sends_term_when_no_signal_is_named() {
    let Some(t) = Test::begin() else { return };
    let c = t
        .bundle()
        .sh("trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done")
        .run_detached();
    c.wait_for_output("ready");
    let _ = c.call("kill", &[], &[]).ok();
    assert_eq!(c.reap(), WaitStatus::Exited(nix::unistd::Pid::from_raw(c.pid), 4));
}

#[test]
fn kill_with_signal_zero_only_asks() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let _ = c.kill("0").ok();
    assert_eq!(c.status(), "running");
}

#[test]
fn kill_refuses_a_signal_that_does_not_exist() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let done = c.kill("FOO").exits(1);
    assert!(t.peer() == Peer::Crun || done.stderr.contains("unknown signal"), "{done}");
    assert_eq!(c.status(), "running");
}

#[test]
fn kill_of_a_stopped_container_says_not_running() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().run_detached();
    c.wait_gone();
    let done = c.kill("TERM").exits(1);
    assert!(done.stderr.contains("container not running"), "before its init was reaped: {done}");
    let _ = c.reap();
    let done = c.kill("TERM").exits(1);
    assert!(done.stderr.contains("container not running"), "{done}");
}

#[test]
fn kill_all_of_a_stopped_container_succeeds() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "fails") {
        return;
    }
    let c = t.bundle().run_detached();
    let _ = c.reap();
    let _ = c.call("kill", &["--all"], &["KILL"]).ok();
}

#[test]
fn created_container_dies_of_term() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "its init has no handler and ignores TERM") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let _ = c.kill("TERM").ok();
    c.wait_gone();
    assert_eq!(c.status(), "stopped");
    assert_eq!(c.written(), "");
}

#[test]
fn created_container_dies_of_kill_and_cannot_be_started() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh("echo ran").create();
    let _ = c.kill("KILL").ok();
    c.wait_gone();
    assert_eq!(c.status(), "stopped");
    let _ = c.start().exits(1);
    assert_eq!(c.written(), "");
    let _ = c.delete().ok();
}

#[test]
fn kill_kill_without_a_pid_namespace_kills_all_of_the_container() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "runc 1.1 and crun kill the init alone") {
        return;
    }
    let bundle = t.bundle().without_namespace("pid").remove("/linux/maskedPaths");
    let bundle = bundle.remove("/linux/readonlyPaths");
    let c = bundle.sh("sleep 1000 & echo $!; wait").run_detached();
    wait_for("the child", || c.written().ends_with('\n'));
    let child: i32 = c.written().trim().parse().unwrap();
    assert!(!proc::is_gone(child));
    let _ = c.kill("KILL").ok();
    wait_for("the end of the child", || proc::is_gone(child));
    // All are dead, as was asked; for another signal there is nobody.
    let _ = c.reap();
    let _ = c.kill("KILL").ok();
    let _ = c.kill("TERM").fails("container not running");
}

#[test]
fn delete_kills_what_a_container_without_pid_namespace_left() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "leave the process and fail to remove the cgroup") {
        return;
    }
    let bundle = t.bundle().without_namespace("pid").remove("/linux/maskedPaths");
    let bundle = bundle.remove("/linux/readonlyPaths");
    let c = bundle.sh("sleep 1000 & echo $!").run_detached();
    wait_for("the child", || c.written().ends_with('\n'));
    let child: i32 = c.written().trim().parse().unwrap();
    let _ = c.reap();
    let _ = c.delete().ok();
    wait_for("the end of the child", || proc::is_gone(child));
}

#[test]
fn run_detached_returns_while_the_payload_runs() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh("echo one; sleep 100").run_detached();
    assert_eq!(c.status(), "running");
    c.wait_for_output("one");
}

#[test]
fn run_keep_leaves_state_and_cgroup_until_delete() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().sh("exit 6");
    let _ = bundle.command("run", &["--keep"]).done().exits(6);
    assert_eq!(t.call(&["state", &bundle.id]).ok().json()["status"], "stopped");
    assert!(bundle.cgroup().join("cgroup.events").exists());
    let _ = t.call(&["delete", &bundle.id]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn run_keep_leaves_what_could_not_be_run_as_a_container_that_has_ended() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has nothing to keep") {
        return;
    }
    let hook =
        |name: &str| t.bundle().set(&format!("/hooks/{name}"), json!([{"path": "/bin/false"}]));
    for flags in [&["--keep"][..], &["--keep", "--detach"]] {
        for bundle in [t.bundle().args(&["/no/such/program"]), hook("poststart")] {
            let _ = bundle.command("run", flags).done().exits(1);
            let state = t.call(&["state", &bundle.id]).ok().json();
            assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
            assert!(t.call(&["list", "--quiet"]).ok().stdout.contains(&bundle.id));
            let _ = t.call(&["kill", &bundle.id, "KILL"]).fails("container not running");
            let _ = bundle.command("run", flags).done().fails("already exists");
            let _ = t.call(&["delete", &bundle.id]).ok();
            bundle.assert_nothing_left();
        }
    }
}

#[test]
fn container_in_the_state_of_one_root_is_unknown_in_another() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let other: PathBuf = t.dir().join("other-root");
    std::fs::create_dir(&other).unwrap();
    let done = t.bare().arg("--root").arg(&other).args(["state", &c.bundle.id]).done();
    let _ = done.fails("does not exist");
}

#[test]
fn state_directory_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(t.root()) & 0o077, 0, "the root is for its owner alone");
    assert_eq!(mode(t.root().join(&c.bundle.id)) & 0o066, 0);
}

#[test]
fn ten_containers_at_once_do_not_disturb_each_other() {
    let Some(t) = Test::begin() else { return };
    let bundles: Vec<_> = (0..10).map(|i| t.bundle().sh(&format!("echo {i}; exit {i}"))).collect();
    let running: Vec<_> = bundles.iter().map(|b| b.command("run", &[]).spawn()).collect();
    for (i, run) in running.into_iter().enumerate() {
        let done = run.done().exits(i32::try_from(i).unwrap());
        assert_eq!(done.stdout, format!("{i}\n"));
    }
}

#[test]
fn one_of_four_creators_of_an_id_wins() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 looks and makes the directory in two steps") {
        return;
    }
    let bundle = t.bundle().args(&["/bin/sleep", "100"]);
    let running: Vec<_> = (0..4).map(|_| bundle.command("create", &[]).spawn()).collect();
    let won = running.into_iter().map(|r| r.done()).filter(|d| d.status.success()).count();
    assert_eq!(won, 1);
    assert_eq!(t.call(&["state", &bundle.id]).ok().json()["status"], "created");
}

#[test]
fn start_of_a_program_that_the_kernel_refuses_is_reported() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "start returns before execve and reports nothing") {
        return;
    }
    let bundle = t.bundle().file("/bin/garbage", "\u{1}\u{2}not a program", 0o755);
    let c = bundle.args(&["/bin/garbage"]).create();
    let done = c.start().exits(1);
    assert!(done.stderr.contains("exec format error"), "{done}");
}

/// A pid namespace's init is gone only when all of it have been waited for. Before that it has closed its descriptors,
/// by which a created container is known.
#[test]
fn created_container_that_was_killed_and_is_not_gone_yet_does_not_run() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "says created until its init is a zombie") {
        return;
    }
    let c = t.bundle().create();
    let namespace = format!("--pid=/proc/{}/ns/pid", c.pid);
    let guest = Run::new("nsenter", t.dir()).args([&namespace, "/bin/busybox", "sleep", "1000"]);
    let guest = guest.spawn();
    let children = format!("/proc/{0}/task/{0}/children", guest.pid());
    wait_for("a guest in the pid namespace", || !lossy(Path::new(&children)).is_empty());
    let parent = Pid::from_raw(guest.pid());
    kill(parent, Signal::SIGSTOP).unwrap();
    let stat = format!("/proc/{parent}/stat");
    wait_for("a parent that does not reap it", || lossy(Path::new(&stat)).contains(") T "));
    kill(Pid::from_raw(c.pid), Signal::SIGKILL).unwrap();
    let mut status = c.status();
    wait_for("the end of created", || {
        status = c.status();
        status != "created"
    });
    assert_eq!(status, "stopped");
    let stat = lossy(Path::new(&format!("/proc/{}/stat", c.pid)));
    assert!(!stat.contains(") Z "), "it has ended: {stat}");
    kill(parent, Signal::SIGCONT).unwrap();
    let _ended = guest.done();
}
