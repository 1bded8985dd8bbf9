//! An ordinary user who calls a runtime: without privileges, from a cgroup of its own.

use std::fs::File;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::rootless::{SUB, USER};
use crate::tmp::TempDir;

/// An ordinary user, as whom commands are run.
///
/// What it runs from inside is in the cgroup `/NAME/own`, and a container that names no cgroup is to have `/NAME/ID`.
#[derive(Debug)]
pub struct Caller {
    cgroup: PathBuf,
    /// `cgroup.procs` of the cgroup to call from.
    procs: File,
    /// A mount namespace in which `/etc/subuid` and `/etc/subgid` grant ids.
    mounts: Option<File>,
}

/// Where it calls from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Its own cgroup, which all that it starts is found by.
    Inside,
    /// Wherever this process is.
    Outside,
}

impl Caller {
    /// One who may make cgroups below `/NAME` if `delegated`, and none otherwise.
    ///
    /// # Panics
    /// Where the cgroup cannot be made.
    #[must_use]
    pub fn new(name: &str, delegated: bool) -> Self {
        let cgroup = Path::new("/sys/fs/cgroup").join(name);
        let own = cgroup.join("own");
        std::fs::create_dir_all(&own).unwrap();
        if delegated {
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "own", "own/cgroup.procs"] {
                lchown(cgroup.join(file), Some(USER), Some(USER)).unwrap();
            }
        }
        let procs = File::options().write(true).open(own.join("cgroup.procs")).unwrap();
        Self { cgroup, procs, mounts: None }
    }

    /// Grants it the subordinate ids [`SUB`].
    ///
    /// # Panics
    /// Where that cannot be arranged.
    #[must_use]
    pub fn with_ranges(mut self) -> Self {
        let directory = TempDir::new("orlop-caller");
        let granted = |name: &str, line: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, line).unwrap();
            path
        };
        let ids = granted("ids", format!("caller:{}:{}\n", SUB.0, SUB.1));
        let passwd = granted("passwd", format!("caller:x:{USER}:{USER}::/:/bin/sh\n"));
        let over = [(&ids, "/etc/subuid"), (&ids, "/etc/subgid"), (&passwd, "/etc/passwd")];
        let namespace = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let bind = |source: Option<&Path>, target: &str, flags| {
                mount(source, target, None::<&str>, flags, None::<&str>).unwrap();
            };
            bind(None, "/", MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            for (source, target) in over {
                let _file = File::options().append(true).create(true).open(target).unwrap();
                bind(Some(source), target, MsFlags::MS_BIND);
            }
            File::open("/proc/thread-self/ns/mnt").unwrap()
        };
        // Of a thread of its own: the others stay where they are.
        self.mounts = Some(std::thread::scope(|scope| scope.spawn(namespace).join().unwrap()));
        self
    }

    /// The cgroup of a container of this id that names none.
    #[must_use]
    pub fn cgroup_of(&self, id: &str) -> PathBuf {
        self.cgroup.join(id)
    }

    /// Makes the command one of this user's.
    ///
    /// # Panics
    /// Where there are no descriptors left.
    pub fn run(&self, command: &mut Command, side: Side) {
        let copy = |file: &File| file.try_clone().unwrap();
        let procs = (side == Side::Inside).then(|| copy(&self.procs));
        sys::run(command, USER, procs, self.mounts.as_ref().map(copy));
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _: std::io::Result<()> = std::fs::remove_dir(self.cgroup.join("own"));
        let _: std::io::Result<()> = std::fs::remove_dir(&self.cgroup);
    }
}

/// Gives a file, or a directory with all in it, to a user.
///
/// # Panics
/// Where that is not allowed.
pub fn own(path: &Path, id: u32) {
    lchown(path, Some(id), Some(id)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), id);
        }
    }
}

mod sys {
    #![allow(unsafe_code)]

    use std::fs::File;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use nix::sched::{CloneFlags, setns};
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid, write};

    /// Has the command enter a cgroup and a mount namespace, and give up all rights.
    pub(super) fn run(command: &mut Command, id: u32, procs: Option<File>, mounts: Option<File>) {
        let enter = move || {
            if let Some(procs) = &procs {
                write(procs, b"0")?;
            }
            if let Some(mounts) = &mounts {
                setns(mounts, CloneFlags::CLONE_NEWNS)?;
            }
            let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
            setgroups(&[])?;
            setresgid(group, group, group)?;
            setresuid(user, user, user)?;
            Ok(())
        };
        // SAFETY: the closure runs between fork and execve of a process with other threads, where a lock could be held
        // forever and memory must not be allocated; it is system calls and the conversion of a number. libc's wrappers
        // that change ids signal all threads of the process: the child has one.
        unsafe { command.pre_exec(enter) };
    }
}
