//! Mounts and the root filesystem: config.md.

use serde_json::json;

use super::section;
use crate::suite::host::Need;
use crate::suite::{Case, Section};
use crate::{Bundle, Test};

/// A directory of the case with a file in it.
fn source(t: &Test) -> String {
    let dir = t.dir().join("source");
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::fs::write(dir.join("file"), "from outside").unwrap();
    dir.to_str().unwrap().to_owned()
}

fn bound<'t>(t: &'t Test, destination: &str) -> Bundle<'t> {
    let source = source(t);
    t.bundle().mount(destination, "none", &source, &["rbind"])
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "mounts", "config.md#mounts");
    types(&mut s);
    destinations(&mut s);
    refused(&mut s);
    let mut s = section(list, "root", "config.md#root");
    root(&mut s);
}

fn types(s: &mut Section<'_>) {
    for (target, kind) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
        ("/sys/fs/cgroup", "cgroup2"),
    ] {
        s.case(format!("{target} is a {kind} filesystem"), move |t| {
            assert_eq!(t.bundle().facts().mount(target).fstype, kind);
        })
        .at("config-linux.md#default-filesystems");
    }
    s.case("procfs is that of the container's pid namespace", |t| {
        let replies = t.bundle().acts(&["readlink /proc/self", "read /proc/1/comm"]);
        assert_eq!((replies[0].text(), replies[1].text()), ("1", "payload\n"));
    });
    s.case("sysfs is that of the container's network namespace", |t| {
        let own = std::fs::read_dir("/sys/class/net").unwrap().count();
        let names = t.bundle().act("ls /sys/class/net");
        assert!(own < 2 || names.ok().as_array().unwrap().len() < own || own == 1);
    });
    s.case("devpts is a new instance", |t| {
        assert_eq!(*t.bundle().act("ls /dev/pts").ok(), json!(["ptmx"]));
    });
    s.case("cgroup filesystem shows the container's cgroup as its root", |t| {
        let text = t.bundle().act("read /sys/fs/cgroup/cgroup.procs");
        assert_eq!(text.text(), "1\n");
    });
    s.case("overlay shows its layers and keeps changes in the upper one", |t| {
        let dir = t.dir().join("layers");
        for name in ["lower", "upper", "work"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        std::fs::write(dir.join("lower/file"), "low").unwrap();
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
        let options =
            [format!("lowerdir={lower}"), format!("upperdir={upper}"), format!("workdir={work}")];
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let b = t.bundle().mount("/mnt", "overlay", "overlay", &options);
        let replies = b.acts(&["read /mnt/file", "create /mnt/new text"]);
        assert_eq!(replies[0].text(), "low");
        assert_eq!(std::fs::read_to_string(dir.join("upper/new")).unwrap(), "text");
    })
    .needs(Need::Filesystem("overlay"));
}

fn destinations(s: &mut Section<'_>) {
    s.case("mounts are made in the order of the list", |t| {
        let source = source(t);
        let b = t.bundle().mount("/mnt", "tmpfs", "tmpfs", &[]);
        let b = b.mount("/mnt/below", "none", &source, &["bind"]);
        assert_eq!(b.act("read /mnt/below/file").text(), "from outside");
    });
    s.case("later mount hides an earlier one at its place", |t| {
        let b = bound(t, "/mnt").mount("/mnt", "tmpfs", "tmpfs", &[]);
        b.act("read /mnt/file").fails(&[libc::ENOENT]);
    });
    s.case("destination that is not there is made", |t| {
        assert_eq!(bound(t, "/a/b/c").act("read /a/b/c/file").text(), "from outside");
    });
    s.case("destination of a file that is not there is made", |t| {
        let source = source(t) + "/file";
        let b = t.bundle().mount("/a/b/name", "none", &source, &["bind"]);
        assert_eq!(b.act("read /a/b/name").text(), "from outside");
    });
    s.case("file is mounted over a file", |t| {
        let source = source(t) + "/file";
        let b = t.bundle().mount("/etc/passwd", "none", &source, &["bind"]);
        assert_eq!(b.act("read /etc/passwd").text(), "from outside");
    });
    s.case("symlink in a destination is followed inside the root", |t| {
        let b = bound(t, "/link/x");
        std::os::unix::fs::symlink("/home", b.rootfs().join("link")).unwrap();
        assert_eq!(b.act("read /home/x/file").text(), "from outside");
    });
    s.case("relative source is looked up in the bundle", |t| {
        let b = t.bundle().mount("/mnt", "none", "beside", &["bind"]);
        std::fs::create_dir(b.dir.join("beside")).unwrap();
        std::fs::write(b.dir.join("beside/file"), "beside").unwrap();
        assert_eq!(b.act("read /mnt/file").text(), "beside");
    });
    s.case("writes to a bind mount reach its source", |t| {
        let b = bound(t, "/mnt");
        let _ = b.act("create /mnt/new text").ok();
        assert_eq!(std::fs::read_to_string(t.dir().join("source/new")).unwrap(), "text");
    });
    for number in [50, 200] {
        s.case(format!("{number} mounts are made"), move |t| {
            let mut b = t.bundle();
            for index in 0..number {
                b = b.mount(&format!("/mnt/{index}"), "tmpfs", "tmpfs", &["size=4k"]);
            }
            let mounts = b.facts().mounts();
            assert_eq!(mounts.iter().filter(|m| m.target.starts_with("/mnt/")).count(), number);
        });
    }
    for name in ["with space", "ünï", "a:b,c=d", "back\\slash"] {
        s.case(format!("destination named {name:?} is taken as it is"), move |t| {
            let b = bound(t, &format!("/mnt/{name}"));
            assert_eq!(b.act("ls /mnt").ok()[0], name);
        });
    }
}

