//! Mounts, devices, masked and read-only paths, the root itself.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::symlink;
use std::path::Path;

use orlop_conformance::proc::{Mount, mount_at, mounts};
use orlop_conformance::{Bundle, Peer, Test};
use serde_json::json;

fn mountinfo(bundle: Bundle<'_>) -> Vec<Mount> {
    mounts(&bundle.args(&["/bin/cat", "/proc/self/mountinfo"]).run().ok().stdout)
}

#[test]
fn default_mounts_have_their_types_and_options() {
    let Some(t) = Test::begin() else { return };
    let list = mountinfo(t.bundle());
    let dev = mount_at(&list, "/dev");
    assert_eq!(dev.fstype, "tmpfs");
    assert!(
        dev.has(&["rw", "nosuid"]) && !dev.has(&["noexec"]) && !dev.has(&["relatime"]),
        "{dev:?}"
    );
    assert!(dev.super_options.iter().any(|o| o == "size=65536k"), "{dev:?}");
    assert!(dev.super_options.iter().any(|o| o == "mode=755"), "{dev:?}");
    let pts = mount_at(&list, "/dev/pts");
    assert!(pts.fstype == "devpts" && pts.has(&["nosuid", "noexec"]), "{pts:?}");
    assert!(pts.super_options.iter().any(|o| o == "ptmxmode=666"), "{pts:?}");
    assert!(pts.super_options.iter().any(|o| o == "gid=5"), "{pts:?}");
    let shm = mount_at(&list, "/dev/shm");
    assert!(shm.fstype == "tmpfs" && shm.has(&["nosuid", "noexec", "nodev"]), "{shm:?}");
    let mqueue = mount_at(&list, "/dev/mqueue");
    assert!(mqueue.fstype == "mqueue" && mqueue.has(&["nosuid", "noexec", "nodev"]), "{mqueue:?}");
    let sys = mount_at(&list, "/sys");
    assert!(sys.fstype == "sysfs" && sys.has(&["ro", "nosuid", "noexec", "nodev"]), "{sys:?}");
    let cgroup = mount_at(&list, "/sys/fs/cgroup");
    assert!(
        cgroup.fstype == "cgroup2" && cgroup.has(&["ro", "nosuid", "noexec", "nodev"]),
        "{cgroup:?}"
    );
    assert_eq!(mount_at(&list, "/proc").fstype, "proc");
}

#[test]
fn nothing_of_the_host_stays_mounted() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle();
    let host = t.dir().to_string_lossy().into_owned();
    let list = mountinfo(bundle);
    assert!(list.iter().all(|m| !m.target.starts_with(&host)), "{list:?}");
    let own = mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap());
    assert!(list.iter().filter(|m| m.target == "/").count() == 1, "one root: {list:?}");
    assert!(list.len() < 40 + own.len());
}

#[test]
fn mounts_do_not_propagate_to_the_host() {
    let Some(t) = Test::begin() else { return };
    let list = mountinfo(t.bundle());
    for m in &list {
        assert!(m.propagation.iter().all(|p| !p.starts_with("shared")), "{m:?}");
    }
}

#[test]
fn root_is_writable_or_read_only_as_the_config_says() {
    let Some(t) = Test::begin() else { return };
    let _ = t.bundle().sh("echo x >/file && cat /file").run().ok();
    let bundle = t.bundle().set("/root/readonly", json!(true));
    let done = bundle.sh("echo x >/file; echo x >/dev/shm/file && cat /dev/shm/file").run().ok();
    assert!(done.stderr.contains("Read-only file system"), "{done}");
    assert_eq!(done.stdout, "x\n");
    let list = mountinfo(t.bundle().set("/root/readonly", json!(true)));
    assert!(mount_at(&list, "/").has(&["ro"]));
}

