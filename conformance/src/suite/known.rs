//! Known deviations: where a case is right and a runtime is wrong, and why that is known.
//!
//! Such a failure is shown as expected, with its reason; it does not make the run fail. Orlop has no place here.

/// A case that some versions of a runtime fail.
#[derive(Debug)]
pub struct Known {
    /// The first word of the runtime's `--version`.
    pub runtime: &'static str,
    /// The first version that does not deviate; all do where there is none.
    pub before: Option<[u32; 3]>,
    /// The case's title, or several: `*` stands for anything.
    pub case: &'static str,
    /// Why the case is right: a section of the specification, or an advisory.
    pub reason: &'static str,
}

const fn known(
    runtime: &'static str,
    before: Option<[u32; 3]>,
    case: &'static str,
    reason: &'static str,
) -> Known {
    Known { runtime, before, case, reason }
}

/// All of them.
pub const KNOWN: &[Known] = &[
    known(
        "runc",
        None,
        "mount options: * with defaults is *",
        "config.md#linux-mount-options: runtimes MUST implement the option defaults; runc hands it to the filesystem",
    ),
    known(
        "runc",
        None,
        "features: each mount option that is named is taken",
        "defaults is named, and refused (config.md#linux-mount-options)",
    ),
    known(
        "runc",
        None,
        "features: each architecture of seccomp that is named is taken",
        "architectures are named that its libseccomp refuses (features.md: what is recognised, not what works)",
    ),
    known(
        "runc",
        None,
        "rlimits: limit that is named twice is refused",
        "config.md#posix-process: duplicated entries of rlimits MUST generate an error",
    ),
    known(
        "runc",
        None,
        "root: rootfsPropagation *slave is the root mount's",
        "config-linux.md#rootfs-mount-propagation: a slave receives propagation events from the host; runc's root is private",
    ),
    known(
        "runc",
        None,
        "root: rootfsPropagation *",
        "config-linux.md#rootfs-mount-propagation: the root mount is as the config says",
    ),
    known(
        "runc",
        None,
        "devices: device with no path is refused",
        "config-linux.md#devices: path is REQUIRED",
    ),
    known(
        "runc",
        Some([1, 5, 2]),
        "hooks: poststart hook *",
        "config.md#posix-platform-hooks: poststart is called after the user-specified process is started; these versions call it in create",
    ),
    known(
        "runc",
        Some([1, 5, 2]),
        "hooks: kinds of hooks run in the order of the lifecycle",
        "runtime.md#lifecycle: startContainer hooks are step 7, poststart hooks step 9; these versions call the latter in create",
    ),
    known(
        "runc",
        None,
        "exec: --user \"4294967296\" is refused",
        "the id wraps around to 0: a user is not who was named (the class of CVE-2024-40635)",
    ),
    known(
        "runc",
        None,
        "errors: config whose ociVersion is *",
        "config.md#specification-version: ociVersion is REQUIRED and MUST be in SemVer v2.0.0 format; runtimes MUST generate an error when invalid values are encountered",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "lifecycle: kill KILL ends all processes of a container in the host's pid namespace",
        "runc kill: all of the cgroup ends, which its callers rely on since --all is obsolete; these versions need --all",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "process: *personality*",
        "config-linux.md#personality; these versions keep runtime-spec 1.0 and ignore what came later",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "process: *scheduling policy *",
        "config.md#process, scheduler: these versions keep runtime-spec 1.0 and ignore what came later",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "process: nice value is the process's",
        "config.md#process, scheduler: these versions keep runtime-spec 1.0 and ignore what came later",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "process: I/O priority class *",
        "config.md#process, ioPriority: these versions keep runtime-spec 1.0 and ignore what came later",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "users: program runs as 4294967294:4294967294",
        "config.md#posix-platform-user: uid and gid are uint32; these versions refuse the upper half",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "namespaces: domain name is set in the new uts namespace",
        "config.md#domainname: these versions keep runtime-spec 1.0 and ignore what came later",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "namespaces: *time* namespace *",
        "config-linux.md#namespaces, time: these versions keep runtime-spec 1.0",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "namespaces: * clock has the offset of the config",
        "config-linux.md#offset-for-time-namespace: these versions keep runtime-spec 1.0",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "mount options: r*atime counts for the mounts below, too",
        "config.md#linux-mount-options: recursive options SHOULD be implemented; these versions name the attribute without its mask (mount_setattr(2))",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "hooks: message of a failed hook names its kind",
        "runc create: without it nobody knows which list #0 is of",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "seccomp: flag SECCOMP_FILTER_FLAG_* is taken",
        "config-linux.md#seccomp, flags; these versions refuse all",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "cgroups: one cgroupsPath of two containers is refused while the first lives",
        "runc create: limits and the end of one container would be those of the other; these versions warn only",
    ),
    known(
        "runc",
        Some([1, 3, 0]),
        "features: each supported flag of seccomp that is named is taken",
        "features-linux.md#seccomp: supportedFlags; these versions name none",
    ),
    known(
        "crun",
        Some([1, 28, 0]),
        "lifecycle: id * is refused",
        "runc create: an id is of letters, digits and _+-. ; crun keeps that rule since 1.28",
    ),
    known(
        "crun",
        Some([1, 28, 0]),
        "exec: --env adds to the container's environment",
        "runc exec: the process has the container's environment; these versions drop it where --env is given",
    ),
    known(
        "crun",
        Some([1, 28, 0]),
        "command line: --log has the failure as text",
        "runc's command line: engines look for \"does not exist\"",
    ),
    known(
        "crun",
        Some([1, 28, 0]),
        "command line: standard error has the failure, too",
        "runc's command line: engines look for \"does not exist\"",
    ),
    known(
        "crun",
        None,
        "lifecycle: created container ends by SIGTERM",
        "runc kill: an engine that stops a created container would wait for its timeout, as pid 1 ignores the signal",
    ),
    known(
        "crun",
        None,
        "lifecycle: kill takes a signal as usr1",
        "runc kill takes names in any case; so do its callers",
    ),
    known(
        "crun",
        None,
        "lifecycle: kill KILL ends all processes of a container in the host's pid namespace",
        "runc kill ends all of the cgroup, which callers rely on since kill --all is obsolete",
    ),
    known(
        "crun",
        None,
        "process: message about a program *",
        "runc create: engines derive exit codes 126 and 127 from runc's words, case-sensitively",
    ),
    known(
        "crun",
        None,
        "process: start of a container without a process is refused",
        "runtime.md#start: this operation MUST generate an error if process was not set",
    ),
    known(
        "crun",
        None,
        "process: variable *",
        "config.md#process: env is in the form of IEEE Std 1003.1 environ, NAME=VALUE",
    ),
    known(
        "crun",
        None,
        "process: relative working directory is refused",
        "config.md#process: the value of cwd MUST be an absolute path",
    ),
    known(
        "crun",
        None,
        "process: socket activation passes its descriptors and says so",
        "sd_listen_fds(3): without LISTEN_FDS a program does not know how many descriptors it has",
    ),
    known(
        "crun",
        None,
        "users: user id that is text is refused",
        "config.md#valid-values: runtimes MUST generate an error when invalid values are encountered",
    ),
    known(
        "crun",
        None,
        "rlimits: limit that is named twice is refused",
        "config.md#posix-process: duplicated entries of rlimits MUST generate an error",
    ),
    known(
        "crun",
        None,
        "rlimits: limit of an unknown type is refused",
        "runtime.md#create: where a property cannot be applied a new container MUST NOT be created; its cgroup stays even after delete --force",
    ),
    known(
        "crun",
        None,
        "rlimits: soft limit above the hard one is refused",
        "runtime.md#create: where a property cannot be applied a new container MUST NOT be created; its cgroup stays even after delete --force",
    ),
    known(
        "crun",
        None,
        "hostile images: namespace path of * bytes is refused",
        "runtime.md#create: where a property cannot be applied a new container MUST NOT be created; its cgroup stays even after delete --force",
    ),
    known(
        "crun",
        None,
        "namespaces: * is refused",
        "runtime.md#create: where a property cannot be applied a new container MUST NOT be created; its cgroup stays even after delete --force",
    ),
    known(
        "crun",
        None,
        "namespaces: time offsets without a time namespace are refused",
        "runtime.md#create: where a property cannot be applied a new container MUST NOT be created; its cgroup stays even after delete --force",
    ),
    known(
        "crun",
        None,
        "root: rootfsPropagation *slave is the root mount's",
        "config-linux.md#rootfs-mount-propagation: a slave receives propagation events from the host; crun's root is private",
    ),
    known(
        "crun",
        None,
        "root: unknown rootfsPropagation is refused",
        "config.md#valid-values: runtimes MUST generate an error when invalid values are encountered",
    ),
    known(
        "crun",
        None,
        "mount options: * with *nosymfollow* is *",
        "config.md#linux-mount-options: nosymfollow SHOULD be implemented; crun hands it to the filesystem or ignores it",
    ),
    known(
        "crun",
        None,
        "mount options: * with symfollow is *",
        "config.md#linux-mount-options: symfollow SHOULD be implemented; crun hands it to the filesystem",
    ),
    known(
        "crun",
        None,
        "mount options: symlink on a nosymfollow mount is not followed",
        "config.md#linux-mount-options: nosymfollow SHOULD be implemented; crun hands it to the filesystem",
    ),
    known(
        "crun",
        None,
        "mount options: * with *,* is *",
        "mount(8), which config.md#linux-mount-options refers to, lets the later of contrary options count",
    ),
    known(
        "crun",
        None,
        "mount options: r*time counts for the mounts below, too",
        "config.md#linux-mount-options: recursive options SHOULD be implemented; crun names the attribute without its mask (mount_setattr(2))",
    ),
    known(
        "crun",
        None,
        "mount options: r*symfollow counts for the mounts below, too",
        "config.md#linux-mount-options: recursive options SHOULD be implemented",
    ),
    known(
        "crun",
        None,
        "mount options: filesystem with * is rw",
        "config.md#linux-mount-options: runtimes MUST implement silent, loud and noiversion; crun hands them to the filesystem",
    ),
    known(
        "crun",
        None,
        "hooks: container can be deleted though a poststop hook fails",
        "runtime.md#lifecycle: where a poststop hook fails the lifecycle continues as if it had succeeded",
    ),
    known(
        "crun",
        None,
        "mount options: propagation is *",
        "config.md#linux-mount-options: runtimes MUST implement the options of propagation; crun makes all mounts private at the end",
    ),
    known(
        "crun",
        None,
        "devices: device with unknown type is refused",
        "config.md#valid-values: runtimes MUST generate an error when invalid values are encountered",
    ),
    known(
        "crun",
        None,
        "hooks: createContainer hook is told the process's id",
        "runtime.md#state: pid is REQUIRED when the status is created",
    ),
    known(
        "crun",
        None,
        "hooks: startContainer hook *",
        "runtime.md#state: hooks get the container's state: its bundle is not /, its pid not 0, its status none that does not exist",
    ),
    known(
        "crun",
        None,
        "hooks: poststop hook *",
        "config.md#posix-platform-hooks: a hook may leave its input unread; crun dies of SIGPIPE then",
    ),
    known(
        "crun",
        None,
        "hooks: message of a failed hook names its kind",
        "runc create: the message names the kind of hook",
    ),
    known(
        "crun",
        None,
        "hooks: kinds of hooks run in the order of the lifecycle",
        "runtime.md#lifecycle: startContainer hooks are step 7, poststart hooks step 9; crun does not wait for the former",
    ),
    known(
        "crun",
        None,
        "seccomp: unknown flag is refused",
        "config.md#valid-values: runtimes MUST generate an error when invalid values are encountered",
    ),
    known(
        "crun",
        None,
        "seccomp: notification without a listener is refused",
        "config-linux.md#seccomp: without a listenerPath nobody can answer",
    ),
    known(
        "crun",
        None,
        "cgroups: one cgroupsPath of two containers is refused while the first lives",
        "runc create: limits and the end of one container would be those of the other",
    ),
    known(
        "crun",
        None,
        "cgroups: * is refused",
        "runtime.md#create: where a property cannot be applied a new container MUST NOT be created; its cgroup stays even after delete --force",
    ),
    known("crun", None, "events: *", "runc's command line: crun has no events"),
    known(
        "crun",
        None,
        "exec: process has the container's *",
        "runc exec: a process without limits and OOM score of its own has the container's",
    ),
    known("crun", None, "exec: --user *", "an id that is no number is not the user 0"),
    known(
        "crun",
        None,
        "exec: --additional-gids *",
        "runc's command line: crun has no such option",
    ),
    known(
        "crun",
        None,
        "exec: file with a relative directory is refused",
        "config.md#process: the value of cwd MUST be an absolute path",
    ),
    known(
        "crun",
        None,
        "exec: * is error 255",
        "runc exec: 255 tells failures of the runtime from those of the program",
    ),
    known(
        "crun",
        None,
        "features: each mount option that is named is taken",
        "options are named that are refused (rdiratime)",
    ),
    known(
        "crun",
        None,
        "features: each supported flag of seccomp that is named is taken",
        "features-linux.md#seccomp: supportedFlags; crun names none",
    ),
    known(
        "crun",
        None,
        "errors: config whose *",
        "config.md#valid-values: runtimes MUST generate an error when invalid values are encountered",
    ),
    known(
        "crun",
        None,
        "command line: option with one dash is the one with two",
        "runc's command line: go-runc passes -no-subreaper",
    ),
    known(
        "crun",
        None,
        "command line: --log has the failure as JSON",
        "runc --log-format: each line is a JSON object",
    ),
];

