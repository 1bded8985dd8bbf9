//! update: limits of a container that exists.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;

use orlop_conformance::{Container, Done, Peer, Test};
use serde_json::{Value, json};

fn has_controller(name: &str) -> bool {
    let list = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    list.split_whitespace().any(|controller| controller == name)
}

fn cgroup_file(c: &Container<'_>, name: &str) -> String {
    std::fs::read_to_string(c.bundle.cgroup().join(name)).unwrap().trim().to_owned()
}

/// `update --resources=-`, as the engine's shim calls it.
fn update_by_input(c: &Container<'_>, resources: &Value) -> Done {
    let path = c.bundle.dir.join("resources.json");
    std::fs::write(&path, resources.to_string()).unwrap();
    let run = c.bundle.test.command(["update", "--resources=-", &c.bundle.id]);
    run.stdin(File::open(path).unwrap()).done()
}

#[test]
fn values_come_from_standard_input_or_a_file_and_are_written() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "does not update unified values so") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let done = update_by_input(&c, &json!({"unified": {"cgroup.max.depth": "5"}})).ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert_eq!(cgroup_file(&c, "cgroup.max.depth"), "5");
    let path = c.bundle.dir.join("resources.json");
    std::fs::write(&path, json!({"unified": {"cgroup.max.depth": "6"}}).to_string()).unwrap();
    let _ = c.call("update", &["-r", path.to_str().unwrap()], &[]).ok();
    assert_eq!(cgroup_file(&c, "cgroup.max.depth"), "6");
    assert_eq!(c.status(), "running");
}

#[test]
fn devices_and_what_is_unknown_have_no_effect() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().sh("cat /dev/null && echo ready; sleep 100").run_detached();
    c.wait_for_output("ready");
    let resources = json!({
        "devices": [{"allow": false, "access": "rwm"}], "nosuchkey": [1], "unified": null
    });
    let done = update_by_input(&c, &resources).ok();
    assert!(done.stderr.is_empty(), "{done}");
    assert_eq!(c.status(), "running");
}

#[test]
fn nothing_given_is_no_error() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let _ = c.call("update", &[], &[]).ok();
    let _ = update_by_input(&c, &json!({})).ok();
    assert_eq!(c.status(), "created");
    let _ = c.start().ok();
    let _ = c.call("pause", &[], &[]).ok();
    let _ = update_by_input(&c, &json!({})).ok();
    assert_eq!(c.status(), "paused");
    let _ = c.call("resume", &[], &[]).ok();
    let _ = c.kill("KILL").ok();
    let _ = c.reap();
    if !t.differs(&[Peer::Crun], "says nothing") {
        let _ = c.call("update", &[], &[]).fails("container not running");
    }
}

#[test]
fn a_failed_update_leaves_the_old_values() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "write back only what config.json set") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let old = cgroup_file(&c, "cgroup.max.depth");
    let wrong = json!({"unified": {"cgroup.max.depth": "5", "cgroup.max.descendants": "many"}});
    let done = update_by_input(&c, &wrong).exits(1);
    assert!(done.stderr.contains("cgroup.max.descendants"), "{done}");
    assert_eq!(cgroup_file(&c, "cgroup.max.depth"), old);
    let _ = update_by_input(&c, &json!({"unified": {"cgroup.max.depth": "5"}})).ok();
    assert_eq!(cgroup_file(&c, "cgroup.max.depth"), "5");
}

#[test]
fn limits_of_controllers_that_exist_are_changed_and_the_rest_is_kept() {
    let Some(t) = Test::begin() else { return };
    let mut bundle = t.bundle().args(&["/bin/sleep", "100"]);
    let (mut flags, mut want) = (Vec::new(), Vec::new());
    for (controller, field, value, flag, file, text) in [
        ("pids", "/linux/resources/pids/limit", 77, "--pids-limit=88", "pids.max", "88"),
        (
            "memory",
            "/linux/resources/memory/limit",
            1 << 26,
            "--memory=32M",
            "memory.max",
            "33554432",
        ),
        (
            "cpu",
            "/linux/resources/cpu/quota",
            50_000,
            "--cpu-period=50000",
            "cpu.max",
            "50000 50000",
        ),
    ] {
        if has_controller(controller) {
            bundle = bundle.set(field, json!(value));
            flags.push(flag);
            want.push((file, text));
        }
    }
    let c = bundle.create();
    let _ = c.call("update", &flags, &[]).ok();
    for (file, text) in want {
        assert_eq!(cgroup_file(&c, file), text, "{file}");
    }
}

#[test]
fn limits_of_controllers_that_are_missing_are_refused() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    for (controller, flag) in [
        ("pids", "--pids-limit=10"),
        ("memory", "--memory=32M"),
        ("cpu", "--cpu-quota=5000"),
        ("cpuset", "--cpuset-cpus=0"),
    ] {
        if !has_controller(controller) {
            let done = c.call("update", &[flag], &[]).exits(1);
            assert!(!done.stderr.is_empty(), "{done}");
        }
    }
    assert_eq!(c.status(), "created");
}

#[test]
fn options_that_are_wrong_are_refused() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has words of its own") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    for (flag, text) in [
        ("--memory=lots", "invalid value for memory"),
        ("--memory-swap=1xb", "invalid value for memory-swap"),
        ("--cpu-period=-1", "invalid value for cpu-period"),
        ("--cpu-quota=x", "invalid value for cpu-quota"),
        ("--pids-limit=x", "invalid value"),
        ("--resources=/nowhere", "no such file or directory"),
    ] {
        let _ = c.call("update", &[flag], &[]).fails(text);
    }
    let _ = c.call("update", &["--l3-cache-schema=L3:0=f"], &[]).exits(1);
    let _ = c.call("update", &["--kernel-memory=1G", "--kernel-memory-tcp", "-1"], &[]).ok();
    for text in ["", "{", "[1]", "{\"memory\": {\"limit\": \"x\"}}"] {
        let path = c.bundle.dir.join("resources.json");
        std::fs::write(&path, text).unwrap();
        let _ = c.call("update", &["--resources", path.to_str().unwrap()], &[]).exits(1);
    }
    let _ = t.call(&["update", "nosuch"]).fails("does not exist");
}
