//! `features` says what is true: for each entry a container that uses it, and sees from inside that it has its effect;
//! and what is not listed is refused.
//!
//! An entry that no check is known for fails the test: whoever adds one says here how it shows.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use orlop_conformance::proc::{Mount, mounts};
use orlop_conformance::run::lossy;
use orlop_conformance::{Bundle, Done, Peer, Run, Test, rootfs};
use serde_json::{Value, json};

fn begin() -> Option<(Test, Value)> {
    let t = Test::begin()?;
    if t.differs(&[Peer::Runc, Peer::Crun], "lists less, or what the host's kernel decides") {
        return None;
    }
    let features = t.bare().arg("features").done().ok().json();
    Some((t, features))
}

/// A root filesystem for many containers.
fn root(t: &Test) -> PathBuf {
    let root = t.dir().join("shared-root");
    rootfs::make(&root);
    root
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap_or_else(|| panic!("{list} is no list"));
    list.iter().map(|name| name.as_str().unwrap()).collect()
}

/// Runs the check of each entry that is listed; and of each that is not, whether it is refused.
#[track_caller]
fn check_list<C>(
    listed: &Value,
    table: &[(&str, C)],
    check: impl Fn(&str, &C),
    refused: impl Fn(&str, &C),
) {
    let listed = names(listed);
    let unknown: Vec<_> =
        listed.iter().filter(|name| table.iter().all(|(known, _)| known != *name)).collect();
    assert!(unknown.is_empty(), "no check for {unknown:?}: add one to this file");
    for (name, case) in table {
        if listed.contains(name) {
            check(name, case);
        } else {
            refused(name, case);
        }
    }
}

#[track_caller]
fn is_refused(name: &str, done: &Done) {
    assert_eq!(done.code(), 1, "{name} is not listed, and accepted: {done}");
}

#[test]
fn every_part_of_the_document_is_looked_at() {
    let Some((t, features)) = begin() else { return };
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let known = [
        "ociVersionMin",
        "ociVersionMax",
        "hooks",
        "mountOptions",
        "linux",
        "annotations",
        "potentiallyUnsafeConfigAnnotations",
    ];
    assert!(
        keys(&features).iter().all(|key| known.contains(&key.as_str())),
        "no check: {features}"
    );
    let known = [
        "namespaces",
        "capabilities",
        "cgroup",
        "seccomp",
        "apparmor",
        "selinux",
        "intelRdt",
        "memoryPolicy",
        "mountExtensions",
        "netDevices",
    ];
    let linux = &features["linux"];
    assert!(keys(linux).iter().all(|key| known.contains(&key.as_str())), "no check: {linux}");
    for version in ["ociVersionMin", "ociVersionMax"] {
        let _ = t.bundle().set("/ociVersion", features[version].clone()).run().ok();
    }
}

#[test]
fn hooks_that_are_listed_run() {
    let Some((t, features)) = begin() else { return };
    let all = [
        ("prestart", ()),
        ("createRuntime", ()),
        ("createContainer", ()),
        ("startContainer", ()),
        ("poststart", ()),
        ("poststop", ()),
    ];
    let run = |name: &str| {
        let mark = t.dir().join(format!("hook-{name}"));
        std::fs::File::create(&mark).unwrap();
        // The same path inside and outside of the container.
        let mark = mark.to_str().unwrap();
        let args = json!(["sh", "-c", format!("echo ran >{mark}")]);
        let entry = json!({"path": "/bin/sh", "args": args});
        let bundle = t.bundle().mount(mark, "bind", mark, &["bind"]);
        let _ = bundle.push(&format!("/hooks/{name}"), entry).run().ok();
        lossy(Path::new(mark))
    };
    check_list(
        &features["hooks"],
        &all,
        |name, ()| assert_eq!(run(name), "ran\n", "{name}"),
        |name, ()| assert_eq!(run(name), "", "{name}"),
    );
}

/// What mountinfo says in a container of the mount at a place: its options, those of its filesystem, its propagation.
fn words(list: &[Mount], target: &str) -> Vec<String> {
    let mount = list.iter().rfind(|m| m.target == target);
    let mount = mount.unwrap_or_else(|| panic!("nothing is mounted at {target}"));
    let propagation = mount.propagation.iter().map(|p| p.split(':').next().unwrap().to_owned());
    mount.options.iter().chain(&mount.super_options).cloned().chain(propagation).collect()
}

