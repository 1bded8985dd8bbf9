//! Namespaces, host name, sysctls, id maps.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use orlop_conformance::{Peer, Test, proc, run::wait_for};
use serde_json::json;

const KINDS: [&str; 6] = ["pid", "network", "ipc", "uts", "mount", "cgroup"];

fn file_of(kind: &str) -> &str {
    match kind {
        "network" => "net",
        "mount" => "mnt",
        other => other,
    }
}

#[test]
fn listed_namespaces_are_new() {
    let Some(t) = Test::begin() else { return };
    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    for kind in KINDS {
        let file = file_of(kind);
        let theirs = proc::namespace(c.pid, file).unwrap();
        let ours = std::fs::read_link(format!("/proc/self/ns/{file}")).unwrap();
        assert_ne!(theirs, ours.to_string_lossy(), "{kind}");
    }
    let ours = std::fs::read_link("/proc/self/ns/user").unwrap();
    assert_eq!(proc::namespace(c.pid, "user").unwrap(), ours.to_string_lossy());
}

#[test]
fn namespaces_that_are_not_listed_are_the_callers() {
    let Some(t) = Test::begin() else { return };
    for kind in ["network", "ipc", "uts", "cgroup", "pid"] {
        let mut bundle = t.bundle().without_namespace(kind).args(&["/bin/sleep", "100"]);
        if kind == "uts" {
            bundle = bundle.remove("/hostname");
        }
        if kind == "network" {
            bundle = bundle.remove("/linux/maskedPaths");
        }
        let c = bundle.run_detached();
        let file = file_of(kind);
        let ours = std::fs::read_link(format!("/proc/self/ns/{file}")).unwrap();
        assert_eq!(proc::namespace(c.pid, file).unwrap(), ours.to_string_lossy(), "{kind}");
    }
}

/// It has another root then, and that is all: what else a root filesystem is given are mounts.
#[test]
fn container_without_a_mount_namespace_changes_no_mount_of_the_host() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "change the host's mounts") {
        return;
    }
    let mountinfo = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mountinfo();
    let script = "pwd; hostname; echo new >/new; echo out >/dev/null && stat -c %t:%T /dev/null; \
                  sleep 1000";
    let mut bundle = t.bundle().without_namespace("mount").sh(script);
    for field in ["/mounts", "/linux/maskedPaths", "/linux/readonlyPaths"] {
        bundle = bundle.remove(field);
    }
    let bundle = bundle.set("/process/cwd", json!("/tmp")).set("/hostname", json!("chrooted"));
    let c = bundle.run_detached();
    c.wait_for_output("1:3");
    assert_eq!(c.written(), "/tmp\nchrooted\n1:3\n");
    for (kind, shared) in [("mnt", true), ("pid", false)] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let theirs = proc::namespace(c.pid, kind).unwrap();
        assert_eq!(theirs == ours.to_string_lossy(), shared, "{kind}");
    }
    assert_eq!(std::fs::read_link(format!("/proc/{}/root", c.pid)).unwrap(), c.bundle.rootfs());
    let done = c.call("exec", &[], &["/bin/sh", "-c", "pwd; cat /new; ls /"]).ok();
    assert_eq!(done.lines()[..2], ["/tmp", "new"], "{done}");
    assert!(done.lines().contains(&"bin") && !done.lines().contains(&"boot"), "{done}");
    assert_eq!(mountinfo(), before);
    let _ = c.call("delete", &["--force"], &[]).ok();
    assert_eq!(mountinfo(), before);
}

#[test]
fn namespaces_with_a_path_are_joined() {
    let Some(t) = Test::begin() else { return };
    let first = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    for kind in ["network", "ipc", "uts", "pid"] {
        let file = file_of(kind);
        let path = format!("/proc/{}/ns/{file}", first.pid);
        let mut bundle = t.bundle().without_namespace(kind).args(&["/bin/sleep", "100"]);
        if kind == "uts" {
            bundle = bundle.remove("/hostname");
        }
        let bundle = bundle.push("/linux/namespaces", json!({"type": kind, "path": path}));
        let second = bundle.run_detached();
        assert_eq!(proc::namespace(second.pid, file), proc::namespace(first.pid, file), "{kind}");
        assert_ne!(proc::namespace(second.pid, "mnt"), proc::namespace(first.pid, "mnt"));
    }
}

#[test]
fn container_in_a_joined_pid_namespace_sees_the_first_ones_processes() {
    let Some(t) = Test::begin() else { return };
    let first = t.bundle().args(&["/bin/sleep", "4321"]).run_detached();
    let path = format!("/proc/{}/ns/pid", first.pid);
    let bundle = t.bundle().without_namespace("pid");
    let bundle = bundle.push("/linux/namespaces", json!({"type": "pid", "path": path}));
    let out = bundle.sh("tr '\\0' ' ' </proc/1/cmdline; echo; echo $$").run().ok().stdout;
    assert!(out.starts_with("/bin/sleep 4321"), "{out}");
    assert_ne!(out.lines().last().unwrap(), "1");
}

