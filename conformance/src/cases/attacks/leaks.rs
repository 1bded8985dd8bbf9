//! What the runtime and its caller have open, and what of it a container can reach.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use super::{MARKER, Sentinel, confined, link, section};
use crate::cases::process::duplicate;
use crate::suite::payload::{self, PATH};
use crate::suite::{Case, Section};
use crate::{Bundle, Test};

/// Descriptors that the runtime's caller left open: to `/`, to the sentinel, to a file of it, again and again.
pub(super) fn leak(sentinel: &Sentinel<'_>) {
    let open = |path: &str| std::fs::File::open(path).unwrap();
    let files = [open("/"), open(&sentinel.at("")), open(&sentinel.at(MARKER))];
    for number in 10..22 {
        duplicate(&files[usize::try_from(number).unwrap() % 3], number);
    }
    // Low ones, too, which a runtime's own come after.
    for number in 3..=6 {
        duplicate(&files[1], number);
    }
    // The copies stay; these would come back under other numbers.
    std::mem::forget(files);
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "leaks");
    census(&mut s);
    directories(&mut s);
    programs(&mut s);
    capabilities(&mut s);
    host_tree(&mut s);
}

/// The payload's descriptors, but for the three streams.
pub(super) fn extra(facts: &payload::Facts) -> Vec<String> {
    let all = facts["fds"].as_array().unwrap().iter();
    all.filter(|f| f["fd"].as_i64() > Some(2)).map(ToString::to_string).collect()
}

fn census(s: &mut Section<'_>) {
    s.section_at("CVE-2024-21626, CVE-2016-9962");
    s.case("descriptors that the caller left open do not reach the program", |t| {
        leak(&Sentinel::new(t));
        let found = extra(&t.bundle().facts());
        assert!(found.is_empty(), "{found:?}");
    });
    s.case("descriptors that the caller of exec left open do not reach the process", |t| {
        let c = t.bundle().sleeping().run_detached();
        leak(&Sentinel::new(t));
        let found = extra(&c.exec_facts(&[]));
        assert!(found.is_empty(), "{found:?}");
    });
    s.case("descriptors that the caller left open do not reach hooks in the container", |t| {
        let b = t.bundle();
        let path = b.rootfs().join("facts");
        leak(&Sentinel::new(t));
        let b = b.hook("startContainer", PATH.as_ref(), &["save-facts /facts"]);
        let _ = b.run();
        let text = crate::run::lossy(&path);
        let facts: serde_json::Value = serde_json::from_str(&text).expect("facts");
        let found = extra(&payload::Facts(facts));
        assert!(found.is_empty(), "{found:?}");
    });
    s.case("process of a created container holds no descriptor of the caller", |t| {
        let sentinel = Sentinel::new(t);
        leak(&sentinel);
        let c = t.bundle().sleeping().create();
        for entry in std::fs::read_dir(format!("/proc/{}/fd", c.pid)).unwrap().flatten() {
            let to = std::fs::read_link(entry.path()).unwrap_or_default();
            assert!(
                !to.starts_with(&sentinel.dir) && to != std::path::Path::new("/"),
                "{}",
                to.display()
            );
        }
    });
}

fn tried(b: Bundle<'_>, sentinel: &Sentinel<'_>) {
    let up = format!("read ../../../../../../../../../..{}", sentinel.at(MARKER));
    let done = b.payload(&["facts", &format!("read {MARKER}"), &up]).run();
    confined(&done);
}

