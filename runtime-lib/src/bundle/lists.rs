//! Lists where config.json has objects.
//!
//! serde reads a struct from a list too, by position: `"user": [1000, 1000]` would be accepted, and mean what nobody
//! wrote down.

use serde_json::Value;

/// Keys of objects that become structs.
const KEYS: [&str; 22] = [
    "process",
    "user",
    "consoleSize",
    "capabilities",
    "scheduler",
    "ioPriority",
    "execCPUAffinity",
    "root",
    "hooks",
    "linux",
    "resources",
    "memory",
    "cpu",
    "pids",
    "blockIO",
    "network",
    "seccomp",
    "personality",
    "intelRdt",
    "memoryPolicy",
    "monotonic",
    "boottime",
];

/// Where they are; `*` is each element of a list or member of an object.
const PLACES: [&str; 37] = [
    "process",
    "process.user",
    "process.consoleSize",
    "process.capabilities",
    "process.scheduler",
    "process.ioPriority",
    "process.execCPUAffinity",
    "process.rlimits.*",
    "root",
    "mounts.*",
    "mounts.*.uidMappings.*",
    "mounts.*.gidMappings.*",
    "hooks",
    "hooks.*.*",
    "linux",
    "linux.uidMappings.*",
    "linux.gidMappings.*",
    "linux.namespaces.*",
    "linux.devices.*",
    "linux.resources",
    "linux.resources.devices.*",
    "linux.resources.memory",
    "linux.resources.cpu",
    "linux.resources.pids",
    "linux.resources.blockIO",
    "linux.resources.blockIO.*.*",
    "linux.resources.hugepageLimits.*",
    "linux.resources.network",
    "linux.resources.network.priorities.*",
    "linux.resources.rdma.*",
    "linux.seccomp",
    "linux.seccomp.syscalls.*",
    "linux.seccomp.syscalls.*.args.*",
    "linux.personality",
    "linux.intelRdt",
    "linux.memoryPolicy",
    "linux.timeOffsets.*",
];

/// Whether there may be one, by a look at what precedes each bracket: far cheaper than a second parse. A text in the
/// document can look like one too.
pub(super) fn possible(text: &str) -> bool {
    text.contains("\"rdma\"")
        || text.match_indices('[').any(|(at, _)| {
            let before = text.get(..at).unwrap_or_default().trim_end();
            match before.as_bytes().last() {
                Some(b'[' | b',') => true,
                Some(b':') => KEYS.contains(&key(before)),
                _ => false,
            }
        })
}

/// The key that ends before the colon at the end.
fn key(before: &str) -> &str {
    let quoted = before.trim_end_matches(':').trim_end();
    quoted.strip_suffix('"').and_then(|text| text.rsplit('"').next()).unwrap_or_default()
}

/// The path of the first one.
pub(super) fn find(spec: &Value) -> Option<String> {
    PLACES.iter().find_map(|place| {
        let segments: Vec<&str> = place.split('.').collect();
        find_below(spec, &segments, "")
    })
}

fn find_below(value: &Value, place: &[&str], path: &str) -> Option<String> {
    let Some((segment, rest)) = place.split_first() else {
        return value.is_array().then(|| path.to_owned());
    };
    let member =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) if *segment == "*" => {
            members.iter().find_map(|(name, value)| find_below(value, rest, &member(name)))
        }
        Value::Object(members) => find_below(members.get(*segment)?, rest, &member(segment)),
        Value::Array(list) if *segment == "*" => {
            (0..).zip(list).find_map(|(index, value): (usize, _)| {
                find_below(value, rest, &format!("{path}[{index}]"))
            })
        }
        _ => None,
    }
}
