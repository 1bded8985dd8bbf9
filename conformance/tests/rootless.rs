//! A caller who is not root, or only in a user namespace.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use orlop_conformance::agent::{Agent, Answer};
use orlop_conformance::rootless::{Rootless, USER};
use orlop_conformance::run::wait_for;
use orlop_conformance::{Peer, Test, proc, rootfs, tmp};
use serde_json::json;

fn begin() -> Option<Test> {
    let t = Test::begin()?;
    // What they do without rights over cgroups depends on version and cgroup manager.
    (!t.differs(&[Peer::Runc, Peer::Crun], "need a systemd session or other options")).then_some(t)
}

#[test]
fn configuration_of_spec_runs_as_it_is() {
    let Some(t) = begin() else { return };
    let script = "id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; \
                  grep CapEff /proc/self/status; stat -c %u:%g / /dev /dev/pts/ptmx";
    let done = Rootless::new(&t).sh(script).run().ok();
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    let wanted = "0 0 1000 1 0 1000 1 deny CapEff: 0000000020000420 0:0 0:0 0:0";
    assert_eq!(words, wanted.split(' ').collect::<Vec<_>>(), "{done}");
}

#[test]
fn life_of_a_container_needs_no_privilege() {
    let Some(t) = begin() else { return };
    let c = Rootless::new(&t).sh("echo up; sleep 1000; true");
    let pid = c.start();
    let state = c.call(&["state", &c.id]).ok().json();
    assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(pid)));
    let list = c.call(&["list", "-q"]).ok();
    assert_eq!(list.lines(), [&c.id]);
    assert!(c.dir.join("run").join("orlop").join(&c.id).exists(), "below XDG_RUNTIME_DIR");
    let done =
        c.exec("id -u; cat /proc/1/cmdline | tr '\\0' ' '; echo; readlink /proc/self/ns/user").ok();
    assert_eq!(done.lines()[0], "0");
    assert!(done.lines()[1].starts_with("/bin/sh -c echo up"), "{done}");
    assert_eq!(done.lines()[2], proc::namespace(pid, "user").unwrap());
    let pids = c.call(&["ps", "--format", "json", &c.id]).ok().json();
    assert!(pids.as_array().unwrap().contains(&json!(pid)), "{pids}");
    assert_eq!(pids.as_array().unwrap().len(), 2, "the shell and its child: {pids}");
    let none = "the container has no cgroup of its own";
    for command in
        [&["pause"][..], &["resume"], &["events", "--stats"], &["update", "--pids-limit", "5"]]
    {
        let _ = c.call(&[command, &[&c.id]].concat()).fails(none);
    }
    let _ = c.call(&["update", &c.id]).ok();
    let _ = c.call(&["kill", &c.id, "KILL"]).ok();
    wait_for("the end", || c.call(&["state", &c.id]).stdout.contains("stopped"));
    let _ = c.call(&["delete", &c.id]).ok();
    let _ = c.call(&["state", &c.id]).fails("does not exist");
}

#[test]
fn created_container_is_started_and_entered() {
    let Some(t) = begin() else { return };
    let c = Rootless::new(&t).sh("sleep 1000");
    c.write();
    let _ = c.call(&["create", &c.id]).ok();
    assert_eq!(c.call(&["state", &c.id]).ok().json()["status"], "created");
    assert_eq!(c.exec("echo in").ok().stdout, "in\n");
    let _ = c.call(&["start", &c.id]).ok();
    assert_eq!(c.call(&["state", &c.id]).ok().json()["status"], "running");
    let _ = c.call(&["delete", "--force", &c.id]).ok();
}

