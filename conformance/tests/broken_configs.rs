//! Broken configurations: `create` refuses each in the name of the field that is wrong, tells it where its callers look
//! for it, and leaves nothing.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;

use orlop_conformance::traces::{self, Tree};
use orlop_conformance::{Bundle, Peer, Test};
use serde_json::{Value, json};

/// Mount tables are compared: no two of these tests may run at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Breaks a bundle; the result replaces the text of config.json.
type Break = Box<dyn Fn(&mut Bundle<'_>) -> Option<Vec<u8>>>;

/// One broken configuration: what is wrong, the field that the error names, and a part of its text.
struct Case {
    break_it: Break,
    field: &'static str,
    text: &'static str,
}

/// Changes fields of the default config, each named by a JSON pointer.
fn fields<const N: usize>(
    patches: [(&'static str, Value); N],
    field: &'static str,
    text: &'static str,
) -> Case {
    let break_it = move |bundle: &mut Bundle<'_>| {
        for (pointer, value) in &patches {
            set(bundle, pointer, value.clone());
        }
        None
    };
    Case { break_it: Box::new(break_it), field, text }
}

/// Changes one field of the default config.
fn field(pointer: &'static str, value: Value, field: &'static str, text: &'static str) -> Case {
    fields([(pointer, value)], field, text)
}

/// Appends one mount, the only one.
fn mount(mount: Value, leaf: &'static str, text: &'static str) -> Case {
    field("/mounts", json!([mount]), leaf, text)
}

/// Replaces config.json.
fn raw(content: &'static [u8], field: &'static str, text: &'static str) -> Case {
    Case { break_it: Box::new(|_| Some(content.to_vec())), field, text }
}

/// Changes the root filesystem, and a field.
fn image(
    prepare: fn(&Path),
    pointer: &'static str,
    value: Value,
    field: &'static str,
    text: &'static str,
) -> Case {
    let break_it = move |bundle: &mut Bundle<'_>| {
        prepare(&bundle.rootfs());
        set(bundle, pointer, value.clone());
        None
    };
    Case { break_it: Box::new(break_it), field, text }
}

/// `Bundle::set`, where the bundle is borrowed. The pointer `/x/-` appends to a list, and null removes.
fn set(bundle: &mut Bundle<'_>, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut bundle.config;
    for name in parent.split('/').skip(1) {
        at = match name.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[name],
        };
    }
    match (name.parse::<usize>(), at) {
        (Ok(index), Value::Array(list)) => list[index] = value,
        (_, Value::Array(list)) => list.push(value),
        (_, at) => at[name] = value,
    }
}

/// Creates what is broken, and looks at all that it does.
#[track_caller]
fn refuse(t: &Test, case: &Case) -> Option<String> {
    let mut bundle = t.bundle();
    let raw = (case.break_it)(&mut bundle);
    bundle.write();
    if let Some(raw) = raw {
        std::fs::write(bundle.dir.join("config.json"), raw).unwrap();
    }
    let complaint = refuse_bundle(t, &bundle, case.field, case.text);
    std::fs::remove_dir_all(&bundle.dir).unwrap();
    complaint
}

/// `create` of a bundle whose config.json is written fails, and so on. The result is what the message lacks.
#[track_caller]
fn refuse_bundle(t: &Test, bundle: &Bundle<'_>, field: &str, text: &str) -> Option<String> {
    let image = Tree::of(&bundle.rootfs());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let log = bundle.dir.join("log");
    let command = t.bare().arg("--root").arg(t.root()).arg("--log").arg(&log);
    let command = command.args(["--log-format", "json", "create", "--bundle"]);
    let done = command.arg(&bundle.dir).arg(&bundle.id).done();
    if done.code() != 1 {
        let _ = t.call(&["delete", "--force", &bundle.id]);
        return Some(format!("{field}: {text}: {done}"));
    }

    assert_eq!(done.stdout, "", "{field}: {done}");
    let message = done.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("{field}: {done}"));
    let log = std::fs::read_to_string(log).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&last["level"], &last["msg"]), (&json!("error"), &json!(message)), "{log}");

    bundle.assert_nothing_left();
    let left = traces::processes(&bundle.id);
    assert!(left.is_empty(), "{message}: {left:?}");
    let now = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(now, mounts, "{message}: the mounts of the caller changed");
    Tree::of(&bundle.rootfs()).assert_only_mountpoints_since(&image);
    let done = t.call(&["delete", "--force", &bundle.id]).ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    let has_field = [": ", " ", "\""].iter().any(|end| message.contains(&format!("{field}{end}")));
    let named = has_field && message.contains(text);
    (!named).then(|| format!("{field}: ...{text}...: {message:?}"))
}

