//! Taking away what a case left, whatever the runtime did.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::host::CGROUPS;
use crate::harness::CGROUP_PARENT;
use crate::run::lossy;

/// The children of a process, of all its threads.
fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .flat_map(|task| {
            let text = lossy(&task.path().join("children"));
            text.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<i32>>()
        })
        .collect()
}

/// All that descends from a process.
fn descendants(pid: i32) -> Vec<i32> {
    let mut all = children(pid);
    let mut next = 0;
    while let Some(child) = all.get(next).copied() {
        all.extend(children(child));
        next += 1;
    }
    all
}

/// Reaps what has ended, and names the children of this process that live.
///
/// A helper of the runtime may be on its way out; it gets a second.
#[must_use]
pub fn living_children() -> Vec<String> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(1);
    loop {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        let left = children(own);
        if left.is_empty() || Instant::now() > end {
            let name = |pid: &i32| {
                let text = lossy(Path::new(&format!("/proc/{pid}/cmdline"))).replace('\0', " ");
                format!("{pid} ({})", text.trim_end())
            };
            return left.iter().map(name).collect();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills a process and all that descends from it; its own parent reaps it.
pub fn kill_tree(pid: i32) {
    // Twice: the first round may race with a fork.
    for _ in 0..2 {
        for child in descendants(pid) {
            let _: nix::Result<()> = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
    }
    let _: nix::Result<()> = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Takes away the cgroups that a case's process (by its pid) named, its directory with all mounts in it; says what of
/// that should not have been there.
pub fn clean(pid: i32, dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let prefix = format!("s-{pid}-");
    let parent = Path::new(CGROUPS).join(CGROUP_PARENT);
    for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(format!("cgroup {}", entry.path().display()));
            remove_cgroup(&entry.path());
        }
    }
    let own = lossy(Path::new("/proc/self/mountinfo"));
    for mount in crate::proc::mounts(&own).iter().rev() {
        if Path::new(&mount.target).starts_with(dir) {
            found.push(format!("mount {}", mount.target));
            let _: nix::Result<()> = umount2(mount.target.as_str(), MntFlags::MNT_DETACH);
        }
    }
    match remove_tree(dir) {
        Ok(()) => {}
        Err(text) => found.push(text),
    }
    found
}

/// Removes a directory, but never what is mounted in it: that may be the host's.
///
/// # Errors
/// Why something stays, in words.
pub fn remove_tree(dir: &Path) -> Result<(), String> {
    // By text: names are escaped in the table, but the directory is the suite's own and its name is plain.
    let own = lossy(Path::new("/proc/self/mountinfo"));
    let below = |m: &crate::proc::Mount| m.target.starts_with(&*dir.to_string_lossy());
    if own.is_empty() || crate::proc::mounts(&own).iter().any(below) {
        return Err(format!("{} stays, as something is mounted in it", dir.display()));
    }
    std::fs::remove_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))
}

fn remove_cgroup(path: &Path) {
    let _: std::io::Result<()> = std::fs::write(path.join("cgroup.kill"), "1");
    let _: std::io::Result<()> = std::fs::write(path.join("cgroup.freeze"), "0");
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let end = Instant::now() + Duration::from_secs(2);
    while std::fs::remove_dir(path).is_err() && path.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}
