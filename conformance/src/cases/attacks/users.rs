//! Users without privileges: what they can do to the containers of others, and what theirs are on the host.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use serde_json::{Value, json};

use super::{Sentinel, section};
use crate::suite::payload::{self, PATH};
use crate::suite::{Case, Section};
use crate::{Bundle, Run, Test};

/// Nobody's: neither root's nor one of a daemon.
const USER: u32 = 54_321;

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "users");
    others(&mut s);
    rootless(&mut s);
}

/// The commands of a user on what is root's.
fn others(s: &mut Section<'_>) {
    s.section_at("CVE-2022-29162, GHSA-g54h-m393-cpwq");
    for (command, after) in [
        ("start", &[][..]),
        ("kill", &["KILL"]),
        ("exec", &[PATH, "create /made by the user"]),
        ("update", &["--pids-limit", "1"]),
        ("pause", &[]),
        ("delete", &[]),
    ] {
        s.case(format!("user cannot {command} a container of root"), move |t| {
            open_to_all(t.dir());
            let c = t.bundle().sleeping().create();
            let flags: &[&str] = if command == "update" { after } else { &[] };
            let force: &[&str] = if command == "delete" { &["--force"] } else { &[] };
            let rest: &[&str] = if command == "update" { &[] } else { after };
            let id = [c.bundle.id.as_str()];
            let args = [&[command][..], flags, force, &id, rest].concat();
            let run = Run::new(reachable(t), t.dir()).user(USER).arg("--root").arg(t.root());
            let done = run.args(args).done();
            let quiet = command == "delete" && done.status.success();
            assert!(quiet || !done.status.success(), "it could: {done}");
            assert_eq!(c.status(), "created", "{done}");
            assert!(!c.bundle.rootfs().join("made").exists(), "{done}");
            let _ = c.start().ok();
            assert_eq!(c.status(), "running");
        });
    }
    s.case("user cannot open what root's container waits at", |t| {
        open_to_all(t.dir());
        let c = t.bundle().sleeping().create();
        // As many have the fifo as are below the state's root.
        let mut found = Vec::new();
        everything_below(&t.root(), &mut found);
        for path in &found {
            let mode = path.symlink_metadata().unwrap().permissions().mode();
            let reachable = path
                .ancestors()
                .skip(1)
                .take_while(|p| *p != t.dir())
                .all(|p| p.metadata().unwrap().permissions().mode() & 0o1 != 0);
            let link = path.is_symlink();
            assert!(link || !reachable || mode & 0o2 == 0, "{} can be written", path.display());
        }
        assert!(!found.is_empty() && c.status() == "created");
    });
}

fn everything_below(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            everything_below(&entry.path(), found);
        }
        found.push(entry.path());
    }
}

/// A copy of the runtime: the way to it may be closed to a user.
fn reachable(t: &Test) -> std::path::PathBuf {
    let copy = t.dir().join(t.runtime().file_name().unwrap());
    crate::rootfs::copy_program(t.runtime(), &copy);
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
    copy
}

/// Lets everybody go through the case's directory and those above it that are the suite's.
fn open_to_all(dir: &Path) {
    for dir in [dir, dir.parent().unwrap()] {
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    }
}

/// A bundle of the user's, with a user namespace that maps root to `host`, without cgroup and limits.
fn owned(t: &Test, host: u32) -> Bundle<'_> {
    open_to_all(t.dir());
    let ids = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 1}]);
    let b = t.bundle().remove("/linux/cgroupsPath").remove("/linux/resources");
    let mut b = b
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", ids(host))
        .set("/linux/gidMappings", ids(host))
        .without_namespace("network");
    // What a user may not mount: sysfs without a network namespace, a terminal group that is not mapped.
    let list = b.config["mounts"].as_array_mut().unwrap();
    list.retain(|m| m["destination"] != "/sys" && m["destination"] != "/sys/fs/cgroup");
    for mount in list {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|o| *o != "gid=5");
        }
    }
    let process = b.config["process"].as_object_mut().unwrap();
    process.remove("rlimits");
    b
}

