//! What engines and people do with the command line that no other test does.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use orlop_conformance::run::{lossy, wait_for};
use orlop_conformance::{Peer, Run, Test, proc};
use serde_json::json;

/// The runtime under a shell that does something first; `$@` is the runtime with its state root.
fn under(t: &Test, script: &str) -> Run {
    let run = Run::new("/bin/sh", t.dir()).args(["-c", script, "sh"]).arg(t.runtime());
    run.arg("--root").arg(t.root())
}

#[test]
fn listen_fds_are_passed_on_with_their_number_and_pid_1() {
    let Some(t) = Test::begin() else { return };
    let file = t.dir().join("kept");
    std::fs::write(&file, "kept\n").unwrap();
    for command in ["run", "create"] {
        let script = "cat <&4; ls /proc/self/fd | tr '\\n' ' '; echo; echo $LISTEN_FDS $LISTEN_PID; \
                      echo [$LISTEN_FDNAMES]";
        let bundle = t.bundle().sh(script);
        bundle.write();
        let script = format!(
            "exec 3</ 4<{} 5</ 6</; export LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=a:b; exec \"$@\"",
            file.display()
        );
        let run = under(&t, &script).args([command, "--bundle"]).arg(&bundle.dir).arg(&bundle.id);
        let out = run.output_file();
        let _ = run.done().ok();
        if command == "create" {
            let _ = t.call(&["start", &bundle.id]).ok();
        }
        wait_for("the output", || lossy(&out).lines().count() == 4);
        // One more for the directory that ls reads.
        let want = "kept\n0 1 2 3 4 5 \n2 1\n[]\n";
        assert_eq!(lossy(&out), want, "{command}");
    }
}

#[test]
fn listen_fds_of_another_process_are_not_passed_on() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().sh("ls /proc/self/fd | wc -l; echo [$LISTEN_FDS]");
    bundle.write();
    let script = "exec 3</; export LISTEN_FDS=1 LISTEN_PID=1; exec \"$@\"";
    let run = under(&t, script).args(["run", "--bundle"]).arg(&bundle.dir).arg(&bundle.id);
    assert_eq!(run.done().ok().stdout, "4\n[]\n");
}

#[test]
fn preserved_descriptors_follow_the_listening_ones_and_have_no_gap() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has words of its own") {
        return;
    }
    let bundle = t.bundle().sh("ls /proc/self/fd | tr '\\n' ' '");
    bundle.write();
    let run = |script: &str, count: &str| {
        let run = under(&t, script).args(["run", "--preserve-fds", count, "--bundle"]);
        run.arg(&bundle.dir).arg(&bundle.id).done()
    };
    let script = "exec 3</ 4</ 5</; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    assert_eq!(run(script, "2").ok().stdout, "0 1 2 3 4 5 6 ");
    let done = run("exec 3</ 5</; exec \"$@\"", "3").exits(1);
    assert!(done.stderr.contains("unable to stat preserved-fd 1 (of 3): "), "{done}");
    bundle.assert_nothing_left();
}

#[test]
fn pidfd_of_the_init_is_sent_with_the_word_standard() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "do not know it in these versions") {
        return;
    }
    for command in ["create", "run"] {
        let path = t.dir().join(format!("pidfd-{command}"));
        let listener = UnixListener::bind(&path).unwrap();
        let bundle = t.bundle().args(&["/bin/sleep", "100"]);
        let pid_file = bundle.dir.join("pid");
        let mut flags = vec![
            "--pidfd-socket",
            path.to_str().unwrap(),
            "--pid-file",
            pid_file.to_str().unwrap(),
        ];
        if command == "run" {
            flags.push("--detach");
        }
        let _ = bundle.command(command, &flags).done().ok();
        // Nobody accepted while the command ran.
        let (stream, _) = listener.accept().unwrap();
        let mut buffer = [0_u8; 64];
        let mut space = nix::cmsg_space!([RawFd; 2]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
        let fds: Vec<RawFd> = message
            .cmsgs()
            .unwrap()
            .flat_map(|part| match part {
                ControlMessageOwned::ScmRights(fds) => fds,
                _ => Vec::new(),
            })
            .collect();
        assert_eq!(fds.len(), 1);
        let bytes = message.bytes;
        assert_eq!(&buffer[..bytes], b"standard");
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fds[0])).unwrap();
        nix::unistd::close(fds[0]).unwrap();
        let pid = std::fs::read_to_string(pid_file).unwrap();
        assert!(info.lines().any(|line| line == format!("Pid:\t{pid}")), "{command}: {info}");
    }
}