#[test]
fn ranges_are_mapped_by_the_programs_for_it() {
    let Some(t) = begin() else { return };
    if t.lacks("newuidmap", !Path::new("/usr/bin/newuidmap").exists()) {
        return;
    }
    let c = Rootless::new(&t).with_ranges().set("/process/user", json!({"uid": 7, "gid": 8}));
    // What the container has under that name is not what is run, nor what PATH finds.
    let poison = "#!/bin/sh\ntouch /tmp/poisoned\n";
    for place in [c.dir.join("rootfs/bin/newuidmap"), c.dir.join("newuidmap")] {
        std::fs::write(&place, poison).unwrap();
        rootfs::mode(&place, 0o755);
    }
    let c = c.sh("id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map");
    c.write();
    let path = format!("{}:/usr/bin:/bin", c.dir.display());
    let done = c.run_of(&["run", &c.id]).env("PATH", path).done().ok();
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    let wanted = "7 8 0 1000 1 1 200000 1000 0 1000 1 1 200000 1000";
    assert_eq!(words, wanted.split(' ').collect::<Vec<_>>(), "{done}");
    let c = c.sh("sleep 1000");
    let pid = c.start();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert_eq!(proc::status(&status)["Uid"].split('\t').next(), Some("200006"));
    assert_eq!(c.exec("id -u").ok().stdout, "7\n");
    let _ = c.call(&["kill", &c.id, "KILL"]).ok();
}

#[test]
fn ranges_that_are_not_granted_are_refused() {
    let Some(t) = begin() else { return };
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1},
        {"containerID": 1, "hostID": 5, "size": 10}]);
    let c = Rootless::new(&t).with_ranges().set("/linux/uidMappings", map.clone());
    let done = c.set("/linux/gidMappings", map).run().exits(1);
    assert!(done.stderr.contains("linux.uidMappings: newuidmap: "), "{done}");
}

#[test]
fn maps_that_are_missing_or_of_others_are_named() {
    let Some(t) = begin() else { return };
    // Attached: who owns its pipes shall not be what is complained of.
    let c = Rootless::new(&t).set("/linux/uidMappings", json!([]));
    let _ = c.run().fails("linux.uidMappings");
    let root = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    let _ = Rootless::new(&t).set("/linux/uidMappings", root).run().fails("linux.uidMappings");
}

#[test]
fn what_takes_privileges_is_refused_by_name() {
    let Some(t) = begin() else { return };
    let c = Rootless::new(&t);
    let groups = json!({"uid": 0, "gid": 0, "additionalGids": [5]});
    let c = c.set("/process/user", groups);
    let _ = c.run().fails("cannot set any additional groups in a rootless container");
    let c = c.set("/process/user", json!({"uid": 1, "gid": 0}));
    let _ = c.run().fails("process.user.uid");
    let c = c.set("/process/user", json!({"uid": 0, "gid": 0}));
    let without = json!([{"type": "pid"}, {"type": "mount"}]);
    let linux = c.config["linux"].clone();
    let c = c.set("/linux", json!({"namespaces": without}));
    let _ = c.run().fails("rootless container requires user namespaces");
    let c = c.set("/linux", linux);
    assert_eq!(c.sh("echo fine").run().ok().stdout, "fine\n");
}

#[test]
fn without_rights_over_cgroups_none_may_be_asked_for() {
    let Some(t) = begin() else { return };
    let text = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
    let c = Rootless::new(&t).set("/linux/cgroupsPath", json!("/some/where"));
    let _ = c.run().fails(text);
    let mut c = c.set("/linux/cgroupsPath", json!(""));
    c.config["linux"]["resources"] = json!({"pids": {"limit": 10}});
    let _ = c.run().fails(text);
    c.config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    let _ = c.run().ok();
    c.write();
    let done = c.call(&["--rootless=false", "run", &c.id]).exits(1);
    assert!(done.stderr.contains("permission denied"), "{done}");
    assert!(!c.dir.join("run/orlop").join(&c.id).exists(), "nothing is left");
}

/// A cgroup that is the caller's, with one in it to call from.
struct Delegated {
    name: String,
    path: PathBuf,
}