fn begin() -> Option<Test> {
    let t = Test::begin()?;
    if t.differs(&[Peer::Runc, Peer::Crun], "names no fields in its errors") {
        None
    } else {
        Some(t)
    }
}

fn refuse_all(cases: &[Case]) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(t) = begin() else { return };
    let complaints: Vec<_> = cases.iter().filter_map(|case| refuse(&t, case)).collect();
    assert!(complaints.is_empty(), "wanted, and got:\n{}", complaints.join("\n"));
    eprintln!("refused {} configurations", cases.len());
}

#[test]
fn documents_that_are_no_configuration() {
    refuse_all(&[
        raw(b"", "config.json", "is no JSON"),
        raw(b"{", "config.json", "EOF"),
        raw(b"null", "config.json", "no JSON object"),
        raw(b"[]", "config.json", "no JSON object"),
        raw(b"[\"1.0.0\", null]", "config.json", "no JSON object"),
        raw(b"\"x\"", "config.json", "no JSON object"),
        raw(b"{} {}", "config.json", "trailing characters"),
        raw(b"{\"ociVersion\": \"\xff\"}", "config.json", "not UTF-8"),
        raw(b"\xef\xbb\xbf{}", "config.json", "is no JSON"),
        raw(b"{\"ociVersion\": '1.0.0'}", "config.json", "is no JSON"),
        raw(b"{\"a\":1,}", "config.json", "is no JSON"),
        raw(b"{}", "ociVersion", "missing"),
        Case {
            break_it: Box::new(|_| Some([b"{\"a\":".to_vec(), vec![b'['; 100_000]].concat())),
            field: "config.json",
            text: "recursion limit",
        },
        field("/ociVersion", json!(null), "ociVersion", "missing"),
        field("/ociVersion", json!(1.2), "ociVersion", "invalid type"),
        field("/ociVersion", json!("2.0.0"), "ociVersion", "not supported"),
    ]);
}

#[test]
fn values_of_wrong_types() {
    refuse_all(&[
        field("/process", json!(null), "process", "must not be empty"),
        field("/process", json!([]), "process", "invalid type"),
        field("/process/args", json!(null), "process.args", "must not be empty"),
        field("/process/args", json!([]), "process.args", "must not be empty"),
        field("/process/args", json!("sh"), "process.args", "invalid type"),
        field("/process/args", json!([null]), "process.args[0]", "invalid type"),
        field("/process/args", json!(["a", 1]), "process.args[1]", "invalid type"),
        field("/process/terminal", json!("yes"), "process.terminal", "invalid type"),
        field("/process/user", json!([0, 0]), "process.user", "invalid type"),
        field("/process/user/uid", json!("0"), "process.user.uid", "invalid type"),
        field("/process/user/uid", json!(-1), "process.user.uid", "invalid value"),
        field("/process/user/gid", json!(1e3), "process.user.gid", "invalid type"),
        field("/process/env", json!({"A": "b"}), "process.env", "invalid type"),
        field("/process/rlimits/0/soft", json!(-1), "process.rlimits[0].soft", "invalid value"),
        field("/root", json!(null), "root", "missing"),
        field("/root", json!("rootfs"), "root", "invalid type"),
        field("/root/path", json!(null), "root.path", "empty"),
        field("/mounts", json!([null]), "mounts[0]", "invalid type"),
        field("/mounts/1/options", json!("ro"), "mounts[1].options", "invalid type"),
        field("/mounts/1/options/0", json!(null), "mounts[1].options[0]", "invalid type"),
        field("/hostname", json!(5), "hostname", "invalid type"),
        field("/linux/namespaces", json!([null]), "linux.namespaces[0]", "invalid type"),
        field("/linux/namespaces", json!({"pid": 1}), "linux.namespaces", "invalid type"),
        field("/linux/maskedPaths", json!([1]), "linux.maskedPaths[0]", "invalid type"),
        field("/linux/sysctl", json!({"net.x": 1}), "linux.sysctl.net.x", "invalid type"),
        field("/hooks", json!({"prestart": {}}), "hooks.prestart", "invalid type"),
        field("/annotations", json!({"a": 1}), "annotations.a", "invalid type"),
    ]);
}

