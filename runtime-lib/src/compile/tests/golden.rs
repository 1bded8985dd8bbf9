//! Plans compared with the files in `tests/golden`; `UPDATE_GOLDEN=1` writes them anew.

use std::path::Path;

use serde_json::{Value, json};

use super::{Request, patched, plan_for, request};

fn check(name: &str, config: &Value, request: &Request) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    let text = plan_for(config, request).unwrap().to_text();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == known,
        "the plan {name} has changed; look at it, then run with UPDATE_GOLDEN=1:\n{text}"
    );
}

fn of_patch(name: &str, patch: &Value) {
    check(name, &patched(patch), &request());
}

fn of_engine(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.json"));
    let config = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    check(name, &config, &request());
}

#[test]
fn docker_containerd_and_podman() {
    for name in ["docker", "containerd", "podman"] {
        of_engine(name);
    }
}

#[test]
fn the_least_container() {
    of_patch("minimal", &json!({}));
}

#[test]
fn namespaces_new_and_joined() {
    of_patch(
        "namespaces",
        &json!({"linux": {"namespaces": [
            {"type": "mount"}, {"type": "pid", "path": "/proc/7/ns/pid"}, {"type": "uts"},
            {"type": "network", "path": "/run/netns/a"}, {"type": "ipc", "path": "/proc/7/ns/ipc"},
            {"type": "cgroup"}], "sysctl": {"net.ipv4.ip_forward": "1"}},
            "hostname": "h", "domainname": "d.example"}),
    );
}

#[test]
fn user_namespaces_new_and_joined() {
    let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 10},
        {"containerID": 10, "hostID": 7, "size": 1}]);
    let linux = json!({
        "uidMappings": maps, "gidMappings": maps,
        "namespaces": [{"type": "mount"}, {"type": "user"}, {"type": "pid"}, {"type": "ipc"},
            {"type": "network", "path": "/run/netns/a"}]
    });
    let process = json!({"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
        "oomScoreAdj": 3, "user": {"uid": 1, "gid": 10}});
    let mounts =
        json!([{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro", "noexec"]}]);
    let mut new = json!({"linux": linux, "process": process, "mounts": mounts});
    of_patch("user_namespace", &new);
    new["linux"]["namespaces"][1]["path"] = json!("/proc/7/ns/user");
    of_patch("user_namespace_joined", &new);
}

#[test]
fn root_read_only_and_shared() {
    of_patch(
        "root",
        &json!({"root": {"path": "/images/a b", "readonly": true},
            "linux": {"rootfsPropagation": "rshared"}}),
    );
    let mut request = request();
    request.no_pivot = true;
    request.no_new_keyring = true;
    request.preserve_fds = 2;
    request.notify = Some("/run/orlop/c1/notify".into());
    request.null_streams = 0b001;
    let config = patched(&json!({"linux": {"rootfsPropagation": "unbindable"}}));
    check("request", &config, &request);
}

#[test]
fn mounts_of_every_kind() {
    of_patch(
        "mounts",
        &json!({"mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "ro", "mode=755", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "options": ["ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rprivate", "relatime", "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "options": ["tmpcopyup"]},
            {"destination": "/disk", "type": "ext4", "source": "/dev/vdb", "options": ["ro", "sync", "data=ordered", "noatime"]},
            {"destination": "/bind", "source": "volume", "options": ["rbind", "rro", "rslave"]},
            {"destination": "relative/../x", "type": "none", "source": "/srv", "options": ["bind", "ro", "nosuid", "shared"]},
            {"destination": "/inherit", "type": "bind", "source": "/srv", "options": ["rbind", "rprivate"]},
            {"destination": "/clear", "type": "bind", "source": "/srv", "options": ["bind", "rw"]},
            {"destination": "/sys", "options": ["remount", "rw", "nosuid"]}
        ]}),
    );
}

/// One user namespace for the mounts with equal maps.
#[test]
fn id_mapped_mounts() {
    let map = |outside: u32| json!([{"containerID": 0, "hostID": outside, "size": 10}]);
    let mount = |destination: &str, options: Value, outside: u32| {
        json!({"destination": destination, "type": "tmpfs", "source": "/srv", "options": options,
            "uidMappings": map(outside), "gidMappings": map(outside)})
    };
    of_patch(
        "idmap",
        &json!({"mounts": [
            mount("/a", json!(["bind", "idmap", "ro"]), 1000),
            mount("/b", json!(["rbind", "ridmap", "rslave"]), 1000),
            mount("/c", json!(["rbind"]), 2000),
            mount("/d", json!(["mode=700"]), 1000)]}),
    );
}

