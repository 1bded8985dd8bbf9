//! The container's cgroup: cgroup v2, by the files below `/sys/fs/cgroup` (the "cgroupfs driver").
//!
//! A [`Cgroup`] holds its directory open, so that what was created is what the container is cloned
//! into (`CLONE_INTO_CGROUP`) and what is written to later. Nothing but the container's own leaf
//! and what is below it is ever removed.
//! Source: Linux, Documentation/admin-guide/cgroup-v2.rst.

mod create;
mod device;
mod events;
mod files;
mod remove;
pub mod stats;
mod sys;
pub(crate) mod systemd;
#[cfg(test)]
mod tests;
mod undo;
mod watch;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

pub use create::Hierarchy;
pub use device::DeviceProgram;
pub use watch::{Event, Watch};

use crate::error::{Error, ErrorKind, Field, Result};

/// One value to be written to a file of the container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupWrite {
    /// The field of config.json that asks for it, as `linux.resources.memory.limit`.
    pub field: Field,
    /// The name of the file, as `memory.max`; never a path.
    pub file: Field,
    /// What is written, in one system call.
    pub value: String,
    /// What to do where the kernel has no such file in this cgroup.
    pub if_missing: IfMissing,
    /// Whether a refusal with EINVAL may be due to a later write of the list: then it is repeated
    /// once, after all the others.
    pub retry_if_invalid: bool,
}

impl CgroupWrite {
    /// The controller that the file belongs to: the name up to the first dot.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// What to do where a file that is to be written does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IfMissing {
    /// The field cannot be honoured: an error.
    Fail,
    /// Nothing: what is asked for is what a kernel without the file does.
    Skip,
    /// Another file does the same.
    Instead {
        /// The name of the other file.
        file: Field,
        /// What is written to it.
        value: String,
    },
    /// An error in the words for `linux.resources.unified`.
    Unified,
}

/// Limits that must not be below what is in use already (`memory.checkBeforeUpdate`), in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryCheck {
    /// `memory.limit`, if positive.
    pub limit: Option<u64>,
    /// `memory.swap` (memory and swap together), if positive.
    pub swap: Option<u64>,
}

/// A cgroup of the unified hierarchy, held open.
#[derive(Debug)]
pub struct Cgroup {
    /// The root of the hierarchy as this process sees it, `O_PATH`.
    root: OwnedFd,
    /// The directory, `O_PATH`.
    dir: OwnedFd,
    /// Absolute from the root of the hierarchy.
    path: String,
    /// Whether no device program can be attached: made by this handle, and nothing attached since.
    pristine: AtomicBool,
}

