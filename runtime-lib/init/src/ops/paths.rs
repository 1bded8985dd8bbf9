//! Paths in the container's root: looked up once, inside the root, whatever its content does meanwhile.

use core::ffi::CStr;

use orlop_init::plan::Step;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::root::clone_flags;
use crate::progress::Fail;
use crate::run::PATH_MAX;

/// How often a look-up is tried again when the kernel saw a rename or mount meanwhile.
///
/// openat2(2) gives EAGAIN then; a peer that renames in a loop makes it frequent, never permanent.
const TRIES: u32 = 10_000;
/// As many symbolic links as the kernel follows.
const MAX_LINKS: u32 = 40;

/// Opens a path inside the root: symbolic links stay inside, magic links of procfs are refused.
pub(crate) fn open(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_with(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens a path inside the root that no symbolic link may be part of.
pub(crate) fn open_plain(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    open_with(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
}

fn open_with(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut tries = 0;
    loop {
        let flags = flags | OFlags::CLOEXEC;
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

/// A mount of its own of what `place` is.
pub(crate) fn clone_tree(place: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let flags = clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(place, c"", flags)
}

/// Attaches a detached mount to an open place.
///
/// ENOTDIR if one of them is a directory and the other is not: the kernel's EINVAL does not say.
pub(crate) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", place, c"", flags).map_err(|errno| {
        let is_directory = |fd| is_directory(fd).unwrap_or(false);
        let differ = errno == Errno::INVAL && is_directory(mount) != is_directory(place);
        if differ { Errno::NOTDIR } else { errno }
    })
}

/// What a mountpoint is created as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// For a filesystem or a bind of a directory.
    Directory,
    /// For a bind of anything else.
    File,
}

/// A place in the root that is there, or was created.
pub(crate) struct Place {
    pub(crate) fd: OwnedFd,
    pub(crate) created: bool,
}

/// Opens a place in the root, creating what is missing: directories 0755, a file 0644.
///
/// A symbolic link that leads nowhere is followed to the place that it names, inside the root, as
/// images have them (`/etc/resolv.conf`).
pub(crate) fn ensure(root: BorrowedFd<'_>, path: &CStr, kind: Kind) -> Result<Place, Fail> {
    let mut path = Path::new(path.to_bytes())?;
    for _ in 0..MAX_LINKS {
        match open(root, path.c_str()?, OFlags::PATH) {
            Ok(fd) => return Ok(Place { fd, created: false }),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Fail::errno(Step::OpenTarget, errno)),
        }
        if let Some(fd) = create(root, &mut path, kind)? {
            return Ok(Place { fd, created: true });
        }
    }
    Err(Fail::errno(Step::CreateTarget, Errno::LOOP))
}

/// Opens a directory in the root, creating it where it is missing.
pub(crate) fn ensure_directory(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Fail> {
    ensure(root, path, Kind::Directory).map(|place| place.fd)
}

/// Creates what is missing of `path`; `None` where the look-up has to be done again: the path was
/// rewritten by a dangling link's target, or somebody else created it.
fn create(root: BorrowedFd<'_>, path: &mut Path, kind: Kind) -> Result<Option<OwnedFd>, Fail> {
    let (mut directory, mut done) = deepest_directory(root, path)?;
    loop {
        let name = path.component(done)?;
        let last = path.is_last(done, &name);
        if name.is(b"..") {
            return Err(Fail::errno(Step::CreateTarget, Errno::INVAL));
        }
        let made = if last && kind == Kind::File {
            create_file(directory.as_fd(), name.c_str()?)
        } else {
            create_directory(directory.as_fd(), name.c_str()?)
        };
        match made {
            Ok(fd) if last => return Ok(Some(fd)),
            Ok(fd) => directory = fd,
            Err(Errno::EXIST) => {
                follow_link(directory.as_fd(), path, done, &name)?;
                return Ok(None);
            }
            Err(errno) => return Err(Fail::errno(Step::CreateTarget, errno)),
        }
        done = path.skip(done, &name);
    }
}

fn create_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Creates a file that was not there, and nowhere else.
///
/// Not open for writing: as long as it were, its mount could not turn read-only (EBUSY).
pub(crate) fn create_file(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))
}

/// The deepest directory of `path` that is there, and how many bytes of the path it takes.
fn deepest_directory(root: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, usize), Fail> {
    let mut end = path.length;
    loop {
        end = path.parent_end(end);
        let parent = path.prefix(end)?;
        match open(root, parent.c_str()?, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => return Ok((fd, end)),
            Err(Errno::NOENT) if end > 0 => {}
            Err(errno) => return Err(Fail::errno(Step::OpenTarget, errno)),
        }
    }
}

