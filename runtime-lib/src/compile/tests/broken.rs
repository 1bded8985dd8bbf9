//! Broken configurations: each is refused in the name of the field that is wrong.

use serde_json::{Value, json};

use super::{base, facts, patched, plan, plan_for, request};
use crate::compile::{HostFacts, compile};
use crate::error::ErrorKind;
use crate::plan::CgroupNeed;

/// What is patched into the least container, the field that the error names, and a part of its text.
pub(super) type Case = (Value, &'static str, &'static str);

pub(super) fn check(cases: Vec<Case>) {
    for (patch, field, text) in cases {
        let error = match plan(&patched(&patch)) {
            Ok(plan) => panic!("{patch} was accepted:\n{plan}"),
            Err(error) => error,
        };
        assert_eq!(error.field(), Some(field), "{patch}: {error}");
        assert!(error.to_string().contains(text), "{patch}: {error}");
    }
}

/// A process with this field.
pub(super) fn process(field: &str, value: Value) -> Value {
    json!({"process": {field: value}})
}

/// A `linux` section with this field.
pub(super) fn linux(field: &str, value: Value) -> Value {
    json!({"linux": {field: value}})
}

pub(super) fn mount(mount: Value) -> Value {
    json!({"mounts": [mount]})
}

#[test]
fn of_the_top_level() {
    check(vec![
        (json!({"ociVersion": null}), "ociVersion", "missing"),
        (json!({"ociVersion": "one"}), "ociVersion", "not a version"),
        (json!({"ociVersion": "1.0"}), "ociVersion", "not a version"),
        (json!({"ociVersion": "1.+2.0"}), "ociVersion", "not a version"),
        (json!({"ociVersion": "2.0.0"}), "ociVersion", "not supported"),
        (json!({"ociVersion": 1}), "ociVersion", "invalid type"),
        (json!({"root": null}), "root", "missing"),
        (json!({"root": {"path": ""}}), "root.path", "empty"),
        (json!({"root": {"path": "a\0b"}}), "root.path", "NUL"),
        (json!({"root": {"path": "x".repeat(5000)}}), "root.path", "longer"),
        (json!({"root": {"readonly": "yes"}}), "root.readonly", "invalid type"),
        (json!({"process": null}), "process", "must not be empty"),
        (json!({"hostname": "h"}), "hostname", "UTS namespace"),
        (json!({"domainname": "d"}), "domainname", "UTS namespace"),
        (json!({"solaris": {}}), "solaris", "another platform"),
        (json!({"windows": {"layerFolders": ["a"]}}), "windows", "another platform"),
        (json!({"freebsd": {}}), "freebsd", "another platform"),
        (json!({"annotations": {"a": 1}}), "annotations.a", "invalid type"),
    ]);
    let uts = json!([{"type": "mount"}, {"type": "uts"}]);
    let with_name = |field: &str, value: &str| json!({field: value, "linux": {"namespaces": uts}});
    check(vec![
        (with_name("hostname", &"h".repeat(65)), "hostname", "64 bytes"),
        (with_name("hostname", "a\0"), "hostname", "NUL"),
        (with_name("domainname", &"d".repeat(65)), "domainname", "64 bytes"),
    ]);
}