#[test]
fn mountpoints_are_made_in_what_turns_read_only_later() {
    // As Kubernetes' pods have it: a read-only root without an /etc/resolv.conf to mount over.
    let Some(t) = Test::begin() else { return };
    let file = t.dir().join("file");
    std::fs::write(&file, "from outside\n").unwrap();
    let file = file.to_str().unwrap();
    let bundle = t
        .bundle()
        .set("/root/readonly", json!(true))
        .mount("/new/file", "bind", file, &["bind"])
        .mount("/scratch", "tmpfs", "tmpfs", &["ro"])
        .mount("/scratch/file", "bind", file, &["bind"]);
    let done =
        bundle.sh("cat /new/file /scratch/file; echo x >/scratch/x; echo x >/x").run().exits(1);
    assert_eq!(done.stdout, "from outside\nfrom outside\n");
    assert_eq!(done.stderr.matches("Read-only file system").count(), 2, "{done}");
}

#[test]
fn root_path_may_be_absolute() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle();
    let path = bundle.rootfs().to_str().unwrap().to_owned();
    let _ = bundle.set("/root/path", json!(path)).run().ok();
}

#[test]
fn missing_root_is_refused() {
    let Some(t) = Test::begin() else { return };
    let done = t.bundle().set("/root/path", json!("nosuchdir")).run().exits(1);
    assert!(
        done.stderr.contains("no such file or directory") || done.stderr.contains("invalid rootfs")
    );
    let _ = t.bundle().set("/root/path", json!("rootfs/etc/passwd")).run().exits(1);
}

#[test]
fn bind_mounts_of_directories_are_writable_both_ways() {
    let Some(t) = Test::begin() else { return };
    let volume = t.dir().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("in"), "hello\n").unwrap();
    let bundle = t.bundle().mount("/a/b/c", "bind", volume.to_str().unwrap(), &["rbind", "rw"]);
    let out = bundle.sh("cat /a/b/c/in; echo back >/a/b/c/out").run().ok().stdout;
    assert_eq!(out, "hello\n");
    assert_eq!(std::fs::read_to_string(volume.join("out")).unwrap(), "back\n");
}

#[test]
fn bind_mounts_take_their_options() {
    let Some(t) = Test::begin() else { return };
    let volume = t.dir().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let source = volume.to_str().unwrap();
    let bundle = t
        .bundle()
        .mount("/ro", "bind", source, &["bind", "ro"])
        .mount("/strict", "bind", source, &["rbind", "nosuid", "nodev", "noexec", "rprivate"])
        .mount("/noatime", "none", source, &["bind", "noatime"])
        .mount("/plain", "bind", source, &["rbind"]);
    let list = mountinfo(bundle);
    assert!(mount_at(&list, "/ro").has(&["ro"]));
    assert!(mount_at(&list, "/strict").has(&["rw", "nosuid", "nodev", "noexec"]));
    assert!(mount_at(&list, "/noatime").has(&["noatime"]));
    assert!(mount_at(&list, "/plain").has(&["rw"]));
}

#[test]
fn bind_mount_of_a_file_makes_its_target() {
    let Some(t) = Test::begin() else { return };
    let source = t.dir().join("resolv.conf");
    std::fs::write(&source, "nameserver 192.0.2.1\n").unwrap();
    let bundle =
        t.bundle().mount("/etc/resolv.conf", "bind", source.to_str().unwrap(), &["rbind", "ro"]);
    let out =
        bundle.sh("cat /etc/resolv.conf; echo x >>/etc/resolv.conf || echo ro").run().ok().stdout;
    assert_eq!(out, "nameserver 192.0.2.1\nro\n");
}

#[test]
fn bind_mount_source_may_be_relative_to_the_bundle() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle();
    std::fs::create_dir(bundle.dir.join("data")).unwrap();
    std::fs::write(bundle.dir.join("data/file"), "relative\n").unwrap();
    let bundle = bundle.mount("/data", "bind", "data", &["bind"]);
    assert_eq!(bundle.args(&["/bin/cat", "/data/file"]).run().ok().stdout, "relative\n");
}

#[test]
fn bind_mount_without_source_fails_and_names_it() {
    let Some(t) = Test::begin() else { return };
    let done = t.bundle().mount("/data", "bind", "/no/such/source", &["bind"]).run().exits(1);
    assert!(done.stderr.contains("/no/such/source"), "{done}");
    assert!(done.stderr.contains("no such file or directory"), "{done}");
}

