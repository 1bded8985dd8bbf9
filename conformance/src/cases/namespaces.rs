//! Namespaces: config-linux.md.

use serde_json::json;

use super::section;
use crate::suite::host::Need;
use crate::suite::{Case, Section};
use crate::{Container, Test, proc};

/// Types of the specification with the kernel's names of them.
const KINDS: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

const USER: &str = "config-linux.md#user-namespace-mappings";
const TIME: &str = "config-linux.md#offset-for-time-namespace";

fn own(kind: &str) -> String {
    proc::namespace(i32::try_from(std::process::id()).unwrap(), kind).expect("a namespace")
}

fn sleeper(t: &Test) -> Container<'_> {
    t.bundle().sleeping().run_detached()
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "namespaces", "config-linux.md#namespaces");
    for (kind, name) in KINDS {
        new_and_inherited(&mut s, kind, name);
        joined(&mut s, kind, name);
    }
    refused(&mut s);
    effects(&mut s);
    user(&mut s);
    time(&mut s);
}

fn new_and_inherited(s: &mut Section<'_>, kind: &'static str, name: &'static str) {
    s.case(format!("{kind} namespace without a path is a new one"), move |t| {
        let facts = t.bundle().facts();
        assert_ne!(facts.ns(name), own(name));
    });
    if kind != "mount" {
        s.case(format!("{kind} namespace that is not listed is the runtime's"), move |t| {
            let mut b = t.bundle().without_namespace(kind);
            if kind == "uts" {
                b = b.remove("/hostname");
            }
            let sleeper = b.payload(&["forever"]).run_detached();
            assert_eq!(proc::namespace(sleeper.pid, name).as_deref(), Some(own(name).as_str()));
        });
    }
}

fn joined(s: &mut Section<'_>, kind: &'static str, name: &'static str) {
    // What a container mounts in another's mount namespace is not specified.
    if kind != "mount" {
        s.case(format!("{kind} namespace with a path is that one"), move |t| {
            let other = sleeper(t);
            let path = format!("/proc/{}/ns/{name}", other.pid);
            let mut b = t.bundle().without_namespace(kind);
            if kind == "uts" {
                b = b.remove("/hostname");
            }
            let b = b.push("/linux/namespaces", json!({"type": kind, "path": path}));
            let c = b.sleeping().run_detached();
            assert_eq!(proc::namespace(c.pid, name), proc::namespace(other.pid, name));
        });
    }
    s.case(format!("{kind} namespace with the path of another type is refused"), move |t| {
        let wrong = if kind == "uts" { "ipc" } else { "uts" };
        let path = format!("/proc/self/ns/{wrong}");
        let b = t.bundle().without_namespace(kind);
        let done = b.push("/linux/namespaces", json!({"type": kind, "path": path})).try_create();
        assert!(!done.status.success(), "{done}");
    });
}

fn refused(s: &mut Section<'_>) {
    for (what, entry) in [
        ("namespace path that does not exist", json!({"type": "ipc", "path": "/nowhere/ipc"})),
        ("namespace path that is no namespace", json!({"type": "ipc", "path": "/etc/passwd"})),
        ("namespace of an unknown type", json!({"type": "nosuch"})),
        ("namespace without a type", json!({"path": "/proc/self/ns/ipc"})),
    ] {
        s.case(format!("{what} is refused"), move |t| {
            let b = t.bundle().without_namespace("ipc").push("/linux/namespaces", entry.clone());
            let done = b.try_create();
            assert!(!done.status.success(), "{done}");
        });
    }
    s.case("namespace that is listed twice is refused", |t| {
        let done = t.bundle().push("/linux/namespaces", json!({"type": "ipc"})).try_create();
        assert!(!done.status.success(), "{done}");
    });
    s.case(
        "hostname without a uts namespace of its own is refused, or the host keeps its name",
        |t| {
            let before = nix::sys::utsname::uname().unwrap().nodename().to_owned();
            let _ = t.bundle().without_namespace("uts").run();
            assert_eq!(nix::sys::utsname::uname().unwrap().nodename(), before);
        },
    )
    .at("config.md#hostname");
}

fn effects(s: &mut Section<'_>) {
    s.case("program is pid 1 of a new pid namespace", |t| {
        assert_eq!(t.bundle().facts()["pid"], 1);
    });
    s.case("nothing but the program is in a new pid namespace", |t| {
        assert_eq!(*t.bundle().act("pids").ok(), json!([1]));
    });
    s.case("new network namespace has the loopback device alone", |t| {
        let list = t.bundle().act("ls /sys/class/net");
        let names = list.ok().as_array().unwrap().clone();
        // Tunnel devices come with kernel modules.
        let tunnels = ["tunl", "gre", "ip", "sit", "erspan", "ip6", "bonding_masters"];
        let others = names.iter().filter_map(|n| n.as_str());
        let others: Vec<_> =
            others.filter(|n| *n != "lo" && !tunnels.iter().any(|t| n.starts_with(t))).collect();
        assert!(names.contains(&json!("lo")) && others.is_empty(), "{names:?}");
    });
    s.case("loopback device of a new network namespace is up", |t| {
        let text = t.bundle().act("read /sys/class/net/lo/flags");
        let flags = i64::from_str_radix(text.text().trim().trim_start_matches("0x"), 16).unwrap();
        assert_eq!(flags & 1, 1);
    });
    s.case("hostname is set in the new uts namespace", |t| {
        assert_eq!(t.bundle().set("/hostname", json!("ship")).facts()["hostname"], "ship");
    })
    .at("config.md#hostname");
    s.case("domain name is set in the new uts namespace", |t| {
        let b = t.bundle().set("/domainname", json!("example.org"));
        assert_eq!(b.facts()["domainname"], "example.org");
    })
    .at("config.md#domainname");
    s.case("program in a new cgroup namespace sees its own cgroup as the root", |t| {
        let facts = t.bundle().facts();
        let text = facts.text("cgroup");
        assert!(text.lines().any(|line| line == "0::/"), "{text}");
    });
    s.case("message queues of the host are not in a new ipc namespace", |t| {
        let list = t.bundle().act("ls /dev/mqueue");
        assert_eq!(*list.ok(), json!([]));
    });
    s.case("mounts in a new mount namespace do not reach the host", |t| {
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let c = t.bundle().mount("/mnt/x", "tmpfs", "tmpfs", &[]).sleeping().run_detached();
        let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(before, after);
        drop(c);
    });
}

