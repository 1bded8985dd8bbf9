//! Capabilities: config.md, Linux process.

use serde_json::json;

use super::section;
use crate::suite::host::Need;
use crate::suite::payload::Facts;
use crate::suite::{Case, Section};

/// The capabilities by number (capabilities(7)).
pub(super) const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const SETS: [&str; 5] = ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"];

fn sets(facts: &Facts) -> [u64; 5] {
    SETS.map(|name| facts.set(name))
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "capabilities", "config.md#linux-process");
    for (number, name) in (0_u32..).zip(NAMES) {
        s.case(format!("{name} alone is what the process has"), move |t| {
            let bit = 1 << number;
            assert_eq!(sets(&t.bundle().capabilities(&[name]).facts()), [bit, bit, bit, 0, 0]);
        })
        .needs(Need::Capability(number, name));
    }
    groups(&mut s);
    users(&mut s);
}

/// CAP_KILL and CAP_NET_BIND_SERVICE.
const KILL: u64 = 1 << 5;
const BIND: u64 = 1 << 10;

fn groups(s: &mut Section<'_>) {
    s.case("empty sets leave root none", |t| {
        assert_eq!(sets(&t.bundle().capabilities(&[]).facts()), [0; 5]);
    });
    s.case("bounding set may be larger than the others", |t| {
        let caps = json!({"bounding": ["CAP_KILL", "CAP_NET_BIND_SERVICE"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]});
        // execve(2) gives root what the bounding set has.
        let found = sets(&t.bundle().set("/process/capabilities", caps).facts());
        assert_eq!(found[0], KILL | BIND);
    });
    s.case("inheritable set is as the config says", |t| {
        let all = ["CAP_KILL"];
        let caps = json!({"bounding": all, "effective": all, "permitted": all, "inheritable": all});
        assert_eq!(sets(&t.bundle().set("/process/capabilities", caps).facts())[3], KILL);
    });
    s.case("inheritable set is empty where the config names none", |t| {
        assert_eq!(t.bundle().facts().set("CapInh"), 0);
    });
    s.case("unknown capability is no error", |t| {
        let b = t.bundle().capabilities(&["CAP_KILL", "CAP_NO_SUCH"]);
        assert_eq!(sets(&b.facts())[0], KILL);
    });
}

fn users(s: &mut Section<'_>) {
    let user = || json!({"uid": 1000, "gid": 1000});
    s.case("user other than root has no effective capability without ambient ones", move |t| {
        let facts = t.bundle().set("/process/user", user()).facts();
        let found = sets(&facts);
        assert_eq!((found[1], found[2], found[4]), (0, 0, 0));
        assert_ne!(found[0], 0, "the bounding set stays");
    });
    s.case("ambient capabilities reach a user other than root", move |t| {
        let all = ["CAP_KILL", "CAP_NET_BIND_SERVICE"];
        let caps = json!({"bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": all});
        let b = t.bundle().set("/process/user", user()).set("/process/capabilities", caps);
        assert_eq!(sets(&b.facts()), [KILL | BIND; 5]);
    });
    s.case("ambient capability lets a user bind a low port", move |t| {
        let all = ["CAP_NET_BIND_SERVICE"];
        let caps = json!({"bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": all});
        let b = t.bundle().set("/process/user", user()).set("/process/capabilities", caps);
        let _ = b.act("listen 127.0.0.1:80").ok();
    });
    s.case("user without it cannot bind a low port", move |t| {
        let b = t
            .bundle()
            .set("/process/user", user())
            .set("/linux/sysctl", json!({"net.ipv4.ip_unprivileged_port_start": "1024"}));
        b.act("listen 127.0.0.1:80").fails(&[libc::EACCES]);
    });
    s.case("root without CAP_CHOWN cannot give a file away", |t| {
        t.bundle().capabilities(&["CAP_KILL"]).act("chown 1 1 /etc/passwd").fails(&[libc::EPERM]);
    });
    s.case("root with CAP_CHOWN can", |t| {
        let _ = t.bundle().capabilities(&["CAP_CHOWN"]).act("chown 1 1 /etc/passwd").ok();
    });
    s.case("root without CAP_SYS_ADMIN cannot mount", |t| {
        t.bundle().act("mount tmpfs /mnt tmpfs 0").fails(&[libc::EPERM]);
    });
    s.case("root without CAP_MKNOD cannot make a device", |t| {
        t.bundle().act("mknod /tmp/null c 1 3").fails(&[libc::EPERM]);
    });
}