#[test]
fn recursive_read_only_reaches_the_mounts_below() {
    let Some(t) = Test::begin() else { return };
    let volume = t.dir().join("volume");
    std::fs::create_dir_all(volume.join("sub")).unwrap();
    let sub = volume.join("sub");
    let bundle = t
        .bundle()
        .mount("/tree", "bind", volume.to_str().unwrap(), &["rbind"])
        .mount("/tree/sub", "tmpfs", "tmpfs", &[])
        .mount("/copy", "bind", "/proc/self/fdinfo", &["rbind", "rro"]);
    let list = mountinfo(bundle);
    assert!(mount_at(&list, "/copy").has(&["ro"]));
    assert!(mount_at(&list, "/tree/sub").has(&["rw"]));
    assert!(sub.exists());
}

#[test]
fn tmpfs_takes_size_mode_and_flags() {
    let Some(t) = Test::begin() else { return };
    let bundle =
        t.bundle().mount("/scratch", "tmpfs", "tmpfs", &["size=1m", "mode=1700", "noexec"]);
    let done =
        bundle.sh("stat -c %a /scratch; dd if=/dev/zero of=/scratch/f bs=1k count=4096").run();
    assert!(done.stdout.starts_with("1700\n"), "{done}");
    assert!(done.stderr.contains("No space left"), "{done}");
    let bundle = t.bundle().mount("/scratch", "tmpfs", "tmpfs", &["ro"]);
    assert!(mount_at(&mountinfo(bundle), "/scratch").has(&["ro"]));
}

#[test]
fn tmpcopyup_brings_the_images_files() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().file("/data/sub/file", "kept\n", 0o640);
    let bundle = bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let bundle = bundle.sh("cat /data/sub/file; stat -c %a /data/sub/file; echo x >/data/new");
    assert_eq!(bundle.run().ok().stdout, "kept\n640\n");
    assert!(!bundle.rootfs().join("data/new").exists());
}

#[test]
fn later_mounts_may_lie_in_earlier_ones() {
    let Some(t) = Test::begin() else { return };
    let bundle =
        t.bundle().mount("/x", "tmpfs", "tmpfs", &[]).mount("/x/y/z", "tmpfs", "tmpfs", &["ro"]);
    let list = mountinfo(bundle);
    assert!(mount_at(&list, "/x/y/z").has(&["ro"]));
}

#[test]
fn destination_may_have_the_place_of_the_root_before_it() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "takes it as it stands") {
        return;
    }
    let bundle = t.bundle().file("/a/file", "mine\n", 0o644);
    let place = |path: &str| format!("{}{path}", bundle.rootfs().display());
    let (source, middle, last) = (place("/a"), place("/b"), place("/c"));
    // Each one's source is what the one before it has mounted.
    let bundle = bundle.mount(&middle, "bind", &source, &["rbind"]);
    let bundle = bundle.mount(&last, "bind", &middle, &["rbind"]);
    assert_eq!(bundle.sh("cat /c/file").run().ok().stdout, "mine\n");
}

#[test]
fn mount_targets_through_links_stay_in_the_root() {
    // CVE-2019-18837, CVE-2021-30465
    let Some(t) = Test::begin() else { return };
    let outside = t.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let bundle = t.bundle();
    let root = bundle.rootfs();
    symlink("../../../../../../../../../..", root.join("up")).unwrap();
    symlink(&outside, root.join("abs")).unwrap();
    let to = format!("/up{}/made", outside.display());
    let bundle = bundle
        .mount(&to, "tmpfs", "tmpfs", &[])
        .mount("/abs/made2", "tmpfs", "tmpfs", &[])
        .mount("/abs", "tmpfs", "tmpfs", &[]);
    let done = bundle.run();
    assert!(done.code() == 0 || done.code() == 1, "{done}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "nothing was made on the host");
}

/// fsconfig(2) knows neither: the one is too long, the other has no name there.
#[test]
fn options_that_only_the_older_interface_knows_are_taken() {
    let Some(t) = Test::begin() else { return };
    if !std::fs::read_to_string("/proc/filesystems").unwrap().contains("overlay") {
        eprintln!("SKIPPED: no overlay");
        return;
    }
    let layer = |name: &str| {
        let dir = t.dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(&name[..1]), "").unwrap();
        dir.to_str().unwrap().to_owned()
    };
    let layers = format!("lowerdir={}:{}", layer(&"a".repeat(150)), layer(&"b".repeat(150)));
    for options in [&["nosuid", &layers][..], &["iversion", "nosuid", &layers]] {
        let bundle = t.bundle().mount("/mnt", "overlay", "overlay", options);
        let done = bundle.sh("ls /mnt; grep ' /mnt ' /proc/self/mountinfo").run().ok();
        assert_eq!(&done.lines()[..2], ["a", "b"], "{done}");
        assert!(done.lines()[2].contains("nosuid"), "{done}");
    }
}

