//! Raw system calls that rustix lacks, the process's entry, its memory: the only unsafe code of the init.
#![allow(unsafe_code)]
// The arguments of system calls are words, whatever they mean.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod arch;

use core::ffi::CStr;
use core::mem::size_of;
use core::ptr;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use arch::{nr, syscall5};

fn check(result: isize) -> Result<usize, Errno> {
    match usize::try_from(result) {
        Ok(value) => Ok(value),
        Err(_) => Err(Errno::from_raw_os_error(i32::try_from(-result).unwrap_or(0))),
    }
}

fn fd_arg(fd: impl AsFd) -> usize {
    fd.as_fd().as_raw_fd() as usize
}

/// Called by `_start` with the address of argc.
unsafe extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: at process entry the kernel has put argc, then argv's pointers, then a null there
    // (x86-64 psABI 3.4.1); each argv string is NUL-terminated and lives as long as the process.
    let plan_fd = unsafe {
        if *stack < 2 { None } else { CStr::from_ptr(*stack.add(2) as *const _).to_str().ok() }
    };
    crate::run::main(plan_fd.and_then(|text| text.parse().ok()))
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(crate::run::EXIT_BUG)
}

/// exit_group(2).
pub(crate) fn exit(status: i32) -> ! {
    loop {
        // SAFETY: ends the process; there is nothing that could be left inconsistent in it.
        unsafe { syscall5(nr::EXIT_GROUP, status as usize, 0, 0, 0, 0) };
    }
}

/// Takes over a descriptor that the creator passed by number.
pub(crate) fn inherited(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: the plan names each inherited descriptor once, and this is called once for each;
    // a number that is not open only makes calls on it fail with EBADF. Negative means none.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor that stays open until execve(2) or exit closes it: saves a call for each.
pub(crate) fn leave_open(fd: OwnedFd) -> BorrowedFd<'static> {
    let raw = fd.as_raw_fd();
    core::mem::forget(fd);
    // SAFETY: forgotten above, so nothing closes it while the process lives.
    unsafe { BorrowedFd::borrow_raw(raw) }
}

/// Is done with a descriptor. Few stay open, which saves a call for each: all are closed by
/// [`close_range`] before the program runs.
pub(crate) fn retire(fd: OwnedFd) {
    /// Far below any limit on descriptors that a runtime would be started with.
    const KEEP_BELOW: RawFd = 128;
    if fd.as_raw_fd() < KEEP_BELOW {
        core::mem::forget(fd);
    }
}

/// Maps a whole file read-only and private.
pub(crate) fn map_file(fd: impl AsFd, bytes: usize) -> Result<&'static [u8], Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice, never unmapped. The file is
    // sealed against writing and shrinking by its creator, so the bytes stay what they are.
    unsafe {
        let map =
            rustix::mm::mmap(ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::PRIVATE, fd, 0)?;
        Ok(core::slice::from_raw_parts(map.cast(), bytes))
    }
}

/// A page shared with other processes: only whole bytes and aligned words are stored.
#[derive(Clone, Copy)]
pub(crate) struct SharedPage {
    map: *mut u8,
}

