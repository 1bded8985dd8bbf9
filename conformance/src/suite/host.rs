//! What the host has, and the view of it that cases run in.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::run::in_path;

/// Where cgroups are.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// What a case needs of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A controller of cgroup v2.
    Controller(&'static str),
    /// A filesystem type.
    Filesystem(&'static str),
    /// A kernel of at least this version.
    Kernel(u32, u32),
    /// A capability of the suite's own, by number and name.
    Capability(u32, &'static str),
    /// A path.
    Path(&'static str),
    /// A program that `PATH` leads to.
    Program(&'static str),
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The kernel's version, as far as it counts here.
#[must_use]
pub fn kernel() -> (u32, u32) {
    let text = read("/proc/sys/kernel/osrelease");
    let mut parts = text.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

impl Need {
    /// Why the host does not have it; nothing where it has.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let (has, what) = match *self {
            Self::Controller(name) => {
                let all = read(format!("{CGROUPS}/cgroup.controllers"));
                (
                    all.split_whitespace().any(|c| c == name),
                    format!("no {name} controller in cgroup v2"),
                )
            }
            Self::Filesystem(name) => {
                let all = read("/proc/filesystems");
                (
                    all.split_whitespace().any(|f| f == name),
                    format!("no {name} in /proc/filesystems"),
                )
            }
            Self::Kernel(major, minor) => {
                let have = kernel();
                (
                    have >= (major, minor),
                    format!("Linux {}.{} is older than {major}.{minor}", have.0, have.1),
                )
            }
            Self::Capability(number, name) => {
                let status = crate::proc::status(&read("/proc/self/status"));
                let set =
                    status.get("CapEff").and_then(|s| u64::from_str_radix(s, 16).ok()).unwrap_or(0);
                (set >> number & 1 == 1, format!("the suite runs without {name}"))
            }
            Self::Path(path) => (Path::new(path).exists(), format!("no {path}")),
            Self::Program(name) => (in_path(name).is_some(), format!("no program {name}")),
        };
        (!has).then_some(what)
    }
}

/// Enters a mount namespace of its own, in which `/sys/fs/cgroup` is a cgroup v2 tree.
///
/// Where the host has the hybrid layout (controllers of version 1 with version 2 beside them), version 2 alone is
/// mounted there; controllers that version 1 holds are then missing. The host's own mounts do not change. It counts for
/// this thread and what it starts.
///
/// # Errors
/// Where this is not root, or a mount fails, in words.
pub fn enter_view() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root".into());
    }
    let tried = |what: &str, result: nix::Result<()>| result.map_err(|e| format!("{what}: {e}"));
    tried("unshare", unshare(CloneFlags::CLONE_NEWNS))?;
    let none: Option<&str> = None;
    tried(
        "mount --make-rslave /",
        mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none),
    )?;
    if statfs(CGROUPS).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        return Ok(());
    }
    let mounts = crate::proc::mounts(&read("/proc/self/mountinfo"));
    let below = mounts.iter().filter(|m| Path::new(&m.target).starts_with(CGROUPS));
    for mount in below.rev() {
        tried(
            &format!("umount {}", mount.target),
            umount2(mount.target.as_str(), MntFlags::MNT_DETACH),
        )?;
    }
    tried("mount cgroup2", mount(Some("none"), CGROUPS, Some("cgroup2"), MsFlags::empty(), none))
}