#[test]
fn pid_file_that_cannot_be_written_ends_the_container() {
    let Some(t) = Test::begin() else { return };
    for (command, more) in [("create", None), ("run", Some("--detach"))] {
        let bundle = t.bundle().args(&["/bin/sleep", "100"]);
        let mut flags = vec!["--pid-file", "/nonexistent/pid"];
        flags.extend(more);
        let done = bundle.command(command, &flags).done().exits(1);
        assert!(done.stderr.contains("/nonexistent/"), "{done}");
        if !t.differs(&[Peer::Crun], "leaves it") {
            bundle.assert_nothing_left();
        }
    }
}

#[test]
fn run_keep_leaves_a_container_that_could_not_be_run_for_delete() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has nothing to keep") {
        return;
    }
    let bundle = t.bundle().args(&["/no/such/program"]);
    let _ = bundle.command("run", &["--keep"]).done().exits(1);
    assert!(t.root().join(&bundle.id).exists());
    let _ = t.call(&["delete", &bundle.id]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn no_pivot_gives_the_same_root_and_is_refused_with_private_propagation() {
    let Some(t) = Test::begin() else { return };
    let script =
        "ls -d /bin /proc/1; ls /.. | head -n 1; grep -c ' / / ' /proc/self/mountinfo; true";
    let (with, without) = (t.bundle().sh(script), t.bundle().sh(script));
    let with = with.command("run", &["--no-pivot"]).done().ok();
    assert_eq!(with.stdout, without.run().ok().stdout);
    if t.differs(&[Peer::Crun, Peer::Runc], "do not refuse it") {
        return;
    }
    for propagation in ["private", "rprivate"] {
        let bundle = t.bundle().set("/linux/rootfsPropagation", json!(propagation));
        let _ = bundle.command("create", &["--no-pivot"]).done().exits(1);
    }
}

/// A program that may map ids, as Docker's may, mounts what procfs has below the masks, if the kernel lets it.
#[test]
fn without_pivot_no_unmasked_procfs_can_be_mounted() {
    let Some(t) = Test::begin() else { return };
    for propagation in ["slave", "shared"] {
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let sets = json!(["CAP_SETFCAP", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT"]);
        let bundle = t
            .bundle()
            .set("/linux/rootfsPropagation", json!(propagation))
            .set("/linux/maskedPaths", json!(["/proc/keys"]))
            .set("/process/capabilities/bounding", sets.clone())
            .set("/process/capabilities/permitted", sets.clone())
            .set("/process/capabilities/effective", sets)
            .sh("for fs in proc sysfs; do unshare -mrpfn mount -t $fs none /proc && echo $fs; done; echo end");
        let done = bundle.command("run", &["--no-pivot"]).done().ok();
        assert_eq!(done.stdout, "end\n", "{done}");
        assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    }
}

#[test]
fn session_keyring_is_the_containers_unless_the_callers_is_kept() {
    let Some(t) = Test::begin() else { return };
    if !Path::new("/proc/keys").exists() {
        eprintln!("SKIPPED: the kernel has no keyrings");
        return;
    }
    let run = |flags: &[&str]| {
        let bundle = t.bundle().set("/linux/maskedPaths", json!([])).sh("cat /proc/keys");
        let done = bundle.command("run", flags).done().ok();
        (done.stdout.contains(&format!("_ses.{}", bundle.id)), done.stdout)
    };
    let (own, text) = run(&[]);
    assert!(own, "{text}");
    let (own, text) = run(&["--no-new-keyring"]);
    assert!(!own, "{text}");
}

#[test]
fn orphans_of_an_attached_run_are_adopted_unless_it_is_told_not_to() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "adopts none") {
        return;
    }
    // Outside of a pid namespace the orphan's new parent has the number that it has here.
    let orphan = "sleep 0.2; cut -d ' ' -f 4 /proc/$$/stat >/parent";
    let run = |flags: &[&str]| {
        let bundle = t.bundle().without_namespace("pid").file("/orphan", orphan, 0o644);
        let bundle = bundle.sh("(sh /orphan &); sleep 1");
        let running = bundle.command("run", flags).spawn();
        let runtime = running.pid();
        let _ = running.done().ok();
        let parent: i32 = lossy(&bundle.rootfs().join("parent")).trim().parse().unwrap();
        (parent, runtime)
    };
    let (parent, runtime) = run(&[]);
    assert_eq!(parent, runtime);
    let (parent, _) = run(&["--no-subreaper"]);
    assert_eq!(parent, i32::try_from(std::process::id()).unwrap());
}

#[test]
fn killed_runtime_leaves_the_container_running() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().args(&["/bin/sleep", "100"]);
    let running = bundle.command("run", &[]).spawn();
    wait_for("the container", || {
        let done = t.call(&["state", &bundle.id]);
        done.code() == 0 && done.json()["status"] == "running"
    });
    kill(Pid::from_raw(running.pid()), Signal::SIGKILL).unwrap();
    let _ = running.done().exits(137);
    assert_eq!(t.call(&["state", &bundle.id]).ok().json()["status"], "running");
    let _ = t.call(&["delete", "--force", &bundle.id]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn commands_need_no_environment() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().args(&["/bin/sleep", "100"]);
    bundle.write();
    // As Podman runs them: nothing but an empty XDG_RUNTIME_DIR.
    let call = |arguments: &[&str]| {
        let script = "exec env -i XDG_RUNTIME_DIR= \"$@\"";
        under(&t, script).args(arguments).done().ok()
    };
    let (dir, id) = (bundle.dir.to_str().unwrap(), bundle.id.as_str());
    let _ = call(&["create", "--bundle", dir, id]);
    let _ = call(&["start", id]);
    let _ = call(&["pause", id]);
    let _ = call(&["resume", id]);
    let _ = call(&["exec", id, "/bin/true"]);
    let _ = call(&["ps", "--format", "json", id]);
    let _ = call(&["kill", id, "9"]);
    let _ = call(&["delete", "--force", id]);
}

#[test]
fn state_directory_without_a_state_is_removed() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "leaves it") {
        return;
    }
    std::fs::create_dir_all(t.root().join("leftover")).unwrap();
    let done = t.call(&["delete", "leftover"]).exits(1);
    assert!(done.stderr.contains("container does not exist"), "{done}");
    assert!(!t.root().join("leftover").exists());
    std::fs::create_dir_all(t.root().join("leftover")).unwrap();
    let _ = t.call(&["delete", "--force", "leftover"]).ok();
    assert!(!t.root().join("leftover").exists());
}

