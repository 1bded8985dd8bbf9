//! Hooks: their order, what they are told, where they run, and what their failure means.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;

use orlop_conformance::run::lossy;
use orlop_conformance::{Bundle, Peer, Run, Test};
use serde_json::{Value, json};

/// A hook that appends its name to a log and saves its standard input and directory.
fn hook(t: &Test, name: &str, more: &str) -> Value {
    let dir = t.dir().display();
    let script = format!(
        "echo {name} >>{dir}/log; /bin/cat >{dir}/{name}.state; pwd >{dir}/{name}.cwd; \
         readlink /proc/self/ns/mnt >{dir}/{name}.mnt; env >{dir}/{name}.env; {more}"
    );
    json!({"path": "/bin/sh", "args": ["hook", "-c", script]})
}

fn with_hooks<'t>(t: &'t Test, names: &[&str], failing: &str) -> Bundle<'t> {
    let mut bundle = t.bundle();
    for name in names {
        let more = if *name == failing { "echo hook-says-no >&2; exit 9" } else { "true" };
        // createContainer and startContainer see the container's files.
        let entry = match *name {
            "startContainer" => json!({
                "path": "/bin/sh",
                "args": ["sh", "-c", format!("/bin/cat >/startContainer.state; {more}")]
            }),
            _ => hook(t, name, more),
        };
        bundle = bundle.push(&format!("/hooks/{name}"), entry);
    }
    bundle
}

fn log(t: &Test) -> Vec<String> {
    lossy(&t.dir().join("log")).lines().map(str::to_owned).collect()
}

fn state(t: &Test, name: &str) -> Value {
    let path = t.dir().join(format!("{name}.state"));
    serde_json::from_str(&lossy(&path)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

const HOST_HOOKS: [&str; 5] =
    ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];

#[test]
fn hooks_run_in_order_each_at_its_time() {
    let Some(t) = Test::begin() else { return };
    let names =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let bundle = with_hooks(&t, &names, "");
    let c = bundle.args(&["/bin/sleep", "100"]).create();
    let created: Vec<_> = log(&t).into_iter().filter(|n| n != "poststart").collect();
    assert_eq!(created, ["prestart", "createRuntime", "createContainer"]);
    let _ = c.start().ok();
    assert_eq!(log(&t), ["prestart", "createRuntime", "createContainer", "poststart"]);
    assert_eq!(c.status(), "running", "{}", lossy(&c.output.with_extension("stderr")));
    let _ = c.kill("KILL").ok();
    let _ = c.reap();
    let _ = c.delete().ok();
    assert_eq!(log(&t).last().unwrap(), "poststop");
    assert!(c.bundle.rootfs().join("startContainer.state").exists());
}

#[test]
fn hooks_get_the_state_on_standard_input() {
    let Some(t) = Test::begin() else { return };
    let bundle = with_hooks(&t, &HOST_HOOKS, "");
    let bundle = bundle.set("/annotations", json!({"org.example": "note"}));
    let c = bundle.args(&["/bin/sleep", "100"]).run_detached();
    for name in ["prestart", "createRuntime"] {
        let s = state(&t, name);
        assert_eq!(s["id"], c.bundle.id.as_str(), "{name}");
        assert_eq!(s["pid"], c.pid, "{name}");
        assert_eq!(s["bundle"], c.bundle.dir.to_str().unwrap(), "{name}");
        assert_eq!(s["annotations"]["org.example"], "note", "{name}");
        assert!(s["ociVersion"].is_string());
        if t.peer() != Peer::Crun {
            assert_eq!(s["status"], "creating", "{name}");
            // Where hooks look for a member by its place.
            let text = lossy(&t.dir().join(format!("{name}.state")));
            let keys = ["{\"ociVersion\":", "id", "status", "pid", "bundle", "annotations"];
            let places: Vec<_> = keys.iter().map(|key| text.find(key)).collect();
            assert!(places[0] == Some(0) && places.is_sorted(), "{text}");
        }
    }
    let s = state(&t, "createContainer");
    assert_eq!(s["id"], c.bundle.id.as_str());
    assert!(s["pid"].is_i64());
    let s = state(&t, "poststart");
    assert_eq!(s["pid"], c.pid);
    if t.peer() == Peer::Orlop {
        assert_eq!(s["status"], "running");
    }
    let id = c.bundle.id.clone();
    let _ = c.call("delete", &["--force"], &[]).ok();
    let s = state(&t, "poststop");
    assert_eq!((&s["id"], &s["status"]), (&json!(id), &json!("stopped")));
    assert!(s.get("pid").is_none() || s["pid"] == 0);
}

#[test]
fn hooks_make_files_with_the_callers_mask_and_later_ones_with_the_programs() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "runs them without a mask") {
        return;
    }
    let mut bundle = t.bundle().set("/process/user/umask", json!(0o27));
    let names =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for name in names {
        let entry = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("umask >{}/{name}.umask", t.dir().display())]});
        bundle = bundle.push(&format!("/hooks/{name}"), entry);
    }
    let dir = t.dir().to_str().unwrap().to_owned();
    let bundle = bundle.mount(&dir, "bind", &dir, &["bind"]).args(&["/bin/true"]);
    bundle.write();
    let run = Run::new("/bin/sh", t.dir()).args(["-c", "umask 037; exec \"$@\"", "sh"]);
    let run = run.arg(t.runtime()).arg("--root").arg(t.root()).args(["run", "--bundle"]);
    let _ = run.arg(&bundle.dir).arg(&bundle.id).done().ok();
    for name in names {
        let want = if name == "startContainer" { "0027" } else { "0037" };
        assert_eq!(lossy(&t.dir().join(format!("{name}.umask"))).trim(), want, "{name}");
    }
}