#[test]
fn values_that_have_no_meaning() {
    let refused = "is not in a separate kernel namespace";
    refuse_all(&[
        field("/root/path", json!(""), "root.path", "empty"),
        field("/root/path", json!("a\0b"), "root.path", "NUL"),
        field("/windows", json!({"layerFolders": ["a"]}), "windows", "another platform"),
        field("/freebsd", json!({}), "freebsd", "another platform"),
        field("/hostname", json!("h".repeat(65)), "hostname", "64 bytes"),
        field("/process/cwd", json!("tmp"), "process.cwd", "must be an absolute path"),
        field("/process/cwd", json!(null), "process.cwd", "must not be empty"),
        field("/process/env", json!(["A"]), "process.env[0]", "missing '='"),
        field("/process/env", json!(["A=1", "B=\0"]), "process.env[1]", "nul byte"),
        field("/process/user/uid", json!(4_294_967_295_u32), "process.user.uid", "not an id"),
        field(
            "/process/user/additionalGids",
            json!([4_294_967_295_u32]),
            "process.user.additionalGids[0]",
            "not an id",
        ),
        field("/process/user/umask", json!(0o1777), "process.user.umask", "permission bits"),
        field("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj", "-1000 to 1000"),
        field("/process/rlimits/0/soft", json!(2048), "process.rlimits[0].soft", "above the hard"),
        field(
            "/process/rlimits/0/type",
            json!("RLIMIT_FUN"),
            "process.rlimits[0].type",
            "RLIMIT_FUN",
        ),
        field(
            "/process/terminal",
            json!(true),
            "process.terminal",
            "without setting console socket",
        ),
        field(
            "/process/capabilities",
            json!({"effective": ["CAP_KILL"]}),
            "process.capabilities.effective",
            "CAP_KILL",
        ),
        mount(json!({"destination": "/", "type": "tmpfs"}), "mounts[0].destination", "root"),
        mount(json!({"destination": "/x"}), "mounts[0].type", "missing"),
        mount(
            json!({"destination": "/proc/self", "type": "tmpfs"}),
            "mounts[0].destination",
            "inside /proc",
        ),
        mount(
            json!({"destination": "/x", "source": "/tmp", "options": ["bind", "size=1"]}),
            "mounts[0].options",
            "filesystem-specific",
        ),
        field("/linux/namespaces", json!([{"type": "pid"}]), "mounts", "takes a mount namespace"),
        field("/linux/namespaces/-", json!({"type": "pid"}), "linux.namespaces[6].type", "second"),
        field("/linux/namespaces/0/type", json!("moon"), "linux.namespaces[0].type", "unknown"),
        field("/linux/namespaces/1/path", json!("net"), "linux.namespaces[1].path", "not absolute"),
        field("/linux/rootfsPropagation", json!("wide"), "linux.rootfsPropagation", "propagation"),
        field("/linux/maskedPaths", json!(["a"]), "linux.maskedPaths[0]", "not absolute"),
        field("/linux/readonlyPaths", json!(["/.."]), "linux.readonlyPaths[0]", "root"),
        field("/linux/cgroupsPath", json!("/"), "linux.cgroupsPath", "does not name a cgroup"),
        field(
            "/linux/sysctl",
            json!({"kernel.core_pattern": "|x"}),
            "linux.sysctl[\"kernel.core_pattern\"]",
            refused,
        ),
        field(
            "/linux/sysctl",
            json!({"net/../x": "1"}),
            "linux.sysctl[\"net/../x\"]",
            "not a name",
        ),
        field(
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "x"}]),
            "linux.devices[0].type",
            "unknown",
        ),
        field(
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 1}]),
            "linux.devices[0].major",
            "no device number",
        ),
        field(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_FLY"}),
            "linux.seccomp.defaultAction",
            "FLY",
        ),
        field(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO"}),
            "linux.seccomp",
            "denies",
        ),
        field(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS"}]
            }),
            "linux.seccomp",
            "execve",
        ),
        field(
            "/hooks",
            json!({"poststop": [{"path": "true"}]}),
            "hooks.poststop[0].path",
            "not absolute",
        ),
        field(
            "/hooks",
            json!({"prestart": [{"path": "/bin/true", "timeout": 0}]}),
            "hooks.prestart[0].timeout",
            "greater than zero",
        ),
    ]);
}

