//! Devices: config-linux.md, and what a cgroup lets a container do with them.

use serde_json::{Value, json};

use super::section;
use crate::suite::host::Need;
use crate::suite::{Case, Section};
use crate::{Bundle, Test};

/// The devices that every container has.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

const RULES: &str = "config-linux.md#allowed-device-list";
const MKNOD: Need = Need::Capability(27, "CAP_MKNOD");

fn device(t: &Test, value: Value) -> Bundle<'_> {
    let (major, minor) = (value["major"].clone(), value["minor"].clone());
    let kind = value["type"].clone();
    let b = t.bundle().push("/linux/devices", value);
    if kind == "p" {
        return b;
    }
    let kind = if kind == "u" { json!("c") } else { kind };
    let rule =
        json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": "rwm"});
    b.push("/linux/resources/devices", rule)
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "devices", "config-linux.md#default-devices");
    for (path, major, minor) in DEFAULT {
        s.case(format!("{path} is the device {major}:{minor} that all may use"), move |t| {
            let stat = t.bundle().act(&format!("stat {path}"));
            let stat = stat.ok();
            assert_eq!(stat["kind"], "char");
            assert_eq!((&stat["major"], &stat["minor"]), (&json!(major), &json!(minor)));
            assert_eq!(stat["mode"], 0o666);
        });
    }
    for (path, target) in LINKS {
        s.case(format!("{path} is a link to {target}"), move |t| {
            assert_eq!(
                t.bundle().act(&format!("readlink {path}")).text().trim_start_matches("/dev/"),
                target
            );
        })
        .at("runtime-linux.md#dev-symbolic-links");
    }
    use_of_defaults(&mut s);
    configured(&mut s);
    rules(&mut s);
}

fn use_of_defaults(s: &mut Section<'_>) {
    s.case("/dev/null swallows and gives nothing", |t| {
        let replies = t.bundle().acts(&["write /dev/null text", "read /dev/null"]);
        assert_eq!(replies[1].text(), "");
    });
    s.case("/dev/full is full", |t| {
        t.bundle().act("write /dev/full text").fails(&[libc::ENOSPC]);
    });
    s.case("/dev has nothing that the config does not ask for", |t| {
        let names = t.bundle().act("ls /dev");
        let known = [
            "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
            "stderr", "stdin", "stdout", "tty", "urandom", "zero",
        ];
        let names = names.ok().as_array().unwrap().clone();
        let others: Vec<_> =
            names.iter().filter(|n| !known.contains(&n.as_str().unwrap())).collect();
        assert!(others.is_empty(), "{others:?}");
    });
}

fn configured(s: &mut Section<'_>) {
    s.section_at("config-linux.md#devices");
    for (what, kind, want) in
        [("character", "c", "char"), ("unbuffered character", "u", "char"), ("block", "b", "block")]
    {
        s.case(format!("{what} device of the config is made"), move |t| {
            let value = json!({"path": "/dev/one", "type": kind, "major": 10, "minor": 229, "fileMode": 0o640, "uid": 7, "gid": 8});
            let stat = device(t, value).act("stat /dev/one");
            let stat = stat.ok();
            assert_eq!(stat["kind"], want);
            assert_eq!((&stat["major"], &stat["minor"]), (&json!(10), &json!(229)));
        })
        .needs(MKNOD);
    }
    s.case("named pipe of the config is made", |t| {
        let value =
            json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o600, "uid": 0, "gid": 0});
        assert_eq!(device(t, value).act("stat /dev/pipe").ok()["kind"], "fifo");
    });
    for mode in [0o600, 0o666, 0o777, 0o000] {
        s.case(format!("device has the mode {mode:03o} of the config"), move |t| {
            let value = json!({"path": "/dev/one", "type": "c", "major": 1, "minor": 3, "fileMode": mode, "uid": 0, "gid": 0});
            assert_eq!(device(t, value).act("stat /dev/one").ok()["mode"], mode);
        })
        .needs(MKNOD);
    }
    s.case("device has the owner of the config", |t| {
        let value = json!({"path": "/dev/one", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 1234, "gid": 4321});
        let stat = device(t, value).act("stat /dev/one");
        assert_eq!((&stat.ok()["uid"], &stat.ok()["gid"]), (&json!(1234), &json!(4321)));
    })
    .needs(MKNOD);
    s.case("device in a directory that is not there is made", |t| {
        let value = json!({"path": "/dev/a/b/one", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0});
        let _ = device(t, value).act("write /dev/a/b/one x").ok();
    })
    .needs(MKNOD);
    for (what, value) in [
        ("unknown type", json!({"path": "/dev/one", "type": "x", "major": 1, "minor": 3})),
        ("no path", json!({"type": "c", "major": 1, "minor": 3})),
    ] {
        s.case(format!("device with {what} is refused"), move |t| {
            let done = t.bundle().push("/linux/devices", value.clone()).try_create();
            assert!(!done.status.success(), "{done}");
        });
    }
}