#[test]
fn hooks_run_in_the_namespaces_the_specification_names() {
    let Some(t) = Test::begin() else { return };
    let c = with_hooks(&t, &HOST_HOOKS, "").args(&["/bin/sleep", "100"]).run_detached();
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap().to_string_lossy().into_owned();
    let ns = |name: &str| lossy(&t.dir().join(format!("{name}.mnt"))).trim().to_owned();
    for name in ["prestart", "createRuntime", "poststart"] {
        assert_eq!(ns(name), own, "{name}");
    }
    assert_ne!(ns("createContainer"), own);
    let cwd = |name: &str| PathBuf::from(lossy(&t.dir().join(format!("{name}.cwd"))).trim());
    if t.peer() != Peer::Crun {
        assert_eq!(cwd("createRuntime"), c.bundle.dir);
        assert_eq!(cwd("createContainer"), c.bundle.rootfs());
    }
}

#[test]
fn hooks_get_their_own_arguments_and_environment() {
    let Some(t) = Test::begin() else { return };
    let out = t.dir().join("out");
    let script = format!("echo \"$0 $1 $2\" >{0}; env >>{0}", out.display());
    let entry = json!({
        "path": "/bin/sh", "args": ["argv0", "-c", script, "zero", "one", "two words"],
        "env": ["MINE=1"]
    });
    let _ = t.bundle().push("/hooks/createRuntime", entry).run().ok();
    let text = lossy(&out);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "zero one two words");
    assert!(lines.contains(&"MINE=1"));
    assert!(!lines.iter().any(|l| l.starts_with("CARGO")), "nothing of the caller's: {lines:?}");
}

#[test]
fn hooks_at_the_start_have_the_programs_environment_unless_they_name_their_own() {
    let Some(t) = Test::begin() else { return };
    let script = ["/bin/sh", "-c", "env | sort >>/out"];
    let own = json!({"path": "/bin/sh", "args": script, "env": ["MINE=1", "PATH=/bin"]});
    let bundle = t
        .bundle()
        .file("/out", "", 0o666)
        .file("/etc/passwd", "user:x:7:7::/home/of/7:/bin/sh\n", 0o644)
        .set("/process/user", json!({"uid": 7, "gid": 7}))
        .set("/process/env", json!(["ONE=two", "PATH=/bin"]))
        .push("/hooks/startContainer", json!({"path": "/bin/sh", "args": script}))
        .push("/hooks/startContainer", own);
    let _ = bundle.run().ok();
    let text = lossy(&bundle.rootfs().join("out"));
    let set_by_the_shell = ["PWD=", "SHLVL=", "OLDPWD="];
    let lines = text.lines().filter(|l| !set_by_the_shell.iter().any(|own| l.starts_with(own)));
    let with = ["HOME=/home/of/7", "ONE=two", "PATH=/bin"];
    assert_eq!(lines.collect::<Vec<_>>(), [&with[..], &["MINE=1", "PATH=/bin"]].concat());
}

#[test]
fn failing_hooks_before_the_start_stop_the_creation() {
    let Some(t) = Test::begin() else { return };
    for name in ["prestart", "createRuntime", "createContainer"] {
        let _ = std::fs::remove_file(t.dir().join("log"));
        let bundle = with_hooks(&t, &[name, "poststop"], name);
        let pid_file = bundle.dir.join("pid");
        let flag = pid_file.to_str().unwrap();
        let done = bundle.command("create", &["--pid-file", flag]).done().exits(1);
        assert!(!pid_file.exists(), "{name}");
        bundle.assert_nothing_left();
        if t.peer() != Peer::Crun {
            assert!(done.stderr.contains("error running"), "{name}: {done}");
            assert!(done.stderr.contains("hook #0"), "{name}: {done}");
            assert!(done.stderr.contains("hook-says-no"), "{name}: {done}");
            assert_eq!(log(&t), [name, "poststop"], "poststop runs after a failed create");
        }
    }
}

#[test]
fn hooks_after_a_failed_one_do_not_run() {
    let Some(t) = Test::begin() else { return };
    let bundle = t
        .bundle()
        .push("/hooks/createRuntime", hook(&t, "first", "true"))
        .push("/hooks/createRuntime", hook(&t, "second", "exit 1"))
        .push("/hooks/createRuntime", hook(&t, "third", "true"));
    let done = bundle.try_create().exits(1);
    assert!(t.peer() == Peer::Crun || done.stderr.contains("hook #1"), "{done}");
    assert_eq!(log(&t), ["first", "second"]);
}

