//! Races: names in the container's root that change while the runtime uses them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use super::{MARKER, Sentinel, link, section, without_mount};
use crate::suite::payload;
use crate::suite::{Case, Section};
use crate::{Bundle, Done, Test};

/// Exchanges two names as fast as it can, until it is dropped.
struct Racer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Racer {
    fn new(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                // Where a name is a mountpoint for a moment it fails, and is tried again.
                let _: nix::Result<()> =
                    renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE);
            }
        };
        Self { stop, thread: Some(std::thread::spawn(work)) }
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _: std::thread::Result<()> = thread.join();
        }
    }
}

/// Starts containers until the time is over; `judge` looks at each.
fn start_often(b: &Bundle<'_>, judge: impl Fn(&Done)) {
    let end = Instant::now() + super::super::race_time();
    let mut started = 0_u32;
    let mut rounds = 0_u32;
    while Instant::now() < end || rounds < 3 {
        let done = b.run();
        started += u32::from(done.status.success());
        rounds += 1;
        judge(&done);
        if !done.status.success() {
            // Where a start fails nothing of it may stay.
            let _ = b.test.call(&["delete", "--force", &b.id]).ok();
        }
    }
    // A runtime that gives up each time withstands, too; the figure is for who reads the log.
    eprintln!("{started} of {rounds} started");
}

/// A volume that the attacker shares with the container, and a racer that exchanges `dir` and `link` in it.
fn volume(t: &Test, to: &str) -> (PathBuf, Racer) {
    let volume = t.dir().join("volume");
    std::fs::create_dir_all(volume.join("dir/sub")).unwrap();
    std::fs::write(volume.join("dir/file"), "secret of the container").unwrap();
    std::os::unix::fs::symlink(to, volume.join("link")).unwrap();
    let racer = Racer::new(volume.join("dir"), volume.join("link"));
    (volume, racer)
}

fn bound<'t>(t: &'t Test, volume: &Path) -> Bundle<'t> {
    t.bundle().mount("/v", "none", volume.to_str().unwrap(), &["rbind"])
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "races");
    mounts(&mut s);
    devices(&mut s);
    covers(&mut s);
}

fn not_seen(done: &Done) {
    let found = payload::replies(&done.stdout);
    let path = found.first().map(|r| r.value.clone()).unwrap_or_default();
    assert!(path.is_null(), "the host's files are to be seen at {path}: {}", done.stderr);
}

fn mounts(s: &mut Section<'_>) {
    s.section_at("CVE-2021-30465");
    s.case("mount targets that change into links do not lead mounts out of the root", |t| {
        let sentinel = Sentinel::new(t);
        let (volume, racer) = volume(t, "/");
        let mut b = bound(t, &volume);
        for _ in 0..10 {
            b = b.mount("/v/dir", "tmpfs", "tmpfs", &[]);
        }
        b = b.mount("/v/dir/x", "none", &sentinel.at("empty"), &["bind"]);
        let b = b.payload(&[&format!("find-file {MARKER}")]);
        start_often(&b, not_seen);
        drop(racer);
        sentinel.is_untouched();
    });
    s.case("bind mount on a target that changes into a link stays inside", |t| {
        let sentinel = Sentinel::new(t);
        let (volume, racer) = volume(t, &sentinel.at("empty"));
        let b = bound(t, &volume).mount("/v/dir", "none", &sentinel.at("full"), &["bind", "ro"]);
        start_often(&b.payload(&[&format!("find-file {MARKER}")]), not_seen);
        drop(racer);
        sentinel.is_untouched();
    });
    s.section_at("CVE-2024-45310");
    for kind in ["file", "directory"] {
        s.case(
            format!("missing target of a {kind} below a name that changes is not made on the host"),
            move |t| {
                let sentinel = Sentinel::new(t);
                let (volume, racer) = volume(t, &sentinel.at("empty"));
                let source = sentinel.at(if kind == "file" { "file" } else { "full" });
                let mut b = bound(t, &volume);
                for number in 0..10 {
                    b = b.mount(&format!("/v/dir/{number}/b/c"), "none", &source, &["bind", "ro"]);
                }
                start_often(&b, |_| {
                    let made = std::fs::read_dir(sentinel.dir.join("empty")).unwrap().count();
                    assert_eq!(made, 0, "something was made on the host");
                    let _: std::io::Result<()> = std::fs::remove_dir_all(volume.join("dir/0"));
                });
                drop(racer);
                sentinel.is_untouched();
            },
        );
    }
    s.case("working directory below a name that changes is not made on the host", |t| {
        let sentinel = Sentinel::new(t);
        let (volume, racer) = volume(t, &sentinel.at("empty"));
        let b = bound(t, &volume).set("/process/cwd", json!("/v/dir/a/b"));
        start_often(&b, |_| ());
        drop(racer);
        sentinel.is_untouched();
    });
    s.section_at("CVE-2019-19921");
    s.case("/proc that changes into a link gets no procfs without its masks", |t| {
        let b = t.bundle().file("/bad/x", "", 0o644);
        std::os::unix::fs::symlink("/bad", b.rootfs().join("other")).unwrap();
        let racer = Racer::new(b.rootfs().join("proc"), b.rootfs().join("other"));
        let b = b.payload(&["statfs /bad", "read /bad/keys", "ls /bad/sys"]);
        start_often(&b, |done| {
            let replies = payload::replies(&done.stdout);
            if let [statfs, keys, _] = replies.as_slice() {
                let procfs = statfs.value["type"] == 0x9fa0;
                let open = keys.value.as_str().is_some_and(|text| !text.is_empty());
                assert!(!procfs || !open, "procfs without masks: {done}");
            }
        });
        drop(racer);
        // Whichever name the directory has now: the root is removed as it is.
    });
}

