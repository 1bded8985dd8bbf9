//! No field is passed over: any change of a leaf of a configuration that has them all changes the
//! plan, or is refused in that field's name.

use serde_json::{Value, json};

use super::{Request, merge, plan_for, request};
use crate::error::Error;

/// A filter that uses every field of one.
fn seccomp() -> Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 2,
                "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "listenerPath": "/agent", "listenerMetadata": "m",
                "syscalls": [
                    {"names": ["execve", "write", "read", "exit_group", "chdir", "getcwd", "prctl",
                        "setgroups", "setresgid", "setresuid", "capset", "newfstatat", "faccessat2", "memfd_create", "getpid", "setsid", "ioctl",
                        "fork", "close_range", "pidfd_open", "poll", "pidfd_send_signal", "waitid", "pread64",
                        "lseek", "pipe2", "clone", "dup3", "ppoll", "wait4", "kill", "close"], "action": "SCMP_ACT_ALLOW"},
                    {"names": ["rmdir"], "action": "SCMP_ACT_NOTIFY"},
                    {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3,
                        "args": [{"index": 1, "value": 3, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}]})
}

/// Every field of runtime-spec 1.3 for Linux that Orlop acts on.
fn everything() -> Value {
    let hook = |name: &str| json!([{"path": format!("/{name}"), "args": [name], "env": ["A=1"], "timeout": 2}]);
    let rate = json!([{"major": 8, "minor": 1, "rate": 1000}]);
    let mut all = json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "h",
        "domainname": "d",
        "annotations": {"a": "1"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "hidepid=2"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "size=1k"]},
            {"destination": "/srv", "source": "/srv", "options": ["rbind", "ro", "rslave", "rnosuid"]},
            {"destination": "/map", "source": "/srv", "options": ["rbind", "ridmap"],
                "uidMappings": [{"containerID": 1, "hostID": 2, "size": 3}],
                "gidMappings": [{"containerID": 4, "hostID": 5, "size": 6}]}
        ],
        "process": {
            "terminal": true,
            "consoleSize": {"height": 25, "width": 80},
            "user": {"uid": 1, "gid": 2, "umask": 0o077, "additionalGids": [3]},
            "cwd": "/srv", "args": ["sh", "-c"], "env": ["A=1", "PATH=/bin"],
            "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_MKNOD"],
                "permitted": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"],
                "inheritable": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}],
            "scheduler": {"policy": "SCHED_OTHER", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 3},
            "execCPUAffinity": {"initial": "0-1", "final": "1"},
            "noNewPrivileges": true, "oomScoreAdj": 5,
            "apparmorProfile": "p", "selinuxLabel": "l"
        },
        "hooks": {"prestart": hook("a"), "createRuntime": hook("b"), "createContainer": hook("c"),
            "startContainer": hook("d"), "poststart": hook("e"), "poststop": hook("f")},
        "linux": {
            "cgroupsPath": "/a/b",
            "namespaces": [{"type": "mount"}, {"type": "pid", "path": "/p"}, {"type": "ipc"},
                {"type": "uts"}, {"type": "network", "path": "/n"}, {"type": "cgroup"}, {"type": "time"}],
            "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}, "boottime": {"secs": -3, "nanosecs": 4}},
            "netDevices": {"eth0": {"name": "e"}, "eth1": {}},
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
            "sysctl": {"net.a": "1", "kernel.sem": "1"},
            "devices": [{"path": "/dev/x", "type": "c", "major": 7, "minor": 8, "fileMode": 0o600, "uid": 1, "gid": 2}],
            "rootfsPropagation": "slave", "mountLabel": "l",
            "maskedPaths": ["/m"], "readonlyPaths": ["/r"],
            "personality": {"domain": "LINUX32"},
            "seccomp": seccomp(),
            "resources": {
                "devices": [{"allow": true, "type": "c", "major": 9, "minor": 1, "access": "rw"},
                    {"allow": true, "type": "b", "major": 9, "access": "rw"},
                    {"allow": false, "type": "b", "major": 9, "minor": 2, "access": "w"}],
                "memory": {"limit": 1_048_576, "reservation": 65536, "swap": 2_097_152},
                "cpu": {"shares": 1024, "quota": 5000, "period": 10000, "burst": 100, "idle": 0,
                    "cpus": "0-1", "mems": "0"},
                "pids": {"limit": 32},
                "blockIO": {"weight": 100, "weightDevice": [{"major": 8, "minor": 1, "weight": 20}],
                    "throttleReadBpsDevice": rate, "throttleWriteBpsDevice": rate,
                    "throttleReadIOPSDevice": rate, "throttleWriteIOPSDevice": rate},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 2_097_152}],
                "rdma": {"m": {"hcaHandles": 3, "hcaObjects": 4}},
                "unified": {"memory.high": "100000"}
            }
        }
    });
    all["linux"]["intelRdt"] = json!({"closID": "c", "l3CacheSchema": "L3:0=f",
        "memBwSchema": "MB:0=5", "schemata": ["L2:0=1"], "enableMonitoring": true});
    all
}

fn own_request() -> Request {
    Request { console_socket: true, ..request() }
}