#[test]
fn roots_that_are_none() {
    refuse_all(&[
        field("/root/path", json!("nowhere"), "root.path", "no such file or directory"),
        field("/root/path", json!("rootfs/etc/passwd"), "root.path", "not a directory"),
        field("/root/path", json!("/proc/self/status"), "root.path", "not a directory"),
        Case {
            break_it: Box::new(|bundle| {
                symlink("rootfs", bundle.dir.join("link")).unwrap();
                set(bundle, "/root/path", json!("link"));
                None
            }),
            field: "root.path",
            text: "not a directory",
        },
    ]);
}

#[test]
fn mounts_that_the_kernel_refuses() {
    let at = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let bind = |destination: &str, source: &str| json!({"destination": destination, "source": source, "options": ["bind"]});
    refuse_all(&[
        mount(bind("/mnt", "/no/such/source"), "mounts[0].source", "no such file or directory"),
        mount(bind("/mnt", "nowhere"), "mounts[0].source", "no such file or directory"),
        mount(bind("/etc/passwd", "/tmp"), "mounts[0].destination", "not a directory"),
        mount(bind("/etc", "/etc/passwd"), "mounts[0].destination", "nor a file onto a directory"),
        mount(bind("/etc/passwd/x", "/tmp"), "mounts[0].destination", "not a directory"),
        mount(at("/etc/passwd", "tmpfs", &[]), "mounts[0].destination", "not a directory"),
        mount(at("/mnt", "nosuchfs", &[]), "mounts[0].type", "does not offer"),
        mount(at("/mnt", "tmpfs", &["size=banana"]), "mounts[0].options", "Bad value for 'size'"),
        mount(at("/mnt", "tmpfs", &["mode=9"]), "mounts[0].options", "Bad value for 'mode'"),
        mount(
            at("/mnt", "tmpfs", &["colour=red"]),
            "mounts[0].options",
            "Unknown parameter 'colour'",
        ),
        mount(at("/mnt", "devpts", &["ptmxmode=x"]), "mounts[0].options", "ptmxmode"),
        mount(at("/proc", "proc", &["hidepid=9"]), "mounts[0].options", "hidepid"),
        mount(at("/mnt", "overlay", &["lowerdir=/no/such"]), "mounts[0].options", "/no/such"),
        mount(at("/mnt", "ext4", &[]), "mounts[0]", "mount"),
        image(
            |root| symlink("/mnt/loop", root.join("mnt/loop")).unwrap(),
            "/mounts",
            json!([at("/mnt/loop/x", "tmpfs", &[])]),
            "mounts[0].destination",
            "too many levels of symbolic links",
        ),
    ]);
}

#[test]
fn what_only_the_kernel_knows_of_namespaces_and_devices() {
    let limit = |file: &str| Path::new("/sys/fs/cgroup/orlop-conformance").join(file).exists();
    let mut cases = vec![
        field(
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "banana"}),
            "linux.sysctl[\"net.ipv4.ip_forward\"]",
            "invalid argument",
        ),
        field(
            "/linux/sysctl",
            json!({"net.no.such": "1"}),
            "linux.sysctl[\"net.no.such\"]",
            "no such file or directory",
        ),
        field(
            "/linux/namespaces/1/path",
            json!("/no/such/ns"),
            "linux.namespaces[1].path",
            "no such file or directory",
        ),
        field(
            "/linux/namespaces/1/path",
            json!("/proc/self/ns/uts"),
            "linux.namespaces[1].path",
            "another type",
        ),
        field(
            "/linux/namespaces/1/path",
            json!("/dev/null"),
            "linux.namespaces[1].path",
            "not a namespace",
        ),
        field(
            "/linux/namespaces/1/path",
            json!("/tmp"),
            "linux.namespaces[1].path",
            "not a namespace",
        ),
        field(
            "/linux/namespaces/0/path",
            json!("/no/such/ns"),
            "linux.namespaces[0].path",
            "no such file or directory",
        ),
        field(
            "/linux/namespaces/0/path",
            json!("/proc/self/ns/net"),
            "linux.namespaces[0].path",
            "another type",
        ),
        image(
            |root| std::fs::write(root.join("dev/null"), "").unwrap(),
            "/mounts",
            json!([]),
            "linux.devices",
            "/dev/null",
        ),
        field(
            "/linux/devices",
            json!([{"path": "/etc/passwd", "type": "c", "major": 1, "minor": 3}]),
            "linux.devices[0]",
            "not what it must be",
        ),
        field(
            "/linux/devices",
            json!([{"path": "/etc/passwd/x", "type": "c", "major": 1, "minor": 3}]),
            "linux.devices[0]",
            "not a directory",
        ),
        field(
            "/linux/resources/unified",
            json!({"no.such": "1"}),
            "linux.resources.unified[\"no.such\"]",
            "controller \"no\" not available",
        ),
        field(
            "/linux/cgroupsPath",
            json!("/orlop-conformance/cgroup.procs"),
            "linux.cgroupsPath",
            "",
        ),
    ];
    for (pointer, value, name, file) in [
        (
            "/linux/resources/memory",
            json!({"limit": 1 << 30}),
            "linux.resources.memory.limit",
            "memory.max",
        ),
        ("/linux/resources/pids", json!({"limit": 10}), "linux.resources.pids.limit", "pids.max"),
        ("/linux/resources/cpu", json!({"shares": 10}), "linux.resources.cpu.shares", "cpu.weight"),
    ] {
        if !limit(file) {
            cases.push(field(pointer, value, name, "controller"));
        }
    }
    refuse_all(&cases);
}