/// Working directories by way of descriptors.
fn directories(s: &mut Section<'_>) {
    s.section_at("CVE-2024-21626");
    for (what, before) in [
        ("/proc/self/fd", ""),
        ("/proc/thread-self/fd", ""),
        ("/proc/1/fd", ""),
        ("a link of the image", "/x"),
    ] {
        s.case(format!("working directory by {what} is not one of the host"), move |t| {
            let sentinel = Sentinel::new(t);
            leak(&sentinel);
            for number in 3..24 {
                let b = t.bundle();
                let cwd = if before.is_empty() {
                    format!("{what}/{number}")
                } else {
                    link(&b, "x", &format!("/proc/self/fd/{number}"));
                    before.to_owned()
                };
                tried(b.set("/process/cwd", json!(cwd)), &sentinel);
            }
            sentinel.is_untouched();
        });
    }
    s.case("working directory of exec is not one of the host", |t| {
        let sentinel = Sentinel::new(t);
        let c = t.bundle().sleeping().run_detached();
        leak(&sentinel);
        for number in 3..24 {
            let cwd = format!("/proc/self/fd/{number}");
            let read = format!("read {MARKER}");
            confined(&c.call("exec", &["--cwd", &cwd], &[PATH, "facts", &read]));
        }
    });
    s.case("program by /proc/self/fd is not one of the host", |t| {
        let sentinel = Sentinel::new(t);
        leak(&sentinel);
        for number in 3..24 {
            let program = format!("/proc/self/fd/{number}/program");
            let b = t.bundle();
            // Only the host's has this name.
            let done = b.set("/process/args", json!([program, "echo escaped"])).run();
            assert!(!done.stdout.contains("escaped"), "the host's program ran: {done}");
        }
    });
}

fn reads_runtime(done: &crate::Done, t: &Test) {
    let name = t.runtime().file_name().unwrap().to_string_lossy().into_owned();
    let again = done.stdout.contains("USAGE") || done.stdout.contains(&format!("{name} version"));
    assert!(!again, "the runtime's program ran in the container: {done}");
}

/// The runtime's own program.
fn programs(s: &mut Section<'_>) {
    s.section_at("CVE-2019-5736");
    s.case("/proc/self/exe as program is not the runtime", |t| {
        let sentinel = Sentinel::new(t);
        reads_runtime(
            &t.bundle().set("/process/args", json!(["/proc/self/exe", "--version"])).run(),
            t,
        );
        sentinel.is_untouched();
    });
    s.case("/proc/self/exe as interpreter of a script is not the runtime", |t| {
        let sentinel = Sentinel::new(t);
        let b = t.bundle().file("/script", "#!/proc/self/exe\n", 0o755);
        reads_runtime(&b.set("/process/args", json!(["/script"])).run(), t);
        sentinel.is_untouched();
    });
    s.case("exec of a link to /proc/self/exe is not the runtime", |t| {
        let sentinel = Sentinel::new(t);
        let b = t.bundle();
        link(&b, "shell", "/proc/self/exe");
        let c = b.sleeping().run_detached();
        reads_runtime(&c.call("exec", &[], &["/shell", "--version"]), t);
        sentinel.is_untouched();
    });
    s.case("process of a created container is no file of the host that can be written", |t| {
        let c = t.bundle().sleeping().create();
        let exe = format!("/proc/{}/exe", c.pid);
        let runtime = std::fs::metadata(t.runtime()).unwrap();
        let found = std::fs::metadata(&exe).unwrap();
        let same = (runtime.dev(), runtime.ino()) == (found.dev(), found.ino());
        // Some show it by a mount of their own that is read-only.
        let flags = nix::sys::statvfs::statvfs(exe.as_str()).unwrap().flags();
        let writable = !flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
        assert!(
            !same || !writable,
            "it is the runtime's own program: who reaches it by /proc can write to it"
        );
    });
    for (kind, what) in
        [("exec", "processes that exec adds"), ("join", "containers that join its pid namespace")]
    {
        s.case(
            format!("container that may trace gets nothing of the runtime from {what}"),
            move |t| {
                watched(t, kind);
            },
        )
        .at("CVE-2016-9962, CVE-2019-5736");
    }
}

