//! System calls that need unsafe code: the only unsafe code of the library's core.
#![allow(unsafe_code)]

mod spawn;

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

pub(crate) use spawn::{Spawn, SpawnError, spawn};

fn last_errno() -> Errno {
    let errno = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(errno.unwrap_or(libc::EIO))
}

/// The `CLONE_NEW*` flag of a namespace's file (ioctl_ns(2), `NS_GET_NSTYPE`, since Linux 4.11);
/// ENOTTY where it is no namespace.
pub(crate) fn namespace_type(file: BorrowedFd<'_>) -> Result<u32, Errno> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument; on files of another kind it is unknown, as the kernel
    // keeps 0xb7 for namespaces.
    let flag = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    u32::try_from(flag).map_err(|_| last_errno())
}

/// sched_setattr(2) of a child that nobody has reaped.
pub(crate) fn sched_setattr(pid: i32, new: &orlop_init::plan::Scheduling) -> Result<(), Errno> {
    let attributes = new.attributes();
    // SAFETY: a struct sched_attr of the size that it says, alive across the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, attributes.as_ptr(), 0) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// pidfd_send_signal(2) by number: the real-time signals have no names.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: the kernel makes the siginfo itself where the pointer is null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