#[test]
fn list_passes_over_what_it_cannot_read() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    for (name, content) in [("damaged", "{"), ("foreign", "{\"a\": 1}")] {
        std::fs::create_dir(t.root().join(name)).unwrap();
        std::fs::write(t.root().join(name).join("state.json"), content).unwrap();
    }
    std::fs::create_dir(t.root().join("empty")).unwrap();
    std::fs::write(t.root().join("file"), "").unwrap();
    let done = t.call(&["list", "-q"]).ok();
    assert_eq!(done.stdout, format!("{}\n", c.bundle.id));
    if t.peer() == Peer::Orlop {
        assert!(done.stderr.contains("load container damaged: "), "{done}");
    }
    for name in ["damaged", "foreign", "empty", "file"] {
        let path = t.root().join(name);
        let _ = std::fs::remove_dir_all(&path);
        let _ = std::fs::remove_file(&path);
    }
}

#[test]
fn attached_run_with_a_terminal_needs_one() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "does without") {
        return;
    }
    let bundle = t.bundle().set("/process/terminal", json!(true));
    bundle.write();
    // setsid: no controlling terminal either.
    let run =
        Run::new("setsid", t.dir()).arg("--wait").arg(t.runtime()).arg("--root").arg(t.root());
    let run = run.args(["run", "--bundle"]).arg(&bundle.dir).arg(&bundle.id).stdin(Stdio::null());
    let _ = run.done().fails("open /dev/tty: no such device or address");
    bundle.assert_nothing_left();
}