#[test]
fn sysctls_follow_the_first_writable_proc() {
    let patch = |options: Value| {
        json!({"mounts": [
            {"destination": "/proc", "type": "proc", "options": options},
            {"destination": "/tmp", "type": "tmpfs", "options": ["mode=1777"]}],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "network"}, {"type": "ipc"}],
                "sysctl": {"net/ipv4/conf/eth0.1/forwarding": "1", "kernel.msgmax": "65536"}}})
    };
    of_patch("sysctl", &patch(json!(["nosuid"])));
    of_patch("sysctl-own-handle", &patch(json!(["subset=pid"])));
}

#[test]
fn devices() {
    of_patch(
        "devices",
        &json!({"linux": {"devices": [
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 1, "gid": 2},
            {"path": "/dev/null", "type": "u", "major": 1, "minor": 3, "fileMode": 0o620},
            {"path": "/run/pipe", "type": "p"},
            {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2},
            {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}]}}),
    );
    of_patch(
        "devices-bound",
        &json!({"mounts": [{"destination": "/dev/", "source": "/dev", "options": ["rbind"]}],
            "linux": {"devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]}}),
    );
}

#[test]
fn masked_and_readonly_paths() {
    of_patch(
        "paths",
        &json!({"linux": {"maskedPaths": ["/proc/kcore", "/proc/../sys//firmware", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"]}}),
    );
}

#[test]
fn hooks_of_every_stage() {
    let hook = |name: &str| json!([{"path": format!("/hooks/{name}"), "args": [name, "a b"], "env": ["K=v"], "timeout": 5}]);
    of_patch(
        "hooks",
        &json!({"hooks": {"prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "createContainer": hook("createContainer"), "startContainer": [{"path": "/bin/hook"}],
            "poststart": hook("poststart"), "poststop": hook("poststop")},
            "annotations": {"b": "\"2\"", "a": "1"}, "process": {"env": ["A=1"]}}),
    );
}

#[test]
fn process() {
    of_patch(
        "process",
        &json!({"process": {
            "user": {"uid": 1000, "gid": 100, "umask": 0o077, "additionalGids": [5, 6]},
            "cwd": "/srv/app", "args": ["sh", "-c", "echo \"$A\""],
            "env": ["A=1", "PATH=/bin", "HOME=", "A=2"],
            "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
                "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                "ambient": ["CAP_KILL", "CAP_CHOWN", "CAP_NEW"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 18_446_744_073_709_551_615_u64}],
            "noNewPrivileges": true, "oomScoreAdj": -500},
            "linux": {"personality": {"domain": "LINUX32"}}}),
    );
}

/// The init does what its child inherits, and the creator the rest, once the init is ready.
#[test]
fn scheduling() {
    let patch = |policy: Value| {
        json!({"process": {"scheduler": policy,
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 7},
            "execCPUAffinity": {"initial": "0-1,3", "final": "1"}},
            "linux": {"memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0-1,65",
                "flags": ["MPOL_F_RELATIVE_NODES"]},
            "namespaces": [{"type": "mount"}, {"type": "pid", "path": "/proc/7/ns/pid"}]}})
    };
    let realtime =
        json!({"policy": "SCHED_RR", "priority": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    of_patch("scheduler", &patch(realtime));
    let deadline = json!({"policy": "SCHED_DEADLINE", "runtime": 10_000, "deadline": 20_000,
        "period": 30_000, "flags": ["SCHED_FLAG_DL_OVERRUN"]});
    of_patch("deadline", &patch(deadline));
}

/// Before the hooks of the runtime, which may look at them.
#[test]
fn network_devices() {
    of_patch(
        "net-devices",
        &json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "network"}],
            "netDevices": {"eth1": {}, "eth0": {"name": "net%d"}}},
            "hooks": {"prestart": [{"path": "/hook"}]}}),
    );
}

/// Of two lines for the memory bandwidth, that of `memBwSchema` counts.
#[test]
fn resource_director() {
    let patch = |rdt: Value| json!({"linux": {"intelRdt": rdt}});
    of_patch(
        "rdt",
        &patch(json!({"l3CacheSchema": "L3:0=f;1=f0\nMB:0=9", "memBwSchema": "MB:0=20",
        "schemata": ["L2:0=1"], "enableMonitoring": true, "enableCMT": true})),
    );
    of_patch("rdt-named", &patch(json!({"closID": "gold"})));
    of_patch("rdt-root", &patch(json!({"closID": "/", "enableMonitoring": true})));
}

#[test]
fn time_namespace() {
    let patch = |offsets: Value| json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "time"}], "timeOffsets": offsets}});
    of_patch(
        "time",
        &patch(json!({"monotonic": {"secs": 5}, "boottime": {"secs": -7, "nanosecs": 9}})),
    );
}

#[test]
fn terminal() {
    let mut request = request();
    request.console_socket = true;
    request.null_streams = 0b111;
    let config = patched(&json!({"process": {"terminal": true,
        "consoleSize": {"height": 25, "width": 80}, "user": {"uid": 1000, "gid": 0}}}));
    check("terminal", &config, &request);
    request.shown_on = Some((50, 120));
    check("terminal-shown", &config, &request);
}