impl SharedPage {
    /// Maps `progress::SIZE` bytes of a file.
    pub(crate) fn map(fd: impl AsFd) -> Result<Self, Errno> {
        // SAFETY: a new shared mapping at an address of the kernel's choice, never unmapped.
        let map = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                orlop_init::plan::progress::SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                0,
            )?
        };
        Ok(Self { map: map.cast() })
    }

    /// Stores a word at one of the offsets of `progress`.
    pub(crate) fn store(self, offset: usize, value: u32) {
        debug_assert!(offset.is_multiple_of(4) && offset + 4 <= orlop_init::plan::progress::SIZE);
        // SAFETY: inside the mapping and aligned (the offsets are constants of `progress`);
        // volatile because others read it.
        unsafe { self.map.add(offset).cast::<u32>().write_volatile(value.to_le()) }
    }

    /// Loads a word.
    pub(crate) fn load(self, offset: usize) -> u32 {
        debug_assert!(offset.is_multiple_of(4) && offset + 4 <= orlop_init::plan::progress::SIZE);
        // SAFETY: as in `store`.
        u32::from_le(unsafe { self.map.add(offset).cast::<u32>().read_volatile() })
    }

    /// Stores bytes at an offset, as many as fit.
    pub(crate) fn store_bytes(self, offset: usize, bytes: &[u8]) -> usize {
        let room = orlop_init::plan::progress::SIZE.saturating_sub(offset);
        let count = bytes.len().min(room);
        for (i, byte) in bytes.iter().take(count).enumerate() {
            // SAFETY: offset + i is below the size of the mapping.
            unsafe { self.map.add(offset + i).write_volatile(*byte) }
        }
        count
    }
}

/// Memory of its own for `T`s, all bytes zero at first.
pub(crate) struct Table<T: Zeroed + 'static>(&'static mut [T]);

/// Types of which zeroed bytes are a value.
///
/// # Safety
/// They must be.
pub(crate) unsafe trait Zeroed {}

// SAFETY: a plain integer.
unsafe impl Zeroed for usize {}
// SAFETY: a plain integer.
unsafe impl Zeroed for u8 {}

impl Table<u8> {
    /// Keeps a string for good, as long as there is room.
    pub(crate) fn keep(&mut self, text: &CStr) -> Option<&'static CStr> {
        let bytes = text.to_bytes_with_nul();
        let memory = core::mem::take(&mut self.0);
        let (own, rest) = memory.split_at_mut_checked(bytes.len())?;
        self.0 = rest;
        own.copy_from_slice(bytes);
        CStr::from_bytes_with_nul(own).ok()
    }
}

impl<T: Zeroed> Table<T> {
    /// Room for `count` values.
    pub(crate) fn with_room(count: usize) -> Result<Self, Errno> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Errno::NOMEM)?;
        if bytes == 0 {
            return Ok(Self(&mut []));
        }
        // SAFETY: a new private mapping, zeroed, never unmapped, page-aligned, of `count` values
        // of a type for which zero is valid.
        unsafe {
            let map = rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?;
            Ok(Self(core::slice::from_raw_parts_mut(map.cast::<T>(), count)))
        }
    }

    /// The value at an index.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.0.get_mut(index)
    }
}

/// Gives the memory of the stack back that calls have used which have returned.
#[inline(never)]
pub(crate) fn release_stack() {
    const MADV_DONTNEED: usize = 4;
    const PAGE: usize = 4096;
    /// More than the init ever uses; far less than the gap that the kernel keeps below a stack.
    const DEPTH: usize = 256 * PAGE;
    let here = 0_u8;
    // A page below what this frame has: the system call needs no stack.
    let end = (&raw const here as usize & !(PAGE - 1)).saturating_sub(PAGE);
    // SAFETY: all below the stack pointer is dead, and nothing else lies there. Where the stack has
    // not grown that far, the kernel passes over the hole and says ENOMEM.
    unsafe { syscall5(nr::MADVISE, end.saturating_sub(DEPTH), DEPTH, MADV_DONTNEED, 0, 0) };
}

/// execve(2); returns only when it failed. `table` has room for both lists, each with its null.
pub(crate) fn execve<'a>(
    path: &CStr,
    table: &mut Table<usize>,
    args: impl Iterator<Item = &'a CStr>,
    env: impl Iterator<Item = &'a CStr>,
) -> Errno {
    let addresses = |text: &CStr| text.as_ptr() as usize;
    let words = args.map(addresses).chain([0]).chain(env.map(addresses)).chain([0]);
    let (mut used, mut env_start) = (0, None);
    for word in words {
        let Some(slot) = table.get_mut(used) else { return Errno::TOOBIG };
        *slot = word;
        used += 1;
        if word == 0 {
            env_start = env_start.or(Some(used));
        }
    }
    let Some(env) = env_start.and_then(|start| table.0.get(start..)) else {
        return Errno::TOOBIG;
    };
    // SAFETY: the path and every string are NUL-terminated and outlive the call; the table holds
    // the addresses of the arguments, a null, those of the environment and a null, as no string's
    // address is null.
    let result = unsafe {
        syscall5(
            nr::EXECVE,
            path.as_ptr() as usize,
            table.0.as_ptr() as usize,
            env.as_ptr() as usize,
            0,
            0,
        )
    };
    check(result).err().unwrap_or(Errno::INVAL)
}