/// Exec, or new containers, again and again, while a container with CAP_SYS_PTRACE looks into each process that comes.
fn watched(t: &Test, kind: &str) {
    let sentinel = Sentinel::new(t);
    let seconds = super::super::race_time().as_secs();
    let watch = format!("watch {seconds} {}", sentinel.at(MARKER));
    let b = t.bundle().capabilities(&[
        "CAP_SYS_PTRACE",
        "CAP_KILL",
        "CAP_DAC_READ_SEARCH",
        "CAP_DAC_OVERRIDE",
    ]);
    let watcher = b
        .set("/process/noNewPrivileges", json!(false))
        .payload(&["echo up", &watch])
        .run_detached();
    let _ = watcher.wait_replies(1);
    let end = std::time::Instant::now() + super::super::race_time();
    let path = format!("/proc/{}/ns/pid", watcher.pid);
    let mut rounds = 0;
    while std::time::Instant::now() < end {
        if kind == "exec" {
            let _ = t.call(&["exec", &watcher.bundle.id, PATH]);
        } else {
            let b = t.bundle().without_namespace("pid");
            let _ = b.push("/linux/namespaces", json!({"type": "pid", "path": path})).run();
        }
        rounds += 1;
    }
    let replies = watcher.wait_replies(2);
    let found = replies[1].ok();
    assert!(found["seen"].as_u64() > Some(0), "nothing was seen in {rounds} rounds");
    assert_eq!(found["finds"], json!([]), "in {rounds} rounds");
    sentinel.is_untouched();
}

/// Capabilities that processes keep for their programs.
fn capabilities(s: &mut Section<'_>) {
    s.section_at("CVE-2022-24769, CVE-2022-29162, CVE-2022-27650, CVE-2025-27612");
    for (what, flags) in [
        ("", &[][..]),
        (" --cap", &["--cap", "CAP_NET_RAW"]),
        (" --user", &["--user", "1000"]),
        (" --cap and --user", &["--cap", "CAP_NET_RAW", "--user", "1000"]),
    ] {
        s.case(format!("process of exec{what} has no inheritable capabilities"), move |t| {
            let c = t.bundle().sleeping().run_detached();
            assert_eq!(c.exec_facts(flags).set("CapInh"), 0);
        });
    }
    s.case("user other than root has no capability without ambient ones, whatever the bounding set has", |t| {
        let all = ["CAP_CHOWN", "CAP_NET_RAW", "CAP_SETUID", "CAP_SYS_ADMIN"];
        let b = t.bundle().capabilities(&all).set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let found = b.facts();
        assert_eq!((found.set("CapEff"), found.set("CapAmb"), found.set("CapPrm")), (0, 0, 0));
    })
    .at("CVE-2016-8867");
    s.case("spec names no inheritable capabilities", |t| {
        let dir = t.dir().join("spec");
        std::fs::create_dir(&dir).unwrap();
        let _ = t.command(["spec", "--bundle"]).arg(&dir).done().ok();
        let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        let set = &config["process"]["capabilities"]["inheritable"];
        assert!(set.is_null() || *set == json!([]), "{set}");
    });
    s.case("no socket of the runtime can be reached from a container in the host's network", |t| {
        let sockets = || -> Vec<String> {
            let text = std::fs::read_to_string("/proc/net/unix").unwrap();
            let named = text.lines().filter_map(|l| l.split_whitespace().nth(7));
            named.filter(|n| n.starts_with('@')).map(str::to_owned).collect()
        };
        let before = sockets();
        let c = t.bundle().without_namespace("network").sleeping().create();
        let new: Vec<_> = sockets().into_iter().filter(|s| !before.contains(s)).collect();
        let own = t.runtime().file_name().unwrap().to_string_lossy().into_owned();
        assert!(!new.iter().any(|s| s.contains(&own) || s.contains(&c.bundle.id)), "{new:?}");
    })
    .at("CVE-2020-15257");
}

/// The host's mounts, which stay below the container's root where it was not pivoted to.
fn host_tree(s: &mut Section<'_>) {
    s.section_at("mount_namespaces(7)");
    s.case("program of a container without pivot cannot mount a sysfs that can be written", |t| {
        // New user, mount and network namespaces, where it has every capability.
        let tries = ["unshare 0x50020000", "mkdir /tmp/sys", "mount sysfs /tmp/sys sysfs 0"];
        let b = t.bundle().payload(&tries);
        let done = b.command("run", &["--no-pivot"]).done();
        let [unshared, .., mounted] = &payload::replies(&done.stdout)[..] else {
            panic!("the payload did not run: {done}");
        };
        assert_eq!(unshared.errno, 0, "{done}");
        mounted.fails(&[libc::EPERM]);
    });
}
