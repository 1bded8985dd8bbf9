//! Device nodes and the links beside them.

use core::ffi::CStr;

use orlop_init::plan::{Device, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::paths::{self, Path};
use crate::progress::{At, Fail};
use crate::run::Init;
use orlop_init::wire::Str;

/// The directory of a path and its last name. The directory stays open for the next path in it:
/// nearly all are in `/dev`.
fn directory<'a>(
    init: &mut Init<'a>,
    path: &'a CStr,
) -> Result<(BorrowedFd<'static>, &'a CStr), Fail> {
    let (parent, name) = paths::split(path)?;
    if let Some((last, fd)) = &init.last_directory
        && *last == parent
    {
        return Ok((*fd, name));
    }
    let fd: OwnedFd = paths::ensure_directory(init.root()?, Path::new(parent)?.c_str()?)?;
    let fd = crate::sys::leave_open(fd);
    init.last_directory = Some((parent, fd));
    Ok((fd, name))
}

/// Creates a device node.
pub(crate) fn node<'a>(init: &mut Init<'a>, device: &Device<Str<'a>>) -> Result<(), Fail> {
    let path = device.path.c_str()?;
    let (directory, name) = directory(init, path)?;
    let number = rustix::fs::makedev(device.major, device.minor);
    let kind = FileType::from_raw_mode(device.mode);
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    match rustix::fs::mknodat(directory, name, kind, mode, number) {
        Ok(()) => own(directory, name, device),
        Err(Errno::EXIST) => check_existing(directory, name, kind, number),
        // Some sandboxes forbid mknod(2) to root: the host's node serves as well.
        Err(Errno::PERM) if !init.mounts_are_the_hosts => {
            bind_from_host(directory, name, path, kind, number)
        }
        Err(errno) => Err(Fail::errno(Step::Whole, errno)),
    }
}

fn own(directory: BorrowedFd<'_>, name: &CStr, device: &Device<Str<'_>>) -> Result<(), Fail> {
    if device.uid == 0 && device.gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .at(Step::Chown)
}

/// A node that is there already must be the device; a link or file of the image is not.
fn check_existing(
    directory: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
    number: u64,
) -> Result<(), Fail> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).at(Step::Whole)?;
    let same_kind = FileType::from_raw_mode(stat.st_mode) == kind;
    if same_kind && (kind == FileType::Fifo || stat.st_rdev == number) {
        return Ok(());
    }
    Err(Fail::errno(Step::WrongObject, Errno::EXIST))
}

fn bind_from_host(
    directory: BorrowedFd<'_>,
    name: &CStr,
    path: &CStr,
    kind: FileType,
    number: u64,
) -> Result<(), Fail> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let host = rustix::fs::openat(CWD, path, flags, Mode::empty()).at(Step::OpenSource)?;
    let stat = rustix::fs::fstat(&host).at(Step::OpenSource)?;
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != number {
        return Err(Fail::errno(Step::WrongObject, Errno::NXIO));
    }
    let mount = paths::clone_tree(host.as_fd(), false).at(Step::CreateMount)?;
    let place = paths::create_file(directory, name).at(Step::CreateTarget)?;
    paths::attach(mount.as_fd(), place.as_fd()).at(Step::Attach)
}

/// Creates a symbolic link; what is there stays, unless it is to be replaced.
pub(crate) fn symlink<'a>(
    init: &mut Init<'a>,
    target: &CStr,
    path: &'a CStr,
    replace: bool,
) -> Result<(), Fail> {
    let (directory, name) = directory(init, path)?;
    match rustix::fs::symlinkat(target, directory, name) {
        Err(Errno::EXIST) if replace => {
            paths::remove(directory, name).at(Step::Write)?;
            rustix::fs::symlinkat(target, directory, name).at(Step::Whole)
        }
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(Fail::errno(Step::Whole, errno)),
    }
}