#[test]
fn options_of_a_filesystem_may_stand_in_one_string() {
    let Some(t) = Test::begin() else { return };
    if !std::fs::read_to_string("/proc/filesystems").unwrap().contains("overlay") {
        eprintln!("SKIPPED: no overlay");
        return;
    }
    // A comma in a name is written with a backslash.
    let at = |name: &str| t.dir().join(name).to_str().unwrap().to_owned();
    for name in ["low", "a,b", "upper", "work"] {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(Path::new(&at(name)).join(&name[..1]), "").unwrap();
    }
    std::fs::remove_file(at("work/w")).unwrap();
    let (lower, comma, upper) = (at("low"), at(r"a\,b"), at("upper"));
    let layers = format!("lowerdir={lower}:{comma},upperdir={upper},workdir={}", at("work"));
    let bundle = t
        .bundle()
        .mount("/mnt", "overlay", "overlay", &["nosuid", &layers])
        .mount("/small", "tmpfs", "tmpfs", &["nodev", "size=64k,mode=1710,nr_inodes=5"])
        .sh("ls /mnt; echo new >/mnt/new; stat -c %a /small; df -k /small | tail -n 1; \
             for i in 1 2 3 4 5 6; do echo >/small/$i; done");
    let done = bundle.run();
    assert_eq!(done.lines()[..4], ["a", "l", "u", "1710"], "{done}");
    assert!(done.lines()[4].contains(" 64 "), "{done}");
    assert!(done.stderr.contains("No space left"), "{done}");
    assert_eq!(std::fs::read_to_string(at("upper/new")).unwrap(), "new\n");
    let bundle = t.bundle().mount("/mnt", "tmpfs", "tmpfs", &["size=1k,nosuch=1"]);
    let _ = bundle.run().fails("nosuch");
}

#[test]
fn link_to_the_root_is_no_place_to_mount_on() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "mounts it where nobody sees it") {
        return;
    }
    for (target, options) in [("/", &["bind"][..]), ("..", &["bind"]), ("/", &[])] {
        let bundle = t.bundle();
        symlink(target, bundle.rootfs().join("data")).unwrap();
        let kind = if options.is_empty() { "tmpfs" } else { "bind" };
        let done = bundle.mount("/data", kind, t.dir().to_str().unwrap(), options).run().exits(1);
        assert!(t.peer() != Peer::Orlop || done.stderr.contains("mounts[7].destination"), "{done}");
    }
}

#[test]
fn proc_that_is_a_link_is_refused_or_stays_inside() {
    // CVE-2019-19921, CVE-2023-28642
    let Some(t) = Test::begin() else { return };
    for name in ["proc", "sys"] {
        let bundle = t.bundle();
        let root = bundle.rootfs();
        std::fs::remove_dir(root.join(name)).unwrap();
        symlink("bad", root.join(name)).unwrap();
        std::fs::create_dir(root.join("bad")).unwrap();
        let done = bundle.run().exits(1);
        if t.peer() != Peer::Crun {
            assert!(done.stderr.contains("must be mounted on ordinary directory"), "{done}");
        }
    }
}