fn mountinfo(bundle: Bundle<'_>) -> Vec<Mount> {
    mounts(&bundle.args(&["/bin/cat", "/proc/self/mountinfo"]).run().ok().stdout)
}

/// How an option shows.
enum Shows {
    /// On a tmpfs with these options: the words it has, and those it has not.
    New(&'static [&'static str], &'static [&'static str], &'static [&'static str]),
    /// The same, on a bind mount of a tree and the mounts below.
    Tree(&'static [&'static str], &'static [&'static str], &'static [&'static str]),
    /// Otherwise.
    Otherwise(fn(&Test)),
}

#[test]
fn mount_options_that_are_listed_have_their_effect() {
    use Shows::{New, Otherwise, Tree};
    let Some((t, features)) = begin() else { return };
    let root = root(&t);
    let bundle = || Bundle::on(&t, &root);
    let table = [
        ("async", New(&["sync", "async"], &[], &["sync"])),
        ("atime", New(&["noatime", "atime"], &["relatime"], &["noatime"])),
        ("bind", Otherwise(bind)),
        ("defaults", New(&["defaults"], &["rw", "relatime"], &["nosuid", "noexec", "nodev"])),
        ("dev", New(&["nodev", "dev"], &[], &["nodev"])),
        ("diratime", New(&["nodiratime", "diratime"], &[], &["nodiratime"])),
        ("dirsync", New(&["dirsync"], &["dirsync"], &[])),
        ("exec", New(&["noexec", "exec"], &[], &["noexec"])),
        ("iversion", New(&["iversion"], &["rw"], &[])),
        ("lazytime", New(&["lazytime"], &["lazytime"], &[])),
        ("loud", New(&["loud"], &["rw"], &[])),
        ("mand", New(&["mand"], &["mand"], &[])),
        ("noatime", New(&["noatime"], &["noatime"], &["relatime"])),
        ("nodev", New(&["nodev"], &["nodev"], &[])),
        ("nodiratime", New(&["nodiratime"], &["nodiratime"], &[])),
        ("noexec", New(&["noexec"], &["noexec"], &[])),
        ("noiversion", New(&["iversion", "noiversion"], &["rw"], &[])),
        ("nolazytime", New(&["lazytime", "nolazytime"], &[], &["lazytime"])),
        ("nomand", New(&["mand", "nomand"], &[], &["mand"])),
        ("norelatime", New(&["noatime", "norelatime"], &["noatime"], &["relatime"])),
        ("nostrictatime", New(&["strictatime", "nostrictatime"], &["relatime"], &[])),
        ("nosuid", New(&["nosuid"], &["nosuid"], &[])),
        ("nosymfollow", New(&["nosymfollow"], &["nosymfollow"], &[])),
        ("private", New(&["shared", "private"], &[], &["shared"])),
        ("ratime", Tree(&["rnoatime", "ratime"], &["relatime"], &["noatime"])),
        ("rbind", Otherwise(rbind)),
        ("rdev", Tree(&["rnodev", "rdev"], &[], &["nodev"])),
        ("rdiratime", Tree(&["rnodiratime", "rdiratime"], &[], &["nodiratime"])),
        ("relatime", New(&["strictatime", "relatime"], &["relatime"], &[])),
        ("remount", Otherwise(remount)),
        ("rexec", Tree(&["rnoexec", "rexec"], &[], &["noexec"])),
        ("rnoatime", Tree(&["rnoatime"], &["noatime"], &["relatime"])),
        ("rnodev", Tree(&["rnodev"], &["nodev"], &[])),
        ("rnodiratime", Tree(&["rnodiratime"], &["nodiratime"], &[])),
        ("rnoexec", Tree(&["rnoexec"], &["noexec"], &[])),
        ("rnorelatime", Tree(&["rnorelatime"], &[], &["relatime", "noatime"])),
        ("rnostrictatime", Tree(&["rstrictatime", "rnostrictatime"], &["relatime"], &[])),
        ("rnosuid", Tree(&["rnosuid"], &["nosuid"], &[])),
        ("rnosymfollow", Tree(&["rnosymfollow"], &["nosymfollow"], &[])),
        ("ro", New(&["ro"], &["ro"], &[])),
        ("rprivate", Tree(&["rshared", "rprivate"], &[], &["shared"])),
        ("rrelatime", Tree(&["rnoatime", "rrelatime"], &["relatime"], &["noatime"])),
        ("rro", Tree(&["rro"], &["ro"], &[])),
        ("rrw", Tree(&["rro", "rrw"], &["rw"], &[])),
        ("rshared", Tree(&["rshared"], &["shared"], &[])),
        ("rslave", Tree(&["rshared", "rslave"], &[], &["shared"])),
        ("rstrictatime", Tree(&["rstrictatime"], &[], &["relatime", "noatime"])),
        ("rsuid", Tree(&["rnosuid", "rsuid"], &[], &["nosuid"])),
        ("rsymfollow", Tree(&["rnosymfollow", "rsymfollow"], &[], &["nosymfollow"])),
        ("runbindable", Tree(&["runbindable"], &["unbindable"], &[])),
        ("rw", New(&["ro", "rw"], &["rw"], &["ro"])),
        ("shared", New(&["shared"], &["shared"], &[])),
        ("silent", New(&["silent"], &["rw"], &[])),
        ("slave", New(&["shared", "slave"], &[], &["shared"])),
        ("strictatime", New(&["strictatime"], &[], &["relatime", "noatime"])),
        ("suid", New(&["nosuid", "suid"], &[], &["nosuid"])),
        ("symfollow", New(&["nosymfollow", "symfollow"], &[], &["nosymfollow"])),
        ("sync", New(&["sync"], &["sync"], &[])),
        ("tmpcopyup", Otherwise(tmpcopyup)),
        ("unbindable", New(&["unbindable"], &["unbindable"], &[])),
    ];
    let check = |name: &str, shows: &Shows| {
        let (list, targets, wanted, unwanted) = match shows {
            Otherwise(check) => return check(&t),
            New(options, wanted, unwanted) => (
                mountinfo(bundle().mount("/mnt", "tmpfs", "x", options)),
                &["/mnt"][..],
                wanted,
                unwanted,
            ),
            Tree(options, wanted, unwanted) => {
                let options = [&["rbind"][..], options].concat();
                let list = mountinfo(bundle().mount("/mnt", "bind", "/sys", &options));
                (list, &["/mnt", "/mnt/fs/cgroup"][..], wanted, unwanted)
            }
        };
        for target in targets {
            let words = words(&list, target);
            let has = |word: &&str| words.iter().any(|w| w == word);
            assert!(wanted.iter().all(has), "{name} at {target}: {words:?}");
            assert!(!unwanted.iter().any(has), "{name} at {target}: {words:?}");
        }
    };
    let refused = |name: &str, _: &Shows| {
        is_refused(name, &bundle().mount("/mnt", "tmpfs", "x", &[name]).run());
    };
    check_list(&features["mountOptions"], &table, check, refused);
    for name in ["nosuchoption", "rnosuch", "NOEXEC", "ro,noexec"] {
        refused(name, &Otherwise(bind));
    }
}