#[test]
fn of_the_process() {
    check(vec![
        (process("args", json!([])), "process.args", "must not be empty"),
        (process("args", json!(null)), "process.args", "must not be empty"),
        (process("args", json!(["a\0"])), "process.args[0]", "NUL"),
        (process("args", json!(["a", "b\0"])), "process.args[1]", "NUL"),
        (process("args", json!("sh")), "process.args", "invalid type"),
        (
            process("args", json!(["a", "b".repeat(131_072)])),
            "process.args[1]",
            "longer than an argument",
        ),
        (process("cwd", json!("")), "process.cwd", "must not be empty"),
        (process("cwd", json!(null)), "process.cwd", "must not be empty"),
        (process("cwd", json!("srv")), "process.cwd", "must be an absolute path"),
        (process("cwd", json!("/a\0")), "process.cwd", "NUL"),
        (
            process("env", json!(["A"])),
            "process.env[0]",
            "invalid environment variable: missing '='",
        ),
        (
            process("env", json!(["A=1", "=1"])),
            "process.env[1]",
            "invalid environment variable: name cannot be empty",
        ),
        (
            process("env", json!(["K=a\0b"])),
            "process.env[0]",
            r#"invalid environment variable: "K" contains nul byte (\x00)"#,
        ),
        (process("user", json!({"uid": -1})), "process.user.uid", "invalid value"),
        (process("user", json!({"uid": 4_294_967_295_u32})), "process.user.uid", "not an id"),
        (process("user", json!({"uid": 4_294_967_296_u64})), "process.user.uid", "invalid value"),
        (process("user", json!({"uid": "0"})), "process.user.uid", "invalid type"),
        (process("user", json!({"gid": 4_294_967_295_u32})), "process.user.gid", "not an id"),
        (
            process("user", json!({"additionalGids": [1, 4_294_967_295_u32]})),
            "process.user.additionalGids[1]",
            "not an id",
        ),
        (process("user", json!({"umask": 0o1777})), "process.user.umask", "permission bits"),
        (process("oomScoreAdj", json!(1001)), "process.oomScoreAdj", "-1000 to 1000"),
        (process("oomScoreAdj", json!(-1001)), "process.oomScoreAdj", "-1000 to 1000"),
        (
            process("rlimits", json!([{"type": "RLIMIT_FUN", "soft": 1, "hard": 1}])),
            "process.rlimits[0].type",
            "unknown variant",
        ),
        (
            process("rlimits", json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}])),
            "process.rlimits[0].soft",
            "above the hard limit",
        ),
        (
            process("rlimits", json!([{"type": "RLIMIT_CPU"}, {"type": "RLIMIT_CPU"}])),
            "process.rlimits[1].type",
            "second RLIMIT_CPU",
        ),
        (
            process("terminal", json!(true)),
            "process.terminal",
            "cannot allocate tty if runc will detach without setting console socket",
        ),
        (
            process("capabilities", json!({"effective": ["CAP_KILL"]})),
            "process.capabilities.effective",
            "CAP_KILL is not in permitted",
        ),
        (
            process("capabilities", json!({"inheritable": ["CAP_KILL"]})),
            "process.capabilities.inheritable",
            "CAP_KILL is not in bounding",
        ),
        (
            process("capabilities", json!({"bounding": [1]})),
            "process.capabilities.bounding[0]",
            "invalid type",
        ),
        (process("apparmorProfile", json!("a\0b")), "process.apparmorProfile", "NUL"),
        (process("selinuxLabel", json!("a\0b")), "process.selinuxLabel", "NUL"),
    ]);
}

#[test]
fn of_security_modules_that_the_host_lacks() {
    let facts = HostFacts { apparmor: false, selinux: false, ..facts() };
    let compiled = |patch: &Value| {
        let bytes = serde_json::to_vec(&patched(patch)).unwrap();
        compile(&crate::bundle::parse(&bytes).unwrap().0, &request(), &facts)
    };
    let no_selinux =
        "selinux label is specified in config, but selinux is disabled or not supported";
    for (patch, field, text) in [
        (
            process("apparmorProfile", json!("docker-default")),
            "process.apparmorProfile",
            "apparmor failed to apply profile: apparmor: config provided but apparmor not supported",
        ),
        (process("selinuxLabel", json!("l")), "process.selinuxLabel", no_selinux),
        (linux("mountLabel", json!("l")), "linux.mountLabel", no_selinux),
    ] {
        let error = compiled(&patch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().starts_with(&format!("{field}: {text}")), "{error}");
    }
    // What asks for nothing is refused nowhere, and does nothing.
    let plain = compiled(&json!({})).unwrap().to_text();
    for patch in [
        process("apparmorProfile", json!("unconfined")),
        process("apparmorProfile", json!("")),
        process("selinuxLabel", json!("")),
        linux("mountLabel", json!("")),
    ] {
        assert_eq!(compiled(&patch).unwrap().to_text(), plain, "{patch}");
    }
}

