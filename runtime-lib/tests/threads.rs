//! Containers made by many threads at once leave the process that embeds the library as it was.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use orlop::{Bundle, Container, ExitStatus, Status};
use serde_json::json;

const THREADS: usize = 8;
const EACH: usize = 125;
const CGROUP: &str = "/sys/fs/cgroup/orlop-threads";

/// Why this cannot run here.
fn reason_to_skip() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root");
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return Some("no cgroup v2 at /sys/fs/cgroup (run with conformance/in-cgroup2.sh)");
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("no /bin/busybox (package busybox-static)");
    }
    None
}

/// A directory with a root filesystem of one program, and all bundles.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("orlop-threads-{}", std::process::id()));
        let bin = directory.join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        for name in ["dev", "proc"] {
            fs::create_dir(directory.join("rootfs").join(name)).unwrap();
        }
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        fs::set_permissions(bin.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        Self(directory.canonicalize().unwrap())
    }

    /// A bundle whose container exits with this code.
    fn bundle(&self, id: &str, code: usize) -> Bundle {
        // Hooks are spawned in a way of their own.
        let hooks = if code.is_multiple_of(9) { json!([{"path": "/bin/true"}]) } else { json!([]) };
        let config = json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "noNewPrivileges": true,
                "args": ["/bin/busybox", "sh", "-c", format!("exit {code}")]
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}
            ],
            "hooks": {"createRuntime": hooks, "poststop": hooks},
            "linux": {
                "cgroupsPath": format!("/orlop-threads/{id}"),
                "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"}],
                "maskedPaths": ["/proc/kcore"]
            }
        });
        let spec = serde_json::from_value(config).unwrap();
        Bundle::from_spec(&self.0, spec)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _: std::io::Result<()> = fs::remove_dir_all(&self.0);
        let _: std::io::Result<()> = fs::remove_dir(CGROUP);
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The links in a directory of procfs.
fn links(directory: &str) -> BTreeMap<String, String> {
    let own = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    // The descriptor that reads the directory is gone by now.
    let all = own.filter_map(|path| {
        let target = fs::read_link(&path).ok()?;
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, target.to_string_lossy().into_owned()))
    });
    all.filter(|(_, target)| !target.ends_with("/fd")).collect()
}

/// Fields of a status file of procfs.
fn status(path: &str, fields: &[&str]) -> Vec<String> {
    let text = read(path);
    let lines = text.lines().filter(|line| fields.iter().any(|field| line.starts_with(field)));
    lines.map(str::to_owned).collect()
}

/// What of a thread its system calls could change, and stay changed for the embedder's next one.
fn of_the_thread() -> Vec<String> {
    let mut all = status(
        "/proc/thread-self/status",
        &[
            "Umask",
            "Uid",
            "Gid",
            "Groups",
            "SigBlk",
            "Cap",
            "NoNewPrivs",
            "Seccomp",
            "Cpus_allowed",
        ],
    );
    all.push(format!("{:?}", links("/proc/thread-self/ns")));
    all.push(read("/proc/thread-self/cgroup"));
    all.push(format!("{:?}", std::env::current_dir().unwrap()));
    all
}

/// What of the process the library could change, each with its name.
fn of_the_process() -> BTreeMap<&'static str, String> {
    let stdio = [0, 1, 2].map(|fd| {
        let stat = fs::metadata(format!("/proc/self/fd/{fd}"));
        stat.map(|stat| {
            use std::os::unix::fs::MetadataExt;
            (stat.dev(), stat.ino(), stat.mode(), stat.uid(), stat.gid())
        })
        .ok()
    });
    BTreeMap::from([
        ("thread", format!("{:#?}", of_the_thread())),
        ("descriptors", format!("{:#?}", links("/proc/self/fd"))),
        ("standard streams", format!("{stdio:?}")),
        ("environment", format!("{:?}", std::env::vars_os().collect::<Vec<_>>())),
        ("signals", format!("{:?}", status("/proc/self/status", &["SigIgn", "SigCgt", "Threads"]))),
        ("subreaper", format!("{:?}", nix::sys::prctl::get_child_subreaper())),
        ("dumpable", format!("{:?}", nix::sys::prctl::get_dumpable())),
        ("limits", read("/proc/self/limits")),
        ("children", read("/proc/thread-self/children")),
        ("score", read("/proc/self/oom_score_adj")),
        ("personality", read("/proc/self/personality")),
        ("mounts", read("/proc/self/mountinfo")),
        ("name", read("/proc/self/comm")),
        ("root", format!("{:?}", fs::read_link("/proc/self/root"))),
        ("session", format!("{:?}", (nix::unistd::getsid(None), nix::unistd::getpgrp()))),
    ])
}

/// One container's whole life; most are created and deleted, every fifth runs to its end.
fn live(files: &Files, thread: usize, number: usize) {
    let id = format!("t{thread}-{number}");
    let code = (thread * EACH + number) % 100;
    let builder =
        Container::builder(&id, files.bundle(&id, code)).state_root(files.0.join("state"));
    if number.is_multiple_of(5) {
        let mut container = builder.run().unwrap();
        let ended = container.wait().unwrap();
        assert_eq!(ended, ExitStatus::Exited(i32::try_from(code).unwrap()), "{id} is another's");
        container.delete(false).unwrap();
    } else {
        let mut container = builder.create().unwrap();
        assert_eq!(container.status().unwrap(), Status::Created);
        if number % 5 == 1 {
            container.start().unwrap();
            assert_eq!(container.wait().unwrap().code(), i32::try_from(code).unwrap());
        }
        container.delete(true).unwrap();
    }
    assert!(!files.0.join("state").join(&id).exists());
    assert!(!Path::new(CGROUP).join(&id).exists());
}

/// Keeps the allocator's locks busy: a child that allocated before execve(2) would hang on one.
fn churn(stop: &AtomicBool) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut size = 1;
    while !stop.load(Ordering::Relaxed) {
        size = (size * 7 + 13) % 200_000;
        kept.push(vec![1; size]);
        if kept.len() > 64 {
            kept.drain(..32);
        }
    }
}

#[test]
fn a_thousand_containers_of_eight_threads_change_nothing_of_their_process() {
    if let Some(reason) = reason_to_skip() {
        assert!(std::env::var_os("ORLOP_NO_SKIP").is_none(), "cannot run: {reason}");
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let files = Files::new();
    live(&files, THREADS, 0);
    let before = of_the_process();
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| churn(&stop));
        }
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (files, done) = (&files, &done);
                scope.spawn(move || {
                    let before = of_the_thread();
                    for number in 0..EACH {
                        live(files, thread, number);
                        assert_eq!(of_the_thread(), before, "after container {number}");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let failed = threads.into_iter().filter_map(|thread| thread.join().err()).count();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failed, 0, "threads have failed");
    });
    assert_eq!(done.into_inner(), THREADS * EACH);
    // A thread that was joined may still be on its way out.
    let mut after = of_the_process();
    for _ in 0..200 {
        if after["signals"] == before["signals"] {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        after = of_the_process();
    }
    for (name, before) in before {
        assert_eq!(after[name], before, "{name}");
    }
    assert_eq!(fs::read_dir(files.0.join("state")).unwrap().count(), 0, "no state is left");
    let cgroups = fs::read_dir(CGROUP).unwrap().filter_map(Result::ok);
    assert_eq!(cgroups.filter(|entry| entry.path().is_dir()).count(), 0, "no cgroup is left");
}