#[test]
fn default_devices_are_there_with_their_numbers() {
    let Some(t) = Test::begin() else { return };
    let script = "cd /dev; for d in null zero full random urandom tty; do \
                  stat -c '%n %t:%T %a %F' $d; done; \
                  for l in fd stdin stdout stderr ptmx; do readlink $l; done";
    let out = t.bundle().sh(script).run().ok().stdout;
    let c = "666 character special file";
    let want = [
        format!("null 1:3 {c}"),
        format!("zero 1:5 {c}"),
        format!("full 1:7 {c}"),
        format!("random 1:8 {c}"),
        format!("urandom 1:9 {c}"),
        format!("tty 5:0 {c}"),
        "/proc/self/fd".into(),
        "/proc/self/fd/0".into(),
        "/proc/self/fd/1".into(),
        "/proc/self/fd/2".into(),
        "pts/ptmx".into(),
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), want);
}

#[test]
fn devices_of_the_config_are_made() {
    let Some(t) = Test::begin() else { return };
    let bundle = t
        .bundle()
        .push(
            "/linux/devices",
            json!({"path": "/dev/mine", "type": "c", "major": 1, "minor": 5,
              "fileMode": 0o640, "uid": 3, "gid": 4}),
        )
        .push("/linux/devices", json!({"path": "/dev/a/b/pipe", "type": "p", "fileMode": 0o600}))
        .push(
            "/linux/devices",
            json!({"path": "/dev/zero", "type": "c", "major": 1, "minor": 5,
              "fileMode": 0o600}),
        );
    let script = "cd /dev; stat -c '%n %t:%T %a %u %g %F' mine a/b/pipe zero";
    if t.differs(&[Peer::Crun], "makes parents otherwise") {
        return;
    }
    let out = bundle.sh(script).run().ok().stdout;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "mine 1:5 640 3 4 character special file");
    assert_eq!(lines[1], "a/b/pipe 0:0 600 0 0 fifo");
    assert_eq!(lines[2], "zero 1:5 600 0 0 character special file", "the config's own wins");
}

#[test]
fn device_that_is_listed_again_is_made_as_it_is_listed_first() {
    let Some(t) = Test::begin() else { return };
    let zero = |path: &str, mode: u32| {
        json!({"path": path, "type": "c", "major": 1, "minor": 5,
        "fileMode": mode})
    };
    let list =
        json!([zero("/dev/mine", 0o640), zero("/dev/mine", 0o600), zero("/dev//mine", 0o604)]);
    let bundle = t.bundle().set("/linux/devices", list).sh("stat -c '%t:%T %a' /dev/mine");
    assert_eq!(bundle.run().ok().stdout, "1:5 640\n");
    if t.differs(&[Peer::Runc, Peer::Crun], "make the first") {
        return;
    }
    let other = json!({"path": "/dev/mine", "type": "c", "major": 1, "minor": 3});
    let bundle = t.bundle().set("/linux/devices", json!([zero("/dev/mine", 0o640), other]));
    let _ = bundle.try_create().fails("linux.devices[1].path: another device at /dev/mine");
}

#[test]
fn devices_that_no_rule_allows_cannot_be_opened() {
    let Some(t) = Test::begin() else { return };
    let device =
        json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666});
    let caps = json!({"bounding": ["CAP_SYSLOG"], "permitted": ["CAP_SYSLOG"], "effective": ["CAP_SYSLOG"]});
    let script = "head -c 0 /dev/zero && echo zero; head -c 0 /dev/kmsg && echo kmsg; true";
    let bundle = t.bundle().push("/linux/devices", device.clone()).sh(script);
    let done = bundle.run().ok();
    assert_eq!(done.stdout, "zero\n", "{done}");
    assert!(done.stderr.contains("Operation not permitted"), "{done}");
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"});
    let bundle = t.bundle().set("/process/capabilities", caps);
    let bundle = bundle.push("/linux/devices", device).push("/linux/resources/devices", rule);
    let script = "head -c 0 /dev/kmsg && echo read; echo x >/dev/kmsg || echo no write";
    assert_eq!(bundle.sh(script).run().ok().stdout, "read\nno write\n");
}