/// A container that may make devices, with these rules after one that denies all.
fn ruled<'t>(t: &'t Test, rules: &[Value]) -> Bundle<'t> {
    let mut all = vec![json!({"allow": false, "access": "rwm"})];
    all.extend(rules.iter().cloned());
    t.bundle()
        .capabilities(&["CAP_MKNOD", "CAP_SYSLOG"])
        .set("/linux/resources/devices", json!(all))
}

/// 1:11 is /dev/kmsg, a device that no default rule lets anyone use and each kernel has; it wants CAP_SYSLOG.
fn rules(s: &mut Section<'_>) {
    s.section_at(RULES);
    let kmsg = |access: &str| json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": access});
    s.case("device that no rule allows cannot be opened", |t| {
        let replies = ruled(t, &[]).acts(&["mknod /tmp/kmsg c 1 11", "open /tmp/kmsg"]);
        replies[0].fails(&[0, libc::EPERM]);
        assert_ne!(replies[1].errno, 0, "it can");
    })
    .needs(MKNOD);
    for (access, read, write) in
        [("rwm", true, true), ("rm", true, false), ("wm", false, true), ("m", false, false)]
    {
        s.case(
            format!("device that a rule allows {access} can be opened so and not otherwise"),
            move |t| {
                let b = ruled(t, &[kmsg(access)]);
                let replies =
                    b.acts(&["mknod /tmp/kmsg c 1 11", "open /tmp/kmsg r", "open /tmp/kmsg w"]);
                let _ = replies[0].ok();
                assert_eq!(replies[1].errno == 0, read, "reading: {:?}", replies[1]);
                assert_eq!(replies[2].errno == 0, write, "writing: {:?}", replies[2]);
            },
        )
        .needs(MKNOD);
    }
    s.case("device that a rule allows without m cannot be made", move |t| {
        // Runtimes let containers make any device (not use it); a rule after theirs takes that back.
        let deny = json!({"allow": false, "type": "c", "major": 1, "minor": 11, "access": "m"});
        let b = ruled(t, &[kmsg("rw"), deny]);
        b.act("mknod /tmp/kmsg c 1 11").fails(&[libc::EPERM, 0]);
    })
    .needs(MKNOD);
    s.case("rule without a major allows all of its type", |t| {
        let rule = json!({"allow": true, "type": "c", "access": "rwm"});
        let replies = ruled(t, &[rule]).acts(&["mknod /tmp/kmsg c 1 11", "open /tmp/kmsg r"]);
        assert_eq!(replies[1].errno, 0);
    })
    .needs(MKNOD);
    s.case("rule without a type allows all", |t| {
        let rule = json!({"allow": true, "access": "rwm"});
        let replies = ruled(t, &[rule]).acts(&["mknod /tmp/kmsg c 1 11", "open /tmp/kmsg r"]);
        assert_eq!(replies[1].errno, 0);
    })
    .needs(MKNOD);
    s.case("later rule counts before an earlier one", move |t| {
        let deny = json!({"allow": false, "type": "c", "major": 1, "minor": 11, "access": "r"});
        let b = ruled(t, &[kmsg("rwm"), deny]);
        let replies = b.acts(&["mknod /tmp/kmsg c 1 11", "open /tmp/kmsg r", "open /tmp/kmsg w"]);
        replies[1].fails(&[libc::EPERM]);
        assert_eq!(replies[2].errno, 0);
    })
    .needs(MKNOD);
    s.case("default devices can be used though a rule denies all", |t| {
        let _ =
            ruled(t, &[]).acts(&["write /dev/null x", "open /dev/zero rw", "open /dev/urandom"])[2]
                .ok();
    });
    s.case("device of the config can be used only where a rule allows it", |t| {
        let value = json!({"path": "/dev/one", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666, "uid": 0, "gid": 0});
        let b = t.bundle().push("/linux/devices", value);
        let reply = b.act("open /dev/one r");
        reply.fails(&[libc::EPERM]);
    })
    .needs(MKNOD);
}