fn bind(t: &Test) {
    let list = mountinfo(t.bundle().mount("/mnt", "", "/sys", &["bind"]));
    assert_eq!(list.iter().filter(|m| m.target.starts_with("/mnt")).count(), 1, "{list:?}");
}

fn rbind(t: &Test) {
    let list = mountinfo(t.bundle().mount("/mnt", "", "/sys", &["rbind"]));
    assert!(list.iter().any(|m| m.target == "/mnt/fs/cgroup"), "{list:?}");
}

fn remount(t: &Test) {
    let bundle = t.bundle().mount("/mnt", "tmpfs", "x", &[]);
    let list = mountinfo(bundle.mount("/mnt", "", "", &["remount", "ro", "noexec"]));
    let words = words(&list, "/mnt");
    assert!(words.contains(&"ro".to_owned()) && words.contains(&"noexec".to_owned()), "{words:?}");
    assert_eq!(list.iter().filter(|m| m.target == "/mnt").count(), 1);
}

fn tmpcopyup(t: &Test) {
    let bundle = t.bundle().file("/mnt/file", "of the image\n", 0o644);
    let bundle = bundle.mount("/mnt", "tmpfs", "x", &["tmpcopyup"]);
    let done = bundle.sh("cat /mnt/file; stat -f -c %T /mnt").run().ok();
    assert_eq!(done.stdout, "of the image\ntmpfs\n");
}