/// clone(2) with `CLONE_PARENT`: `None` in the child, its pid in the caller. The child's parent is
/// the caller's.
pub(crate) fn clone_sibling() -> Result<Option<u32>, Errno> {
    const CLONE_PARENT: usize = 0x8000;
    const SIGCHLD: usize = 17;
    // SAFETY: as `fork`: without CLONE_VM the child has a copy of the memory, and goes on with a
    // copy of the stack, as no other was named.
    let pid = check(unsafe { syscall5(nr::CLONE, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) })?;
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0))
}

/// clone(2) with `CLONE_FILES`: a child with a memory of its own and the same descriptor table.
pub(crate) fn fork_sharing_descriptors() -> Result<Option<rustix::process::Pid>, Errno> {
    const CLONE_FILES: usize = 0x400;
    const SIGCHLD: usize = 17;
    // SAFETY: as `fork`. Descriptors that the child closes are closed for both: the caller's child
    // ends by `exit`, which drops nothing.
    let pid = check(unsafe { syscall5(nr::CLONE, CLONE_FILES | SIGCHLD, 0, 0, 0, 0) })?;
    Ok(i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw))
}

/// fork(2): `None` in the child, the child's pid in the parent.
pub(crate) fn fork() -> Result<Option<rustix::process::Pid>, Errno> {
    // SAFETY: the init has one thread, no locks and no buffers, so a copy of it is as good as it
    // is; the descriptors that it owns are closed in the child by exec or exit.
    let pid = check(unsafe { syscall5(nr::FORK, 0, 0, 0, 0, 0) })?;
    Ok(i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw))
}

/// close_range(2).
pub(crate) fn close_range(first: u32, last: u32, set_cloexec: bool) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    let flags = if set_cloexec { CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: closing (without the flag) is used only for ranges in which this program holds no
    // descriptor that it will use again.
    check(unsafe { syscall5(nr::CLOSE_RANGE, first as usize, last as usize, flags, 0, 0) })?;
    Ok(())
}

/// mount_setattr(2), since Linux 5.12, on a descriptor.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
) -> Result<(), Errno> {
    set_mount_attributes(mount, recursive, [set, clear, propagation, 0])
}

/// Gives a mount that is not attached yet the id maps of a user namespace (since Linux 5.12).
pub(crate) fn map_mount_ids(
    mount: BorrowedFd<'_>,
    recursive: bool,
    namespace: BorrowedFd<'_>,
) -> Result<(), Errno> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let namespace = fd_arg(namespace) as u64;
    set_mount_attributes(mount, recursive, [MOUNT_ATTR_IDMAP, 0, 0, namespace])
}

fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: [u64; 4],
) -> Result<(), Errno> {
    const AT_EMPTY_PATH: usize = 0x1000;
    const AT_RECURSIVE: usize = 0x8000;
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attributes` has the layout of struct mount_attr (four u64), lives across the call
    // and its size is passed; the path is a NUL-terminated constant.
    check(unsafe {
        syscall5(
            nr::MOUNT_SETATTR,
            fd_arg(mount),
            c"".as_ptr() as usize,
            flags,
            attributes.as_ptr() as usize,
            size_of_val(&attributes),
        )
    })?;
    Ok(())
}

/// unshare(2).
pub(crate) fn unshare(flags: u32) -> Result<(), Errno> {
    // SAFETY: the init is single-threaded; the flags are CLONE_NEW* only (checked by the caller),
    // which leave memory and descriptors alone.
    check(unsafe { syscall5(nr::UNSHARE, flags as usize, 0, 0, 0, 0) })?;
    Ok(())
}

/// setns(2).
pub(crate) fn setns(namespace: BorrowedFd<'_>, flag: u32) -> Result<(), Errno> {
    // SAFETY: changes a namespace of this single-threaded process; no memory is involved.
    check(unsafe { syscall5(nr::SETNS, fd_arg(namespace), flag as usize, 0, 0, 0) })?;
    Ok(())
}

/// sched_setaffinity(2) of this process, with a mask of whole 64-bit words.
pub(crate) fn set_affinity(mask: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads at most the length that is passed, inside the slice, which lives
    // across the call; it takes any alignment.
    check(unsafe { syscall5(nr::SCHED_SETAFFINITY, 0, mask.len(), mask.as_ptr() as usize, 0, 0) })?;
    Ok(())
}

/// sched_setattr(2) of this process.
pub(crate) fn sched_setattr(new: &orlop_init::plan::Scheduling) -> Result<(), Errno> {
    let attributes = new.attributes();
    // SAFETY: `attributes` has the layout of struct sched_attr of the size that it says, and lives
    // across the call.
    check(unsafe { syscall5(nr::SCHED_SETATTR, 0, attributes.as_ptr() as usize, 0, 0, 0) })?;
    Ok(())
}

/// ioprio_set(2) of this process.
pub(crate) fn set_io_priority(class: u8, level: u8) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: usize = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let priority = usize::from(class) << IOPRIO_CLASS_SHIFT | usize::from(level);
    // SAFETY: no memory is involved.
    check(unsafe { syscall5(nr::IOPRIO_SET, IOPRIO_WHO_PROCESS, 0, priority, 0, 0) })?;
    Ok(())
}

/// set_mempolicy(2), with a mask of whole 64-bit words.
pub(crate) fn set_mempolicy(mode: u32, nodes: &[u8]) -> Result<(), Errno> {
    // The kernel reads one bit less than it is told.
    let bits = nodes.len() * 8 + 1;
    // SAFETY: the kernel reads whole words for `bits` - 1 bits, all inside the slice, which lives
    // across the call; it takes any alignment.
    check(unsafe {
        syscall5(nr::SET_MEMPOLICY, mode as usize, nodes.as_ptr() as usize, bits, 0, 0)
    })?;
    Ok(())
}

/// keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`: the keyring's number.
pub(crate) fn join_session_keyring(name: &CStr) -> Result<usize, Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    // SAFETY: the name is NUL-terminated and lives across the call.
    check(unsafe {
        syscall5(nr::KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr() as usize, 0, 0, 0)
    })
}

/// keyctl(2), `KEYCTL_SETPERM`.
pub(crate) fn set_key_permissions(key: usize, permissions: u32) -> Result<(), Errno> {
    const KEYCTL_SETPERM: usize = 5;
    // SAFETY: no memory is involved.
    check(unsafe { syscall5(nr::KEYCTL, KEYCTL_SETPERM, key, permissions as usize, 0, 0) })?;
    Ok(())
}

/// seccomp(2), `SECCOMP_SET_MODE_FILTER`, with the program's bytes: the number of the listener's
/// descriptor, which is the caller's to own, where the flags ask for one.
pub(crate) fn load_seccomp(flags: u32, program: &[u8]) -> Result<RawFd, Errno> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const u8,
    }
    let length = u16::try_from(program.len() / 8).map_err(|_| Errno::TOOBIG)?;
    let program = Program { length, filter: program.as_ptr() };
    // SAFETY: `Program` is struct sock_fprog: the kernel copies `length` instructions of 8 bytes
    // from `filter`, all inside the slice; both live across the call. The kernel takes any
    // alignment.
    let number = check(unsafe {
        syscall5(
            nr::SECCOMP,
            SECCOMP_SET_MODE_FILTER,
            flags as usize,
            &raw const program as usize,
            0,
            0,
        )
    })?;
    RawFd::try_from(number).map_err(|_| Errno::INVAL)
}