/// Gives the user the bundle, and runs it as the user, with a state root of the user's.
fn run_as_user(b: &Bundle<'_>) -> crate::Done {
    b.write();
    let state = b.test.dir().join("state");
    std::fs::create_dir(&state).unwrap();
    give(&b.dir);
    give(&state);
    let runtime = reachable(b.test);
    let run = Run::new(&runtime, b.test.dir()).user(USER);
    let run = run.env("XDG_RUNTIME_DIR", &state).arg("--root").arg(state.join("runtime"));
    let done = run.arg("run").arg("--bundle").arg(&b.dir).arg(&b.id).done();
    let run = Run::new(&runtime, b.test.dir()).user(USER);
    let run = run.env("XDG_RUNTIME_DIR", &state).arg("--root").arg(state.join("runtime"));
    let _ = run.args(["delete", "--force", &b.id]).done();
    done
}

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            give(&entry.path());
        } else if !kind.is_symlink() {
            chown(entry.path(), Some(USER), Some(USER)).unwrap();
        }
    }
}

fn rootless(s: &mut Section<'_>) {
    s.section_at("config-linux.md#user-namespace-mappings");
    s.case("user's container has no right on the host, or is not started", |t| {
        let sentinel = Sentinel::new(t);
        let secret = t.dir().join("of-root");
        std::fs::write(&secret, "untouched").unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        let b = owned(t, USER).mount("/of-root", "none", secret.to_str().unwrap(), &["bind"]);
        let b = b.set("/linux/maskedPaths", json!(["/proc/keys"]));
        let done = run_as_user(&b.payload(&[
            "facts",
            "read /of-root",
            "read /proc/keys",
            "write /of-root x",
        ]));
        assert!(!done.stdout.contains("untouched"), "a file of root was read: {done}");
        if let [facts, _, keys, write] = payload::replies(&done.stdout).as_slice() {
            let facts = payload::Facts(facts.ok().clone());
            let map = |name: &str| {
                facts.text(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
            };
            let own = ["0".to_owned(), USER.to_string(), "1".to_owned()];
            assert_eq!((map("uid_map"), map("gid_map")), (own.to_vec(), own.to_vec()));
            assert_eq!(facts["setgroups"], "deny", "who drops a group gets rights by it");
            assert!(keys.value.as_str().is_none_or(str::is_empty), "no mask: {done}");
            assert_ne!(write.errno, 0, "a file of root was written: {done}");
        }
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
        sentinel.is_untouched();
    })
    .at("CVE-2014-8989");
    for (what, host) in [("root", 0), ("another user", USER + 1)] {
        s.case(format!("user cannot be {what} of the host in a container"), move |t| {
            let done = run_as_user(&owned(t, host).payload(&["facts"]));
            assert!(!done.status.success() && done.stdout.is_empty(), "it could: {done}");
        });
    }
    s.case("newuidmap of the image is not run", |t| {
        let mut b = owned(t, USER);
        let many: Value = json!([
            {"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 9}
        ]);
        b = b.set("/linux/uidMappings", many.clone()).set("/linux/gidMappings", many);
        let marker = t.dir().join("ran");
        std::fs::create_dir(&marker).unwrap();
        std::fs::set_permissions(&marker, PermissionsExt::from_mode(0o777)).unwrap();
        for name in ["newuidmap", "newgidmap"] {
            let text = format!("#!/bin/sh\n: >{}/{name}\n", marker.display());
            for dir in ["bin", "usr/bin"] {
                b = b.file(&format!("/{dir}/{name}"), &text, 0o755);
            }
        }
        let path = format!("PATH={0}/usr/bin:{0}/bin:/usr/bin:/bin", b.rootfs().display());
        let _ = run_as_user(&b.set("/process/env", json!([path])));
        let ran: Vec<_> = std::fs::read_dir(&marker).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(ran.is_empty(), "run on the host: {ran:?}");
    })
    .at("CVE-2026-84042");
}
