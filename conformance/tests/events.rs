//! events: statistics, and the stream that ends with the container.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use orlop_conformance::run::wait_for;
use orlop_conformance::{Peer, Test};
use serde_json::Value;

/// The paths of all members of an object, without those that only newer kernels or runtimes tell.
fn keys(value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(object) = value.as_object() else { return };
    for (key, value) in object {
        let path = format!("{path}/{key}");
        if key != "psi" {
            keys(value, &path, found);
            found.push(path);
        }
    }
}

/// runc cannot follow a cgroup without the memory controller.
fn has_memory_events(t: &Test) -> bool {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let has_memory = controllers.split_whitespace().any(|name| name == "memory");
    has_memory || !t.differs(&[Peer::Runc], "needs the memory controller to follow")
}

#[test]
fn stats_are_one_line_in_the_keys_of_the_contract() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has no such command") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let done = c.call("events", &["--stats"], &[]).ok();
    assert!(done.stderr.is_empty(), "{done}");
    assert_eq!(done.lines().len(), 1, "{done}");
    let event = done.json();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], c.bundle.id.as_str());
    let data = &event["data"];
    let mut found = Vec::new();
    keys(data, "", &mut found);
    for key in [
        "/cpu/usage/kernel",
        "/cpu/usage/user",
        "/cpu/throttling",
        "/cpuset/cpu_exclusive",
        "/cpuset/mem_hardwall",
        "/cpuset/mem_exclusive",
        "/cpuset/memory_migrate",
        "/cpuset/memory_spread_page",
        "/cpuset/memory_spread_slab",
        "/cpuset/memory_pressure",
        "/cpuset/sched_load_balance",
        "/cpuset/sched_relax_domain_level",
        "/memory/usage/limit",
        "/memory/usage/failcnt",
        "/memory/swap/limit",
        "/memory/kernel/limit",
        "/memory/kernelTCP/limit",
        "/pids",
        "/blkio",
        "/hugetlb",
        "/intel_rdt",
        "/network_interfaces",
    ] {
        assert!(found.iter().any(|found| found == key), "no {key}: {done}");
    }
    assert_eq!(data["pids"]["current"], 1, "{done}");
    assert!(data["network_interfaces"].is_null(), "{done}");
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{done}");
    let entries = std::fs::read_dir(c.bundle.cgroup()).unwrap();
    let has_huge_pages = entries
        .filter_map(|e| e.unwrap().file_name().into_string().ok())
        .any(|name| name.starts_with("hugetlb."));
    let sizes = data["hugetlb"].as_object().unwrap();
    if t.peer() != Peer::Runc {
        // runc 1.1 leaves them out here.
        assert_eq!(sizes.is_empty(), !has_huge_pages, "{done}");
    }
    for (size, use_of) in sizes {
        assert!(size.ends_with("KB") || size.ends_with("MB") || size.ends_with("GB"), "{done}");
        assert_eq!(use_of["failcnt"], 0, "{done}");
    }
}

#[test]
fn stream_has_statistics_at_each_interval_and_ends_with_the_container() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has no such command") {
        return;
    }
    if !has_memory_events(&t) {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let stream = t.command(["events", "--interval", "30ms", &c.bundle.id]).spawn();
    wait_for("three lines", || stream.stdout_so_far().lines().count() >= 3);
    let _ = c.kill("KILL").ok();
    let _ = c.reap();
    let done = stream.done().ok();
    assert!(done.stderr.is_empty(), "{done}");
    for line in done.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["type"], "stats", "{line}");
        assert_eq!(event["id"], c.bundle.id.as_str(), "{line}");
    }
}

#[test]
fn stream_ends_when_the_container_is_deleted_at_once() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has no such command") {
        return;
    }
    if !has_memory_events(&t) {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let stream = t.command(["events", "--interval=1h", &c.bundle.id]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let _ = c.call("delete", &["--force"], &[]).ok();
    let _ = stream.done().ok();
}

#[test]
fn created_and_paused_containers_have_statistics_and_stopped_ones_have_not() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has no such command") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    let _ = c.call("events", &["--stats"], &[]).ok();
    let _ = c.call("pause", &[], &[]).ok();
    let _ = c.call("events", &["--stats"], &[]).ok();
    let _ = c.call("resume", &[], &[]).ok();
    let _ = c.kill("KILL").ok();
    let _ = c.reap();
    let text = format!("container with id {} is not running", c.bundle.id);
    let _ = c.call("events", &["--stats"], &[]).fails(&text);
}

#[test]
fn interval_must_be_positive() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "has no such command") {
        return;
    }
    let c = t.bundle().args(&["/bin/sleep", "100"]).create();
    for interval in ["0s", "-1s"] {
        let done = c.call("events", &["--interval", interval], &[]);
        let _ = done.fails("duration interval must be greater than 0");
    }
    let _ = c.call("events", &["--interval", "soon"], &[]).fails("invalid value");
    let _ = t.call(&["events", "nosuch"]).fails("does not exist");
}