#[test]
fn of_the_terminal() {
    let mut request = request();
    request.console_socket = true;
    let error = plan_for(&base(), &request).unwrap_err();
    let text =
        "process.terminal: cannot use console socket if runc will not detach or allocate tty";
    assert_eq!(error.to_string(), text);
    let config = patched(
        &json!({"process": {"terminal": true, "consoleSize": {"height": 1, "width": 65536}}}),
    );
    let error = plan_for(&config, &request).unwrap_err();
    assert_eq!(error.field(), Some("process.consoleSize.width"));
}

#[test]
fn of_mounts() {
    let proc =
        |destination: &str, kind: &str| mount(json!({"destination": destination, "type": kind}));
    let bind = |destination: &str, source: &str| {
        mount(json!({"destination": destination, "source": source, "options": ["bind"]}))
    };
    let options = |kind: &str, options: Value| {
        mount(json!({"destination": "/x", "type": kind, "source": "/s", "options": options}))
    };
    let data = "bind mounts cannot have any filesystem-specific options applied";
    check(vec![
        (mount(json!({"type": "tmpfs"})), "mounts[0]", "missing field `destination`"),
        (proc("", "tmpfs"), "mounts[0].destination", "empty"),
        (proc("/", "tmpfs"), "mounts[0].destination", "below the container's root"),
        (proc("/a/../..", "tmpfs"), "mounts[0].destination", "below the container's root"),
        (proc("/a\0", "tmpfs"), "mounts[0].destination", "NUL"),
        (proc("/proc", "tmpfs"), "mounts[0].destination", "not of type proc"),
        (proc("/sys/..//proc/./", "tmpfs"), "mounts[0].destination", "not of type proc"),
        (bind("/proc", "/srv"), "mounts[0].destination", "not of type proc"),
        (bind("/proc/self/attr", "/srv"), "mounts[0].destination", "inside /proc"),
        (proc("/proc/sys/kernel", "proc"), "mounts[0].destination", "inside /proc"),
        (bind("/x", ""), "mounts[0].source", "needs one"),
        (bind("/x", "/a\0"), "mounts[0].source", "NUL"),
        (mount(json!({"destination": "/x"})), "mounts[0].type", "missing"),
        (options("bind", json!(["ro"])), "mounts[0].options", "needs the option bind"),
        (options("none", json!([])), "mounts[0].options", "needs the option bind"),
        (options("bind", json!(["bind", "size=1"])), "mounts[0].options", data),
        (options("cgroup", json!(["nsdelegate"])), "mounts[0].options", "filesystem-specific"),
        (options("cgroup2", json!(["favordynmods"])), "mounts[0].options", "filesystem-specific"),
        (options("proc", json!(["tmpcopyup"])), "mounts[0].options", "tmpfs only"),
        (options("tmpfs", json!(["tmpcopyup", "bind"])), "mounts[0].options", "tmpfs only"),
        (options("tmpfs", json!(["remount", "size=1"])), "mounts[0].options", "a remount"),
        (options("tmpfs", json!(["remount", "sync"])), "mounts[0].options", "a remount"),
        (options("tmpfs", json!(["remount", "rslave"])), "mounts[0].options", "a remount"),
        (options("tmpfs", json!(["a\0"])), "mounts[0].options", "NUL"),
        (options("tmpfs", json!(["x".repeat(4096)])), "mounts[0].options", "4095 bytes"),
        (
            options("overlay", json!([format!("lowerdir={}", "/l".repeat(2048))])),
            "mounts[0].options",
            "4095 bytes",
        ),
        (options("tm\0pfs", json!([])), "mounts[0].type", "NUL"),
    ]);
}