impl Delegated {
    fn new() -> Self {
        let name = tmp::unique("delegated");
        let path = Path::new("/sys/fs/cgroup").join(&name);
        std::fs::create_dir_all(path.join("own")).unwrap();
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "own", "own/cgroup.procs"] {
            lchown(path.join(file), Some(USER), Some(USER)).unwrap();
        }
        Self { name, path }
    }

    /// What calls from there.
    fn within(&self) -> Vec<String> {
        let script = format!("echo 0 > {}/own/cgroup.procs && exec \"$@\"", self.path.display());
        ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _: std::io::Result<()> = std::fs::remove_dir(self.path.join("own"));
        let _: std::io::Result<()> = std::fs::remove_dir(&self.path);
    }
}

#[test]
fn delegated_cgroup_is_used() {
    let Some(t) = begin() else { return };
    let delegated = Delegated::new();
    let mut c = Rootless::new(&t).sh("cat /proc/self/cgroup; sleep 1000");
    c.before = delegated.within();
    let pid = c.start();
    assert_eq!(proc::cgroup(pid).unwrap(), format!("/{}/{}", delegated.name, c.id));
    assert_eq!(c.exec("echo in").ok().stdout, "in\n");
    c.assert_managed(pid);
    let _ = c.call(&["delete", "--force", &c.id]).ok();
    assert!(!delegated.path.join(&c.id).exists());
}

/// The command is undumpable, and what it spawns is that too until execve(2) is done: a matter of microseconds.
#[test]
fn every_further_process_gets_the_oom_score() {
    let Some(t) = begin() else { return };
    let c = Rootless::new(&t).set("/process/oomScoreAdj", json!(500)).sh("sleep 1000");
    let _ = c.start();
    for _ in 0..30 {
        assert_eq!(c.exec("cat /proc/self/oom_score_adj").ok().stdout, "500\n");
    }
}

/// It would be outside of the container's limits, and nobody would end it with the container.
#[test]
fn further_process_that_cannot_get_into_the_containers_cgroup_is_refused() {
    let Some(t) = begin() else { return };
    let delegated = Delegated::new();
    let mut c = Rootless::new(&t).sh("sleep 1000; true");
    c.before = delegated.within();
    let pid = c.start();
    c.before.clear();
    let done = c.exec("echo not reached").exits(255);
    assert!(done.stderr.contains("permission denied"), "{done}");
    assert!(done.stderr.contains("systemd-run --user --scope"), "{done}");
    c.before = delegated.within();
    assert_eq!(c.exec("echo in").ok().stdout, "in\n");
    let _ = c.call(&["delete", "--force", &c.id]).ok();
    assert!(proc::is_gone(pid));
}

#[test]
fn cgroups_cannot_be_written_from_the_container() {
    let Some(t) = begin() else { return };
    let script = "mkdir /sys/fs/cgroup/orlop-no 2>&1; grep ' /sys' /proc/self/mountinfo; true";
    for cgroup_namespace in [true, false] {
        for cgroup_mount in [true, false] {
            let mut c = Rootless::new(&t).sh(script);
            let namespaces = c.config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| cgroup_namespace || namespace["type"] != "cgroup");
            let mounts = c.config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| cgroup_mount || mount["destination"] != "/sys/fs/cgroup");
            let done = c.run().ok();
            let refused = done.stdout.contains("Read-only file system");
            assert!(refused, "{cgroup_namespace} {cgroup_mount}: {done}");
            let lines: Vec<&str> = done.lines().into_iter().filter(|l| l.contains(" - ")).collect();
            for mount in proc::mounts(&lines.join("\n")) {
                assert!(mount.has(&["ro"]), "{mount:?}");
            }
        }
    }
}

