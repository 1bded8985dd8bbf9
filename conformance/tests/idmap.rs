//! Mounts with ids of their own.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use orlop_conformance::{Bundle, Peer, Test};
use serde_json::{Value, json};

/// Whether tmpfs can map ids on this kernel: since Linux 6.3.
fn tmpfs_can() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 3)
}

/// Whether the filesystem of a directory can.
fn can(dir: &Path) -> bool {
    let stat = Command::new("stat").args(["-f", "-c", "%T"]).arg(dir).output().unwrap();
    let name = String::from_utf8_lossy(&stat.stdout).trim().to_owned();
    let can = match name.as_str() {
        "tmpfs" | "UNKNOWN" => tmpfs_can(),
        name => ["ext2/ext3", "ext4", "xfs", "btrfs", "overlayfs"].contains(&name),
    };
    if !can {
        eprintln!("SKIPPED: {name} cannot map ids on this kernel");
    }
    can
}

/// A directory with files of root and of user 5, group 7.
fn source(t: &Test) -> std::path::PathBuf {
    let dir = t.dir().join("source");
    std::fs::create_dir(&dir).unwrap();
    for (name, uid, gid) in [("root", 0, 0), ("five", 5, 7), ("far", 5000, 5000)] {
        std::fs::write(dir.join(name), "").unwrap();
        chown(dir.join(name), Some(uid), Some(gid)).unwrap();
    }
    dir
}

fn map(inside: u32, outside: u32, size: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": size}])
}

/// A mount at /m with ids 0 to 99 as users 1000 to 1099 and groups 2000 to 2099.
fn mapped<'t>(bundle: Bundle<'t>, kind: &str, source: &Path, options: &[&str]) -> Bundle<'t> {
    let mount = json!({"destination": "/m", "type": kind, "source": source, "options": options,
        "uidMappings": map(0, 1000, 100), "gidMappings": map(0, 2000, 100)});
    bundle.push("/mounts", mount)
}

#[test]
fn bind_mount_shows_and_keeps_other_ids() {
    let Some(t) = Test::begin() else { return };
    if !can(t.dir()) || t.differs(&[Peer::Runc], "1.1 needs a user namespace") {
        return;
    }
    let dir = source(&t);
    let caps = json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID"]);
    let bundle = mapped(t.bundle(), "bind", &dir, &["bind", "idmap"])
        .set(
            "/process/capabilities",
            json!({"bounding": caps, "effective": caps, "permitted": caps}),
        )
        .sh("cd /m; stat -c '%n %u %g' root five far; touch new || true; chown 1003:2004 root");
    let out = bundle.run().ok().stdout;
    assert_eq!(out, "root 1000 2000\nfive 1005 2007\nfar 65534 65534\n");
    let owner = |name: &str| std::fs::metadata(dir.join(name)).map(|m| (m.uid(), m.gid())).ok();
    assert_eq!(owner("root"), Some((3, 4)));
    assert_eq!(owner("new"), None, "ids that are not mapped create nothing");
    assert_eq!(owner("five"), Some((5, 7)));
}

#[test]
fn maps_without_the_option_are_enough_and_other_options_count_too() {
    let Some(t) = Test::begin() else { return };
    if !can(t.dir()) || t.differs(&[Peer::Runc, Peer::Crun], "need the option, or a user namespace")
    {
        return;
    }
    let dir = source(&t);
    let bundle = mapped(t.bundle(), "bind", &dir, &["bind", "ro", "nosuid"]);
    let script = "stat -c '%u %g' /m/root; touch /m/root; grep ' /m ' /proc/self/mountinfo";
    let done = bundle.sh(script).run().ok();
    assert!(done.stdout.starts_with("1000 2000\n"), "{done}");
    assert!(done.stdout.contains(" ro,nosuid,") && done.stdout.contains("idmapped"), "{done}");
    assert!(done.stderr.contains("Read-only file system"), "{done}");
}

#[test]
fn ridmap_maps_the_mounts_below_and_idmap_does_not() {
    let Some(t) = Test::begin() else { return };
    if !can(t.dir()) || !tmpfs_can() || t.differs(&[Peer::Runc, Peer::Crun], "differ") {
        return;
    }
    let dir = source(&t);
    // A mount namespace for the caller, with a tmpfs below the source.
    let script = "mount -t tmpfs below \"$1\" && shift && exec \"$@\"";
    for (option, want) in [("idmap", "0 0\n"), ("ridmap", "1000 2000\n")] {
        let below = dir.join("below");
        std::fs::create_dir_all(&below).unwrap();
        let bundle = mapped(t.bundle(), "bind", &dir, &["rbind", option]);
        let bundle = bundle.args(&["/bin/stat", "-c", "%u %g", "/m/below"]);
        bundle.write();
        let run = orlop_conformance::Run::new("unshare", t.dir());
        let run = run.args(["-m", "sh", "-c", script, "sh"]).arg(&below).arg(t.runtime());
        let run = run.arg("--root").arg(t.root()).args(["run", "--bundle"]).arg(&bundle.dir);
        assert_eq!(run.arg(&bundle.id).done().ok().stdout, want, "{option}");
    }
}