/// prctl(2) with options that take numbers.
fn prctl(option: usize, a: usize, b: usize) -> Result<usize, Errno> {
    // SAFETY: only called with options whose arguments are numbers: no memory is touched.
    check(unsafe { syscall5(nr::PRCTL, option, a, b, 0, 0) })
}

/// Nothing but a process with CAP_SYS_PTRACE may look into this one from here on.
pub(crate) fn set_undumpable() -> Result<(), Errno> {
    const PR_SET_DUMPABLE: usize = 4;
    prctl(PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// `PR_SET_KEEPCAPS`: setresuid(2) leaves the permitted set.
pub(crate) fn keep_capabilities() -> Result<(), Errno> {
    const PR_SET_KEEPCAPS: usize = 8;
    prctl(PR_SET_KEEPCAPS, 1, 0).map(drop)
}

/// `PR_SET_NO_NEW_PRIVS`.
pub(crate) fn set_no_new_privileges() -> Result<(), Errno> {
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// `PR_CAPBSET_DROP`; EINVAL where the kernel does not know the capability.
pub(crate) fn drop_bounding(capability: u32) -> Result<(), Errno> {
    const PR_CAPBSET_DROP: usize = 24;
    prctl(PR_CAPBSET_DROP, capability as usize, 0).map(drop)
}

/// `PR_CAP_AMBIENT_CLEAR_ALL`.
pub(crate) fn clear_ambient() -> Result<(), Errno> {
    const PR_CAP_AMBIENT: usize = 47;
    const PR_CAP_AMBIENT_CLEAR_ALL: usize = 4;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0).map(drop)
}

/// `PR_CAP_AMBIENT_RAISE`.
pub(crate) fn raise_ambient(capability: u32) -> Result<(), Errno> {
    const PR_CAP_AMBIENT: usize = 47;
    const PR_CAP_AMBIENT_RAISE: usize = 2;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability as usize).map(drop)
}

/// capset(2) of the calling thread.
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    let halves = |mask: u64| (mask as u32, (mask >> 32) as u32);
    let ((e0, e1), (p0, p1), (i0, i1)) =
        (halves(effective), halves(permitted), halves(inheritable));
    let header: [u32; 2] = [LINUX_CAPABILITY_VERSION_3, 0];
    let data: [u32; 6] = [e0, p0, i0, e1, p1, i1];
    // SAFETY: the layouts of struct __user_cap_header_struct and of two __user_cap_data_structs,
    // alive across the call.
    check(unsafe {
        syscall5(nr::CAPSET, header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0)
    })?;
    Ok(())
}

/// personality(2).
pub(crate) fn personality(persona: u32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    check(unsafe { syscall5(nr::PERSONALITY, persona as usize, 0, 0, 0, 0) })?;
    Ok(())
}

/// prlimit(2) of this process.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit: [u64; 2] = [soft, hard];
    // SAFETY: `limit` has the layout of struct rlimit64 and lives across the call; the old value's
    // pointer is null.
    check(unsafe { syscall5(nr::PRLIMIT64, 0, resource as usize, limit.as_ptr() as usize, 0, 0) })?;
    Ok(())
}

/// umask(2); the mask that was there.
pub(crate) fn umask(mask: u32) -> u32 {
    // SAFETY: no memory is involved; it cannot fail.
    let before = unsafe { syscall5(nr::UMASK, mask as usize, 0, 0, 0, 0) };
    u32::try_from(before).unwrap_or(0)
}

