//! User namespaces in which nobody lives: the form in which the kernel takes the id maps of a mount.

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::process::Signal;

use crate::compile::IdMaps;
use crate::error::{Error, Result};
use crate::sys;

/// Makes a user namespace with these maps, by way of a process that does nothing and is gone again.
///
/// # Errors
/// The kernel refuses the process, or the maps.
pub(super) fn namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let (pid, pidfd) = sys::spawn_idle(libc::CLONE_NEWUSER.cast_unsigned()).map_err(|errno| {
        Error::sys("cannot create a user namespace for the ids of a mount", errno)
    })?;
    let result = mapped(pid, maps);
    let _gone = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL); // or killed by somebody
    let reaped = sys::reap_idle(pidfd.as_fd());
    let namespace = result?;
    reaped.map_err(|errno| Error::sys("cannot wait for the process of a user namespace", errno))?;
    Ok(namespace)
}

/// Clones a mount of the container's mount namespace, before it is the container's, with these maps
/// or those of the container's user namespace: a detached tree.
///
/// Only a thread that is in the mount namespace can; and only with the rights of the filesystem's
/// own user namespace, which the init has not.
///
/// # Errors
/// No user namespace can be made. The inner result is for the init.
pub(super) fn tree(
    pid: i32,
    path: &CStr,
    recursive: bool,
    map_tree: bool,
    maps: Option<&IdMaps>,
) -> Result<Result<OwnedFd, Errno>> {
    let users = match maps {
        Some(maps) => namespace(maps)?,
        None => open(&format!("/proc/{pid}/ns/user"))?,
    };
    let mounts = open(&format!("/proc/{pid}/ns/mnt"))?;
    Ok(std::thread::scope(|scope| {
        let clone = || {
            sys::join_mounts(mounts.as_fd())?;
            let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            if recursive {
                flags |= OpenTreeFlags::AT_RECURSIVE;
            }
            let tree = rustix::mount::open_tree(CWD, path, flags)?;
            sys::map_mount_ids(tree.as_fd(), map_tree, users.as_fd())?;
            Ok(tree)
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, clone);
        let thread = thread
            .map_err(|error| error.raw_os_error().map_or(Errno::AGAIN, Errno::from_raw_os_error))?;
        thread.join().unwrap_or(Err(Errno::AGAIN))
    }))
}

fn mapped(pid: i32, maps: &IdMaps) -> Result<OwnedFd> {
    for (file, map) in [("uid_map", &maps.users), ("gid_map", &maps.groups)] {
        fs::write(format!("/proc/{pid}/{file}"), map.to_string()).map_err(|error| {
            Error::sys(format!("cannot write the ids of a mount ({file})"), &error)
        })?;
    }
    open(&format!("/proc/{pid}/ns/user"))
}

fn open(path: &str) -> Result<OwnedFd> {
    let file = File::open(path);
    file.map(OwnedFd::from).map_err(|error| Error::sys(format!("cannot open {path:?}"), &error))
}