#[test]
fn new_tmpfs_has_other_ids() {
    let Some(t) = Test::begin() else { return };
    if !tmpfs_can() || t.differs(&[Peer::Runc, Peer::Crun], "bind mounts only") {
        return;
    }
    let bundle = mapped(t.bundle(), "tmpfs", Path::new("tmpfs"), &["mode=700"]);
    let out = bundle.args(&["/bin/stat", "-c", "%u %g %a", "/m"]).run().ok().stdout;
    assert_eq!(out, "1000 2000 700\n");
}

#[test]
fn filesystem_that_cannot_map_ids_is_named() {
    let Some(t) = Test::begin() else { return };
    if t.peer() != Peer::Orlop {
        return;
    }
    let bundle = mapped(t.bundle(), "proc", Path::new("proc"), &[]);
    let index = bundle.config["mounts"].as_array().unwrap().len() - 1;
    let done = bundle.run().fails(&format!("mounts[{index}]: "));
    assert!(done.stderr.contains("cannot map ids: the filesystem"), "{done}");
    let bundle = mapped(t.bundle(), "bind", Path::new("/proc"), &["rbind", "ridmap"]);
    let _ = bundle.run().fails("cannot map ids: the filesystem");
}

/// A bundle in a user namespace whose root is user 100000 and group 300000 outside.
fn in_user_namespace(t: &Test) -> Bundle<'_> {
    let bundle = t.bundle().push("/linux/namespaces", json!({"type": "user"}));
    let bundle = bundle
        .set("/linux/uidMappings", map(0, 100_000, 65536))
        .set("/linux/gidMappings", map(0, 300_000, 65536));
    let owner = ["-R", "-h", "100000:300000"];
    assert!(Command::new("chown").args(owner).arg(bundle.rootfs()).status().unwrap().success());
    for dir in [t.dir(), &bundle.dir] {
        orlop_conformance::rootfs::mode(dir, 0o711);
    }
    bundle
}

#[test]
fn container_in_a_user_namespace_sees_the_hosts_files_as_its_own() {
    let Some(t) = Test::begin() else { return };
    if !can(t.dir()) || t.differs(&[Peer::Runc, Peer::Crun], "need other kernels' help") {
        return;
    }
    let dir = source(&t);
    let show = "stat -c '%n %u %g' /m/root /m/five && touch /m/new && stat -c '%u' /m/new";
    let want = "/m/root 0 0\n/m/five 5 7\n0\n";
    // By the container's own maps, and by maps that come to the same.
    let options = ["rbind", "ridmap"];
    let bundle = in_user_namespace(&t).mount("/m", "bind", dir.to_str().unwrap(), &options);
    assert_eq!(bundle.sh(show).run().ok().stdout, want);
    std::fs::remove_file(dir.join("new")).unwrap();
    let mount = json!({"destination": "/m", "type": "bind", "source": dir, "options": ["bind"],
        "uidMappings": map(0, 100_000, 65536), "gidMappings": map(0, 300_000, 65536)});
    let bundle = in_user_namespace(&t).push("/mounts", mount);
    assert_eq!(bundle.sh(show).run().ok().stdout, want);
    assert_eq!(std::fs::metadata(dir.join("new")).unwrap().uid(), 0, "on the host it is root's");
    // Without a map they are nobody's.
    let bundle = in_user_namespace(&t).mount("/m", "bind", dir.to_str().unwrap(), &["bind"]);
    let out = bundle.args(&["/bin/stat", "-c", "%u", "/m/root"]).run().ok().stdout;
    assert_eq!(out, "65534\n");
}

#[test]
fn mounts_that_cannot_map_ids_in_a_user_namespace_are_named() {
    let Some(t) = Test::begin() else { return };
    if t.peer() != Peer::Orlop {
        return;
    }
    let bundle = in_user_namespace(&t).mount("/m", "bind", "/proc", &["bind", "idmap"]);
    let _ = bundle.run().fails("cannot map ids: the filesystem");
    let bundle = in_user_namespace(&t).mount("/m", "bind", "/no/such", &["bind", "idmap"]);
    let _ = bundle.run().fails("].source: ");
    let bundle = in_user_namespace(&t).mount("/m", "tmpfs", "tmpfs", &["idmap"]);
    let _ = bundle.run().fails("has its ids already");
}

#[test]
fn features_tells_of_id_mapped_mounts() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "old ones do not") {
        return;
    }
    let doc = t.bare().arg("features").done().ok().json();
    assert_eq!(doc["linux"]["mountExtensions"]["idmap"]["enabled"], json!(true));
}