#[test]
fn namespaces_that_are_listed_are_made() {
    let Some((t, features)) = begin() else { return };
    let table = [
        ("cgroup", "cgroup"),
        ("ipc", "ipc"),
        ("mount", "mnt"),
        ("network", "net"),
        ("pid", "pid"),
        ("time", "time"),
        ("user", "user"),
        ("uts", "uts"),
    ];
    let bundle = |name: &str| {
        let mut bundle = t.bundle().remove("/hostname");
        bundle.config["linux"]["namespaces"] = json!([{"type": "mount"}]);
        // A new sysfs or mqueue takes namespaces that are not made here.
        bundle.config["mounts"] =
            json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
        if name == "user" {
            let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
            bundle = bundle.set("/linux/uidMappings", ids.clone()).set("/linux/gidMappings", ids);
            // The image's own directories are the host's root's.
            bundle.config["mounts"] =
                json!([{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}]);
            std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(100_000)).unwrap();
            rootfs::mode(t.dir(), 0o711);
            rootfs::mode(&bundle.dir, 0o711);
        }
        if name != "mount" {
            bundle = bundle.push("/linux/namespaces", json!({"type": name}));
        }
        bundle
    };
    let check = |name: &str, file: &&str| {
        let c = bundle(name).args(&["/bin/sleep", "100"]).run_detached();
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
        assert_ne!(of(&c.pid.to_string()), of("self"), "{name}");
        // And no other.
        for (other, file) in table.iter().filter(|(other, _)| *other != name && *other != "mount") {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
            assert_eq!(of(&c.pid.to_string()), of("self"), "{other} with {name}");
        }
    };
    let refused = |name: &str, _: &&str| is_refused(name, &bundle(name).run());
    check_list(&features["linux"]["namespaces"], &table, check, refused);
    is_refused("nosuch", &bundle("nosuch").run());
}

#[test]
fn capabilities_that_are_listed_are_given_alone() {
    let Some((t, features)) = begin() else { return };
    let listed = names(&features["linux"]["capabilities"]);
    let status = |text: &str, key: &str| {
        let field = text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
        u64::from_str_radix(&field, 16).unwrap()
    };
    let own = status(&std::fs::read_to_string("/proc/self/status").unwrap(), "CapPrm:");
    let root = root(&t);
    let last = lossy(Path::new("/proc/sys/kernel/cap_last_cap")).trim().parse::<usize>().unwrap();
    assert!(listed.len() > last, "the kernel knows more: {listed:?}");
    for (number, name) in listed.iter().enumerate().take(last + 1) {
        let bit = 1_u64 << number;
        if own & bit == 0 {
            eprintln!("SKIPPED: {name}: the test itself has it not");
            continue;
        }
        let set = json!([name]);
        let set = json!({"bounding": set, "effective": set, "permitted": set});
        let bundle = Bundle::on(&t, &root).set("/process/capabilities", set);
        let text = bundle.args(&["/bin/cat", "/proc/self/status"]).run().ok().stdout;
        for key in ["CapBnd:", "CapEff:", "CapPrm:"] {
            assert_eq!(status(&text, key), bit, "{name}: {text}");
        }
    }
}

fn filtered<'t>(t: &'t Test, action: &str, rule: Value) -> Option<Bundle<'t>> {
    let mut rule = rule;
    rule["action"] = json!(action);
    let bundle = t.bundle().set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]
        }),
    );
    rootfs::add_probe(&bundle.rootfs()).then_some(bundle)
}

/// getpgid(2): nothing that starts a program needs it.
const CALL: &str = "121";

