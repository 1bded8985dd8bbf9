//! What this build can do (runtime-spec, features.md).

use serde::Serialize;

use crate::compile::mount_options::mount_options;
use crate::compile::{MODE_FLAGS, MODES};
use crate::seccomp::known;

/// The features document; it serializes to the JSON of the runtime-spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Features {
    /// The oldest version of the runtime-spec whose configurations are read.
    pub oci_version_min: &'static str,
    /// The newest one.
    pub oci_version_max: &'static str,
    /// The hooks that are run.
    pub hooks: &'static [&'static str],
    /// The mount options that are known.
    pub mount_options: Vec<&'static str>,
    /// What concerns Linux.
    pub linux: Linux,
    /// Annotations of a config.json that change what the runtime does.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub potentially_unsafe_config_annotations: &'static [&'static str],
}

/// What concerns Linux.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Linux {
    /// The namespaces that can be made or joined.
    pub namespaces: &'static [&'static str],
    /// The capabilities that are known, in the order of their numbers.
    pub capabilities: Vec<String>,
    /// Control groups.
    pub cgroup: Cgroup,
    /// System call filters.
    pub seccomp: Seccomp,
    /// AppArmor profiles.
    pub apparmor: Enabled,
    /// SELinux labels.
    pub selinux: Enabled,
    /// Intel's resource director.
    pub intel_rdt: IntelRdt,
    /// NUMA policies.
    pub memory_policy: MemoryPolicy,
    /// Mounts beyond mount(2).
    pub mount_extensions: MountExtensions,
    /// Network devices that are moved into the container.
    pub net_devices: Enabled,
}

/// Whether something is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Enabled {
    /// It is.
    pub enabled: bool,
}

/// Control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "the runtime-spec's form")]
pub struct Cgroup {
    /// Version 1.
    pub v1: bool,
    /// Version 2.
    pub v2: bool,
    /// Through systemd.
    pub systemd: bool,
    /// Through a user's systemd.
    pub systemd_user: bool,
    /// The rdma controller.
    pub rdma: bool,
}

/// System call filters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Seccomp {
    /// Whether there are any.
    pub enabled: bool,
    /// Their actions.
    pub actions: Vec<&'static str>,
    /// Their comparisons.
    pub operators: Vec<&'static str>,
    /// The architectures.
    pub archs: Vec<&'static str>,
    /// The flags that are known.
    pub known_flags: Vec<&'static str>,
    /// The flags that have an effect.
    pub supported_flags: Vec<&'static str>,
}

/// Intel's resource director; whether the host has it is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IntelRdt {
    /// Groups of resctrl.
    pub enabled: bool,
    /// `schemata`.
    pub schemata: bool,
    /// `enableMonitoring`.
    pub monitoring: bool,
}

/// NUMA policies of a container's memory; whether the host's kernel has the newest is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryPolicy {
    /// The modes.
    pub modes: Vec<&'static str>,
    /// Their flags.
    pub flags: Vec<&'static str>,
}

/// Mounts beyond mount(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MountExtensions {
    /// Mounts with id mappings of their own.
    pub idmap: Enabled,
}

const YES: Enabled = Enabled { enabled: true };

/// What this build can do.
#[must_use]
pub fn features() -> Features {
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: "1.3.0",
        hooks: &[
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ],
        mount_options: mount_options().collect(),
        linux: Linux {
            namespaces: &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            capabilities: capabilities(),
            cgroup: Cgroup { v1: false, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp: seccomp(),
            apparmor: YES,
            selinux: YES,
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
            memory_policy: MemoryPolicy {
                modes: MODES.iter().map(|(_, _, name)| *name).collect(),
                flags: MODE_FLAGS.iter().map(|(_, _, name)| *name).collect(),
            },
            mount_extensions: MountExtensions { idmap: YES },
            net_devices: YES,
        },
        potentially_unsafe_config_annotations: &["org.systemd.property."],
    }
}

fn seccomp() -> Seccomp {
    let flags = known::FLAGS.iter().map(|flag| flag.0);
    // The newest one; a host without it refuses a profile that sets it.
    let is_there =
        |flag: &&str| !flag.ends_with("_WAIT_KILLABLE_RECV") || kernel_is_at_least(5, 19);
    Seccomp {
        enabled: true,
        actions: known::ACTIONS.iter().map(|action| action.0).collect(),
        operators: known::OPERATORS.iter().map(|operator| operator.0).collect(),
        archs: known::ARCHITECTURES.iter().map(|architecture| architecture.0).collect(),
        known_flags: flags.clone().collect(),
        supported_flags: flags.filter(is_there).collect(),
    }
}

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    is_at_least(uname.release().to_str().unwrap_or_default(), major, minor)
}

/// Whether a release such as `6.18.44-1` is as new as this version.
fn is_at_least(release: &str, major: u32, minor: u32) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

fn capabilities() -> Vec<String> {
    let mut all: Vec<caps::Capability> = caps::all().into_iter().collect();
    all.sort_by_key(caps::Capability::index);
    all.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_fields_are_refused_for_is_not_claimed() {
        let features = features();
        assert!(features.mount_options.contains(&"rro"));
        assert!(!features.mount_options.contains(&"idmap"));
        assert!(features.linux.mount_extensions.idmap.enabled);
        assert_eq!(features.linux.seccomp.actions.len(), 9);
    }

    #[test]
    fn releases_compare_by_their_numbers() {
        assert!(is_at_least("6.18.44", 5, 19));
        assert!(is_at_least("5.19.0-rc1+", 5, 19));
        assert!(!is_at_least("5.9.1", 5, 19));
        assert!(!is_at_least("", 5, 19));
    }

    #[test]
    fn capabilities_come_in_the_order_of_their_numbers() {
        let all = capabilities();
        assert_eq!(all.len(), 41);
        assert_eq!(all.first().map(String::as_str), Some("CAP_CHOWN"));
        assert_eq!(all.last().map(String::as_str), Some("CAP_CHECKPOINT_RESTORE"));
    }
}
