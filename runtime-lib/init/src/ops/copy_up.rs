//! `tmpcopyup`: a directory's content in a new tmpfs.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Uid};
use rustix::io::Errno;

use crate::run::PATH_MAX;

/// Deepest directory that is copied: each level takes some KiB of stack.
const MAX_DEPTH: u32 = 256;

/// Copies what is below `from`, and the directory's own mode and owner, into `to`. Names are only
/// ever looked up in open directories and links are copied as links, so that nothing outside is
/// reached, whatever the image holds.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let from = open_directory(from, c".")?;
    let to = open_directory(to, c".")?;
    copy_directory(from.as_fd(), to.as_fd(), 0)
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::LOOP);
    }
    let mut space = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(from, &mut space);
    while let Some(entry) = entries.next() {
        let name = entry?;
        let name = name.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth)?;
        }
    }
    // Last: the owner and mode may forbid writing.
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, uid(&stat), gid(&stat))?;
    rustix::fs::fchmod(to, mode(&stat))
}

fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    depth: u32,
) -> Result<(), Errno> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let (from, to) = (open_directory(from, name)?, open_directory(to, name)?);
            return copy_directory(from.as_fd(), to.as_fd(), depth + 1);
        }
        FileType::RegularFile => return copy_file(from, to, name, &stat),
        FileType::Symlink => {
            let mut buffer = [0; PATH_MAX];
            let length = rustix::fs::readlinkat_raw(from, name, &mut buffer)?;
            let target = buffer.get(..=length).ok_or(Errno::NAMETOOLONG)?;
            let target = CStr::from_bytes_with_nul(target).map_err(|_| Errno::INVAL)?;
            rustix::fs::symlinkat(target, to, name)?;
        }
        kind => {
            rustix::fs::mknodat(to, name, kind, mode(&stat), stat.st_rdev)?;
        }
    }
    rustix::fs::chownat(to, name, uid(&stat), gid(&stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn copy_file(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
    loop {
        match rustix::fs::sendfile(&target, &source, None, 1 << 20) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::fchown(&target, uid(stat), gid(stat))?;
    // After fchown(2), which takes set-user-ID bits away.
    rustix::fs::fchmod(&target, mode(stat))
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn uid(stat: &Stat) -> Option<Uid> {
    Some(Uid::from_raw(stat.st_uid))
}

fn gid(stat: &Stat) -> Option<Gid> {
    Some(Gid::from_raw(stat.st_gid))
}
