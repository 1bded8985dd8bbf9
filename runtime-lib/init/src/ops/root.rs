//! The container's root.

use core::ffi::CStr;

use orlop_init::plan::{Step, propagation};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::paths;
use crate::progress::{At, Fail};
use crate::run::Init;
use crate::sys;

/// `MS_*` of a propagation byte, and whether it is for the tree.
pub(super) fn change_propagation(mount: BorrowedFd<'_>, change: u8) -> Result<(), Fail> {
    const MS_UNBINDABLE: u64 = 1 << 17;
    const MS_PRIVATE: u64 = 1 << 18;
    const MS_SLAVE: u64 = 1 << 19;
    const MS_SHARED: u64 = 1 << 20;
    let flag = match change & !propagation::RECURSIVE {
        propagation::PRIVATE => MS_PRIVATE,
        propagation::SHARED => MS_SHARED,
        propagation::SLAVE => MS_SLAVE,
        propagation::UNBINDABLE => MS_UNBINDABLE,
        _ => return Err(Fail::new(Step::Decode)),
    };
    let recursive = change & propagation::RECURSIVE != 0;
    sys::mount_setattr(mount, recursive, 0, 0, flag).at(Step::SetPropagation)
}

/// The propagation of all mounts that the init came with.
pub(crate) fn host_propagation(change: u8) -> Result<(), Fail> {
    let host = open_slash()?;
    change_propagation(host.as_fd(), change)?;
    sys::retire(host);
    Ok(())
}

/// Clones the root filesystem's mounts onto their own place: the container's mounts then live on
/// mounts that only it has.
pub(crate) fn open(init: &mut Init<'_>, path: &CStr, isolate: bool) -> Result<(), Fail> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::ACCESS) => init.ask_for_source()?,
        result => result.at(Step::OpenSource)?,
    };
    let root = paths::clone_tree(place.as_fd(), true).at(Step::CreateMount)?;
    if isolate {
        let tree = propagation::PRIVATE | propagation::RECURSIVE;
        change_propagation(root.as_fd(), tree)?;
        change_propagation(mount_of(place.as_fd())?.as_fd(), propagation::PRIVATE)?;
    }
    paths::attach(root.as_fd(), place.as_fd()).at(Step::Attach)?;
    sys::retire(place);
    init.root = Some(root);
    init.shared_with_host = isolate;
    Ok(())
}

/// Opens the root filesystem in the mount namespace of the runtime: nothing may be mounted.
pub(crate) fn open_in_place(init: &mut Init<'_>, path: &CStr) -> Result<(), Fail> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    init.root = Some(rustix::fs::open(path, flags, Mode::empty()).at(Step::OpenSource)?);
    init.mounts_are_the_hosts = true;
    Ok(())
}

/// Takes the root of the joined mount namespace as the container's.
pub(crate) fn use_current(init: &mut Init<'_>) -> Result<(), Fail> {
    init.root = Some(open_slash()?);
    Ok(())
}

fn open_slash() -> Result<OwnedFd, Fail> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(c"/", flags, Mode::empty()).at(Step::Whole)
}

/// Makes the root the process's root, and nothing else.
pub(crate) fn chroot(init: &Init<'_>) -> Result<(), Fail> {
    enter(init.root()?)?;
    rustix::process::chdir(c"/").at(Step::Chdir)
}

/// Makes an open directory the root.
pub(crate) fn enter(directory: BorrowedFd<'_>) -> Result<(), Fail> {
    rustix::process::fchdir(directory).at(Step::Chdir)?;
    rustix::process::chroot(c".").at(Step::Whole)
}

/// The root of the mount that a directory is in.
fn mount_of(directory: BorrowedFd<'_>) -> Result<OwnedFd, Fail> {
    let up = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory =
        rustix::fs::openat(directory, c".", up, Mode::empty()).at(Step::OpenSource)?;
    while !is_mount_root(directory.as_fd())? {
        directory =
            rustix::fs::openat(&directory, c"..", up, Mode::empty()).at(Step::OpenSource)?;
    }
    Ok(directory)
}

fn is_mount_root(directory: BorrowedFd<'_>) -> Result<bool, Fail> {
    let stat = rustix::fs::statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::empty());
    Ok(stat.at(Step::OpenSource)?.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Makes the root the process's root, and lets go of the host's tree.
pub(crate) fn pivot(init: &mut Init<'_>) -> Result<(), Fail> {
    rustix::process::fchdir(init.root()?).at(Step::Chdir)?;
    let old = if init.shared_with_host { Some(open_slash()?) } else { None };
    // The old root is stacked on the new one, from where it is detached: no directory is needed.
    rustix::process::pivot_root(c".", c".").at(Step::Whole)?;
    if let Some(old) = old {
        // Unmounting what is below a shared mount unmounts the same on the host.
        change_propagation(old.as_fd(), propagation::SLAVE | propagation::RECURSIVE)?;
        sys::retire(old);
    }
    rustix::mount::unmount(c".", UnmountFlags::DETACH).at(Step::Whole)?;
    rustix::process::chdir(c"/").at(Step::Chdir)
}

/// Takes away a mount that the container could not reach below its root, but whose presence the kernel would take for
/// leave to mount such a filesystem anew, without masks (`mnt_already_visible` of fs/namespace.c).
pub(crate) fn hide(init: &mut Init<'_>, path: &CStr) -> Result<(), Fail> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mount = match rustix::fs::open(path, flags, Mode::empty()) {
        // It went with one above it.
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        result => result.at(Step::OpenTarget)?,
    };
    if !is_mount_root(mount.as_fd())? {
        return Ok(());
    }
    let up = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::openat(&mount, c"..", up, Mode::empty()).at(Step::OpenTarget)?;
    // What changes below a shared mount changes on the host as well.
    change_propagation(mount_of(above.as_fd())?.as_fd(), propagation::SLAVE)?;
    change_propagation(mount.as_fd(), propagation::SLAVE)?;
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Whoever made the user namespace has locked it (mount_namespaces(7)).
        Err(Errno::INVAL | Errno::PERM) => {
            paths::attach(init.covers.for_directory()?.as_fd(), mount.as_fd()).at(Step::Attach)
        }
        result => result.at(Step::Whole),
    }
}

/// The same with `MS_MOVE` and chroot(2), for a host root that cannot be pivoted away from.
pub(crate) fn move_over(init: &mut Init<'_>) -> Result<(), Fail> {
    let root = init.root()?;
    rustix::process::fchdir(root).at(Step::Chdir)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(root, c"", CWD, c"/", flags).at(Step::Attach)?;
    rustix::process::chroot(c".").at(Step::Whole)?;
    rustix::process::chdir(c"/").at(Step::Chdir)
}

/// The propagation of the root mount.
pub(crate) fn propagation(init: &Init<'_>, change: u8) -> Result<(), Fail> {
    change_propagation(init.root()?, change)
}

/// Turns the root mount read-only.
pub(crate) fn seal(init: &Init<'_>) -> Result<(), Fail> {
    make_read_only(init.root()?, false)
}

/// Turns a mount, or its whole tree, read-only.
pub(super) fn make_read_only(mount: BorrowedFd<'_>, tree: bool) -> Result<(), Fail> {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    sys::mount_setattr(mount, tree, MOUNT_ATTR_RDONLY, 0, 0).at(Step::SetAttributes)
}

/// open_tree(2) flags of a clone.
pub(super) fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}