#[test]
fn devices_may_be_made_but_not_opened_with_mknod() {
    let Some(t) = Test::begin() else { return };
    let caps =
        json!({"bounding": ["CAP_MKNOD"], "permitted": ["CAP_MKNOD"], "effective": ["CAP_MKNOD"]});
    let bundle = t.bundle().set("/process/capabilities", caps);
    let script =
        "mknod /dev/disk b 8 0 && echo made; head -c 1 /dev/disk >/dev/null || echo denied";
    assert_eq!(bundle.sh(script).run().ok().stdout, "made\ndenied\n");
}

#[test]
fn masked_paths_are_empty_and_missing_ones_are_skipped() {
    let Some(t) = Test::begin() else { return };
    let bundle =
        t.bundle().file("/secret/key", "secret", 0o644).file("/etc/shadow", "secret", 0o644);
    let bundle = bundle
        .set("/linux/maskedPaths", json!(["/secret", "/etc/shadow", "/no/such/path", "/proc/version"]))
        .sh("ls -A /secret; wc -c </etc/shadow; stat -c %t:%T /proc/version; touch /secret/x || echo ro");
    assert_eq!(bundle.run().ok().stdout, "0\n1:3\nro\n");
    assert_eq!(std::fs::read_to_string(bundle.rootfs().join("etc/shadow")).unwrap(), "secret");
}

#[test]
fn image_with_its_own_dev_null_cannot_redirect_masks_or_stdio() {
    // CVE-2025-31133, CVE-2026-88265. The decoy is a file of the image: a link to a sysctl, as attackers use it, would
    // let a runtime that is open to this write to the machine that runs the test.
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "runc 1.1 and crun take what /dev/null leads to") {
        return;
    }
    let mut bundle = t.bundle().file("/etc/shadow", "secret", 0o644).file("/decoy", "decoy", 0o666);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    symlink("/decoy", bundle.rootfs().join("dev/null")).unwrap();
    let bundle = bundle.set("/linux/maskedPaths", json!(["/etc/shadow"]));
    let bundle = bundle.sh("stat -L -c %t:%T /etc/shadow");
    let done = bundle.run();
    assert!(done.code() == 1 || done.stdout == "1:3\n", "{done}");
    assert_eq!(std::fs::read_to_string(bundle.rootfs().join("decoy")).unwrap(), "decoy");
}

#[test]
fn readonly_paths_are_read_only() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().file("/data/file", "x", 0o644);
    let bundle = bundle.set("/linux/readonlyPaths", json!(["/data", "/proc/sys", "/no/such/path"]));
    let list = mountinfo(bundle);
    assert!(mount_at(&list, "/data").has(&["ro"]));
    let sys = mount_at(&list, "/proc/sys");
    assert!(sys.has(&["ro"]), "{sys:?}");
    let done = t.bundle().sh("echo 1 >/proc/sys/kernel/shmmax").run();
    assert!(done.stderr.contains("Read-only file system"), "{done}");
}

#[test]
fn without_masked_and_readonly_paths_nothing_is_masked() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
    let list = mountinfo(bundle);
    assert!(list.iter().all(|m| !m.target.starts_with("/proc/")), "{list:?}");
}

#[test]
fn mounts_over_proc_are_refused() {
    // CVE-2019-16884, CVE-2025-52881
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Crun], "allows what the caller asks for") {
        return;
    }
    for target in ["/proc/sys", "/proc/self/attr", "/proc/1", "/proc/../proc/sys/kernel"] {
        let done = t.bundle().mount(target, "tmpfs", "tmpfs", &[]).run();
        let _ = done.exits(1);
    }
    let done = t.bundle().mount("/proc", "tmpfs", "tmpfs", &[]).run();
    let _ = done.exits(1);
    let source = t.dir().join("uptime");
    std::fs::write(&source, "1 1\n").unwrap();
    let bundle = t.bundle().mount("/proc/uptime", "bind", source.to_str().unwrap(), &["bind"]);
    assert_eq!(bundle.args(&["/bin/cat", "/proc/uptime"]).run().ok().stdout, "1 1\n");
}

