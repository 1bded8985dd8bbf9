//! System calls that need unsafe code: the only unsafe code of the library's core.
#![allow(unsafe_code)]

mod spawn;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

pub(crate) use spawn::{Spawn, SpawnError, reap_idle, spawn, spawn_idle};

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

/// setns(2) of the calling thread, into a network namespace.
pub(crate) fn join_network(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: changes a namespace of the calling thread; no memory is involved.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// setns(2) of the calling thread, into a mount namespace: its root becomes that namespace's.
pub(crate) fn join_mounts(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: gives the calling thread a root and a working directory of its own, which the kernel
    // wants before; no memory is involved.
    if unsafe { libc::unshare(libc::CLONE_FS) } != 0 {
        return Err(last_errno());
    }
    // SAFETY: changes a namespace of the calling thread; no memory is involved.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Gives a detached mount the id maps of a user namespace (mount_setattr(2), since Linux 5.12).
pub(crate) fn map_mount_ids(
    mount: BorrowedFd<'_>,
    recursive: bool,
    namespace: BorrowedFd<'_>,
) -> Result<(), Errno> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let namespace = u64::try_from(namespace.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let attributes: [u64; 4] = [MOUNT_ATTR_IDMAP, 0, 0, namespace];
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attributes` has the layout of struct mount_attr (four u64), lives across the call and
    // its size is passed; the path is a NUL-terminated constant.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Makes the kernel heed what a request for a list says of its elements (netlink(7),
/// `NETLINK_GET_STRICT_CHK`, since Linux 4.20).
pub(crate) fn filter_netlink_dumps(socket: impl AsFd) -> Result<(), Errno> {
    let yes: libc::c_int = 1;
    // SAFETY: the kernel reads an int from `yes`, whose size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_GET_STRICT_CHK,
            (&raw const yes).cast(),
            libc::socklen_t::try_from(size_of_val(&yes)).unwrap_or(0),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// ioprio_set(2) of a child that nobody has reaped.
pub(crate) fn set_io_priority(pid: i32, class: u8, level: u8) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let priority = i32::from(class) << IOPRIO_CLASS_SHIFT | i32::from(level);
    // SAFETY: plain numbers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, priority) };
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

/// Soft and hard limit (`RLIMIT_*`) of a process, by prlimit(2).
pub(crate) fn resource_limit(pid: i32, resource: u32) -> Result<(u64, u64), Errno> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the new limit's pointer is null; `old` is a struct rlimit64 that the kernel fills.
    let result = unsafe { libc::prlimit64(pid, resource, std::ptr::null(), &raw mut old) };
    if result == 0 { Ok((old.rlim_cur, old.rlim_max)) } else { Err(last_errno()) }
}

/// Sets both.
pub(crate) fn set_resource_limit(
    pid: i32,
    resource: u32,
    (soft, hard): (u64, u64),
) -> Result<(), Errno> {
    let new = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `new` lives across the call; the old limit's pointer is null.
    let result = unsafe { libc::prlimit64(pid, resource, &raw const new, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