#[test]
fn seccomp_actions_that_are_listed_act() {
    let Some((t, features)) = begin() else { return };
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    // What the calls in turn give: one process, a second thread, and the shell's own umask(2), which
    // has a handler for SIGSYS.
    let script = "probe call x86_64 121 1; echo code $?; probe thread 121; echo code $?; \
                  trap 'echo handled' SYS; umask 022; echo end";
    let killed = "code 159\n";
    let table = [
        ("SCMP_ACT_KILL", format!("{killed}alive\ncode 0\n")),
        ("SCMP_ACT_KILL_THREAD", format!("{killed}alive\ncode 0\n")),
        ("SCMP_ACT_KILL_PROCESS", format!("{killed}{killed}")),
        ("SCMP_ACT_TRAP", format!("{killed}{killed}handled\nend\n")),
        ("SCMP_ACT_ERRNO", "-77\ncode 77\nalive\ncode 0\nend\n".to_owned()),
        // Nobody traces it.
        ("SCMP_ACT_TRACE", "-38\ncode 38\nalive\ncode 0\nend\n".to_owned()),
        ("SCMP_ACT_LOG", "1\ncode 0\nalive\ncode 0\nend\n".to_owned()),
        ("SCMP_ACT_ALLOW", String::new()),
        ("SCMP_ACT_NOTIFY", String::new()),
    ];
    let check = |name: &str, want: &String| {
        match name {
            "SCMP_ACT_ALLOW" => return allows(&t),
            "SCMP_ACT_NOTIFY" => return notifies(&t, None),
            _ => {}
        }
        let mut rule = json!({"names": ["getpgid", "umask"]});
        if name == "SCMP_ACT_ERRNO" {
            rule["errnoRet"] = json!(77);
        }
        let Some(bundle) = filtered(&t, name, rule) else { return };
        // The shell itself calls getpgid(2) of nobody; process 1 is there.
        assert_eq!(bundle.sh(script).run().stdout, *want, "{name}");
    };
    let refused = |name: &str, _: &String| {
        let Some(bundle) = filtered(&t, name, json!({"names": ["getpgid"]})) else { return };
        is_refused(name, &bundle.run());
    };
    check_list(&features["linux"]["seccomp"]["actions"], &table, check, refused);
}

/// A rule that allows, under a default that does not.
fn allows(t: &Test) {
    let names = json!([
        "arch_prctl",
        "brk",
        "execve",
        "exit_group",
        "fstat",
        "getpgid",
        "getrandom",
        "ioctl",
        "mprotect",
        "newfstatat",
        "prlimit64",
        "read",
        "readlink",
        "readlinkat",
        "rseq",
        "set_robust_list",
        "set_tid_address",
        "write"
    ]);
    let Some(bundle) = filtered(t, "SCMP_ACT_ALLOW", json!({"names": names})) else { return };
    let bundle = bundle.set("/linux/seccomp/defaultAction", json!("SCMP_ACT_ERRNO"));
    let bundle = bundle.set("/linux/seccomp/defaultErrnoRet", json!(77));
    let seccomp = bundle.config["linux"]["seccomp"].clone();
    // getpgid(2) and getppid(2)
    for (number, want) in [(CALL, "1\n"), ("110", "-77\n")] {
        let bundle = t.bundle().set("/linux/seccomp", seccomp.clone());
        let _ = rootfs::add_probe(&bundle.rootfs());
        let done = bundle.args(&["/bin/probe", "call", "x86_64", number, "0"]).run();
        assert_eq!(done.stdout, want, "{done}");
    }
}

/// An agent is given the filter's descriptor, and closes it: the call then fails as an unknown one.
fn notifies(t: &Test, flag: Option<&str>) {
    let path = t.dir().join("agent");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let Some(bundle) = filtered(t, "SCMP_ACT_NOTIFY", json!({"names": ["getpgid"]})) else {
        return;
    };
    let mut bundle = bundle.set("/linux/seccomp/listenerPath", json!(path));
    if let Some(flag) = flag {
        bundle = bundle.set("/linux/seccomp/flags", json!([flag]));
    }
    let bundle = bundle.args(&["/bin/probe", "call", "x86_64", CALL, "1"]);
    let running = bundle.command("run", &[]).spawn();
    let (mut agent, _) = listener.accept().unwrap();
    let mut text = String::new();
    // Without room for it, the descriptor is closed.
    agent.read_to_string(&mut text).unwrap();
    assert!(text.contains("seccompFd"), "{text}");
    assert_eq!(running.done().stdout, "-38\n");
}