fn refused(s: &mut Section<'_>) {
    s.case("source that does not exist is refused", |t| {
        let done = t.bundle().mount("/mnt", "none", "/no/such", &["bind"]).try_create();
        assert!(!done.status.success() && done.stderr.contains("/no/such"), "{done}");
    });
    s.case("filesystem type that nobody knows is refused", |t| {
        let done = t.bundle().mount("/mnt", "nosuchfs", "none", &[]).try_create();
        assert!(!done.status.success(), "{done}");
    });
    s.case("directory over a file is refused", |t| {
        let source = source(t);
        let done = t.bundle().mount("/etc/passwd", "none", &source, &["bind"]).try_create();
        assert!(!done.status.success(), "{done}");
    });
    s.case("mount over the root is refused or stays inside", |t| {
        let done = t.bundle().mount("/", "tmpfs", "tmpfs", &[]).run();
        assert!(!done.stderr.contains("panic"), "{done}");
    });
    s.case("mount without a destination is refused", |t| {
        let mount = json!({"type": "tmpfs", "source": "tmpfs"});
        let done = t.bundle().push("/mounts", mount).try_create();
        assert!(!done.status.success(), "{done}");
    });
    s.case("failed mount leaves neither mounts nor a container", |t| {
        let b = bound(t, "/mnt").mount("/mnt/x", "none", "/no/such", &["bind"]);
        assert!(!b.try_create().status.success());
        b.assert_nothing_left();
    });
}

fn root(s: &mut Section<'_>) {
    s.case("read-only root cannot be written", |t| {
        t.bundle().set("/root/readonly", json!(true)).act("create /x y").fails(&[libc::EROFS]);
    });
    s.case("mounts in a read-only root can be written", |t| {
        let b = t.bundle().set("/root/readonly", json!(true));
        let b = b.mount("/tmp", "tmpfs", "tmpfs", &[]);
        let _ = b.act("create /tmp/x y").ok();
    });
    s.case("root is writable unless it is said to be read-only", |t| {
        let b = t.bundle().remove("/root/readonly");
        let _ = b.act("create /x y").ok();
    });
    s.case("root by an absolute path is taken", |t| {
        let b = t.bundle();
        let path = b.rootfs().to_str().unwrap().to_owned();
        let _ = b.set("/root/path", json!(path)).act("stat /payload").ok();
    });
    s.case("root that is the bundle's subdirectory by several steps is taken", |t| {
        let b = t.bundle();
        std::fs::create_dir(b.dir.join("deep")).unwrap();
        std::fs::rename(b.rootfs(), b.dir.join("deep/er")).unwrap();
        let done = b.set("/root/path", json!("deep/er")).run();
        assert_eq!(done.code(), 0, "{done}");
    });
    for (what, path) in [("that does not exist", "nowhere"), ("that is a file", "config.json")] {
        s.case(format!("root {what} is refused"), move |t| {
            let done = t.bundle().set("/root/path", json!(path)).try_create();
            assert!(!done.status.success(), "{done}");
        });
    }
    s.case("config without a root is refused", |t| {
        let done = t.bundle().remove("/root").try_create();
        assert!(!done.status.success(), "{done}");
    });
    s.case("nothing of the host's root is to be seen", |t| {
        let before = t.dir().join("secret-of-the-host");
        std::fs::write(&before, "secret").unwrap();
        let b = t.bundle();
        assert!(b.act("find-file secret-of-the-host").ok().is_null());
    });
    for (value, want) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master"),
        ("rslave", "master"),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
    ] {
        s.case(format!("rootfsPropagation {value} is the root mount's"), move |t| {
            shared_world(t);
            let b = t.bundle().set("/linux/rootfsPropagation", json!(value));
            let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let mount = b.facts().mount("/");
            assert_eq!(
                before,
                std::fs::read_to_string("/proc/self/mountinfo").expect("the host keeps its procfs")
            );
            let has = mount.propagation.iter().any(|p| p.starts_with(want) && !want.is_empty());
            assert!(has || (want.is_empty() && mount.propagation.is_empty()), "{mount:?}");
        })
        .at("config-linux.md#rootfs-mount-propagation");
    }
    s.case("unknown rootfsPropagation is refused", |t| {
        let done = t.bundle().set("/linux/rootfsPropagation", json!("nosuch")).try_create();
        assert!(!done.status.success(), "{done}");
    })
    .at("config-linux.md#rootfs-mount-propagation");
    s.case("runtime does not change the propagation of the host's mounts", |t| {
        shared_world(t);
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let c = t.bundle().sleeping().run_detached();
        let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        drop(c);
        assert_eq!(before, after);
    });
}

/// A mount namespace of the case's own in which all mounts are shared, as they are on hosts with systemd, and the
/// bundle is on a mount that is not the root.
fn shared_world(t: &Test) {
    use nix::mount::{MsFlags, mount};
    let none: Option<&str> = None;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none).unwrap();
    mount(Some(t.dir()), t.dir(), none, MsFlags::MS_BIND, none).unwrap();
    mount(none, "/", none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).unwrap();
}
