//! Removing the container's cgroup and all below it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Cgroup, create, events, files};
use crate::error::{Error, Result};

/// How long processes that are dying may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// As [`remove`](Self::remove), after killing what is left in it if `kill`.
    ///
    /// # Errors
    /// As [`remove`](Self::remove); the processes cannot be killed.
    pub fn destroy(&self, kill: bool) -> Result<()> {
        // Nearly always it is empty, and gone with one call.
        if files::remove_dir(&self.root, create::relative(&self.path)?).is_ok() {
            return Ok(());
        }
        if kill {
            self.kill()?;
        }
        self.remove()
    }

    /// Removes the cgroup and all below it; success if it is gone already. Kills nothing: waits up
    /// to 10 s for processes that are about to die.
    ///
    /// # Errors
    /// `unable to remove container's cgroup: ...`: it still has processes, or the kernel refuses.
    pub fn remove(&self) -> Result<()> {
        self.remove_within(PATIENCE)
    }

    pub(super) fn remove_within(&self, patience: Duration) -> Result<()> {
        remove(&self.root, &self.path, patience)
    }

    /// As [`remove`](Self::remove), by path and without opening it first: one system call less
    /// where it is empty, and no error where it is gone.
    ///
    /// # Errors
    /// As [`remove`](Self::remove); the host has no pure cgroup v2.
    pub fn remove_path(path: &str) -> Result<()> {
        remove(&create::open_root()?, path, PATIENCE)
    }
}

fn remove(root: &OwnedFd, path: &str, patience: Duration) -> Result<()> {
    let relative = create::relative(path)?;
    match files::remove_dir(root, relative) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Also EROFS and EACCES, which the kernel answers for a name that does not exist.
        Err(_) => {}
    }
    let dir = match files::open_dir(root, relative, OFlags::PATH) {
        Err(Errno::NOENT) => return Ok(()),
        result => result.map_err(|errno| failed(format!("cannot open {path:?}"), errno))?,
    };
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        match events::wait(&dir, "populated", "0", deadline) {
            Ok(true) => {}
            Ok(false) => {
                let count = files::all_pids(&dir).unwrap_or_default().len();
                let message = format!("{path:?} still holds {count} process(es)");
                return Err(failed(message, Errno::BUSY));
            }
            Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            Err(errno) => return Err(failed(format!("cannot read the events of {path:?}"), errno)),
        }
        remove_children(&dir, deadline)
            .map_err(|errno| failed(format!("cannot remove what is below {path:?}"), errno))?;
        match files::remove_dir(root, relative) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // A process or a sub-cgroup came in between, or the kernel is not done yet.
            Err(Errno::BUSY) if Instant::now() < deadline => {}
            Err(errno) => return Err(failed(format!("cannot remove {path:?}"), errno)),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn failed(what: String, errno: Errno) -> Error {
    Error::sys(format!("unable to remove container's cgroup: {what}"), errno)
}

/// Removes all below `top`, deepest first.
///
/// Neither recursion nor one descriptor for each level nor paths: how deep the tree is was the
/// container's choice. The way up by ".." is safe, as a cgroup cannot be renamed.
fn remove_children(top: &OwnedFd, deadline: Instant) -> rustix::io::Result<()> {
    let mut current: Option<OwnedFd> = None;
    let mut depth = 0usize;
    let mut just_descended = false;
    loop {
        let dir = current.as_ref().unwrap_or(top);
        let names = match files::some_children(dir) {
            Err(Errno::NOENT) => Vec::new(), // removed by somebody else
            result => result?,
        };
        if names.is_empty() {
            if depth == 0 {
                return Ok(());
            }
            if just_descended {
                // Nothing below it, yet busy: a process is dying there.
                std::thread::sleep(Duration::from_millis(1));
            }
            let up = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            current = Some(rustix::fs::openat(dir, "..", up, Mode::empty())?);
            depth -= 1;
            just_descended = false;
            continue;
        }
        let mut busy = None;
        for name in names {
            match files::remove_dir(dir, name.as_c_str()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY) => busy = Some(name),
                Err(errno) => return Err(errno),
            }
        }
        let Some(name) = busy else { continue };
        if Instant::now() >= deadline {
            return Err(Errno::BUSY);
        }
        match files::open_dir(dir, name.as_c_str(), OFlags::PATH) {
            Ok(child) => {
                current = Some(child);
                depth += 1;
                just_descended = true;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
}
