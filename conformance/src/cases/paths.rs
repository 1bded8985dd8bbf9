//! Masked and read-only paths, and sysctls: config-linux.md.

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use super::section;
use crate::suite::host::Need;
use crate::suite::{Case, Section};
use crate::{Bundle, Test};

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

const READONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Settings of the container's own namespaces: the name, a value, and the value as the kernel writes it.
const SYSCTLS: [(&str, &str, &str); 14] = [
    ("kernel.shmmax", "4294967296", "4294967296"),
    ("kernel.shmall", "3774873", "3774873"),
    ("kernel.shmmni", "2048", "2048"),
    ("kernel.shm_rmid_forced", "1", "1"),
    ("kernel.msgmax", "4096", "4096"),
    ("kernel.msgmnb", "8192", "8192"),
    ("kernel.msgmni", "1000", "1000"),
    ("kernel.sem", "100 2000 32 128", "100\t2000\t32\t128"),
    ("fs.mqueue.msg_max", "20", "20"),
    ("fs.mqueue.queues_max", "50", "50"),
    ("net.ipv4.ip_forward", "1", "1"),
    ("net.ipv4.ip_unprivileged_port_start", "80", "80"),
    ("net.ipv4.ping_group_range", "0 1000", "0\t1000"),
    ("net.core.somaxconn", "256", "256"),
];

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "masked paths", "config-linux.md#masked-paths");
    masked(&mut s);
    let mut s = section(list, "read-only paths", "config-linux.md#readonly-paths");
    readonly(&mut s);
    let mut s = section(list, "sysctl", "config-linux.md#sysctl");
    sysctls(&mut s);
}

fn masks<'t>(t: &'t Test, paths: &[&str]) -> Bundle<'t> {
    t.bundle().set("/linux/maskedPaths", json!(paths))
}

/// What a path may lead to beside files and directories.
const NODES: [(&str, SFlag); 3] = [
    ("named pipe", SFlag::S_IFIFO),
    ("character device", SFlag::S_IFCHR),
    ("block device", SFlag::S_IFBLK),
];

/// Makes `/node` in a bundle's root.
fn node(b: &Bundle<'_>, kind: SFlag) {
    let mode = Mode::from_bits_truncate(0o666);
    // 1:5 is /dev/zero as a character device, and a disk in memory as a block device.
    let made = mknod(&b.rootfs().join("node"), kind, mode, makedev(1, 5));
    if made.is_err() {
        crate::suite::skip("no device can be made here");
    }
}

fn masked(s: &mut Section<'_>) {
    for path in MASKED {
        s.case(format!("{path} is masked where it exists"), move |t| {
            let replies = masks(t, &[path]).acts(&[
                &format!("stat {path}"),
                &format!("ls {path}"),
                &format!("read {path}"),
            ]);
            match replies[0].value["kind"].as_str() {
                None => replies[0].fails(&[libc::ENOENT]),
                Some("directory") => assert_eq!(*replies[1].ok(), json!([])),
                Some(_) => {
                    assert!(replies[2].errno != 0 || replies[2].value == "", "{:?}", replies[2])
                }
            }
        });
    }
    s.case("masked file has no content and takes none", |t| {
        let b = masks(t, &["/secret"]).file("/secret", "secret", 0o666);
        let rootfs = b.rootfs();
        let replies = b.acts(&["read /secret", "write /secret changed"]);
        assert!(replies[0].errno != 0 || replies[0].text() == "", "{:?}", replies[0]);
        assert_eq!(std::fs::read_to_string(rootfs.join("secret")).unwrap(), "secret");
    });
    s.case("masked directory is empty and read-only", |t| {
        let b = masks(t, &["/data"]).file("/data/secret", "secret", 0o666);
        let replies = b.acts(&["ls /data", "create /data/x y"]);
        assert_eq!(*replies[0].ok(), json!([]));
        replies[1].fails(&[libc::EROFS]);
    });
    s.case("masked path that does not exist is no error", |t| {
        let _ = masks(t, &["/no/such/path"]).facts();
    });
    for (what, kind) in NODES {
        s.case(format!("masked {what} is not what it was"), move |t| {
            let b = masks(t, &["/node"]);
            node(&b, kind);
            let stat = b.act("stat /node");
            let found = (&stat.value["kind"], &stat.value["major"], &stat.value["minor"]);
            let null = found == (&json!("char"), &json!(1), &json!(3));
            assert!(stat.errno != 0 || null, "{}", stat.value);
        });
    }
    s.case("masked paths below a masked directory are no error", |t| {
        let b = masks(t, &["/data", "/data/sub", "/data/secret", "/data/sub/secret"]);
        let b = b.file("/data/secret", "secret", 0o666).file("/data/sub/secret", "secret", 0o666);
        assert_eq!(*b.act("ls /data").ok(), json!([]));
    });
    s.case("relative masked path is refused, or masked all the same", |t| {
        let b = masks(t, &["secret"]).file("/secret", "secret", 0o666);
        let done = b.payload(&["read /secret"]).run();
        assert!(!done.stdout.contains("\"secret\""), "{done}");
    });
    s.case("path that is masked twice is no error", |t| {
        let b = masks(t, &["/data", "/data"]).file("/data/secret", "secret", 0o666);
        assert_eq!(*b.act("ls /data").ok(), json!([]));
    });
    s.case("file behind a symlink is masked", |t| {
        let b = masks(t, &["/link"]).file("/secret", "secret", 0o666);
        std::os::unix::fs::symlink("/secret", b.rootfs().join("link")).unwrap();
        let done = b.payload(&["read /link", "read /secret"]).run();
        // Refusing it is as good.
        assert!(!done.stdout.contains("\"secret\""), "{done}");
    });
    s.case("program cannot take a mask away", |t| {
        let b = masks(t, &["/secret"]).file("/secret", "secret", 0o666);
        b.act("umount /secret").fails(&[libc::EPERM]);
    });
    s.case("nothing is masked where the list is empty", |t| {
        let b = masks(t, &[]).file("/secret", "secret", 0o666);
        assert_eq!(b.act("read /secret").text(), "secret");
    });
}

