//! Broken configurations of the fields that came with later versions of the specification.

use serde_json::{Value, json};

use super::broken::{check, linux, mount, process};

#[test]
fn of_the_scheduler() {
    let scheduler = |value: Value| process("scheduler", value);
    let deadline = |runtime: u64, deadline: u64, period: u64| {
        scheduler(json!({"policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline,
            "period": period}))
    };
    check(vec![
        (scheduler(json!({})), "process.scheduler", "missing field `policy`"),
        (scheduler(json!({"policy": "SCHED_FAST"})), "process.scheduler.policy", "unknown variant"),
        (scheduler(json!({"policy": "SCHED_ISO"})), "process.scheduler.policy", "no Linux"),
        (
            scheduler(json!({"policy": "SCHED_OTHER", "nice": 20})),
            "process.scheduler.nice",
            "-20 to 19",
        ),
        (
            scheduler(json!({"policy": "SCHED_BATCH", "nice": -21})),
            "process.scheduler.nice",
            "-20 to 19",
        ),
        (scheduler(json!({"policy": "SCHED_RR"})), "process.scheduler.priority", "1 to 99"),
        (
            scheduler(json!({"policy": "SCHED_FIFO", "priority": 100})),
            "process.scheduler.priority",
            "1 to 99",
        ),
        (
            scheduler(json!({"policy": "SCHED_OTHER", "priority": 1})),
            "process.scheduler.priority",
            "not for SCHED_OTHER",
        ),
        (
            scheduler(json!({"policy": "SCHED_IDLE", "priority": -1})),
            "process.scheduler.priority",
            "not for SCHED_IDLE",
        ),
        (
            scheduler(json!({"policy": "SCHED_BATCH", "runtime": 1})),
            "process.scheduler.runtime",
            "not for SCHED_BATCH",
        ),
        (
            scheduler(json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_FAST"]})),
            "process.scheduler.flags[0]",
            "unknown variant",
        ),
        (deadline(1023, 2000, 0), "process.scheduler.runtime", "less than 1024"),
        (deadline(3000, 2000, 0), "process.scheduler.deadline", "less than the runtime"),
        (deadline(2000, 3000, 2500), "process.scheduler.period", "less than the deadline"),
        (deadline(2000, 1 << 63, 0), "process.scheduler.deadline", "more than the kernel"),
    ]);
    let mut hooks = deadline(2000, 2000, 0);
    hooks["hooks"] = json!({"startContainer": [{"path": "/bin/true"}]});
    check(vec![(hooks, "process.scheduler", "forbids to fork")]);
}

#[test]
fn of_the_io_priority_and_the_processors() {
    let io = |value: Value| process("ioPriority", value);
    let cpus = |value: Value| process("execCPUAffinity", value);
    check(vec![
        (io(json!({"class": "IOPRIO_CLASS_NONE"})), "process.ioPriority.class", "unknown variant"),
        (
            io(json!({"class": "IOPRIO_CLASS_RT", "priority": 8})),
            "process.ioPriority.priority",
            "not in 0 to 7",
        ),
        (
            io(json!({"class": "IOPRIO_CLASS_BE", "priority": -1})),
            "process.ioPriority.priority",
            "not in 0 to 7",
        ),
        (cpus(json!({"initial": "a"})), "process.execCPUAffinity", "Invalid"),
        (cpus(json!({"final": "1-"})), "process.execCPUAffinity", "Invalid"),
        (cpus(json!({"final": "3-1"})), "process.execCPUAffinity.final", "ends before"),
        (cpus(json!({"initial": "9999"})), "process.execCPUAffinity.initial", "above 8191"),
    ]);
}

#[test]
fn of_the_memory_policy() {
    let policy = |value: Value| linux("memoryPolicy", value);
    const NODES: &str = "linux.memoryPolicy.nodes";
    const FLAGS: &str = "linux.memoryPolicy.flags";
    check(vec![
        (policy(json!({})), "linux.memoryPolicy", "missing field `mode`"),
        (policy(json!({"mode": "MPOL_FAR"})), "linux.memoryPolicy.mode", "unknown variant"),
        (policy(json!({"mode": "MPOL_BIND"})), NODES, "needed for MPOL_BIND"),
        (policy(json!({"mode": "MPOL_LOCAL", "nodes": "0"})), NODES, "must be empty"),
        (policy(json!({"mode": "MPOL_DEFAULT", "nodes": "0"})), NODES, "must be empty"),
        (policy(json!({"mode": "MPOL_BIND", "nodes": "0-"})), NODES, "not a list"),
        (
            policy(json!({"mode": "MPOL_BIND", "nodes": "0",
                "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]})),
            FLAGS,
            "exclude each other",
        ),
        (
            policy(json!({"mode": "MPOL_PREFERRED", "flags": ["MPOL_F_STATIC_NODES"]})),
            FLAGS,
            "there are none",
        ),
        (
            policy(
                json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}),
            ),
            FLAGS,
            "not MPOL_INTERLEAVE",
        ),
        (
            policy(json!({"mode": "MPOL_LOCAL", "flags": ["MPOL_F_X"]})),
            "linux.memoryPolicy.flags[0]",
            "unknown",
        ),
    ]);
}

#[test]
fn of_time_namespaces() {
    let offsets = |path: &str, offsets: Value| {
        json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "time", "path": path}],
            "timeOffsets": offsets}})
    };
    check(vec![
        (linux("timeOffsets", json!({"boottime": {"secs": 1}})), "linux.timeOffsets", "new time"),
        (
            offsets("/proc/1/ns/time", json!({"boottime": {"secs": 1}})),
            "linux.timeOffsets",
            "new time",
        ),
        (offsets("", json!({"realtime": {"secs": 1}})), "linux.timeOffsets", "\"realtime\""),
        (
            offsets("", json!({"monotonic": {"nanosecs": 1_000_000_000}})),
            "linux.timeOffsets.monotonic.nanosecs",
            "a second or more",
        ),
        (
            offsets("", json!({"monotonic": {"nanosecs": -1}})),
            "linux.timeOffsets.monotonic.nanosecs",
            "invalid value",
        ),
    ]);
}

