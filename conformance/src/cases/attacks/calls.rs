//! Callers whose seccomp filter refuses system calls, as container engines' default profiles do with those that are newer
//! than themselves: what is started then is as confined as ever, or nothing is started.

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde_json::{Value, json};

use super::leaks::{extra, leak};
use super::{Sentinel, section};
use crate::suite::payload::{self, Facts, PATH, Reply};
use crate::suite::{Case, Section};
use crate::{Bundle, Done, Test};

/// What a runtime may lack: newer calls, and older ones whose failure must not be passed over.
const CALLS: [&str; 36] = [
    "clone3",
    "execveat",
    "memfd_create",
    "openat2",
    "statx",
    "faccessat2",
    "fsopen",
    "fsconfig",
    "fsmount",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "close_range",
    "pidfd_open",
    "pidfd_send_signal",
    "setns",
    "unshare",
    "bpf",
    "keyctl",
    "seccomp",
    "prctl",
    "capset",
    "setgroups",
    "setresuid",
    "setresgid",
    "setuid",
    "setgid",
    "prlimit64",
    "setrlimit",
    "sethostname",
    "mknod",
    "mknodat",
];

/// What the payload tries, after it has said what it sees.
const TRIES: [&str; 5] =
    ["facts", "read /secret", "write /fixed/file changed", "mkdir /tmp/made", "open /dev/kmsg r"];

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "refused calls");
    s.section_at("runtime.md#create");
    // ENOSYS is what a kernel without the call says, EPERM what filters say that do not know it.
    for (errno, word) in [(libc::ENOSYS, "ENOSYS"), (libc::EPERM, "EPERM")] {
        for call in CALLS {
            run(&mut s, call, errno, word);
            exec(&mut s, call, errno, word);
        }
    }
}

fn run(s: &mut Section<'_>, call: &'static str, errno: i32, word: &str) {
    let name = format!("container is confined, or not started, where {call} is {word}");
    s.case(name, move |t| {
        let sentinel = Sentinel::new(t);
        let b = strict(t).payload(&TRIES);
        leak(&sentinel);
        let done = b.command("run", &[]).refusing(call, errno).done();
        match judged(&done, None) {
            Some(facts) => made_for_it(&facts),
            None => forget(&b),
        }
        sentinel.is_untouched();
    });
}

fn exec(s: &mut Section<'_>, call: &'static str, errno: i32, word: &str) {
    let name = format!("process of exec is confined, or not started, where {call} is {word}");
    s.case(name, move |t| {
        let sentinel = Sentinel::new(t);
        let c = strict(t).sleeping().run_detached();
        let before = std::fs::read_to_string(format!("/proc/{}/cgroup", c.pid)).unwrap();
        leak(&sentinel);
        let command = [&["exec", &c.bundle.id, PATH][..], &TRIES].concat();
        // What exec never does is another case's; what it does it must not leave out now.
        let plain = t.command(&command).done();
        let done = t.command(command).refusing(call, errno).done();
        reap();
        if let Some(facts) = judged(&done, Some(&plain)) {
            for kind in ["ipc", "mnt", "net", "pid", "uts"] {
                let of_container = crate::proc::namespace(c.pid, kind);
                assert_eq!(
                    of_container.as_deref(),
                    Some(facts.ns(kind)),
                    "another {kind} namespace"
                );
            }
            // In a cgroup namespace its own cgroup is the root; outside of it a path with dots.
            let cgroup = facts.text("cgroup");
            assert!(!cgroup.contains(".."), "not in the container's cgroup: {cgroup} ({before})");
        }
        sentinel.is_untouched();
    });
}

/// A container that uses a bit of everything that confines.
fn strict(t: &Test) -> Bundle<'_> {
    let b = t.bundle().file("/secret", "secret of the container", 0o666);
    let b = b.file("/fixed/file", "as it was", 0o666);
    let node = b.rootfs().join("fixed");
    std::fs::set_permissions(node, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}
    ]});
    b.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [1234], "umask": 63}))
        .set("/process/oomScoreAdj", json!(321))
        .set("/linux/seccomp", filter)
        .set("/linux/maskedPaths", json!(["/secret", "/proc/kcore", "/proc/keys", "/sys/firmware"]))
        .set("/linux/readonlyPaths", json!(["/fixed", "/proc/sys"]))
        .push(
            "/linux/devices",
            json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 438}),
        )
}