#[test]
fn seccomp_operators_that_are_listed_compare() {
    let Some((t, features)) = begin() else { return };
    // Which of 4, 5, 6 are hit by a comparison with 5.
    let table = [
        ("SCMP_CMP_NE", [true, false, true]),
        ("SCMP_CMP_LT", [true, false, false]),
        ("SCMP_CMP_LE", [true, true, false]),
        ("SCMP_CMP_EQ", [false, true, false]),
        ("SCMP_CMP_GE", [false, true, true]),
        ("SCMP_CMP_GT", [false, false, true]),
        // ... masked with 6, with 4.
        ("SCMP_CMP_MASKED_EQ", [true, true, false]),
    ];
    let bundle = |name: &str| {
        let (value, value_two) = if name == "SCMP_CMP_MASKED_EQ" { (6, 4) } else { (5, 0) };
        let argument = json!({"index": 0, "value": value, "valueTwo": value_two, "op": name});
        let rule = json!({"names": ["getpgid"], "errnoRet": 77, "args": [argument]});
        filtered(&t, "SCMP_ACT_ERRNO", rule)
    };
    let check = |name: &str, want: &[bool; 3]| {
        let Some(bundle) = bundle(name) else { return };
        let script = "for n in 4 5 6; do probe call x86_64 121 $n; done";
        let done = bundle.sh(script).run();
        let hit: Vec<bool> = done.lines().iter().map(|line| *line == "-77").collect();
        assert_eq!(hit, want, "{name}: {done}");
    };
    let refused = |name: &str, _: &[bool; 3]| {
        if let Some(bundle) = bundle(name) {
            is_refused(name, &bundle.run());
        }
    };
    check_list(&features["linux"]["seccomp"]["operators"], &table, check, refused);
}

#[test]
fn seccomp_architectures_that_are_listed_are_filtered() {
    let Some((t, features)) = begin() else { return };
    // What this machine's processors can run, by the number of getpgid(2).
    let here = [
        ("SCMP_ARCH_X86_64", "x86_64", "121"),
        ("SCMP_ARCH_X86", "x86", "132"),
        ("SCMP_ARCH_X32", "x32", "121"),
    ];
    let others = "AARCH64 ARM LOONGARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PARISC PARISC64 PPC PPC64 \
                  PPC64LE RISCV64 S390 S390X M68K SH SHEB X32 X86 X86_64";
    let table: Vec<(String, ())> =
        others.split_whitespace().map(|name| (format!("SCMP_ARCH_{name}"), ())).collect();
    let table: Vec<(&str, ())> = table.iter().map(|(name, ())| (name.as_str(), ())).collect();
    let bundle = |name: &str| {
        let rule = json!({"names": ["getpgid"], "errnoRet": 77});
        let bundle = filtered(&t, "SCMP_ACT_ERRNO", rule)?;
        Some(bundle.push("/linux/seccomp/architectures", json!(name)))
    };
    let check = |name: &str, (): &()| {
        let Some(bundle) = bundle(name) else { return };
        let Some((_, abi, number)) = here.iter().find(|(known, _, _)| *known == name) else {
            // Another machine's: nothing can call by it, and it does no harm.
            let _ = bundle.run().ok();
            return;
        };
        // int 0x80 is a fault where the kernel has no such calls.
        let here = Run::new(env!("ORLOP_PROBE"), t.dir()).args(["call", abi, number, "0"]).done();
        if *abi == "x86" && here.code() > 128 {
            eprintln!("SKIPPED: {name}: the kernel has none");
            return;
        }
        let done = bundle.args(&["/bin/probe", "call", abi, number, "0"]).run();
        assert_eq!(done.stdout, "-77\n", "{name}: {done}");
        if *name == *"SCMP_ARCH_X86_64" {
            return;
        }
        // Calls of an architecture that the filter does not name do not pass by it.
        let rule = json!({"names": ["getpgid"], "errnoRet": 77});
        let Some(bundle) = filtered(&t, "SCMP_ACT_ERRNO", rule) else { return };
        let done = bundle.args(&["/bin/probe", "call", abi, number, "0"]).run();
        assert!(done.code() != 0 && done.stdout != "1\n", "{name}: {done}");
    };
    let refused = |name: &str, (): &()| {
        if let Some(bundle) = bundle(name) {
            is_refused(name, &bundle.run());
        }
    };
    check_list(&features["linux"]["seccomp"]["archs"], &table, check, refused);
}

