//! What the init may not open by itself: sources of bind mounts, and the root filesystem.
//!
//! The user of a user namespace need not have the right to enter the directories on the way. The
//! creator opens what the plan names, in the init's mount namespace: mounts are locked there as the
//! kernel wants it, and nothing of the host's own mount namespace is handed over.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use orlop_init::plan::{Op, SOURCE};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::mount_ids;
use crate::error::{Error, Result};
use crate::plan::{Plan, Slot};

/// Answers the init's question for the source of the operation of this index.
///
/// # Errors
/// The init may not ask for that.
pub(super) fn answer(socket: BorrowedFd<'_>, plan: &Plan, pid: i32, index: u32) -> Result<()> {
    let op = usize::try_from(index).ok().and_then(|index| plan.child.get(index));
    let mapped = match op.map(|step| &step.op) {
        Some(Op::Bind(bind)) => bind.map.filter(|map| map.by_creator).map(|map| (bind, map)),
        _ => None,
    };
    let (path, flags) = match op.map(|step| &step.op) {
        Some(Op::Bind(bind)) => (&bind.source, OFlags::empty()),
        Some(Op::OpenRoot { path, .. }) => (path, OFlags::DIRECTORY | OFlags::NOFOLLOW),
        _ => return Err(Error::bug("the init asked for what is no source")),
    };
    let path = CStr::from_bytes_with_nul(&path.0).map_err(|_| Error::bug("a path without NUL"))?;
    let source = match mapped {
        Some((bind, map)) => {
            let maps = match map.slot.and_then(|slot| plan.slots.get(usize::from(slot))) {
                Some(step) => match &step.op {
                    Slot::UserNamespace(maps) => Some(maps),
                    _ => return Err(Error::bug("a slot without id maps")),
                },
                None => None,
            };
            mount_ids::tree(pid, path, bind.recursive, map.tree, maps)?
        }
        None => open(pid, path, flags),
    };
    let errno = source.as_ref().err().map_or(0, |errno| errno.raw_os_error());
    let [a, b, c, d] = errno.to_le_bytes();
    let descriptor = source.as_ref().ok().map(AsFd::as_fd);
    match super::socket::send(socket, &[SOURCE, a, b, c, d], descriptor) {
        // The init is gone: the next message that is waited for will not come, and says why.
        Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(errno) => Err(Error::sys("cannot write to the init", errno)),
    }
}

/// Opens a path of the host as the init would, in its root and its mount namespace.
fn open(pid: i32, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    /// The kernel gives EAGAIN when it saw a rename or mount meanwhile.
    const TRIES: u32 = 10_000;
    let root_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), root_flags, Mode::empty())?;
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            result => return result,
        }
    }
}