/// As rootless Podman runs a runtime.
#[test]
fn root_of_a_user_namespace_runs_containers_with_and_without_one_of_their_own() {
    let Some(t) = begin() else { return };
    for own_namespace in [true, false] {
        let mut c = Rootless::new(&t).sh("cat /proc/self/uid_map; sleep 1000");
        let linux = &mut c.config["linux"];
        if own_namespace {
            let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
        } else {
            linux.as_object_mut().unwrap().remove("uidMappings");
            linux.as_object_mut().unwrap().remove("gidMappings");
            let namespaces = linux["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "user");
        }
        // Root of the namespace is the caller: a process that stays in it, whose calls join it.
        let holder = Holder::new(USER);
        c.within = holder.enter(&c.dir);
        let pid = c.start();
        let done = c.exec("id -u; echo in").ok();
        assert_eq!(done.stdout, "0\nin\n");
        let inside = proc::namespace(pid, "user").unwrap();
        assert_eq!(inside == holder.namespace(), !own_namespace);
        let _ = c.call(&["kill", &c.id, "KILL"]).ok();
        wait_for("the end", || c.call(&["state", &c.id]).stdout.contains("stopped"));
        let _ = c.call(&["delete", &c.id]).ok();
        drop(c);
    }
}

#[test]
fn caller_that_joins_a_user_namespace_makes_the_others_in_there() {
    let Some(t) = begin() else { return };
    let holder = Holder::new(USER);
    let mut c =
        Rootless::new(&t).sh("for n in user time; do readlink /proc/self/ns/$n; done; id -u");
    let linux = c.config["linux"].as_object_mut().unwrap();
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    let namespaces = linux["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "user");
    namespaces.push(json!({"type": "user", "path": format!("/proc/{}/ns/user", holder.0.id())}));
    namespaces.push(json!({"type": "time"}));
    let done = c.run().ok();
    assert_eq!(done.lines()[0], holder.namespace());
    let own = std::fs::read_link("/proc/self/ns/time").unwrap();
    assert_ne!(done.lines()[1], own.to_str().unwrap());
    assert_eq!(done.lines()[2], "0");
    let c = c.set("/linux/timeOffsets", json!({"boottime": {"secs": 1000}}));
    let _ = c.run().fails("linux.timeOffsets: ");
}

#[test]
fn agent_answers_for_a_users_container_and_further_processes_are_refused() {
    let Some(t) = begin() else { return };
    let agent = Agent::listen(&t, Answer::Errno(libc::EXDEV));
    rootfs::mode(&agent.path, 0o777);
    let ask = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]);
    let profile =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent.path, "syscalls": ask});
    let c = Rootless::new(&t).set("/linux/seccomp", profile).sh("mkdir /tmp/x 2>&1; sleep 1000");
    for nnp in [true, false] {
        let c = Rootless::new(&t)
            .set("/linux/seccomp", c.config["linux"]["seccomp"].clone())
            .set("/process/noNewPrivileges", json!(nnp))
            .sh("mkdir /tmp/x");
        let done = c.run().exits(1);
        assert!(done.stderr.contains("Invalid cross-device link"), "{nnp}: {done}");
    }
    let _ = c.start();
    let done = c.exec("echo not reached").exits(255);
    assert!(done.stderr.contains("linux.seccomp.listenerPath: "), "{done}");
}

/// A process in a new user namespace whose root is this user.
struct Holder(Child);

impl Holder {
    fn new(user: u32) -> Self {
        let id = user.to_string();
        let args = ["--reuid", &id, "--regid", &id, "--clear-groups", "--"];
        let unshare = ["unshare", "-U", "-m", "-r", "--", "sleep", "1000"];
        let child = Command::new("setpriv").args(args).args(unshare).stdout(Stdio::null()).spawn();
        let child = child.unwrap();
        let holder = Self(child);
        let map = format!("/proc/{}/uid_map", holder.0.id());
        wait_for("the map", || {
            std::fs::read_to_string(&map).unwrap_or_default().split_whitespace().nth(2) == Some("1")
        });
        holder
    }

    fn namespace(&self) -> String {
        proc::namespace(i32::try_from(self.0.id()).unwrap(), "user").unwrap()
    }

    fn enter(&self, directory: &Path) -> Vec<String> {
        let pid = self.0.id().to_string();
        let script = format!("cd {} && exec \"$@\"", directory.display());
        let enter = ["nsenter", "-t", &pid, "-U", "-m", "--preserve-credentials", "--"];
        let shell = ["sh", "-c", &script, "sh"];
        enter.into_iter().chain(shell).map(str::to_owned).collect()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _: std::io::Result<()> = self.0.kill();
        let _: std::io::Result<_> = self.0.wait();
    }
}