#[test]
fn paths_that_are_no_namespace_of_the_kind_are_refused() {
    let Some(t) = Test::begin() else { return };
    let own = std::process::id();
    for path in ["/nowhere", "/etc/passwd", &format!("/proc/{own}/ns/uts")] {
        let bundle = t.bundle().without_namespace("network");
        let bundle = bundle.push("/linux/namespaces", json!({"type": "network", "path": path}));
        let _ = bundle.run().exits(1);
    }
}

#[test]
fn duplicate_and_unknown_namespaces_are_refused() {
    let Some(t) = Test::begin() else { return };
    if !t.differs(&[Peer::Crun], "accepts duplicates") {
        let _ = t.bundle().push("/linux/namespaces", json!({"type": "uts"})).run().exits(1);
    }
    let _ = t.bundle().push("/linux/namespaces", json!({"type": "nosuch"})).run().exits(1);
}

#[test]
fn hostname_and_domainname_are_set_in_the_container_alone() {
    let Some(t) = Test::begin() else { return };
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap();
    let before = (read("hostname"), read("domainname"));
    let bundle = t.bundle().set("/hostname", json!("boat")).set("/domainname", json!("sea.test"));
    let bundle = bundle.sh("hostname; cat /proc/sys/kernel/domainname");
    let out = bundle.run().ok().stdout;
    assert_eq!((read("hostname"), read("domainname")), before);
    assert!(out.starts_with("boat\n"), "{out}");
    if t.differs(&[Peer::Runc], "1.1 does not know domainname") {
        return;
    }
    assert_eq!(out, "boat\nsea.test\n");
}

#[test]
fn hostname_without_its_namespace_is_refused() {
    let Some(t) = Test::begin() else { return };
    let _ = t.bundle().without_namespace("uts").run().exits(1);
}

#[test]
fn sysctls_of_the_containers_own_namespaces_are_set() {
    let Some(t) = Test::begin() else { return };
    let sysctl = json!({
        "net.ipv4.ip_forward": "1", "kernel.shmmax": "123456789", "fs.mqueue.msg_max": "77",
        "net.ipv4.ping_group_range": "0 2147483647"
    });
    let script = "cd /proc/sys; cat net/ipv4/ip_forward kernel/shmmax fs/mqueue/msg_max \
                  net/ipv4/ping_group_range";
    let out = t.bundle().set("/linux/sysctl", sysctl).sh(script).run().ok().stdout;
    assert_eq!(out, "1\n123456789\n77\n0\t2147483647\n");
}

#[test]
fn sysctls_of_the_host_are_refused() {
    let Some(t) = Test::begin() else { return };
    // Each is asked to be what it is already: a runtime that does not refuse changes nothing on this machine.
    let value = |path: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/{path}")).unwrap();
        text.trim_end().to_owned()
    };
    for (key, path) in [
        ("kernel.core_pattern", "kernel/core_pattern"),
        ("kernel/core_pattern", "kernel/core_pattern"),
        ("vm.swappiness", "vm/swappiness"),
        ("fs.file-max", "fs/file-max"),
    ] {
        let done = t.bundle().set("/linux/sysctl", json!({key: value(path)})).run().exits(1);
        if t.peer() != Peer::Crun {
            assert!(done.stderr.contains("is not in a separate kernel namespace"), "{done}");
        }
    }
    for key in ["net/../kernel/core_pattern", "net.ipv4/../../kernel/core_pattern"] {
        let bundle = t.bundle().set("/linux/sysctl", json!({key: value("kernel/core_pattern")}));
        let _ = bundle.run().exits(1);
    }
}

#[test]
fn network_sysctls_need_a_network_namespace() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().without_namespace("network").remove("/linux/maskedPaths");
    let _ = bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})).run().exits(1);
}

#[test]
fn loopback_is_up_in_a_new_network_namespace() {
    let Some(t) = Test::begin() else { return };
    let out =
        t.bundle().sh("ifconfig lo; ping -c1 -W1 127.0.0.1 >/dev/null || true").run().ok().stdout;
    assert!(out.contains("UP LOOPBACK RUNNING") && out.contains("127.0.0.1"), "{out}");
    let out = t.bundle().args(&["/bin/ls", "/sys/class/net"]).run().ok().stdout;
    assert!(out.contains("lo"), "sysfs is the container's own: {out}");
}

