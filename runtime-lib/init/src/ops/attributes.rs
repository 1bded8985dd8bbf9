//! What security modules (AppArmor, SELinux) are told of the process.

use orlop_init::plan::Step;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::paths::Path;
use crate::progress::{At, Fail};
use crate::run::Init;

/// Opens the procfs of the host, before anything of a container is joined or mounted: a
/// container's own `/proc` may be its image's or its neighbour's work (CVE-2019-16884,
/// CVE-2023-28642). Its `self` is this process also where the container has another pid namespace.
///
/// It is the mount that the runtime itself relies on. A new instance would do no better, and
/// cannot be had for every process that joins a user namespace.
pub(crate) fn host_procfs() -> Result<OwnedFd, Fail> {
    /// Inode of procfs's root directory (PROC_ROOT_INO).
    const ROOT_INODE: u64 = 1;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let procfs = rustix::fs::open(c"/proc", flags, Mode::empty()).at(Step::HostProcfs)?;
    let kind = rustix::fs::fstatfs(&procfs).at(Step::HostProcfs)?.f_type;
    let inode = rustix::fs::fstat(&procfs).at(Step::HostProcfs)?.st_ino;
    if kind != rustix::fs::PROC_SUPER_MAGIC || inode != ROOT_INODE {
        return Err(Fail::new(Step::HostProcfs));
    }
    Ok(procfs)
}

/// Writes an attribute of this process, on that procfs and nothing that is mounted in it
/// (CVE-2025-52881).
///
/// `thread-self` is a link of procfs's own, to the process that looks it up.
pub(crate) fn write(init: &Init<'_>, name: &[u8], value: &[u8]) -> Result<(), Fail> {
    let procfs = init.host_procfs.as_ref().ok_or(Fail::new(Step::Decode))?;
    let mut path = Path::new(b"thread-self/attr/")?;
    path.push(name)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(procfs.as_fd(), path.c_str()?, flags, Mode::empty(), resolve)
        .at(Step::Open)?;
    // In one call: the kernel takes each for a whole value.
    let written = rustix::io::write(&file, value).at(Step::Write)?;
    crate::sys::retire(file);
    if written == value.len() { Ok(()) } else { Err(Fail::new(Step::Write)) }
}