/// The path of a leaf in config.json's words, and its place for [`Value::pointer`].
type Place = (String, String);

/// All leaves and all elements of lists and members of objects.
fn places(value: &Value, (path, pointer): &Place, out: &mut Vec<Place>) {
    let mut add = |name: String, key: &str, value: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        let place = (name, format!("{pointer}/{key}"));
        out.push(place.clone());
        places(value, &place, out);
    };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = match path.as_str() {
                    "" => key.clone(),
                    "linux.sysctl"
                    | "linux.netDevices"
                    | "linux.resources.unified"
                    | "linux.resources.rdma" => {
                        format!("{path}[{key:?}]")
                    }
                    _ => format!("{path}.{key}"),
                };
                add(name, key, value);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                add(format!("{path}[{index}]"), &index.to_string(), value);
            }
        }
        _ => {}
    }
}

fn without(config: &Value, pointer: &str) -> Value {
    let mut config = config.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Object(map) => _ = map.remove(&key.replace("~1", "/")),
        Value::Array(list) => _ = list.remove(key.parse().unwrap()),
        _ => panic!("{pointer}"),
    }
    config
}

/// The configuration with another value for a leaf; none for an object or a list.
fn changed(config: &Value, pointer: &str) -> Option<Value> {
    let mut config = config.clone();
    let leaf = config.pointer_mut(pointer).unwrap();
    *leaf = match leaf {
        Value::Bool(value) => json!(!*value),
        Value::Number(value) => json!(value.as_i64().unwrap() + 1),
        Value::String(value) if value.ends_with("=1") => json!(format!("{value}0")),
        Value::String(value) => json!(format!("{value}x")),
        _ => return None,
    };
    Some(config)
}

/// Whether an error is about a leaf: its field is the leaf, one above it, or one below it; or, where
/// two fields have to agree and it stands at the other one, its text names the leaf's.
fn names(error: &Error, path: &str) -> bool {
    let field = error.field().unwrap_or_default();
    let here = path.starts_with(field) || field.starts_with(path);
    let name = path.rsplit('.').next().and_then(|name| name.split('[').next());
    let text = error.to_string();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    !field.is_empty() && (here || words.into_iter().any(|word| Some(word) == name))
}

fn check(original: &str, config: &Value, path: &str, what: &str) -> Option<String> {
    match plan_for(config, &own_request()) {
        Ok(plan) if plan.to_text() != original => None,
        Ok(_) => Some(format!("{path} {what}: the plan is the same")),
        Err(error) if names(&error, path) => None,
        Err(error) => Some(format!("{path} {what}: {error}")),
    }
}

#[test]
fn every_field_changes_the_plan_or_is_refused() {
    let config = everything();
    let original = plan_for(&config, &own_request()).unwrap().to_text();
    let mut all = Vec::new();
    places(&config, &(String::new(), String::new()), &mut all);
    assert!(all.len() > 240, "{}", all.len());
    let mut failures = Vec::new();
    for (path, pointer) in &all {
        // What is false is false where it is absent, too.
        if config.pointer(pointer) != Some(&json!(false)) {
            failures.extend(check(&original, &without(&config, pointer), path, "removed"));
        }
        if let Some(config) = changed(&config, pointer) {
            failures.extend(check(&original, &config, path, "changed"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Fields that ask for what is not built, or for nothing that cgroup v2 or Linux has: added to the
/// configuration, each is refused or warned of.
#[test]
fn fields_without_effect_are_refused_or_warned_of() {
    let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    let fields = [
        ("process.commandLine", json!("sh")),
        ("process.user.username", json!("u")),
        ("linux.uidMappings", map.clone()),
        ("linux.gidMappings", map.clone()),
        ("linux.intelRdt.enableCMT", json!(true)),
        ("linux.intelRdt.enableMBM", json!(true)),
        ("linux.personality.flags", json!(["F"])),
        ("linux.resources.memory.kernel", json!(1)),
        ("linux.resources.memory.kernelTCP", json!(1)),
        ("linux.resources.memory.swappiness", json!(1)),
        ("linux.resources.memory.disableOOMKiller", json!(true)),
        ("linux.resources.cpu.realtimeRuntime", json!(1)),
        ("linux.resources.cpu.realtimePeriod", json!(1)),
        ("linux.resources.blockIO.leafWeight", json!(10)),
        ("linux.resources.network.classID", json!(1)),
        ("linux.resources.network.priorities", json!([{"name": "e", "priority": 1}])),
        ("solaris", json!({"milestone": "m"})),
        ("windows", json!({"layerFolders": ["a"]})),
        ("vm", json!({"kernel": {"path": "/k"}})),
        ("zos", json!({})),
        ("freebsd", json!({"devices": []})),
        ("uidMappings", map.clone()),
        ("gidMappings", map),
    ];
    let config = everything();
    let original = plan_for(&config, &own_request()).unwrap().to_text();
    let mut failures = Vec::new();
    for (path, value) in fields {
        let patch = path.rsplit('.').fold(value, |value, key| json!({key: value}));
        let mut config = config.clone();
        merge(&mut config, &patch);
        failures.extend(check(&original, &config, path, "added"));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