/// Whether a program has a filter and may gain no privileges.
fn restrained(replies: &[Reply]) -> (bool, bool) {
    let facts = replies.first().map_or(Value::Null, |reply| reply.value.clone());
    let filtered = replies.get(3).is_some_and(|reply| reply.errno == 99);
    (filtered, facts["status"]["NoNewPrivs"] == "1")
}

/// Judges what a program could do, if there was one; gives what it saw. One that is to be restrained no less than
/// another is compared with that.
#[track_caller]
fn judged(done: &Done, as_much_as: Option<&Done>) -> Option<Facts> {
    assert!(!done.stderr.contains("payload/src"), "the payload died: {done}");
    let replies = payload::replies(&done.stdout);
    let [first, secret, fixed, _, device] = replies.as_slice() else {
        assert!(replies.is_empty(), "the payload died: {done}");
        assert!(!done.status.success(), "success, and nothing ran: {done}");
        assert!(!done.stderr.trim().is_empty(), "a failure without a word: {done}");
        return None;
    };
    let facts = Facts(first.ok().clone());
    let read = |reply: &Reply| reply.value.as_str().is_some_and(|text| !text.is_empty());
    assert!(!read(secret), "a masked file is open: {done}");
    assert_ne!(fixed.errno, 0, "a read-only path was written: {done}");
    let want = as_much_as.map_or((true, true), |d| restrained(&payload::replies(&d.stdout)));
    assert_eq!(restrained(&replies), want, "filter, and no_new_privs: {done}");
    assert_ne!(device.errno, 0, "a device that no rule allows is open: {done}");
    let found = extra(&facts);
    assert!(found.is_empty(), "descriptors of the caller: {found:?}");
    let ids = ["uid", "euid", "gid", "egid"].map(|name| facts.number(name));
    assert_eq!(ids, [1000; 4], "another user");
    assert_eq!(facts["groups"], json!([1234]), "other groups");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(facts.set(set), 0, "{set} is not empty");
    }
    let named = 1 << 29 | 1 << 10 | 1 << 5; // CAP_AUDIT_WRITE, CAP_NET_BIND_SERVICE, CAP_KILL
    assert_eq!(facts.set("CapBnd") & !named, 0, "more capabilities than are named");
    Some(facts)
}

/// Takes away what a container that was not started left. That a cgroup stays is no attack, unless a process is in it.
fn forget(b: &Bundle<'_>) {
    let _ = b.test.call(&["delete", "--force", &b.id]);
    reap();
    let _: std::io::Result<()> = std::fs::remove_dir(b.cgroup());
}

/// Reaps what has ended, as a shim does: the end of a pid namespace waits for it.
fn reap() {
    let any = || waitpid(None, Some(WaitPidFlag::WNOHANG));
    while any().is_ok_and(|status| status != WaitStatus::StillAlive) {}
}

/// Whether a container has limits and namespaces of its own, and a root that is not the host's.
#[track_caller]
fn made_for_it(facts: &Facts) {
    assert_eq!(facts.text("oom_score_adj"), "321");
    let files = &facts["limits"]["RLIMIT_NOFILE"];
    assert!(files.is_null() || *files == json!([1024, 1024]), "another limit: {files}");
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(facts.ns(kind), own.to_str().unwrap(), "the caller's {kind} namespace");
    }
    assert_eq!(facts["hostname"], "test");
    let roots = facts.mounts().iter().filter(|m| m.target == "/").count();
    assert_eq!(roots, 1, "the old root is still there: {}", facts.text("mountinfo"));
    let masks =
        ["/proc/keys", "/secret"].map(|path| facts.mounts().iter().any(|m| m.target == path));
    assert_eq!(masks, [true; 2], "no mask: {}", facts.text("mountinfo"));
}