impl Cgroup {
    /// The path from the root of the hierarchy, as `/docker/0123`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What tells it from a later cgroup of the same path: the kernel gives no number twice.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn number(&self) -> Result<u64> {
        let stat = rustix::fs::fstat(&self.dir);
        stat.map(|stat| stat.st_ino).map_err(|errno| self.failed("cannot look at", errno))
    }

    /// Writes the values in their order; what fails stops the rest.
    ///
    /// # Errors
    /// Names the field, the file and the errno; [`ErrorKind::Unsupported`] where the cgroup lacks
    /// the controller or the kernel the file.
    pub fn apply(&self, writes: &[CgroupWrite]) -> Result<()> {
        let mut again = Vec::new();
        for write in writes {
            match files::write(&self.dir, &write.file, &write.value) {
                Ok(()) => {}
                Err(Errno::NOENT) => self.write_missing(write)?,
                Err(Errno::INVAL) if write.retry_if_invalid => again.push(write),
                Err(errno) => return Err(refused(write, &write.file, &write.value, errno)),
            }
        }
        for write in again {
            files::write(&self.dir, &write.file, &write.value)
                .map_err(|errno| refused(write, &write.file, &write.value, errno))?;
        }
        Ok(())
    }

    fn write_missing(&self, write: &CgroupWrite) -> Result<()> {
        if !self.exists() {
            return Err(self.vanished());
        }
        match &write.if_missing {
            IfMissing::Skip if self.has_controller(write.controller()) => Ok(()),
            IfMissing::Instead { file, value } => match files::write(&self.dir, file, value) {
                Err(Errno::NOENT) => Err(self.missing(write)),
                result => result.map_err(|errno| refused(write, file, value, errno)),
            },
            _ => Err(self.missing(write)),
        }
    }

    /// Why a file does not exist.
    fn missing(&self, write: &CgroupWrite) -> Error {
        let (controller, file) = (write.controller(), &write.file);
        let has_controller = controller == "cgroup" || self.has_controller(controller);
        let message = match (&write.if_missing, has_controller) {
            (IfMissing::Unified, false) => {
                format!(
                    "unified resource {file:?} can't be set: controller {controller:?} not available"
                )
            }
            (IfMissing::Unified, true) => {
                let error = Error::unsupported(
                    write.field.clone(),
                    format!("unable to set unified resource {file:?}"),
                );
                return error.errno(libc::ENOENT);
            }
            (_, false) => format!("controller {controller} is not available in {:?}", self.path),
            (_, true) => format!("this kernel has no {file}"),
        };
        Error::unsupported(write.field.clone(), message)
    }

    fn has_controller(&self, name: &str) -> bool {
        files::read(&self.dir, "cgroup.controllers")
            .is_ok_and(|list| list.split_whitespace().any(|controller| controller == name))
    }

    /// Checks new limits against what is in use; what cannot be read is not checked.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidState`], in runc's words.
    pub fn check_memory(&self, check: &MemoryCheck) -> Result<()> {
        let current = files::read(&self.dir, "memory.current");
        let Some(usage) = current.ok().and_then(|text| text.trim().parse::<u64>().ok()) else {
            return Ok(());
        };
        for (field, name, limit) in [
            ("linux.resources.memory.swap", "memory+swap", check.swap),
            ("linux.resources.memory.limit", "memory", check.limit),
        ] {
            if let Some(limit) = limit.filter(|limit| *limit <= usage) {
                let message = format!("rejecting {name} limit {limit} <= usage {usage}");
                return Err(Error::new(ErrorKind::InvalidState, message).at(field));
            }
        }
        Ok(())
    }

    /// Makes `program` the one device program of the cgroup. Programs of ancestors count as well.
    ///
    /// # Errors
    /// The kernel refuses to load or to attach it; in a user namespace it always does (EPERM).
    pub fn attach_devices(&self, program: &DeviceProgram) -> Result<()> {
        let pristine = self.pristine.swap(false, Ordering::Relaxed);
        device::attach(self.dir.as_fd(), program, pristine)
            .map_err(|error| error.at("linux.resources.devices"))
    }

    /// Kills every process of the cgroup and below with SIGKILL; does not wait for their death.
    ///
    /// # Errors
    /// The kernel is older than 5.14, or the cgroup is not ours to write.
    #[doc(alias = "cgroup.kill")]
    pub fn kill(&self) -> Result<()> {
        match files::write(&self.dir, "cgroup.kill", "1") {
            Err(errno) if !is_gone(errno) || self.exists() => {
                Err(self.failed("cannot kill the processes of", errno))
            }
            _ => Ok(()), // killed, or gone with everything in it
        }
    }

    /// Moves a process into the cgroup.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn take(&self, pid: i32) -> Result<()> {
        files::write(&self.dir, "cgroup.procs", &pid.to_string())
            .map_err(|errno| self.failed(&format!("cannot move the process {pid} into"), errno))
    }

    /// Gives the cgroup to a user, who can divide it then: the directory, and the files that the
    /// kernel lists for that (cgroups(7), Cgroup delegation). Limits stay root's.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn give_to(&self, uid: u32) -> Result<()> {
        const LIST: &str = "/sys/kernel/cgroup/delegate"; // since Linux 4.15
        let names = std::fs::read_to_string(LIST)
            .map_err(|error| Error::sys(format!("cannot read {LIST:?}"), &error))?;
        let uid = Some(rustix::fs::Uid::from_raw(uid));
        for name in std::iter::once(".").chain(names.lines()) {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            match rustix::fs::chownat(&self.dir, name, uid, None, flags) {
                // Files of controllers that are not here.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(self.failed(&format!("cannot give away {name:?} of"), errno));
                }
            }
        }
        Ok(())
    }

    /// The processes of the cgroup and all below it, as ids in the caller's pid namespace, sorted.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        match files::all_pids(&self.dir) {
            Err(errno) if is_gone(errno) && !self.exists() => Ok(Vec::new()),
            result => result.map_err(|errno| self.failed("cannot list the processes of", errno)),
        }
    }

    /// Whether the directory is still the one of the path.
    fn exists(&self) -> bool {
        // The directory of a removed cgroup stays readable through a descriptor, but is empty.
        rustix::fs::accessat(
            &self.dir,
            "cgroup.procs",
            rustix::fs::Access::EXISTS,
            rustix::fs::AtFlags::empty(),
        )
        .is_ok()
    }

    fn vanished(&self) -> Error {
        self.failed("cannot write to", Errno::NODEV).hint("the cgroup has been removed")
    }

    fn failed(&self, action: &str, errno: Errno) -> Error {
        Error::sys(format!("{action} the cgroup {:?}", self.path), errno)
    }
}

/// The descriptor of the directory, for `CLONE_INTO_CGROUP`.
impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// What the files of a removed cgroup answer: ENOENT at open, ENODEV after.
fn is_gone(errno: Errno) -> bool {
    errno == Errno::NOENT || errno == Errno::NODEV
}

fn refused(write: &CgroupWrite, file: &str, value: &str, errno: Errno) -> Error {
    let message = if write.if_missing == IfMissing::Unified {
        format!("unable to set unified resource {file:?} to {value:?}")
    } else {
        format!("cannot write {value:?} to {file}")
    };
    Error::sys(message, errno).at(write.field.clone())
}
