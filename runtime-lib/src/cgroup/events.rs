//! Freezing, and waiting for what `cgroup.events` tells.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::{Cgroup, files};
use crate::error::{Error, ErrorKind, Result};

/// How long a cgroup may take to freeze; runc's figure.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Stops every process of the cgroup and below, and waits until they are stopped.
    ///
    /// # Errors
    /// The kernel refuses, or it takes more than 10 s (a process in an uninterruptible sleep):
    /// then the processes are let go again.
    #[doc(alias = "cgroup.freeze")]
    pub fn freeze(&self) -> Result<()> {
        let failed = |errno| self.failed("cannot freeze", errno);
        files::write(&self.dir, "cgroup.freeze", "1").map_err(failed)?;
        let deadline = Instant::now() + FREEZE_PATIENCE;
        match wait(&self.dir, "frozen", "1", deadline) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.thaw()?;
                let message = format!("the cgroup {:?} did not freeze within 10 s", self.path);
                Err(Error::new(ErrorKind::System, message))
            }
            // Whoever hears that it failed does not resume it.
            Err(errno) => {
                self.thaw()?;
                Err(failed(errno))
            }
        }
    }

    /// Lets the processes run again, unless an ancestor is frozen too; success where it is gone:
    /// systemd removes cgroups as soon as they are empty.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn thaw(&self) -> Result<()> {
        match files::write(&self.dir, "cgroup.freeze", "0") {
            Err(errno) if super::is_gone(errno) && !self.exists() => Ok(()),
            result => result.map_err(|errno| self.failed("cannot thaw", errno)),
        }
    }

    /// Whether the cgroup itself was told to freeze; an ancestor's freeze does not count. One that is
    /// gone is not frozen.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        match files::read(&self.dir, "cgroup.freeze") {
            Ok(text) => Ok(text.trim() == "1"),
            Err(errno) if super::is_gone(errno) => Ok(false),
            Err(errno) => Err(self.failed("cannot read the freezer of", errno)),
        }
    }

    /// How many processes of the cgroup and below the OOM killer has killed; None without the
    /// memory controller.
    #[doc(alias = "memory.events")]
    pub fn oom_kills(&self) -> Option<u64> {
        let text = files::read(&self.dir, "memory.events").ok()?;
        files::value_of(&text, "oom_kill")?.parse().ok()
    }

    /// Whether there is a living process in the cgroup or below. Zombies do not count.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_populated(&self) -> Result<bool> {
        match files::read(&self.dir, "cgroup.events") {
            Ok(text) => Ok(files::value_of(&text, "populated") == Some("1")),
            Err(errno) if super::is_gone(errno) && !self.exists() => Ok(false),
            Err(errno) => Err(self.failed("cannot read the events of", errno)),
        }
    }
}

/// Waits until `cgroup.events` has the line `key value`; false at the deadline.
pub(super) fn wait(
    dir: impl std::os::fd::AsFd,
    key: &str,
    value: &str,
    deadline: Instant,
) -> rustix::io::Result<bool> {
    let events = files::open(dir, "cgroup.events")?;
    // The kernel tells of a change at most every 10 ms (CGROUP_FILE_NOTIFY_MIN_INTV), so a second
    // change soon after the first is seen earlier by looking.
    let mut patience = Duration::from_millis(1);
    loop {
        if files::value_of(&files::reread(&events)?, key) == Some(value) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(patience.min(left)).map_err(|_| Errno::INVAL)?;
        match rustix::event::poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        patience = (patience * 2).min(Duration::from_millis(100));
    }
}
