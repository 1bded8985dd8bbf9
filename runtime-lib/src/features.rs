//! What this build can do (runtime-spec, features.md).

use serde::Serialize;

/// The mount options that are known, sorted. Any other is handed to the filesystem.
// PENDING: take these from the table that compiling a mount uses, once that is there.
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

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
    pub mount_options: &'static [&'static str],
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
    pub intel_rdt: Enabled,
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
    pub actions: &'static [&'static str],
    /// Their comparisons.
    pub operators: &'static [&'static str],
    /// The architectures.
    pub archs: &'static [&'static str],
    /// The flags that are known.
    pub known_flags: &'static [&'static str],
    /// The flags that have an effect.
    pub supported_flags: &'static [&'static str],
}

/// Mounts beyond mount(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MountExtensions {
    /// Mounts with id mappings of their own.
    pub idmap: Enabled,
}

const NO: Enabled = Enabled { enabled: false };

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
        mount_options: MOUNT_OPTIONS,
        linux: Linux {
            namespaces: &["cgroup", "ipc", "mount", "network", "pid", "uts"],
            capabilities: capabilities(),
            cgroup: Cgroup { v1: false, v2: true, systemd: false, systemd_user: false, rdma: true },
            // PENDING: fill in from the tables of the seccomp module, once that is there.
            seccomp: Seccomp {
                enabled: false,
                actions: &[],
                operators: &[],
                archs: &[],
                known_flags: &[],
                supported_flags: &[],
            },
            apparmor: NO,
            selinux: NO,
            intel_rdt: NO,
            mount_extensions: MountExtensions { idmap: NO },
            net_devices: NO,
        },
        potentially_unsafe_config_annotations: &[],
    }
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
    fn mount_options_are_sorted_and_unique() {
        assert!(MOUNT_OPTIONS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn capabilities_come_in_the_order_of_their_numbers() {
        let all = capabilities();
        assert_eq!(all.len(), 41);
        assert_eq!(all.first().map(String::as_str), Some("CAP_CHOWN"));
        assert_eq!(all.last().map(String::as_str), Some("CAP_CHECKPOINT_RESTORE"));
    }
}