#[test]
fn programs_that_cannot_be_executed() {
    refuse_all(&[
        field(
            "/process/args",
            json!(["nosuchprogram"]),
            "process.args[0]",
            "executable file not found in $PATH",
        ),
        field("/process/args", json!(["/no/such"]), "process.args[0]", "no such file or directory"),
        field("/process/args", json!(["/etc"]), "process.args[0]", "is a directory"),
        field("/process/args", json!(["/etc/passwd"]), "process.args[0]", "permission denied"),
        field("/process/args", json!(["./sh"]), "process.args[0]", "no such file or directory"),
        field("/process/args", json!([""]), "process.args[0]", ""),
        fields(
            [("/process/args", json!(["true"])), ("/process/env", json!(["PATH=/etc"]))],
            "process.args[0]",
            "executable file not found in $PATH",
        ),
        field("/process/cwd", json!("/etc/passwd"), "process.cwd", "not a directory"),
        field("/process/cwd", json!("/etc/passwd/x"), "process.cwd", "not a directory"),
        field(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1_u64 << 62}]),
            "process.rlimits[0]",
            "operation not permitted",
        ),
    ]);
}

#[test]
fn hooks_that_fail() {
    let mut cases = Vec::new();
    for stage in ["prestart", "createRuntime", "createContainer"] {
        let name: &'static str = format!("hooks.{stage}[1]").leak();
        for (hook, text) in [
            (json!({"path": "/no/such/hook"}), "no such file or directory"),
            (json!({"path": "/etc/passwd"}), "permission denied"),
            (json!({"path": "/tmp"}), "permission denied"),
            (
                json!({"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}),
                "exit status 3",
            ),
            (json!({"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}), "why"),
            (json!({"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $$"]}), "signal: killed"),
            (json!({"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}), "timeout"),
        ] {
            let hooks = json!({stage: [{"path": "/bin/true"}, hook]});
            cases.push(field("/hooks", hooks, name, text));
        }
    }
    refuse_all(&cases);
}

#[test]
fn cgroups_that_are_in_use() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(t) = begin() else { return };
    let other = t.bundle().args(&["/bin/sleep", "1000"]).create();
    let cgroup = other.bundle.config["linux"]["cgroupsPath"].clone();
    let bundle = t.bundle().set("/linux/cgroupsPath", cgroup);
    bundle.write();
    assert_eq!(refuse_bundle(&t, &bundle, "linux.cgroupsPath", "cgroup is not empty"), None);
    assert_eq!(other.status(), "created");

    let bundle = t.bundle();
    std::fs::create_dir(bundle.cgroup()).unwrap();
    std::fs::write(bundle.cgroup().join("cgroup.freeze"), "1").unwrap();
    let done = bundle.try_create().fails("unexpectedly frozen");
    assert!(done.stderr.contains("linux.cgroupsPath"), "{done}");
    assert!(bundle.cgroup().exists(), "what was there before is not the runtime's");
    std::fs::remove_dir(bundle.cgroup()).unwrap();
    bundle.assert_nothing_left();
}

#[test]
fn bundles_without_a_readable_configuration() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(t) = begin() else { return };
    let bundle = t.bundle();
    assert_eq!(refuse_bundle(&t, &bundle, "config.json", "not found"), None);
    std::fs::create_dir(bundle.dir.join("config.json")).unwrap();
    assert_eq!(refuse_bundle(&t, &bundle, "config.json", "is a directory"), None);
    std::fs::remove_dir(bundle.dir.join("config.json")).unwrap();
    symlink("nowhere", bundle.dir.join("config.json")).unwrap();
    assert_eq!(refuse_bundle(&t, &bundle, "config.json", ""), None);
}