#[test]
fn of_id_mapped_mounts() {
    let range = |inside: u32, outside: u32, size: u32| json!([{"containerID": inside, "hostID": outside, "size": size}]);
    let options =
        |options: Value| mount(json!({"destination": "/x", "source": "/y", "options": options}));
    let maps = |uids: Value, gids: Value, options: Value| {
        mount(json!({"destination": "/x", "type": "tmpfs", "source": "/y", "options": options,
            "uidMappings": uids, "gidMappings": gids}))
    };
    let one = || range(0, 1000, 1);
    check(vec![
        (options(json!(["rbind", "idmap"])), "mounts[0].options[1]", "there is neither"),
        (options(json!(["rbind", "ridmap"])), "mounts[0].options[1]", "there is neither"),
        (maps(one(), json!([]), json!(["bind"])), "mounts[0].gidMappings", "missing beside"),
        (maps(json!([]), one(), json!(["bind"])), "mounts[0].uidMappings", "missing beside"),
        (maps(range(0, 1, 0), one(), json!([])), "mounts[0].uidMappings[0].size", "is 0"),
        (
            maps(one(), range(1, u32::MAX, 2), json!([])),
            "mounts[0].gidMappings[0].hostID",
            "beyond the last id",
        ),
        (maps(one(), one(), json!(["remount", "ro"])), "mounts[0].options", "cannot map ids"),
        (
            maps(one(), one(), json!([format!("lowerdir={}", "/l".repeat(200))])),
            "mounts[0].options",
            "255 bytes",
        ),
    ]);
}

#[test]
fn of_network_devices() {
    let devices = |devices: Value| {
        json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "network"}],
            "netDevices": devices}})
    };
    let no_name = "no name of a network device";
    check(vec![
        (linux("netDevices", json!({"eth0": {}})), "linux.netDevices", "private NET namespace"),
        (devices(json!({"": {}})), "linux.netDevices[\"\"]", no_name),
        (devices(json!({"a/b": {}})), "linux.netDevices[\"a/b\"]", no_name),
        (devices(json!({"eth%d": {}})), "linux.netDevices[\"eth%d\"]", no_name),
        (
            devices(json!({"0123456789abcdef": {}})),
            "linux.netDevices[\"0123456789abcdef\"]",
            "15 bytes",
        ),
        (devices(json!({"a": {"name": "x y"}})), "linux.netDevices[\"a\"].name", no_name),
        (devices(json!({"a": {"name": "%d%d"}})), "linux.netDevices[\"a\"].name", no_name),
        (devices(json!({"a": {"name": ".."}})), "linux.netDevices[\"a\"].name", no_name),
        (
            devices(json!({"a": {"name": "c"}, "b": {"name": "c"}})),
            "linux.netDevices[\"b\"]",
            "a second device",
        ),
        (
            devices(json!({"a": {}, "b": {"name": "a"}})),
            "linux.netDevices[\"b\"]",
            "a second device",
        ),
    ]);
}

#[test]
fn of_the_resource_director() {
    let rdt = |value: Value| linux("intelRdt", value);
    let no_name = "not the name of a group";
    check(vec![
        (rdt(json!({"closID": ".."})), "linux.intelRdt.closID", no_name),
        (rdt(json!({"closID": "a/b"})), "linux.intelRdt.closID", no_name),
        (rdt(json!({"closID": "/a"})), "linux.intelRdt.closID", no_name),
        (rdt(json!({"memBwSchema": "L3:0=1"})), "linux.intelRdt.memBwSchema", "begin with MB:"),
        (
            rdt(json!({"memBwSchema": "MB:0=1\nL3:0=1"})),
            "linux.intelRdt.memBwSchema",
            "not one line",
        ),
        (rdt(json!({"schemata": ["L3:0=1", ""]})), "linux.intelRdt.schemata[1]", "not one line"),
        (rdt(json!({"schemata": "L3:0=1"})), "linux.intelRdt.schemata", "invalid type"),
    ]);
}
