//! What is done to a container's processes as a whole, by way of its cgroup.

use crate::cgroup::stats::Stats;
use crate::cgroup::{Cgroup, Watch};
use crate::container::{Container, Status};
use crate::error::{Error, ErrorKind, Result};
use crate::rdt::Resctrl;

impl Container {
    /// Freezes all its processes, and waits until they are. A created container can be paused too.
    ///
    /// # Errors
    /// `container not running`, also if it is paused already; the kernel refuses, or takes more
    /// than 10 s: then the processes run on.
    pub fn pause(&self) -> Result<()> {
        match self.status()? {
            Status::Created | Status::Running => {}
            Status::Paused | Status::Stopped => return Err(not_running()),
        }
        self.open_cgroup()?.ok_or_else(not_running)?.freeze()
    }

    /// Lets the processes of a paused container run again. What is left of one whose init was
    /// killed meanwhile is let go as well.
    ///
    /// # Errors
    /// `container not paused`; the kernel refuses.
    pub fn resume(&self) -> Result<()> {
        let cgroup = self.open_cgroup()?;
        let not_paused = || Error::new(ErrorKind::InvalidState, "container not paused");
        let cgroup = cgroup.ok_or_else(not_paused)?;
        if cgroup.is_frozen()? { cgroup.thaw() } else { Err(not_paused()) }
    }

    /// All processes of its cgroup and below, as ids in the caller's pid namespace, sorted; none
    /// when it has ended.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.open_cgroup()?.map_or_else(|| Ok(Vec::new()), |cgroup| cgroup.pids())
    }

    /// What it and all its processes have used; of one that has ended too, as long as its cgroup
    /// is there.
    ///
    /// # Errors
    /// `container not running`: there is no cgroup; a file of it cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = self.open_cgroup()?.ok_or_else(not_running)?.stats()?;
        if let Some(rdt) = &self.record.rdt
            && let Ok(resctrl) = Resctrl::open()
        {
            stats.rdt = resctrl.stats(rdt);
        }
        Ok(stats)
    }

    /// Begins to watch for processes that the OOM killer ends, and for the end of all.
    ///
    /// # Errors
    /// `container not running`: there is no cgroup; the kernel refuses.
    pub fn watch(&self) -> Result<Watch> {
        self.open_cgroup()?.ok_or_else(not_running)?.watch()
    }

    pub(crate) fn open_cgroup(&self) -> Result<Option<Cgroup>> {
        Cgroup::open(&self.record.cgroup)
    }
}

pub(crate) fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "container does not exist")
}

pub(crate) fn not_running() -> Error {
    Error::new(ErrorKind::InvalidState, "container not running")
}