fn readonly(s: &mut Section<'_>) {
    for path in READONLY {
        s.case(format!("{path} is read-only where it exists"), move |t| {
            let b = t.bundle().set("/linux/readonlyPaths", json!([path]));
            let replies = b.acts(&["facts", &format!("stat {path}")]);
            if replies[1].errno == 0 {
                let facts = crate::suite::payload::Facts(replies[0].ok().clone());
                assert!(facts.mount(path).has(&["ro"]), "{:?}", facts.mount(path));
            }
        });
    }
    s.case("read-only directory cannot be written, at any depth", |t| {
        let b = t.bundle().file("/data/sub/file", "text", 0o666);
        let b = b.set("/linux/readonlyPaths", json!(["/data"]));
        for reply in
            b.acts(&["create /data/x y", "write /data/sub/file z", "unlink /data/sub/file"])
        {
            reply.fails(&[libc::EROFS]);
        }
    });
    s.case("read-only file cannot be written but read", |t| {
        let b = t.bundle().file("/file", "text", 0o666);
        let replies =
            b.set("/linux/readonlyPaths", json!(["/file"])).acts(&["write /file z", "read /file"]);
        replies[0].fails(&[libc::EROFS]);
        assert_eq!(replies[1].text(), "text");
    });
    for (what, kind) in NODES {
        s.case(format!("read-only {what} is a read-only mount of itself"), move |t| {
            let b = t.bundle().set("/linux/readonlyPaths", json!(["/node"]));
            node(&b, kind);
            let replies = b.acts(&["stat /node", "facts", "chmod 0o600 /node"]);
            assert_ne!(replies[0].ok()["kind"], "file");
            let mount = crate::suite::payload::Facts(replies[1].ok().clone()).mount("/node");
            assert!(mount.has(&["ro"]), "{mount:?}");
            replies[2].fails(&[libc::EROFS]);
        });
    }
    s.case("relative read-only path is refused, or read-only all the same", |t| {
        let b = t.bundle().file("/file", "text", 0o666);
        let done =
            b.set("/linux/readonlyPaths", json!(["file"])).payload(&["write /file changed"]).run();
        let replies = crate::suite::payload::replies(&done.stdout);
        assert!(replies.first().is_none_or(|reply| reply.errno == libc::EROFS), "{done}");
    });
    s.case("read-only path that does not exist is no error", |t| {
        let _ = t.bundle().set("/linux/readonlyPaths", json!(["/no/such/path"])).facts();
    });
    s.case("read-only path keeps the flags of its mount", |t| {
        let b = t.bundle().mount("/mnt", "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev"]);
        let b = b.mount("/mnt/x", "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev"]);
        let mount = b.set("/linux/readonlyPaths", json!(["/mnt/x"])).facts().mount("/mnt/x");
        assert!(mount.has(&["ro", "nosuid", "noexec", "nodev"]), "{mount:?}");
    });
    s.case("container's own sysctls cannot be changed through a read-only /proc/sys", |t| {
        t.bundle().act("write /proc/sys/kernel/domainname x").fails(&[libc::EROFS]);
    });
}

fn with(t: &Test, settings: Value) -> Bundle<'_> {
    t.bundle().set("/linux/sysctl", settings)
}

fn sysctls(s: &mut Section<'_>) {
    for (name, value, want) in SYSCTLS {
        let path: &'static str = Box::leak(format!("/proc/sys/{}", name.replace('.', "/")).into());
        s.case(format!("{name} is what the config says, and the host's stays"), move |t| {
            let before = std::fs::read_to_string(path).unwrap();
            let found = with(t, json!({name: value})).act(&format!("read {path}"));
            assert_eq!(found.text().trim_end(), want);
            assert_eq!(std::fs::read_to_string(path).unwrap(), before);
        })
        .needs(Need::Path(path));
    }
    s.case("sysctl may be written with slashes", |t| {
        let b = with(t, json!({"net/ipv4/ip_forward": "1"}));
        assert_eq!(b.act("read /proc/sys/net/ipv4/ip_forward").text(), "1\n");
    });
    // Where a runtime writes such a value it is the one that the host has, so that nothing happens to it.
    let same = |name: &str| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
    };
    for name in ["kernel.panic", "vm.swappiness", "fs.file-max", "kernel.core_pattern"] {
        s.case(format!("{name}, which is the whole host's, is refused"), move |t| {
            let done = with(t, json!({name: same(name)})).try_create();
            assert!(!done.status.success(), "{done}");
        });
    }
    for (name, kind) in
        [("net.ipv4.ip_forward", "network"), ("kernel.shmmni", "ipc"), ("fs.mqueue.msg_max", "ipc")]
    {
        s.case(
            format!("{name} without a {kind} namespace of the container's own is refused"),
            move |t| {
                let done = with(t, json!({name: same(name)})).without_namespace(kind).try_create();
                assert!(!done.status.success(), "{done}");
            },
        );
    }
    s.case("sysctl that does not exist is refused", |t| {
        let done = with(t, json!({"net.ipv4.no_such_thing": "1"})).try_create();
        assert!(!done.status.success(), "{done}");
    });
    s.case("value that the kernel does not take is refused", |t| {
        let done = with(t, json!({"kernel.shmmni": "many"})).try_create();
        assert!(!done.status.success(), "{done}");
    });
}
