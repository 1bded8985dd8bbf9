//! Reading and writing the files of a cgroup, by name, below its open directory.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// Cgroup2 has no links, but what is mounted below it may: nothing is followed out of it.
const STAY: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens the directory of a cgroup by its path relative to `dir`; `O_PATH` unless told otherwise.
pub(super) fn open_dir(dir: impl AsFd, path: impl Arg + Copy, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // EAGAIN: the kernel saw a rename or a mount while it resolved, and cannot tell.
    for _ in 0..128 {
        match rustix::fs::openat2(&dir, path, flags, Mode::empty(), STAY) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

fn open_file(dir: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Writes `value` in one call, as the files of cgroups want it.
pub(super) fn write(dir: impl AsFd, name: &str, value: &str) -> Result<()> {
    let file = open_file(dir, name, OFlags::WRONLY)?;
    let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes()))?;
    if written == value.len() { Ok(()) } else { Err(Errno::IO) }
}

/// Opens a file for [`reread`].
pub(super) fn open(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    open_file(dir, name, OFlags::RDONLY)
}

/// Reads a file of one value or a few lines, in one call: the kernel gives those whole.
pub(super) fn reread(file: impl AsFd) -> Result<String> {
    let mut buffer = [0u8; 1024];
    let size = rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut buffer, 0))?;
    Ok(String::from_utf8_lossy(buffer.get(..size).unwrap_or_default()).into_owned())
}

/// Opens and reads a file of one value or a few lines.
pub(super) fn read(dir: impl AsFd, name: &str) -> Result<String> {
    reread(open(dir, name)?)
}

/// Opens and reads a file of any length.
pub(super) fn read_all(dir: impl AsFd, name: &str) -> Result<String> {
    let file = open(dir, name)?;
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer))? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            size => text.extend_from_slice(buffer.get(..size).unwrap_or_default()),
        }
    }
}

/// The names in the directory of a cgroup.
pub(super) fn names(dir: impl AsFd) -> Result<Vec<String>> {
    let dir = open_dir(dir, ".", OFlags::RDONLY)?;
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The value of a line `key value`.
pub(super) fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(str::trim)
}

/// Whether the cgroup has no sub-cgroups. The link count of a kernfs directory is 2 + its
/// directories.
pub(super) fn is_leaf(dir: impl AsFd) -> Result<bool> {
    Ok(rustix::fs::fstat(dir)?.st_nlink <= 2)
}

/// The names of the first sub-cgroups that the kernel lists: at least one, if there is one.
pub(super) fn some_children(dir: impl AsFd) -> Result<Vec<CString>> {
    children(dir, false)
}

fn children(dir: impl AsFd, all: bool) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    if is_leaf(&dir)? {
        return Ok(names);
    }
    let dir = open_dir(dir, ".", OFlags::RDONLY)?;
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        let is_dir = entry.file_type() == rustix::fs::FileType::Directory;
        if is_dir && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
        if !all && !names.is_empty() && entries.is_buffer_empty() {
            break;
        }
    }
    Ok(names)
}

/// The process ids of a cgroup and all below it, sorted.
pub(super) fn all_pids(dir: impl AsFd) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    // By path from `dir`, not by descriptor: the depth is the container's to choose.
    let mut paths = vec![OsString::from(".")];
    while let Some(path) = paths.pop() {
        let result = open_dir(&dir, path.as_os_str(), OFlags::PATH).and_then(|cgroup| {
            read_pids(&cgroup, &mut pids)?;
            children(&cgroup, true)
        });
        match result {
            Ok(names) => paths.extend(names.iter().map(|name| {
                let name = OsStr::from_bytes(name.as_bytes());
                [path.as_os_str(), OsStr::new("/"), name].into_iter().collect()
            })),
            // Sub-cgroups come and go.
            Err(Errno::NOENT | Errno::NODEV) if path != "." => {}
            Err(errno) => return Err(errno),
        }
    }
    // A process that moves meanwhile is seen twice.
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

fn read_pids(dir: impl AsFd, pids: &mut Vec<i32>) -> Result<()> {
    let text = match read_all(dir, "cgroup.procs") {
        // A threaded cgroup: its processes are listed by the domain above it.
        Err(Errno::OPNOTSUPP) => return Ok(()),
        result => result?,
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    Ok(())
}

/// Makes the directory of a cgroup.
pub(super) fn make_dir(dir: impl AsFd, path: &str) -> Result<()> {
    rustix::fs::mkdirat(dir, path, Mode::from_raw_mode(0o755))
}

/// Removes the directory of a cgroup.
pub(super) fn remove_dir(dir: impl AsFd, path: impl Arg + Copy) -> Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::unlinkat(&dir, path, AtFlags::REMOVEDIR))
}