#[test]
fn of_namespaces_and_the_root() {
    let namespaces = |list: Value| linux("namespaces", list);
    let map = |size: u32| json!([{"containerID": 0, "hostID": 1, "size": size}]);
    let mapped = |patch: Value| {
        let namespaces = json!([{"type": "mount"}, {"type": "user"}]);
        let mut linux =
            json!({"namespaces": namespaces, "uidMappings": map(9), "gidMappings": map(9)});
        super::merge(&mut linux, &patch);
        json!({"linux": linux})
    };
    let joined = |kind: &str, path: &str| {
        linux("namespaces", json!([{"type": "mount"}, {"type": kind, "path": path}]))
    };
    check(vec![
        (
            json!({"linux": {"namespaces": [{"type": "user"}], "uidMappings": map(9), "gidMappings": map(9)}}),
            "linux.namespaces",
            "mount namespace",
        ),
        (namespaces(json!([{"type": "moon"}])), "linux.namespaces[0].type", "unknown variant"),
        (
            namespaces(json!([{"type": "mount"}, {"type": "mount"}])),
            "linux.namespaces[1].type",
            "second mount namespace",
        ),
        (joined("user", ""), "linux.uidMappings", "no namespace path or mappings"),
        (joined("network", "ns/net"), "linux.namespaces[1].path", "not absolute"),
        (joined("network", "/a\0b"), "linux.namespaces[1].path", "NUL"),
        (
            joined("network", &format!("/{}", "x".repeat(65536))),
            "linux.namespaces[1].path",
            "longer",
        ),
        (joined("pid", "proc/1/ns/pid"), "linux.namespaces[1].path", "not absolute"),
        (
            linux("rootfsPropagation", json!("wide")),
            "linux.rootfsPropagation",
            "not a kind of propagation",
        ),
        (
            linux("rootfsPropagation", json!("ro")),
            "linux.rootfsPropagation",
            "not a kind of propagation",
        ),
        (linux("maskedPaths", json!(["/a", "b"])), "linux.maskedPaths[1]", "not absolute"),
        (linux("maskedPaths", json!(["/.."])), "linux.maskedPaths[0]", "root of the container"),
        (linux("readonlyPaths", json!([""])), "linux.readonlyPaths[0]", "not absolute"),
        (linux("readonlyPaths", json!(["/a\0"])), "linux.readonlyPaths[0]", "NUL"),
        (linux("uidMappings", map(1)), "linux.uidMappings", "isn't enabled"),
        (linux("gidMappings", map(1)), "linux.gidMappings", "isn't enabled"),
        (mapped(json!({"uidMappings": map(0)})), "linux.uidMappings[0].size", "is 0"),
        (mapped(json!({"gidMappings": null})), "linux.gidMappings", "maps of users and of groups"),
        (mapped(json!({"uidMappings": null})), "linux.uidMappings", "maps of users and of groups"),
        (
            mapped(json!({"namespaces": [{"type": "user"}, {"type": "mount", "path": "/m"}]})),
            "linux.namespaces[1].path",
            "no rights over a mount namespace",
        ),
        (linux("mountLabel", json!("a\"b")), "linux.mountLabel", "quote"),
        (
            linux("personality", json!({"domain": "BSD"})),
            "linux.personality.domain",
            "unknown variant",
        ),
        (
            linux("personality", json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]})),
            "linux.personality.flags",
            "no flag is known",
        ),
    ]);
    let mut request = request();
    request.no_pivot = true;
    let config = patched(&linux("rootfsPropagation", json!("rprivate")));
    let error = plan_for(&config, &request).unwrap_err();
    assert_eq!(error.field(), Some("linux.rootfsPropagation"));
}