/// faccessat2(2) for execution by the effective ids, since Linux 5.8.
pub(crate) fn may_execute(path: &CStr) -> Result<(), Errno> {
    const AT_FDCWD: isize = -100;
    const X_OK: usize = 1;
    const AT_EACCESS: usize = 0x200;
    // SAFETY: the path is NUL-terminated and lives across the call.
    check(unsafe {
        syscall5(nr::FACCESSAT2, AT_FDCWD as usize, path.as_ptr() as usize, X_OK, AT_EACCESS, 0)
    })?;
    Ok(())
}

/// getcwd(2): the path's bytes without NUL; `(unreachable)...` where it is outside of the root.
pub(crate) fn getcwd(buffer: &mut [u8]) -> Result<&[u8], Errno> {
    // SAFETY: the kernel writes at most the length that is passed, inside the buffer.
    let length = check(unsafe {
        syscall5(nr::GETCWD, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0)
    })?;
    buffer.get(..length.saturating_sub(1)).ok_or(Errno::RANGE)
}

/// Sets the network interface `lo` up.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    const AF_INET: usize = 2;
    const SOCK_DGRAM_CLOEXEC: usize = 0x8_0002;
    const SIOCSIFFLAGS: usize = 0x8914;
    const IFF_UP: i16 = 1;
    #[repr(C)]
    struct InterfaceRequest {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    // SAFETY: no memory is involved; the new descriptor is owned by nobody else.
    let socket = unsafe {
        let fd = check(syscall5(nr::SOCKET, AF_INET, SOCK_DGRAM_CLOEXEC, 0, 0, 0))?;
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    let mut name = [0; 16];
    if let Some(start) = name.get_mut(..2) {
        start.copy_from_slice(b"lo");
    }
    let request = InterfaceRequest { name, flags: IFF_UP, rest: [0; 22] };
    // SAFETY: `request` has the layout and size of struct ifreq and lives across the call.
    check(unsafe {
        syscall5(nr::IOCTL, fd_arg(&socket), SIOCSIFFLAGS, &raw const request as usize, 0, 0)
    })?;
    Ok(())
}

#[repr(C)]
struct SignalAction {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

fn set_signal_action(signal: u32, handler: usize) -> Result<(), Errno> {
    const SA_RESTORER: usize = 0x0400_0000;
    let action = SignalAction {
        handler,
        flags: SA_RESTORER,
        restorer: arch::restorer as *const () as usize,
        mask: 0,
    };
    // SAFETY: `action` is the kernel's struct sigaction with its 8-byte mask; the handler is
    // SIG_DFL or `end`, which only makes an exit call, safe at any point.
    check(unsafe {
        syscall5(nr::RT_SIGACTION, signal as usize, &raw const action as usize, 0, 8, 0)
    })?;
    Ok(())
}

/// The default action for a signal that the creator's caller ignored.
pub(crate) fn default_signal(signal: u32) -> Result<(), Errno> {
    set_signal_action(signal, 0)
}

extern "C" fn end(signal: i32) {
    exit(128 + signal)
}

/// Ends the init on a signal: as pid 1 of its namespace it would otherwise ignore it.
pub(crate) fn end_on_signal(signal: u32) -> Result<(), Errno> {
    set_signal_action(signal, end as *const () as usize)
}

/// Unblocks all signals.
pub(crate) fn unblock_signals() -> Result<(), Errno> {
    const SIG_SETMASK: usize = 2;
    let none: u64 = 0;
    // SAFETY: the kernel reads the 8 bytes of `none`, which lives across the call.
    check(unsafe { syscall5(nr::RT_SIGPROCMASK, SIG_SETMASK, &raw const none as usize, 0, 8, 0) })?;
    Ok(())
}

/// setgroups(2), from the bytes of an array of gid_t.
pub(crate) fn setgroups(gids: &[u8]) -> Result<(), Errno> {
    let count = gids.len() / size_of::<u32>();
    // SAFETY: the kernel copies `count` 4-byte ids from the slice, which has at least as many
    // bytes and lives across the call; it takes any alignment.
    check(unsafe { syscall5(nr::SETGROUPS, count, gids.as_ptr() as usize, 0, 0, 0) })?;
    Ok(())
}