fn devices(s: &mut Section<'_>) {
    s.section_at("CVE-2026-41579, CVE-2026-47766");
    s.case("/dev that changes into a link gets no devices on the host", |t| {
        let sentinel = Sentinel::new(t);
        let b = without_mount(t.bundle(), "/dev");
        sentinel.link(&b, "other", "empty");
        let racer = Racer::new(b.rootfs().join("dev"), b.rootfs().join("other"));
        start_often(&b, |_| {
            let made = std::fs::read_dir(sentinel.dir.join("empty")).unwrap().count();
            assert_eq!(made, 0, "something was made on the host");
        });
        drop(racer);
        sentinel.is_untouched();
    });
    s.section_at("CVE-2025-31133");
    s.case("masks hold though /dev/null changes into another file", |t| {
        let b = without_mount(t.bundle(), "/dev").file("/secret", "secret of the container", 0o644);
        let b = b.set("/linux/maskedPaths", json!(["/secret", "/proc/keys"])).file(
            "/dev/other",
            "",
            0o666,
        );
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        let null = nix::sys::stat::makedev(1, 3);
        let path = b.rootfs().join("dev/null");
        if nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, mode, null).is_err() {
            crate::suite::skip("no device can be made here");
        }
        link(&b, "dev/other", "/secret");
        let racer = Racer::new(path, b.rootfs().join("dev/other"));
        let b = b.payload(&["read /secret", "stat /secret"]);
        start_often(&b, |done| {
            assert!(!done.stdout.contains("secret of the container"), "the mask is open: {done}");
        });
        drop(racer);
    });
}

fn covers(s: &mut Section<'_>) {
    s.section_at("GHSA-3q8j-pf29-vwv8");
    s.case("read-only paths that change into links are read-only, or nothing starts", |t| {
        let sentinel = Sentinel::new(t);
        let (volume, racer) = volume(t, "/tmp");
        let b = bound(t, &volume).set("/linux/readonlyPaths", json!(["/v/dir/sub"]));
        let b = b.payload(&["facts", "create /v/dir/sub/x y", "create /v/link/sub/x y"]);
        start_often(&b, |done| {
            let replies = payload::replies(&done.stdout);
            let Some(first) = replies.first() else { return };
            let facts = payload::Facts(first.ok().clone());
            let mounts = facts.mounts();
            // The name may have been absent at that moment; a mount that is there must be read-only.
            let open = mounts.iter().filter(|m| m.target.starts_with("/v/") && !m.has(&["ro"]));
            assert_eq!(open.count(), 0, "{mounts:?}");
        });
        drop(racer);
        sentinel.is_untouched();
    });
    s.case("masked directory that changes into a link covers nothing of the host", |t| {
        let sentinel = Sentinel::new(t);
        let (volume, racer) = volume(t, &sentinel.at("full"));
        let b = bound(t, &volume).set("/linux/maskedPaths", json!(["/v/dir/file", "/v/dir/sub"]));
        start_often(&b, |_| ());
        drop(racer);
        sentinel.is_untouched();
    })
    .at("CVE-2025-52881");
}