#[test]
fn of_sysctls() {
    let all = json!([{"type": "mount"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}]);
    let own =
        |key: &str, value: &str| json!({"linux": {"namespaces": all, "sysctl": {key: value}}});
    let host = |key: &str| linux("sysctl", json!({key: "1"}));
    let refused = "is not in a separate kernel namespace";
    check(vec![
        (
            host("net.ipv4.ip_forward"),
            "linux.sysctl[\"net.ipv4.ip_forward\"]",
            "sysctl \"net.ipv4.ip_forward\" is not in a separate kernel namespace",
        ),
        (host("kernel.shmmax"), "linux.sysctl[\"kernel.shmmax\"]", refused),
        (host("fs.mqueue.msg_max"), "linux.sysctl[\"fs.mqueue.msg_max\"]", refused),
        (host("kernel.domainname"), "linux.sysctl[\"kernel.domainname\"]", refused),
        (own("kernel.core_pattern", "|x"), "linux.sysctl[\"kernel.core_pattern\"]", refused),
        (
            own("user.max_user_namespaces", "1"),
            "linux.sysctl[\"user.max_user_namespaces\"]",
            refused,
        ),
        (
            json!({"domainname": "d", "linux": {"namespaces": all, "sysctl": {"kernel.domainname": "e"}}}),
            "linux.sysctl[\"kernel.domainname\"]",
            "contradicts the field \"domainname\"",
        ),
        (own("network.x", "1"), "linux.sysctl[\"network.x\"]", refused),
        (own("net", "1"), "linux.sysctl[\"net\"]", refused),
        (
            own("net/../kernel/core_pattern", "1"),
            "linux.sysctl[\"net/../kernel/core_pattern\"]",
            "not a name",
        ),
        (own("net.//.kernel", "1"), "linux.sysctl[\"net.//.kernel\"]", "not a name"),
        (own("net..x", "1"), "linux.sysctl[\"net..x\"]", "not a name"),
        (own("", "1"), "linux.sysctl[\"\"]", "not a name"),
        (
            own("kernel.hostname", "h"),
            "linux.sysctl[\"kernel.hostname\"]",
            "conflicts with the OCI \"hostname\" field",
        ),
        (own("net.x", "1\n2"), "linux.sysctl[\"net.x\"]", "line break"),
        (own("net.x", "1\0"), "linux.sysctl[\"net.x\"]", "NUL"),
    ]);
}

#[test]
fn of_devices_and_resources() {
    let device = |patch: Value| {
        let mut device = json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 2});
        super::merge(&mut device, &patch);
        linux("devices", json!([device]))
    };
    let fifo = json!({"path": "/dev/x", "type": "p"});
    let zero = json!({"path": "/dev/./x", "type": "c", "major": 1, "minor": 5});
    check(vec![
        (device(json!({"path": "dev/x"})), "linux.devices[0].path", "not absolute"),
        (device(json!({"path": "/dev/.."})), "linux.devices[0].path", "root of the container"),
        (device(json!({"path": "/dev/\0"})), "linux.devices[0].path", "NUL"),
        (device(json!({"type": "x"})), "linux.devices[0].type", "unknown variant"),
        (device(json!({"type": "a"})), "linux.devices[0].type", "no type of device node"),
        (device(json!({"major": -1})), "linux.devices[0].major", "no device number"),
        (device(json!({"major": 4096})), "linux.devices[0].major", "no device number"),
        (device(json!({"minor": 1 << 20})), "linux.devices[0].minor", "no device number"),
        (device(json!({"fileMode": 1 << 16})), "linux.devices[0].fileMode", "no file mode"),
        (device(json!({"uid": 4_294_967_295_u32})), "linux.devices[0].uid", "not an id"),
        (device(json!({"gid": 4_294_967_295_u32})), "linux.devices[0].gid", "not an id"),
        (linux("devices", json!([fifo, zero])), "linux.devices[1].path", "another device"),
        (linux("cgroupsPath", json!("/")), "linux.cgroupsPath", "does not name a cgroup"),
        (linux("cgroupsPath", json!("/a\n")), "linux.cgroupsPath", "newline"),
        (
            linux("resources", json!({"devices": [{"allow": true, "access": "x"}]})),
            "linux.resources.devices[0].access",
            "unknown device access",
        ),
        (
            linux("resources", json!({"pids": {"limit": "1"}})),
            "linux.resources.pids.limit",
            "invalid type",
        ),
        (
            linux("resources", json!({"memory": {"limit": 1.5}})),
            "linux.resources.memory.limit",
            "invalid type",
        ),
    ]);
}