/// The filter before the privileges go, or with noNewPrivileges last of all but the hooks.
#[test]
fn seccomp() {
    let patch = |nnp: bool, hooks: Value| {
        json!({"process": {"noNewPrivileges": nnp}, "hooks": {"startContainer": hooks},
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "flags": [],
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}}})
    };
    of_patch("seccomp", &patch(false, json!([])));
    of_patch("seccomp-nnp", &patch(true, json!([])));
    of_patch("seccomp-nnp-hooks", &patch(true, json!([{"path": "/hook"}])));
}

/// The agent before anything can hang on it, and with the pid that stays: in a pid namespace of the
/// container's own, in a joined one, in a joined one where the agent is asked for clone(2) itself.
#[test]
fn seccomp_agents() {
    let patch = |pid: Value, name: &str| {
        json!({"process": {"noNewPrivileges": true}, "hooks": {"startContainer": [{"path": "/hook"}]},
            "linux": {"namespaces": [{"type": "mount"}, pid],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "flags": [],
            "listenerPath": "agent.sock", "listenerMetadata": "a b",
            "syscalls": [{"names": [name], "action": "SCMP_ACT_NOTIFY"}]}}})
    };
    of_patch("agent", &patch(json!({"type": "pid"}), "mkdir"));
    let mut joined = patch(json!({"type": "pid", "path": "/p"}), "mkdir");
    joined["hooks"] = json!({});
    of_patch("agent-joined", &joined);
    let mut joined = patch(json!({"type": "pid", "path": "/p"}), "clone");
    joined["hooks"] = json!({});
    of_patch("agent-joined-late", &joined);
}

/// The handle before the namespaces, the profile after the hooks of the host.
#[test]
fn security_modules() {
    of_patch(
        "labels",
        &json!({"process": {"apparmorProfile": "docker-default", "noNewPrivileges": true,
                "selinuxLabel": "system_u:system_r:container_t:s0:c1,c2"},
            "hooks": {"createContainer": [{"path": "/hook"}], "startContainer": [{"path": "/in"}]},
            "mounts": [{"destination": "/proc", "type": "proc"},
                {"destination": "/dev", "type": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/mqueue", "type": "mqueue"},
                {"destination": "/own", "type": "tmpfs", "options": ["context=\"a:b:c:s0:c1,c2\""]},
                {"destination": "/bind", "source": "/srv", "options": ["bind"]}],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/n"}],
                "mountLabel": "system_u:object_r:container_file_t:s0:c1,c2"}}),
    );
}

#[test]
fn resources() {
    of_patch(
        "resources",
        &json!({"linux": {"cgroupsPath": "a/b", "resources": {
            "devices": [{"allow": false, "access": "rwm"}],
            "memory": {"limit": 1_048_576, "reservation": 65536, "swap": 2_097_152},
            "cpu": {"shares": 1024, "quota": 5000, "period": 10000, "burst": 100, "idle": 0,
                "cpus": "0-1", "mems": "0"},
            "pids": {"limit": 32}, "blockIO": {"weight": 100},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 2_097_152}],
            "rdma": {"mlx5_0": {"hcaHandles": 3}}, "unified": {"memory.high": "100000"}}}}),
    );
}

#[test]
fn systemd_unit() {
    let mut request = request();
    request.systemd = Some(crate::cgroup::systemd::Bus::System);
    let config = patched(&json!({
        "annotations": {"org.systemd.property.TimeoutStopSec": "2", "other": "x"},
        "process": {"user": {"uid": 1000, "gid": 0}},
        "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}],
        "linux": {"cgroupsPath": "a-b.slice:test:1",
            "namespaces": [{"type": "mount"}, {"type": "cgroup"}, {"type": "network"}],
            "resources": {"memory": {"limit": 1_048_576}, "pids": {"limit": 32},
                "cpu": {"quota": 5000, "period": 10000, "cpus": "0-1"}, "blockIO": {"weight": 100},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 2_097_152}]}}}));
    check("systemd", &config, &request);
}

#[test]
fn json_has_the_same_rows_as_the_text() {
    let plan = plan_for(
        &patched(&json!({"hostname": "h", "linux": {"namespaces":
        [{"type": "mount"}, {"type": "uts"}]}})),
        &request(),
    )
    .unwrap();
    let all = plan.to_json();
    assert_eq!(all["id"], "c1");
    let rows: usize = ["plan", "child", "host", "later", "warnings"]
        .iter()
        .map(|key| all[key].as_array().unwrap().len())
        .sum();
    assert_eq!(rows, plan.to_text().lines().count());
    let hostname = json!({"operation": "hostname", "object": "h", "field": "hostname"});
    assert!(all["child"].as_array().unwrap().contains(&hostname));
}