#[test]
fn missing_hook_program_stops_the_creation() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().push("/hooks/createRuntime", json!({"path": "/no/such/hook"}));
    let done = bundle.try_create().exits(1);
    assert!(t.peer() == Peer::Crun || done.stderr.contains("no such file or directory"), "{done}");
}

#[test]
fn hooks_that_take_too_long_are_killed() {
    let Some(t) = Test::begin() else { return };
    let entry = json!({"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1});
    let begin = std::time::Instant::now();
    let done = t.bundle().push("/hooks/createRuntime", entry).try_create().exits(1);
    assert!(begin.elapsed().as_secs() < 20);
    if t.peer() != Peer::Crun {
        assert!(done.stderr.contains("hook ran past specified timeout of 1"), "{done}");
    }
}

#[test]
fn failing_start_container_hook_ends_the_container() {
    let Some(t) = Test::begin() else { return };
    let c = with_hooks(&t, &["startContainer"], "startContainer").sh("echo payload").create();
    let _ = c.start();
    c.wait_gone();
    assert!(!c.written().contains("payload"));
    assert_eq!(c.status(), "stopped");
}

#[test]
fn failing_poststart_hook_fails_the_start() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "runc 1.1 runs it while creating; crun only warns") {
        return;
    }
    let bundle = with_hooks(&t, &["poststart"], "poststart");
    let c = bundle.args(&["/bin/sleep", "100"]).create();
    let _ = c.start().exits(1);
    c.wait_gone();
}

#[test]
fn prestart_hook_can_reach_the_network_namespace_by_the_pid() {
    let Some(t) = Test::begin() else { return };
    let out = t.dir().join("ns");
    let script = format!(
        "pid=$(grep -o '\"pid\":[ ]*[0-9]*' | grep -o '[0-9]*'); readlink /proc/$pid/ns/net >{}",
        out.display()
    );
    let entry = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let bundle = t.bundle().push("/hooks/prestart", entry);
    let c = bundle.args(&["/bin/sleep", "100"]).run_detached();
    let want = orlop_conformance::proc::namespace(c.pid, "net").unwrap();
    assert_eq!(lossy(&out).trim(), want);
}

/// Hooks that bring devices' libraries mount them from outside: into the mount namespace of the process that the state
/// names (NVIDIA's prestart hook), or as hooks of createContainer in that namespace (those of CDI).
#[test]
fn hooks_can_mount_into_the_container() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "hooks of createContainer are in another directory") {
        return;
    }
    let library = t.dir().join("library");
    std::fs::write(&library, "a library of the host\n").unwrap();
    let bundle = t.bundle();
    let root = bundle.rootfs();
    let target = |name: &str| root.join("mnt").join(name);
    for name in ["prestart", "createRuntime", "createContainer"] {
        std::fs::write(target(name), "").unwrap();
    }
    let mount = |name: &str| {
        let (from, to) = (library.display().to_string(), target(name).display().to_string());
        format!("mount --bind {from} {to} && mount -o remount,bind,ro {to}")
    };
    let from_outside = |name: &str| {
        format!(
            "pid=$(grep -o '\"pid\":[ ]*[0-9]*' | grep -o '[0-9]*'); \
             nsenter --target $pid --mount sh -c '{}'",
            mount(name)
        )
    };
    let hook = |script: String| {
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env":
        ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]})
    };
    let links = "ln -s ../mnt/createContainer lib-of-the-host";
    let bundle = bundle
        .push("/hooks/prestart", hook(from_outside("prestart")))
        .push("/hooks/createRuntime", hook(from_outside("createRuntime")))
        .push(
            "/hooks/createContainer",
            hook(format!("{}; cd usr && {links}", mount("createContainer"))),
        )
        .set("/root/readonly", json!(true));
    let script = "cd /mnt; cat prestart createRuntime createContainer /usr/lib-of-the-host; \
                  grep -c ' /mnt/.* ro,' /proc/self/mountinfo";
    let done = bundle.sh(script).run().ok();
    assert_eq!(done.stdout, format!("{}3\n", "a library of the host\n".repeat(4)), "{done}");
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains("mnt/createContainer"), "the mount stayed in the container");
}

/// The init waits for its hook, which is its child.
#[test]
fn init_that_is_killed_is_reported_with_what_it_did_and_what_killed_it() {
    let Some(t) = Test::begin() else { return };
    if t.peer() != Peer::Orlop {
        return;
    }
    for (signal, texts) in [
        ("KILL", &["killed by SIGKILL"][..]),
        ("SYS", &["killed by SIGSYS", "seccomp"]),
        ("SEGV", &["killed by SIGSEGV"]),
    ] {
        let kill = format!("kill -{signal} $PPID; sleep 1");
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", kill]}]);
        let bundle = t.bundle().without_namespace("pid");
        let bundle = bundle.set("/hooks", json!({"createContainer": hook}));
        let done = bundle.run().fails("hooks.createContainer[0]: ");
        assert!(texts.iter().all(|text| done.stderr.contains(text)), "{done}");
        bundle.assert_nothing_left();
    }
}
