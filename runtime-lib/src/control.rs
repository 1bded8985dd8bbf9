//! What is done to a container's processes as a whole, by way of its cgroup.

use crate::cgroup::stats::Stats;
use crate::cgroup::{Cgroup, Watch};
use crate::container::{Container, Status};
use crate::error::{Error, ErrorKind, Result};
use crate::host;
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
        self.own_cgroup()?.freeze()
    }

    /// Lets the processes of a paused container run again. What is left of one whose init was
    /// killed meanwhile is let go as well.
    ///
    /// # Errors
    /// `container not paused`; the kernel refuses.
    pub fn resume(&self) -> Result<()> {
        if self.record.cgroup.is_empty() {
            return Err(no_cgroup());
        }
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
        if self.record.cgroup.is_empty() {
            return if self.status()? == Status::Stopped {
                Ok(Vec::new())
            } else {
                host::pids_beside(self.record.pid, self.record.own_pid_namespace)
            };
        }
        self.open_cgroup()?.map_or_else(|| Ok(Vec::new()), |cgroup| cgroup.pids())
    }

    /// What it and all its processes have used; of one that has ended too, as long as its cgroup
    /// is there.
    ///
    /// # Errors
    /// `container not running`: there is no cgroup; a file of it cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = self.own_cgroup()?.stats()?;
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
        self.own_cgroup()?.watch()
    }

    /// Its cgroup, if it has one and that is there.
    pub(crate) fn open_cgroup(&self) -> Result<Option<Cgroup>> {
        if self.record.cgroup.is_empty() { Ok(None) } else { Cgroup::open(&self.record.cgroup) }
    }

    /// What cannot be done without.
    pub(crate) fn own_cgroup(&self) -> Result<Cgroup> {
        let none = || if self.record.cgroup.is_empty() { no_cgroup() } else { not_running() };
        self.open_cgroup()?.ok_or_else(none)
    }
}

fn no_cgroup() -> Error {
    let message = "the container has no cgroup of its own: its creator had no rights over cgroups";
    Error::new(ErrorKind::Unsupported, message)
}

pub(crate) fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "container does not exist")
}

pub(crate) fn not_running() -> Error {
    Error::new(ErrorKind::InvalidState, "container not running")
}