#[test]
fn seccomp_flags_that_are_listed_are_taken() {
    let Some((t, features)) = begin() else { return };
    let seccomp = &features["linux"]["seccomp"];
    let known = names(&seccomp["knownFlags"]);
    assert!(names(&seccomp["supportedFlags"]).iter().all(|flag| known.contains(flag)));
    let table = [
        ("SECCOMP_FILTER_FLAG_TSYNC", ()),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", ()),
        ("SECCOMP_FILTER_FLAG_LOG", ()),
        ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", ()),
        ("SECCOMP_FILTER_FLAG_NEW_LISTENER", ()),
        ("SECCOMP_FILTER_FLAG_NOSUCH", ()),
    ];
    let bundle = |flag: &str| {
        let bundle = filtered(&t, "SCMP_ACT_ERRNO", json!({"names": ["getpgid"], "errnoRet": 77}))?;
        Some(bundle.set("/linux/seccomp/flags", json!([flag])))
    };
    let notify = names(&seccomp["actions"]).contains(&"SCMP_ACT_NOTIFY");
    let check = |flag: &str, (): &()| {
        if flag.ends_with("_WAIT_KILLABLE_RECV") {
            // Of a filter with a listener only.
            return if notify {
                notifies(&t, Some(flag))
            } else {
                drop(bundle(flag).map(|b| b.run()))
            };
        }
        let Some(bundle) = bundle(flag) else { return };
        let script = "probe call x86_64 121 0; grep Seccomp: /proc/self/status";
        assert_eq!(bundle.sh(script).run().ok().stdout, "-77\nSeccomp:\t2\n", "{flag}");
    };
    let refused = |flag: &str, (): &()| {
        if let Some(bundle) = bundle(flag) {
            is_refused(flag, &bundle.run());
        }
    };
    check_list(&seccomp["supportedFlags"], &table, check, refused);
}

#[test]
fn memory_policies_that_are_listed_are_set() {
    let Some((t, features)) = begin() else { return };
    let listed = &features["linux"]["memoryPolicy"];
    if listed.is_null() {
        is_refused("memoryPolicy", &policy(&t, "MPOL_LOCAL", "", None).run());
        return;
    }
    if !Path::new("/proc/self/numa_maps").exists() {
        eprintln!("SKIPPED: the kernel knows no NUMA");
        return;
    }
    let modes = [
        ("MPOL_DEFAULT", ("", "default")),
        ("MPOL_BIND", ("0", "bind:0")),
        ("MPOL_INTERLEAVE", ("0", "interleave:0")),
        ("MPOL_WEIGHTED_INTERLEAVE", ("0", "weighted interleave:0")),
        ("MPOL_PREFERRED", ("0", "prefer:0")),
        ("MPOL_PREFERRED_MANY", ("0", "prefer (many):0")),
        ("MPOL_LOCAL", ("", "local")),
    ];
    let has_policy = |bundle: Bundle<'_>, want: &str| {
        let done = bundle.args(&["/bin/cat", "/proc/self/numa_maps"]).run();
        if done.code() != 0 && done.stderr.contains("invalid argument") {
            eprintln!("SKIPPED: the kernel does not know {want}");
            return;
        }
        let done = done.ok();
        let first = done.stdout.split_once(' ').unwrap().1;
        assert!(first.starts_with(want), "{want}: {first}");
    };
    let check =
        |name: &str, (nodes, want): &(&str, &str)| has_policy(policy(&t, name, nodes, None), want);
    let refused = |name: &str, (nodes, _): &(&str, &str)| {
        is_refused(name, &policy(&t, name, nodes, None).run())
    };
    check_list(&listed["modes"], &modes, check, refused);
    is_refused("MPOL_NOSUCH", &policy(&t, "MPOL_NOSUCH", "0", None).run());
    let flags = [
        ("MPOL_F_NUMA_BALANCING", "bind"),
        ("MPOL_F_RELATIVE_NODES", "bind=relative:0"),
        ("MPOL_F_STATIC_NODES", "bind=static:0"),
    ];
    let check =
        |flag: &str, want: &&str| has_policy(policy(&t, "MPOL_BIND", "0", Some(flag)), want);
    let refused =
        |flag: &str, _: &&str| is_refused(flag, &policy(&t, "MPOL_BIND", "0", Some(flag)).run());
    check_list(&listed["flags"], &flags, check, refused);
}

