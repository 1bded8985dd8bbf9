//! Cgroup v2, where it is and what is in it.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use orlop_conformance::run::wait_for;
use orlop_conformance::{Peer, Test, proc, tmp};
use serde_json::json;

fn controllers() -> String {
    std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap()
}

#[test]
fn init_is_in_the_configs_cgroup_when_create_returns() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let want = format!("/orlop-conformance/{}", c.bundle.id);
    assert_eq!(proc::cgroup(c.pid).unwrap(), want);
    let procs = std::fs::read_to_string(c.bundle.cgroup().join("cgroup.procs")).unwrap();
    assert_eq!(procs.trim(), c.pid.to_string(), "nothing else is in it");
}

#[test]
fn cgroup_namespace_makes_it_the_root() {
    let Some(t) = Test::begin() else { return };
    let out = t.bundle().sh("grep ^0:: /proc/self/cgroup; ls /sys/fs/cgroup/cgroup.procs").run();
    assert_eq!(out.ok().stdout, "0::/\n/sys/fs/cgroup/cgroup.procs\n");
}

#[test]
fn cgroup_mount_is_the_containers_own_part_of_the_tree() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh("cat /sys/fs/cgroup/cgroup.procs; sleep 100").run_detached();
    wait_for("output", || c.written().contains('1'));
    assert!(c.written().lines().all(|l| l.parse::<i32>().unwrap() < 10), "{}", c.written());
}

#[test]
fn cgroup_mount_is_read_only_when_it_says_so() {
    let Some(t) = Test::begin() else { return };
    let done = t.bundle().args(&["/bin/mkdir", "/sys/fs/cgroup/x"]).run().exits(1);
    assert!(done.stderr.contains("Read-only file system"), "{done}");
}

#[test]
fn cgroups_path_is_cleaned_lexically() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "refuses or follows the dots") {
        return;
    }
    let name = tmp::unique("dots");
    let path = format!("/../../orlop-conformance/x/../{name}");
    let bundle = t.bundle().set("/linux/cgroupsPath", json!(path)).args(&["/bin/sleep", "100"]);
    let c = bundle.create();
    assert_eq!(proc::cgroup(c.pid).unwrap(), format!("/orlop-conformance/{name}"));
    let _ = c.delete().ok();
    assert!(!Path::new(&format!("/sys/fs/cgroup/orlop-conformance/{name}")).exists());
}

#[test]
fn cgroup_is_removed_with_what_the_payload_made_in_it() {
    let Some(t) = Test::begin() else { return };
    let mut bundle = t.bundle();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let last = mounts.last_mut().unwrap();
    last["options"] = json!(["nosuid", "noexec", "nodev", "relatime"]);
    let bundle = bundle.sh("mkdir -p /sys/fs/cgroup/a/b/c && echo made");
    assert_eq!(bundle.run().ok().stdout, "made\n");
    bundle.assert_nothing_left();
}

#[test]
fn container_without_cgroups_path_gets_a_cgroup_of_its_name() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().remove("/linux/cgroupsPath").args(&["/bin/sleep", "100"]).create();
    let cgroup = proc::cgroup(c.pid).unwrap();
    assert!(cgroup.ends_with(&c.bundle.id), "{cgroup}");
    let _ = c.delete().ok();
    assert!(!Path::new(&format!("/sys/fs/cgroup{cgroup}")).exists());
}

#[test]
fn create_refuses_a_cgroup_with_processes() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "runc 1.1 only warns; crun shares the cgroup") {
        return;
    }
    let first = t.bundle().args(&["/bin/sleep", "100"]).create();
    let path = first.bundle.config["linux"]["cgroupsPath"].clone();
    let done = t.bundle().set("/linux/cgroupsPath", path).try_create().exits(1);
    assert!(done.stderr.contains("container's cgroup is not empty"), "{done}");
    assert_eq!(first.status(), "created", "the first one is unharmed");
    assert!(!proc::is_gone(first.pid));
}

#[test]
fn limits_of_controllers_that_exist_are_written() {
    let Some(t) = Test::begin() else { return };
    let have = controllers();
    let mut bundle = t.bundle().args(&["/bin/sleep", "100"]);
    let mut want = Vec::new();
    for (controller, field, value, file, text) in [
        ("pids", "/linux/resources/pids/limit", json!(77), "pids.max", "77"),
        ("memory", "/linux/resources/memory/limit", json!(67_108_864), "memory.max", "67108864"),
        ("cpu", "/linux/resources/cpu/quota", json!(50_000), "cpu.max", "50000 100000"),
    ] {
        if have.split_whitespace().any(|c| c == controller) {
            bundle = bundle.set(field, value);
            want.push((file, text));
        }
    }
    let c = bundle.create();
    for (file, text) in want {
        let got = std::fs::read_to_string(c.bundle.cgroup().join(file)).unwrap();
        assert_eq!(got.trim(), text, "{file}");
    }
}

#[test]
fn limits_of_controllers_that_are_missing_are_refused() {
    let Some(t) = Test::begin() else { return };
    let have = controllers();
    for (controller, field, value) in [
        ("pids", "/linux/resources/pids/limit", json!(77)),
        ("memory", "/linux/resources/memory/limit", json!(67_108_864)),
    ] {
        if have.split_whitespace().any(|c| c == controller) {
            continue;
        }
        let done = t.bundle().set(field, value).try_create().exits(1);
        assert!(!done.stderr.is_empty());
    }
}

#[test]
fn unified_files_are_written() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().set("/linux/resources/unified", json!({"cgroup.max.depth": "5"}));
    let c = bundle.args(&["/bin/sleep", "100"]).create();
    let got = std::fs::read_to_string(c.bundle.cgroup().join("cgroup.max.depth")).unwrap();
    assert_eq!(got.trim(), "5");
}

#[test]
fn unified_names_are_file_names_only() {
    let Some(t) = Test::begin() else { return };
    for key in ["../x", "a/b", "nosuchcontroller.max"] {
        let done = t.bundle().set("/linux/resources/unified", json!({key: "1"})).try_create();
        let _ = done.exits(1);
    }
}

/// Its own was removed behind its back, and another container's is where it was.
#[test]
fn delete_leaves_a_later_cgroup_of_the_same_path_alone() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "they know a cgroup by its path") {
        return;
    }
    let path = format!("/orlop-conformance/{}", tmp::unique("same"));
    let make = || {
        let bundle = t.bundle().set("/linux/cgroupsPath", json!(path));
        bundle.args(&["/bin/sleep", "100"]).create()
    };
    let first = make();
    let _ = t.call(&["kill", &first.bundle.id, "KILL"]).ok();
    let directory = format!("/sys/fs/cgroup{path}");
    wait_for("the cgroup's end", || std::fs::remove_dir(&directory).is_ok());
    let second = make();
    let _ = t.call(&["delete", "--force", &first.bundle.id]).ok();
    assert_eq!(proc::cgroup(second.pid).unwrap(), path);
    assert_eq!(t.call(&["state", &second.bundle.id]).ok().json()["status"], "created");
}
