//! User namespaces in which nobody lives: the form in which the kernel takes the id maps of a mount.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};

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

fn mapped(pid: i32, maps: &IdMaps) -> Result<OwnedFd> {
    for (file, map) in [("uid_map", &maps.users), ("gid_map", &maps.groups)] {
        fs::write(format!("/proc/{pid}/{file}"), map.to_string()).map_err(|error| {
            Error::sys(format!("cannot write the ids of a mount ({file})"), &error)
        })?;
    }
    let path = format!("/proc/{pid}/ns/user");
    let file = File::open(&path);
    file.map(OwnedFd::from).map_err(|error| Error::sys(format!("cannot open {path:?}"), &error))
}
