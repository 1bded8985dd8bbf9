//! Limits of cgroup v2 controllers, in the cgroup's files and as the payload feels them.
//!
//! They need the controllers in the unified hierarchy: conformance/vm.sh has a machine with all of them.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use orlop_conformance::suite::payload;
use orlop_conformance::{Bundle, Peer, Test};
use serde_json::{Value, json};

/// Whether the host has these controllers in cgroup v2; says so where it has not.
fn has(controllers: &[&str]) -> bool {
    let all = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let missing: Vec<_> =
        controllers.iter().filter(|name| !all.split_whitespace().any(|a| a == **name)).collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED: no controller {missing:?} in cgroup v2 (conformance/vm.sh has all)");
    }
    missing.is_empty()
}

fn limited<'t>(t: &'t Test, resource: &str, value: Value) -> Bundle<'t> {
    t.bundle().set(&format!("/linux/resources/{resource}"), value)
}

/// A file of a created container's cgroup.
fn file(bundle: Bundle<'_>, name: &str) -> String {
    let c = bundle.args(&["/bin/sleep", "100"]).create();
    std::fs::read_to_string(c.bundle.cgroup().join(name)).unwrap().trim().to_owned()
}

#[test]
fn memory_limits_are_in_the_files() {
    let Some(t) = Test::begin() else { return };
    if !has(&["memory"]) {
        return;
    }
    let memory = json!({"limit": 67_108_864, "reservation": 33_554_432, "swap": 100_663_296});
    for (name, want) in
        [("memory.max", "67108864"), ("memory.low", "33554432"), ("memory.swap.max", "33554432")]
    {
        assert_eq!(file(limited(&t, "memory", memory.clone()), name), want, "{name}");
    }
    let unlimited = json!({"limit": -1});
    assert_eq!(file(limited(&t, "memory", unlimited), "memory.max"), "max");
}

#[test]
fn program_that_needs_more_memory_is_killed_and_its_neighbour_is_not() {
    let Some(t) = Test::begin() else { return };
    if !has(&["memory"]) {
        return;
    }
    let bundle = limited(&t, "memory", json!({"limit": 20_000_000, "swap": 20_000_000}));
    // tail keeps the whole last line.
    let out = bundle.sh("head -c 60000000 /dev/zero | tail -n 1 >/dev/null; echo code $?").run();
    assert_eq!(out.ok().stdout, "code 137\n");
}

#[test]
fn cpu_limits_are_in_the_files() {
    let Some(t) = Test::begin() else { return };
    if !has(&["cpu", "cpuset"]) {
        return;
    }
    let cpu = json!({"shares": 1024, "quota": 50_000, "period": 200_000, "cpus": "0"});
    // The weight of 1024 shares: 39 in runc before 1.3.2.
    let weight = if t.peer() == Peer::Orlop { "100" } else { "39" };
    for (name, want) in [("cpu.weight", weight), ("cpu.max", "50000 200000"), ("cpuset.cpus", "0")]
    {
        assert_eq!(file(limited(&t, "cpu", cpu.clone()), name), want, "{name}");
    }
    let burst = json!({"quota": 50_000, "period": 100_000, "burst": 10_000});
    assert_eq!(file(limited(&t, "cpu", burst), "cpu.max.burst"), "10000");
    assert_eq!(file(limited(&t, "cpu", json!({"idle": 1})), "cpu.idle"), "1");
}

#[test]
fn pids_limit_stops_forks_and_one_is_enough_to_start() {
    let Some(t) = Test::begin() else { return };
    if !has(&["pids"]) {
        return;
    }
    assert_eq!(file(limited(&t, "pids", json!({"limit": 7})), "pids.max"), "7");
    assert_eq!(file(limited(&t, "pids", json!({"limit": -1})), "pids.max"), "max");
    let bundle = limited(&t, "pids", json!({"limit": 1}));
    let done = bundle.sh("/bin/true | /bin/true; echo not reached").run();
    assert!(done.stderr.contains("fork"), "{done}");
    let _ = limited(&t, "pids", json!({"limit": 1})).args(&["/bin/true"]).run().ok();
}

#[test]
fn pids_without_a_limit_limit_nothing() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "read it as zero, whatever that is to them") {
        return;
    }
    for pids in [json!({}), json!({"limit": null})] {
        let c = limited(&t, "pids", pids).args(&["/bin/sleep", "100"]).create();
        if let Ok(max) = std::fs::read_to_string(c.bundle.cgroup().join("pids.max")) {
            assert_eq!(max, "max\n");
        }
    }
}

#[test]
fn io_weight_and_hugetlb_and_unified_are_in_the_files() {
    let Some(t) = Test::begin() else { return };
    if !has(&["io", "hugetlb", "memory"]) {
        return;
    }
    let weight = file(limited(&t, "blockIO", json!({"weight": 500})), "io.weight");
    assert_eq!(weight, "default 4950");
    let pages = json!([{"pageSize": "2MB", "limit": 4_194_304}]);
    assert_eq!(file(limited(&t, "hugepageLimits", pages), "hugetlb.2MB.max"), "4194304");
    let unified = json!({"memory.high": "50000000", "memory.oom.group": "1"});
    assert_eq!(file(limited(&t, "unified", unified), "memory.oom.group"), "1");
}

#[test]
fn devices_stay_denied_beside_other_limits() {
    let Some(t) = Test::begin() else { return };
    if !has(&["memory"]) {
        return;
    }
    let bundle = limited(&t, "memory", json!({"limit": 50_000_000}));
    let done = bundle.sh("mknod /tmp/mem c 1 1 && cat /tmp/mem").run();
    assert!(done.stderr.contains("Operation not permitted"), "{done}");
}