/// Puts a dangling link's target in place of the link's name in `path`.
fn follow_link(
    directory: BorrowedFd<'_>,
    path: &mut Path,
    done: usize,
    name: &Path,
) -> Result<(), Fail> {
    let mut buffer = [0; PATH_MAX];
    let target = match rustix::fs::readlinkat_raw(directory, name.c_str()?, &mut buffer) {
        Ok(length) => buffer.get(..length).unwrap_or_default(),
        // Not a link: somebody created it meanwhile.
        Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Fail::errno(Step::CreateTarget, errno)),
    };
    let mut next = Path::default();
    if target.first() != Some(&b'/') {
        next.push(path.bytes(0, done))?;
    }
    next.push(b"/")?;
    next.push(target)?;
    next.push(path.bytes(path.skip(done, name), path.length))?;
    *path = next;
    Ok(())
}

/// Whether the object behind a descriptor is the character device of these numbers.
pub(crate) fn is_device(fd: impl AsFd, major: u32, minor: u32) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && rustix::fs::major(stat.st_rdev) == major
        && rustix::fs::minor(stat.st_rdev) == minor)
}

/// Whether the object behind a descriptor is a directory.
pub(crate) fn is_directory(fd: impl AsFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Splits an absolute path in its directory and its last name.
pub(crate) fn split(path: &CStr) -> Result<(&[u8], &CStr), Fail> {
    let bytes = path.to_bytes_with_nul();
    let slash = bytes.iter().rposition(|byte| *byte == b'/').ok_or(Fail::new(Step::Decode))?;
    let (directory, name) = bytes.split_at_checked(slash + 1).ok_or(Fail::new(Step::Decode))?;
    let name = CStr::from_bytes_with_nul(name).map_err(|_| Fail::new(Step::Decode))?;
    Ok((directory, name))
}

/// Removes a name that is no directory.
pub(crate) fn remove(directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    rustix::fs::unlinkat(directory, name, AtFlags::empty())
}

/// A path in a buffer of its own, NUL-terminated.
pub(crate) struct Path {
    buffer: [u8; PATH_MAX],
    length: usize,
}

impl Default for Path {
    fn default() -> Self {
        Self { buffer: [0; PATH_MAX], length: 0 }
    }
}

impl Path {
    /// A copy of a path.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, Fail> {
        let mut path = Self::default();
        path.push(bytes)?;
        Ok(path)
    }

    /// Appends bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Fail> {
        let end = self.length + bytes.len();
        // One byte stays for the NUL.
        let room = self.buffer.get_mut(self.length..end).filter(|_| end < PATH_MAX);
        room.ok_or(Fail::errno(Step::TooLong, Errno::NAMETOOLONG))?.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    /// The path for the kernel.
    pub(crate) fn c_str(&self) -> Result<&CStr, Fail> {
        CStr::from_bytes_until_nul(&self.buffer).map_err(|_| Fail::new(Step::TooLong))
    }

    fn bytes(&self, from: usize, to: usize) -> &[u8] {
        self.buffer.get(from..to).unwrap_or_default()
    }

    fn is(&self, name: &[u8]) -> bool {
        self.bytes(0, self.length) == name
    }

    /// The path up to `end`; the root for nothing.
    fn prefix(&self, end: usize) -> Result<Self, Fail> {
        Self::new(if end == 0 { b"/" } else { self.bytes(0, end) })
    }

    /// Where the parent of the path that ends at `end` ends.
    fn parent_end(&self, end: usize) -> usize {
        let name_end = trim_end(self.bytes(0, end));
        let slash = self.bytes(0, name_end).iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        trim_end(self.bytes(0, slash))
    }

    /// The name that follows after `done` bytes.
    fn component(&self, done: usize) -> Result<Self, Fail> {
        let rest = self.bytes(done, self.length);
        let name = rest.split(|byte| *byte == b'/').find(|name| !name.is_empty());
        Self::new(name.ok_or(Fail::new(Step::Decode))?)
    }

    /// How many bytes are done after that name.
    fn skip(&self, done: usize, name: &Self) -> usize {
        let slashes = self.bytes(done, self.length).iter().take_while(|byte| **byte == b'/');
        done + slashes.count() + name.length
    }

    fn is_last(&self, done: usize, name: &Self) -> bool {
        self.bytes(self.skip(done, name), self.length).iter().all(|byte| *byte == b'/')
    }
}

fn trim_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1)
}