#[test]
fn user_namespace_has_the_configs_maps() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().push("/linux/namespaces", json!({"type": "user"}));
    let bundle = bundle
        .set(
            "/linux/uidMappings",
            json!([
                {"containerID": 0, "hostID": 100_000, "size": 1000},
                {"containerID": 1000, "hostID": 200_000, "size": 10}
            ]),
        )
        .set("/linux/gidMappings", json!([{"containerID": 0, "hostID": 300_000, "size": 5000}]));
    let shift = bundle.rootfs();
    std::os::unix::fs::chown(&shift, Some(100_000), Some(300_000)).unwrap();
    for dir in [t.dir(), &bundle.dir] {
        orlop_conformance::rootfs::mode(dir, 0o711);
    }
    if t.unsupported(&bundle.run()) {
        return;
    }
    let c = bundle.sh("id -u; cat /proc/self/uid_map /proc/self/gid_map; sleep 100").run_detached();
    wait_for("the maps", || c.written().lines().count() == 4);
    let rows: Vec<String> =
        c.written().lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(rows, ["0", "0 100000 1000", "1000 200000 10", "0 300000 5000"]);
    let text = std::fs::read_to_string(format!("/proc/{}/status", c.pid)).unwrap();
    assert_eq!(proc::status(&text)["Uid"], "100000\t100000\t100000\t100000");
    let ours = std::fs::read_link("/proc/self/ns/user").unwrap();
    assert_ne!(proc::namespace(c.pid, "user").unwrap(), ours.to_string_lossy());
}

#[test]
fn time_namespace_has_the_configs_offsets() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 does not know it") {
        return;
    }
    let bundle = || t.bundle().push("/linux/namespaces", json!({"type": "time"}));
    let offsets = json!({
        "boottime": {"secs": 1_000_000, "nanosecs": 0}, "monotonic": {"secs": -1, "nanosecs": 5}
    });
    let read = ["/bin/cat", "/proc/uptime", "/proc/self/timens_offsets"];
    let out = bundle().set("/linux/timeOffsets", offsets).args(&read).run().ok().stdout;
    let uptime: f64 = out.split(' ').next().unwrap().parse().unwrap();
    assert!((1_000_000.0..2_000_000.0).contains(&uptime), "{out}");
    let words: Vec<&str> = out.lines().skip(1).flat_map(str::split_whitespace).collect();
    assert_eq!(words, ["monotonic", "-1", "5", "boottime", "1000000", "0"]);
    let script = "cd /proc/self/ns; readlink time; readlink time_for_children";
    let links = bundle().sh(script).run().ok();
    let links = links.lines();
    let ours = std::fs::read_link("/proc/self/ns/time").unwrap();
    assert!(links[0] == links[1] && links[0] != ours.to_string_lossy(), "{links:?}");
}

#[test]
fn time_namespace_is_joined_by_path_and_by_exec() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 does not know it") {
        return;
    }
    let offsets = json!({"boottime": {"secs": 2_000_000}});
    let bundle = t.bundle().push("/linux/namespaces", json!({"type": "time"}));
    let bundle = bundle.set("/linux/timeOffsets", offsets).args(&["/bin/sleep", "100"]);
    let first = bundle.run_detached();
    let own = proc::namespace(first.pid, "time").unwrap();

    let path = format!("/proc/{}/ns/time", first.pid);
    let second = t.bundle().push("/linux/namespaces", json!({"type": "time", "path": path}));
    let second = second.args(&["/bin/readlink", "/proc/self/ns/time"]).run().ok();
    assert_eq!(second.stdout.trim_end(), own);

    let done = first.call("exec", &[], &["/bin/readlink", "/proc/self/ns/time"]).ok();
    assert_eq!(done.stdout.trim_end(), own);
    let done = first.call("exec", &[], &["/bin/cat", "/proc/uptime"]).ok();
    let uptime: f64 = done.stdout.split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 2_000_000.0, "{uptime}");
}

#[test]
fn time_before_the_clock_began_is_refused() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 does not know it") {
        return;
    }
    let bundle = t.bundle().push("/linux/namespaces", json!({"type": "time"}));
    let offsets = json!({"monotonic": {"secs": -4_000_000_000_i64}});
    let done = bundle.set("/linux/timeOffsets", offsets).run().exits(1);
    if t.peer() == Peer::Orlop {
        let _ = done.fails("linux.timeOffsets: ");
    }
}

#[test]
fn features_names_the_namespaces_that_work() {
    let Some(t) = Test::begin() else { return };
    let doc = t.bare().arg("features").done().ok().json();
    let named = |kind: &str| doc["linux"]["namespaces"].as_array().unwrap().contains(&json!(kind));
    let maps = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let user = t.bundle().push("/linux/namespaces", json!({"type": "user"}));
    let user = user.set("/linux/uidMappings", maps.clone()).set("/linux/gidMappings", maps);
    assert_eq!(user.run().code() == 0, named("user"));
    let time = t.bundle().push("/linux/namespaces", json!({"type": "time"}));
    assert_eq!(time.run().code() == 0, named("time"));
}