/// A version's numbers: `1.1.15+ds1` is 1, 1, 15.
fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Whether a title fits a pattern, in which `*` stands for anything.
fn matches(pattern: &str, title: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == title,
        Some((before, after)) => title.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().any(|(at, _)| matches(after, &rest[at..])) || matches(after, "")
        }),
    }
}

/// Why a failure of this case by this runtime (`runc 1.3.6`) is expected.
#[must_use]
pub fn reason(version: &str, title: &str) -> Option<&'static str> {
    let (name, number) = version.split_once(' ')?;
    let number = numbers(number);
    let fits = |k: &&Known| {
        k.runtime == name && matches(k.case, title) && k.before.is_none_or(|b| number < b)
    };
    KNOWN.iter().find(fits).map(|k| k.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(numbers("1.1.15+ds1"), [1, 1, 15]);
        assert_eq!(numbers("1.21"), [1, 21, 0]);
        assert!(numbers("1.9") < numbers("1.21"));
    }

    #[test]
    fn stars_stand_for_anything() {
        assert!(matches("a: * b *", "a: x b y") && matches("a*", "a") && matches("a", "a"));
        assert!(!matches("a: * b", "a: x c") && !matches("a", "ab") && !matches("a*b", "a"));
    }

    #[test]
    fn each_known_deviation_names_a_case_and_a_reason() {
        let cases = crate::cases::all();
        for known in KNOWN {
            assert!(cases.iter().any(|c| matches(known.case, &c.title())), "{}", known.case);
            assert!(known.reason.len() > 20 && known.runtime != "orlop", "{}", known.case);
        }
    }
}