#[test]
fn rootfs_propagation_is_the_configs() {
    let Some(t) = Test::begin() else { return };
    let bundle = t.bundle().set("/linux/rootfsPropagation", json!("private"));
    let list = mountinfo(bundle);
    assert!(mount_at(&list, "/").propagation.is_empty());
    if t.differs(&[Peer::Runc], "1.1 applies `shared` before pivot_root, where it does not last") {
        return;
    }
    let bundle = t.bundle().set("/linux/rootfsPropagation", json!("shared"));
    let list = mountinfo(bundle);
    assert!(mount_at(&list, "/").propagation.iter().any(|p| p.starts_with("shared")));
}

#[test]
fn propagation_of_a_mount_is_the_configs() {
    let Some(t) = Test::begin() else { return };
    let volume = t.dir().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let source = volume.to_str().unwrap();
    let bundle = t.bundle().mount("/shared", "bind", source, &["rbind", "rshared"]).mount(
        "/private",
        "bind",
        source,
        &["rbind", "rprivate"],
    );
    let list = mountinfo(bundle);
    let shared = mount_at(&list, "/shared");
    assert!(shared.propagation.iter().any(|p| p.starts_with("shared")), "{shared:?}");
    assert!(mount_at(&list, "/private").propagation.is_empty());
}

#[test]
fn unknown_filesystems_and_bad_data_are_refused_by_name() {
    let Some(t) = Test::begin() else { return };
    let done = t.bundle().mount("/x", "nosuchfs", "none", &[]).run().exits(1);
    assert!(done.stderr.contains("/x"), "{done}");
    let done = t.bundle().mount("/x", "tmpfs", "tmpfs", &["nosuchoption"]).run().exits(1);
    assert!(done.stderr.contains("/x"), "{done}");
}

#[test]
fn nothing_is_made_on_the_host_when_dev_is_a_link() {
    // CVE-2026-47766, CVE-2026-41579
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "are open to it in these versions") {
        return;
    }
    let outside = t.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("ptmx"), "mine").unwrap();
    let mut bundle = t.bundle();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    let dev = bundle.rootfs().join("dev");
    std::fs::remove_dir(&dev).unwrap();
    symlink(&outside, &dev).unwrap();
    let done = bundle.run();
    assert!(done.code() == 0 || done.code() == 1, "{done}");
    let names: Vec<_> =
        std::fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["ptmx"], "the host's directory is as it was");
    assert_eq!(std::fs::read_to_string(outside.join("ptmx")).unwrap(), "mine");
}

/// On a host whose mounts are shared, as systemd makes them.
#[test]
fn root_mount_has_the_propagation_that_is_asked_for() {
    let Some(t) = Test::begin() else { return };
    for (kind, want, never) in [
        (None, "master:", "shared:"),
        (Some("slave"), "master:", "shared:"),
        (Some("rslave"), "master:", "shared:"),
        (Some("shared"), "shared:", "unbindable"),
        (Some("rshared"), "shared:", "unbindable"),
        (Some("private"), " - ", ":"),
        (Some("rprivate"), " - ", ":"),
        (Some("unbindable"), "unbindable", ":"),
        (Some("runbindable"), "unbindable", ":"),
    ] {
        let mut bundle = t.bundle();
        if let Some(kind) = kind {
            bundle = bundle.set("/linux/rootfsPropagation", json!(kind));
        }
        let bundle = bundle.args(&["/bin/cat", "/proc/self/mountinfo"]);
        bundle.write();
        let script = "mount --make-rshared /; exec \"$@\"";
        let run =
            orlop_conformance::Run::new("unshare", t.dir()).args(["-m", "sh", "-c", script, "sh"]);
        let run = run.arg(t.runtime()).arg("--root").arg(t.root()).args(["run", "--bundle"]);
        let done = run.arg(&bundle.dir).arg(&bundle.id).done().ok();
        let fields = mount_at(&mounts(&done.stdout), "/").propagation.join(" ") + " - ";
        assert!(fields.contains(want) && !fields.contains(never), "{kind:?}: {fields}");
    }
}