#[test]
fn of_hooks() {
    for stage in
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    {
        let good = json!({"path": "/bin/true"});
        let cases = [
            (json!({"path": "true"}), "path", "\"true\" is not absolute"),
            (json!({"path": ""}), "path", "not absolute"),
            (json!({"path": "/a\0"}), "path", "NUL"),
            (json!({"path": "/h", "timeout": 0}), "timeout", "greater than zero"),
            (json!({"path": "/h", "timeout": -5}), "timeout", "greater than zero"),
            (json!({"path": "/h", "args": ["a\0"]}), "args", "NUL"),
            (json!({"path": "/h", "env": ["A=\0"]}), "env", "nul byte"),
            (json!({"path": "/h", "env": ["A"]}), "env[0]", "missing '='"),
        ];
        for (hook, leaf, text) in cases {
            let error = plan(&patched(&json!({"hooks": {stage: [good, hook]}}))).unwrap_err();
            let field = error.field().unwrap_or_default().to_owned();
            assert!(field.starts_with(&format!("hooks.{stage}[1].{leaf}")), "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}

#[test]
fn of_seccomp() {
    let profile = |patch: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []});
        super::merge(&mut profile, &patch);
        linux("seccomp", profile)
    };
    let deny = |name: &str| json!({"syscalls": [{"names": [name], "action": "SCMP_ACT_ERRNO"}]});
    check(vec![
        (
            profile(json!({"defaultAction": "SCMP_ACT_FLY"})),
            "linux.seccomp.defaultAction",
            "SCMP_ACT_FLY",
        ),
        (profile(json!({"flags": ["X"]})), "linux.seccomp.flags[0]", "X"),
        (
            profile(json!({"architectures": ["SCMP_ARCH_Z80"]})),
            "linux.seccomp.architectures[0]",
            "SCMP_ARCH_Z80",
        ),
        (
            profile(json!({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]})),
            "linux.seccomp.listenerPath",
            "seccomp listenerPath is not set",
        ),
        (
            profile(json!({"syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]})),
            "linux.seccomp.syscalls[0].names[0]",
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            profile(json!({"defaultAction": "SCMP_ACT_NOTIFY"})),
            "linux.seccomp.defaultAction",
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ),
        (
            profile(json!({"listenerMetadata": "m"})),
            "linux.seccomp.listenerMetadata",
            "without listenerPath",
        ),
        (profile(deny("execve")), "linux.seccomp", "execve"),
        (profile(deny("write")), "linux.seccomp", "write"),
        (profile(deny("setgroups")), "linux.seccomp", "setgroups"),
        (profile(deny("capset")), "linux.seccomp", "capset"),
    ]);
    // The agent cannot be told a pid that there is not yet.
    let notify = json!([{"names": ["setgroups"], "action": "SCMP_ACT_NOTIFY"}]);
    let mut patch = profile(json!({"listenerPath": "/agent", "syscalls": notify}));
    assert!(plan(&patched(&patch)).is_ok());
    let namespaces = json!([{"type": "mount"}, {"type": "pid", "path": "/p"}]);
    super::merge(&mut patch, &linux("namespaces", namespaces));
    check(vec![(patch.clone(), "linux.seccomp", "setgroups(2)")]);
    super::merge(&mut patch, &json!({"process": {"noNewPrivileges": true}}));
    assert!(plan(&patched(&patch)).is_ok());
    // With noNewPrivileges the filter comes last, and may deny what is over by then.
    let mut patch = profile(deny("setgroups"));
    super::merge(&mut patch, &json!({"process": {"noNewPrivileges": true}}));
    assert!(plan(&patched(&patch)).is_ok());
    let mut patch = profile(deny("execve"));
    super::merge(&mut patch, &json!({"process": {"noNewPrivileges": true}}));
    assert!(plan(&patched(&patch)).is_err());
}

/// In the runtime's mount namespace nothing may be mounted.
#[test]
fn of_the_mount_namespace_that_is_not_there() {
    let without = |mut patch: Value| {
        super::merge(&mut patch, &json!({"linux": {"namespaces": [{"type": "pid"}]}}));
        patch
    };
    let proc = json!({"destination": "/proc", "type": "proc", "source": "proc"});
    let text = "takes a mount namespace: it would change the host's mounts";
    check(vec![
        (without(json!({"mounts": [proc]})), "mounts", text),
        (without(json!({"linux": {"maskedPaths": ["/m"]}})), "linux.maskedPaths", text),
        (without(json!({"linux": {"readonlyPaths": ["/m"]}})), "linux.readonlyPaths", text),
        (
            without(json!({"linux": {"rootfsPropagation": "slave"}})),
            "linux.rootfsPropagation",
            text,
        ),
        (without(json!({"root": {"readonly": true}})), "root.readonly", text),
        (without(json!({"process": {"terminal": true}})), "process.terminal", text),
    ]);
    let plan = super::plan(&patched(&without(json!({})))).unwrap();
    let all = plan.to_text();
    for mounting in ["propagation", "open-root ", "pivot-root", "move-root"] {
        assert!(!all.contains(mounting), "{mounting}: {all}");
    }
    assert!(all.contains("enter-root"), "{all}");
    assert_eq!(plan.warnings[0].0.as_ref(), "linux.namespaces");
}

#[test]
fn of_the_id() {
    let (spec, _) = crate::bundle::parse(&serde_json::to_vec(&base()).unwrap()).unwrap();
    let mut request = request();
    request.id = "../x".to_owned();
    let error = compile(&spec, &request, &facts()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

/// A caller without privileges.
#[test]
fn of_callers_who_are_not_root() {
    let facts = HostFacts { unprivileged: true, ..facts() };
    let compiled = |patch: &Value| {
        let bytes = serde_json::to_vec(&patched(patch)).unwrap();
        compile(&crate::bundle::parse(&bytes).unwrap().0, &request(), &facts)
    };
    let error = compiled(&json!({})).unwrap_err();
    assert_eq!(error.field(), Some("linux.namespaces"));
    assert!(error.to_string().contains("rootless container requires user namespaces"));
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let mut config = json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}],
        "uidMappings": map, "gidMappings": map}});
    let plan = compiled(&config).unwrap();
    assert_eq!(plan.cgroup_need, CgroupNeed::IfPermitted);
    // Neither a device program nor supplementary groups: both would fail.
    assert!(!plan.to_text().contains("device-program") && !plan.to_text().contains("groups "));
    config["linux"]["resources"] = json!({"pids": {"limit": 5}});
    assert_eq!(compiled(&config).unwrap().cgroup_need, CgroupNeed::Asked);
    config["linux"]["resources"] = Value::Null;
    config["linux"]["cgroupsPath"] = json!("a");
    assert_eq!(compiled(&config).unwrap().cgroup_need, CgroupNeed::Asked);
    config["process"] = json!({"user": {"additionalGids": [7]}});
    let error = compiled(&config).unwrap_err();
    assert_eq!(error.field(), Some("process.user.additionalGids"));
    // In a user namespace of somebody else's it has few rights over its own init.
    let joined = json!([{"type": "mount"}, {"type": "time"}, {"type": "user", "path": "/u"}]);
    let config = json!({"linux": {"namespaces": joined}});
    let text = compiled(&config).unwrap().to_text();
    assert!(text.find("time-namespace") > text.find("/u"), "{text}");
    let mut late = config.clone();
    late["linux"]["timeOffsets"] = json!({"boottime": {"secs": 5}});
    assert_eq!(compiled(&late).unwrap_err().field(), Some("linux.timeOffsets"));
    let mut asking = config.clone();
    asking["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    assert_eq!(compiled(&asking).unwrap_err().field(), Some("linux.seccomp.listenerPath"));
    asking["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "user"}]);
    asking["linux"]["uidMappings"] = map.clone();
    asking["linux"]["gidMappings"] = map;
    let _ = compiled(&asking).unwrap();
}