/// The network namespace, most of what the kernel counts, is made by the creator then.
#[test]
fn quarter_of_a_mebibyte_is_enough_to_start() {
    let Some(t) = Test::begin() else { return };
    if !has(&["memory"]) || t.differs(&[Peer::Runc, Peer::Crun], "take more") {
        return;
    }
    for program in ["/bin/true", "/payload"] {
        let tight = || {
            let bundle = limited(&t, "memory", json!({"limit": 262_144})).args(&[program]);
            payload::install(&bundle.rootfs().join("payload"));
            bundle
        };
        for _ in 0..3 {
            let _ = tight().run().ok();
        }
        let c = tight().create();
        let limit = std::fs::read_to_string(c.bundle.cgroup().join("memory.max")).unwrap();
        assert_eq!(limit, "262144\n");
        let _ = c.start().ok();
    }
    // Together with one process at most.
    let alone = limited(&t, "memory", json!({"limit": 262_144, "swap": 262_144}));
    let _ = alone.set("/linux/resources/pids", json!({"limit": 1})).args(&["/bin/true"]).run().ok();
}

#[test]
fn setting_up_is_bounded_too_where_the_limit_comes_later() {
    let Some(t) = Test::begin() else { return };
    if !has(&["memory"]) || t.differs(&[Peer::Runc, Peer::Crun], "have words of their own") {
        return;
    }
    let bundle = limited(&t, "memory", json!({"limit": 1_000_000, "swap": 1_000_000}))
        .file("/full/file", &"x".repeat(8 << 20), 0o644)
        .mount("/full", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let index = bundle.config["mounts"].as_array().unwrap().len() - 1;
    let done = bundle.run().fails("OOM-killed");
    assert!(done.stderr.contains(&format!("mounts[{index}]: ")), "{done}");
}

#[test]
fn init_that_has_too_little_memory_is_said_to_have() {
    let Some(t) = Test::begin() else { return };
    if !has(&["memory"]) || t.differs(&[Peer::Crun], "has words of its own") {
        return;
    }
    for command in ["create", "run"] {
        let bundle = limited(&t, "memory", json!({"limit": 4096}));
        let done = bundle.command(command, &[]).done();
        let done = done.fails("container init was OOM-killed (memory limit too low?)");
        assert!(done.stderr.contains("unable to start container process: "), "{done}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn further_process_that_has_too_little_memory_may_have_been_killed_for_it() {
    let Some(t) = Test::begin() else { return };
    if !has(&["memory"]) || t.differs(&[Peer::Runc, Peer::Crun], "not looked into") {
        return;
    }
    let bundle = limited(&t, "memory", json!({"limit": 60_000_000, "swap": 60_000_000}));
    let c = bundle.args(&["/bin/sleep", "100"]).run_detached();
    // Of the two, the container's own process is not to be killed.
    std::fs::write(format!("/proc/{}/oom_score_adj", c.pid), "-1000").unwrap();
    let cgroup = c.bundle.cgroup();
    let all = std::fs::read_to_string(cgroup.join("memory.current")).unwrap();
    std::fs::write(cgroup.join("memory.max"), all.trim()).unwrap();
    let done = c.call("exec", &[], &["/bin/true"]).exits(255);
    assert!(done.stderr.contains(" (possibly OOM-killed)"), "{done}");
    assert_eq!(c.status(), "running");
}

#[test]
fn rdma_devices_that_are_not_there_are_named() {
    let Some(t) = Test::begin() else { return };
    if !has(&["rdma"]) || t.peer() != Peer::Orlop {
        return;
    }
    let done = limited(&t, "rdma", json!({"none0": {"hcaHandles": 3}})).run();
    let _ = done.fails("linux.resources.rdma");
}

/// Of software, as `VM_WITH=rdma conformance/vm.sh limits` makes one.
fn rdma_device() -> Option<String> {
    let mut devices = std::fs::read_dir("/sys/class/infiniband").ok()?.flatten();
    devices.next()?.file_name().into_string().ok()
}

#[test]
fn rdma_limits_are_in_the_file_and_stay_there() {
    let Some(t) = Test::begin() else { return };
    if !has(&["rdma"]) {
        return;
    }
    let device = rdma_device();
    if t.lacks("rdma", device.is_none()) {
        return;
    }
    let device = device.unwrap();
    let limit = |value: Value| json!({device.as_str(): value});
    let both = limit(json!({"hcaHandles": 3, "hcaObjects": 10000}));
    let c = limited(&t, "rdma", both).args(&["/bin/sleep", "100"]).create();
    let cgroup = c.bundle.cgroup();
    let max = || std::fs::read_to_string(cgroup.join("rdma.max")).unwrap().trim().to_owned();
    assert_eq!(max(), format!("{device} hca_handle=3 hca_object=10000"));
    let _ = c.start().ok();
    let _ = c.call("update", &["--pids-limit", "50"], &[]).ok();
    assert_eq!(max(), format!("{device} hca_handle=3 hca_object=10000"), "update of another");
    // It takes no such limits, and leaves those that there are.
    let resources = t.dir().join("resources.json");
    let new = json!({"rdma": limit(json!({"hcaObjects": 7})), "pids": {"limit": 60}});
    std::fs::write(&resources, new.to_string()).unwrap();
    let _ = c.call("update", &["--resources", resources.to_str().unwrap()], &[]).ok();
    assert_eq!(max(), format!("{device} hca_handle=3 hca_object=10000"), "update of it");
    let one = file(limited(&t, "rdma", limit(json!({"hcaHandles": 0}))), "rdma.max");
    assert_eq!(one, format!("{device} hca_handle=0 hca_object=max"));
}