#[test]
fn failing_poststop_hook_fails_a_delete_that_is_done() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "only warns") {
        return;
    }
    let mark = t.dir().join("second");
    let touch = json!(["sh", "-c", format!("touch {}", mark.display())]);
    let bundle = t.bundle().push("/hooks/poststop", json!({"path": "/bin/false"}));
    let bundle = bundle.push("/hooks/poststop", json!({"path": "/bin/sh", "args": touch}));
    let c = bundle.args(&["/bin/sleep", "100"]).create();
    let done = c.delete();
    if t.peer() == Peer::Orlop {
        let done = done.exits(1);
        assert!(done.stderr.contains("error running poststop hook #0: exit status 1"), "{done}");
        assert!(!mark.exists(), "the rest is passed over");
    }
    c.bundle.assert_nothing_left();
}

#[test]
fn hooks_without_an_environment_have_their_places_own() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "differs") {
        return;
    }
    let out = |name: &str| t.dir().join(format!("{name}.out"));
    let mut bundle = t.bundle().push("/process/env", json!("OF=config"));
    for name in ["prestart", "createRuntime", "poststart", "poststop"] {
        let script = format!("echo $OF >{0}; pwd >>{0}", out(name).display());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        bundle = bundle.push(&format!("/hooks/{name}"), hook);
    }
    let script = format!("echo [$OF] >{0}; pwd >>{0}", out("createContainer").display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    bundle = bundle.push("/hooks/createContainer", hook);
    let script = "echo $OF >/startContainer; pwd >>/startContainer";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    bundle = bundle.push("/hooks/startContainer", hook).set("/process/cwd", json!("/tmp"));
    let run = bundle.command("run", &[]).env("OF", "caller");
    let _ = run.done().ok();
    let of = |path: &Path| lossy(path).lines().map(str::to_owned).collect::<Vec<_>>();
    let dir = bundle.dir.to_str().unwrap();
    for name in ["prestart", "createRuntime"] {
        assert_eq!(of(&out(name)), ["caller", dir], "{name}");
    }
    assert_eq!(of(&out("poststart"))[0], "caller");
    assert_eq!(of(&out("poststop"))[0], "caller");
    assert_eq!(of(&out("createContainer")), ["[]", bundle.rootfs().to_str().unwrap()]);
    assert_eq!(of(&bundle.rootfs().join("startContainer")), ["config", "/tmp"]);
}

#[test]
fn state_is_indented_and_ends_without_a_line() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let done = c.call("state", &[], &[]).ok();
    assert!(done.stdout.starts_with("{\n  \"ociVersion\": \""), "{done}");
    if t.differs(&[Peer::Crun], "has an end of line, and a user") {
        return;
    }
    assert!(done.stdout.ends_with("\"owner\": \"\"\n}"), "{done}");
    assert!(!done.stdout.contains("annotations"), "{done}");
    let keys = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"];
    let mut at = 0;
    for key in keys {
        let key = format!("\"{key}\": ");
        at += done.stdout[at..].find(&key).unwrap_or_else(|| panic!("{key} in its place: {done}"));
    }
    let created = c.state()["created"].as_str().unwrap().to_owned();
    assert!(created.starts_with("20") && created.ends_with('Z'), "{created}");
    let _ = c.kill("KILL").ok();
    c.wait_gone();
    assert_eq!((&c.state()["pid"], &c.state()["status"]), (&json!(0), &json!("stopped")));
}