fn policy<'t>(t: &'t Test, mode: &str, nodes: &str, flag: Option<&str>) -> Bundle<'t> {
    let flags: Vec<&str> = flag.into_iter().collect();
    t.bundle().set("/linux/memoryPolicy", json!({"mode": mode, "nodes": nodes, "flags": flags}))
}

#[test]
fn what_is_enabled_works_and_what_is_not_is_refused() {
    let Some((t, features)) = begin() else { return };
    let linux = &features["linux"];
    let enabled = |pointer: &str| linux.pointer(pointer).is_some_and(|v| *v == json!(true));
    assert!(enabled("/cgroup/v2") && !enabled("/cgroup/v1"));
    if enabled("/mountExtensions/idmap/enabled") {
        idmapped(&t);
    } else {
        for option in ["idmap", "ridmap"] {
            is_refused(option, &t.bundle().mount("/mnt", "bind", "/etc", &["bind", option]).run());
        }
    }
    if enabled("/netDevices/enabled") {
        net_device(&t);
    } else {
        is_refused("netDevices", &t.bundle().set("/linux/netDevices", json!({"x": {}})).run());
    }
    // What the host must have too: where it has not, that is the error.
    let label = json!("system_u:system_r:container_t:s0");
    for (name, pointer, field, value) in [
        ("apparmor", "/apparmor/enabled", "/process/apparmorProfile", json!("no-such-profile")),
        ("selinux", "/selinux/enabled", "/process/selinuxLabel", label),
        ("intelRdt", "/intelRdt/enabled", "/linux/intelRdt", json!({"closID": "x"})),
        ("rdma", "/cgroup/rdma", "/linux/resources/rdma", json!({"mlx5_1": {"hcaHandles": 3}})),
    ] {
        let done = t.bundle().set(field, value).run();
        let unsupported = done.stderr.contains("not supported by this version of");
        assert_eq!(unsupported, !enabled(pointer), "{name}: {done}");
        assert!(enabled(pointer) || done.code() == 1, "{name}: {done}");
    }
    let annotations = &features["potentiallyUnsafeConfigAnnotations"];
    let known = ["bundle", "org.systemd.property.", "org.criu.config"];
    for name in annotations.as_array().into_iter().flatten() {
        assert!(known.contains(&name.as_str().unwrap()), "no check for {name}");
        let systemd = *name == json!("org.systemd.property.");
        assert!(!systemd || enabled("/cgroup/systemd"), "{name} without systemd");
    }
}

fn idmapped(t: &Test) {
    let source = t.dir().join("mapped");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "").unwrap();
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let mount = json!({
        "destination": "/mnt", "source": source, "options": ["bind"], "uidMappings": map, "gidMappings": map
    });
    let bundle = t.bundle().push("/mounts", mount);
    let done = bundle.args(&["/bin/stat", "-c", "%u %g", "/mnt/file"]).run().ok();
    assert_eq!(done.stdout, "1000 1000\n");
}

/// A device of a network namespace of the runtime's own.
fn net_device(t: &Test) {
    let bundle = t.bundle().set("/linux/netDevices", json!({"probe0": {"name": "inside0"}}));
    let bundle = bundle.args(&["/bin/ls", "/sys/class/net"]);
    bundle.write();
    let script = "ip link add probe0 type dummy || exit 99; exec \"$@\"";
    let run = Run::new("unshare", t.dir()).args(["-n", "sh", "-c", script, "sh"]).arg(t.runtime());
    let run = run.arg("--root").arg(t.root()).args(["run", "--bundle"]).arg(&bundle.dir);
    let done = run.arg(&bundle.id).done();
    if done.code() == 99 {
        eprintln!("SKIPPED: no dummy network devices here: {done}");
        return;
    }
    let done = done.ok();
    assert!(done.lines().contains(&"inside0") && !done.lines().contains(&"probe0"), "{done}");
}