fn mapped(t: &Test) -> crate::Bundle<'_> {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let b = t
        .bundle()
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    for path in ["", "payload", "tmp"] {
        let path = b.rootfs().join(path);
        nix::unistd::chown(&path, Some(100_000.into()), Some(100_000.into())).unwrap();
    }
    b
}

fn user(s: &mut Section<'_>) {
    let need = Need::Path("/proc/self/ns/user");
    s.case("user namespace is a new one", |t| {
        assert_ne!(mapped(t).facts().ns("user"), own("user"));
    })
    .needs(need)
    .at(USER);
    s.case("user and group ids are mapped as the config says", |t| {
        let facts = mapped(t).facts();
        for name in ["uid_map", "gid_map"] {
            let words: Vec<_> = facts.text(name).split_whitespace().collect();
            assert_eq!(words, ["0", "100000", "65536"], "{name}");
        }
    })
    .needs(need)
    .at(USER);
    s.case("root of a user namespace is not the host's", |t| {
        let c = mapped(t).sleeping().run_detached();
        let status = std::fs::read_to_string(format!("/proc/{}/status", c.pid)).unwrap();
        let status = proc::status(&status);
        assert_eq!(status["Uid"], "100000\t100000\t100000\t100000");
        assert_eq!(status["Gid"], "100000\t100000\t100000\t100000");
    })
    .needs(need)
    .at(USER);
    s.case("root of a user namespace owns what its mounts make", |t| {
        let stat = mapped(t).act("stat /dev/shm");
        assert_eq!((&stat.ok()["uid"], &stat.ok()["gid"]), (&json!(0), &json!(0)));
    })
    .needs(need)
    .at(USER);
    s.case("user namespace has the default devices", |t| {
        let replies = mapped(t).acts(&["write /dev/null x", "stat /dev/zero"]);
        let _ = replies[0].ok();
        assert_eq!(replies[1].ok()["kind"], "char");
    })
    .needs(need)
    .at(USER);
    s.case("capabilities in a user namespace are those of the config", |t| {
        assert_eq!(mapped(t).capabilities(&["CAP_KILL"]).facts().set("CapEff"), 1 << 5);
    })
    .needs(need)
    .at(USER);
    s.case("other user than root in a user namespace has the mapped id", |t| {
        let c =
            mapped(t).set("/process/user", json!({"uid": 7, "gid": 8})).sleeping().run_detached();
        let status = std::fs::read_to_string(format!("/proc/{}/status", c.pid)).unwrap();
        assert!(proc::status(&status)["Uid"].starts_with("100007\t"));
    })
    .needs(need)
    .at(USER);
    s.case("user id that is not mapped is refused", |t| {
        let b = mapped(t).set("/process/user", json!({"uid": 70000, "gid": 0}));
        let done = b.run();
        assert!(!done.status.success(), "{done}");
    })
    .needs(need)
    .at(USER);
    s.case("several ranges are mapped", |t| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 10, "hostID": 200_000, "size": 5}]);
        let b = mapped(t).set("/linux/uidMappings", map);
        let facts = b.facts();
        let words: Vec<_> = facts.text("uid_map").split_whitespace().collect();
        assert_eq!(words, ["0", "100000", "10", "10", "200000", "5"]);
    })
    .needs(need)
    .at(USER);
    s.case("user namespace without mappings is refused", |t| {
        let b = t.bundle().push("/linux/namespaces", json!({"type": "user"}));
        let done = b.run();
        assert!(!done.status.success(), "{done}");
    })
    .needs(need)
    .at(USER);
}

fn time(s: &mut Section<'_>) {
    let need = Need::Path("/proc/self/ns/time");
    s.case("time namespace is a new one", |t| {
        let b = t.bundle().push("/linux/namespaces", json!({"type": "time"}));
        assert_ne!(b.facts().ns("time"), own("time"));
    })
    .needs(need)
    .at(TIME);
    for (clock, id) in [("boottime", libc::CLOCK_BOOTTIME), ("monotonic", libc::CLOCK_MONOTONIC)] {
        s.case(format!("{clock} clock has the offset of the config"), move |t| {
            let offsets = json!({clock: {"secs": 1_000_000, "nanosecs": 5}});
            let b = t.bundle().push("/linux/namespaces", json!({"type": "time"}));
            let found = b.set("/linux/timeOffsets", offsets).facts().number(clock);
            let now = nix::time::clock_gettime(nix::time::ClockId::from_raw(id)).unwrap().tv_sec();
            let ahead = found / 1_000_000_000 - now;
            assert!((999_990..=1_000_000).contains(&ahead), "{ahead} s ahead");
        })
        .needs(need)
        .at(TIME);
    }
    s.case("time offsets without a time namespace are refused", |t| {
        let offsets = json!({"boottime": {"secs": 10, "nanosecs": 0}});
        let done = t.bundle().set("/linux/timeOffsets", offsets).run();
        assert!(!done.status.success(), "{done}");
    })
    .needs(need)
    .at(TIME);
}