#[test]
fn real_time_signals_have_numbers_only() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh("trap 'echo got; exit 5' RTMIN 2>/dev/null; trap 'echo got; exit 5' 34; echo ready; while :; do sleep 0.01; done").run_detached();
    c.wait_for_output("ready");
    let _ = c.kill("34").ok();
    c.wait_for_output("got");
    c.wait_gone();
    if t.peer() == Peer::Orlop {
        let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
        let _ = c.kill("RTMIN").fails("unknown signal");
        let _ = c.kill("65").fails("unknown signal");
    }
}

#[test]
fn root_is_made_with_its_parents_and_for_the_user_alone() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle();
    bundle.write();
    let root = t.dir().join("a/b/root");
    // A relative one is of the caller's directory, and not of the bundle's.
    let run = Run::new("/bin/sh", t.dir()).args(["-c", "umask 0; exec \"$@\"", "sh"]);
    let run = run.arg(t.runtime()).args(["--root", "a/b/root", "create", "--bundle"]);
    let _ = run.arg(&bundle.dir).arg(&bundle.id).cwd(t.dir()).done().ok();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&root), 0o700);
    if t.peer() == Peer::Orlop {
        assert_eq!(mode(&root.join(&bundle.id)), 0o711);
        assert_eq!(mode(&root.join(&bundle.id).join("state.json")), 0o600);
    }
    let pid = t.bare().arg("--root").arg(&root).args(["state", &bundle.id]).done().ok().json();
    let pid = i32::try_from(pid["pid"].as_i64().unwrap()).unwrap();
    assert!(!proc::is_gone(pid));
    let done = t.bare().arg("--root").arg(&root).args(["delete", "--force", &bundle.id]).done();
    let _ = done.ok();
}

#[test]
fn checkpoints_are_not_there_and_probes_find_out() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "have them") {
        return;
    }
    // Podman and CRI-O ask by the exit status.
    let done = t.bare().args(["checkpoint", "--help"]).done();
    assert_ne!(done.code(), 0, "{done}");
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let id = c.bundle.id.as_str();
    for arguments in [
        &[
            "checkpoint",
            "--image-path",
            "/i",
            "--work-path",
            "/w",
            "--leave-running",
            "--leave-running",
            id,
        ][..],
        &[
            "checkpoint",
            "--file-locks",
            "--tcp-established",
            "--pre-dump",
            "--parent-path",
            "../p",
            id,
        ],
        &[
            "checkpoint",
            "--empty-ns",
            "network",
            "--manage-cgroups-mode",
            "soft",
            "--status-fd",
            "-1",
            id,
        ],
        &[
            "restore",
            "--image-path",
            "/i",
            "--work-path",
            "/w",
            "--parent-path",
            "/p",
            "--detach",
            "--pid-file",
            "/f",
            "-no-subreaper",
            "--bundle",
            "/b",
            id,
        ],
        &[
            "restore",
            "--bundle",
            "/b",
            "--pid-file",
            "/f",
            "--no-pivot",
            "--no-new-keyring",
            "--detach",
            "--image-path",
            "/i",
            "--work-path",
            "/b",
            "--tcp-established",
            "--tcp-close",
            "--file-locks",
            "--lsm-profile=apparmor:x",
            "--lsm-mount-context=y",
            "--preserve-fds",
            "1",
            "--console-socket",
            "/s",
            id,
        ],
    ] {
        let done = t.call(arguments).exits(1);
        assert!(done.stderr.contains("is not supported by this version of orlop"), "{done}");
        assert_eq!(done.stdout, "");
    }
    let done = t.call(&["restore", "--lsm-mount-context"]).exits(1);
    assert!(done.stderr.contains("flag needs an argument: --lsm-mount-context"), "{done}");
    let done = t.call(&["checkpoint", "--nosuch", id]).exits(1);
    assert!(done.stderr.contains("flag provided but not defined: -nosuch"), "{done}");
    assert_eq!(c.status(), "running");
}
