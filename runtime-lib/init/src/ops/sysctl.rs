//! Kernel parameters.

use core::ffi::CStr;

use orlop_init::plan::Step;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::paths::Path;
use crate::progress::{At, Fail};
use crate::run::Init;

/// Writes a parameter through the init's own procfs, whatever is mounted on the container's `/proc`
/// (CVE-2025-52881).
pub(crate) fn write(init: &mut Init<'_>, name: &CStr, value: &[u8]) -> Result<(), Fail> {
    let mut path = Path::new(b"sys/")?;
    path.push(name.to_bytes())?;
    write_file(procfs(init)?, path.c_str()?, ResolveFlags::NO_SYMLINKS, value)
}

/// Writes a file of procfs in one call.
pub(super) fn write_file(
    procfs: BorrowedFd<'_>,
    path: &CStr,
    resolve: ResolveFlags,
    value: &[u8],
) -> Result<(), Fail> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | resolve;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(procfs, path, flags, Mode::empty(), resolve).at(Step::Open)?;
    let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, value)).at(Step::Write)?;
    crate::sys::retire(file);
    if written == value.len() { Ok(()) } else { Err(Fail::new(Step::Write)) }
}

/// The init's own handle on procfs, opened when first needed.
fn procfs<'a>(init: &'a mut Init<'_>) -> Result<BorrowedFd<'a>, Fail> {
    let procfs = match init.procfs.take() {
        Some(procfs) => procfs,
        None => open_procfs()?,
    };
    let procfs: &'a OwnedFd = init.procfs.insert(procfs);
    Ok(procfs.as_fd())
}

/// A procfs that is mounted nowhere.
fn open_procfs() -> Result<OwnedFd, Fail> {
    let context =
        rustix::mount::fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC).at(Step::OpenProcfs)?;
    rustix::mount::fsconfig_create(context.as_fd()).at(Step::OpenProcfs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .at(Step::OpenProcfs)
}
