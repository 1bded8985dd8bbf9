//! Spawning the init: clone3(2) without copying the caller, then execveat(2) of the sealed image.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_int, c_long, c_void};
use rustix::io::Errno;

/// Stack of the child until its execveat(2), in bytes: a handful of frames without locals.
const STACK: usize = 64 * 1024;

// Beyond the 32 bits that clone(2) had, and so beyond the type of libc's constants.
/// Handlers of the caller become default actions (since Linux 5.5).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// Born into a cgroup (since Linux 5.7).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What the child is.
#[derive(Debug)]
pub(crate) struct Spawn<'a> {
    /// `CLONE_NEW*`.
    pub(crate) namespaces: u32,
    /// Namespaces that it is born into, each with its `CLONE_NEW*`.
    pub(crate) joins: &'a [(OwnedFd, u32)],
    /// Directory of the cgroup that it is born into; `None` for the caller's.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// The program: a file that may be executed.
    pub(crate) image: BorrowedFd<'a>,
    /// argv.
    pub(crate) args: [&'a CStr; 2],
    /// The standard streams; `None` leaves the caller's. All are above 2.
    pub(crate) streams: [Option<BorrowedFd<'a>>; 3],
    /// How many of the caller's descriptors from 3 on it inherits.
    pub(crate) preserve_fds: u32,
    /// Further descriptors that it inherits, under their numbers, which are above those.
    pub(crate) inherit: &'a [RawFd],
}

/// Why there is no child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpawnError {
    /// clone3(2) failed with this errno.
    Clone(i32),
    /// A namespace of [`Spawn::joins`], by its place, cannot be joined.
    Join(usize, i32),
    /// The child could not arrange its descriptors.
    Descriptors(i32),
    /// The child could not keep its capabilities.
    Capabilities(i32),
    /// execveat(2) failed with this errno.
    Exec(i32),
}

/// The part of the caller's memory that the child uses, while the caller's thread is suspended.
struct Child {
    argv: [*const libc::c_char; 3],
    envp: [*const libc::c_char; 1],
    image: RawFd,
    streams: [RawFd; 3],
    first_closed: u32,
    preserve_fds: u32,
    inherit: *const RawFd,
    inherit_count: usize,
    keep_capabilities: bool,
    failed: Option<SpawnError>,
}

/// Spawns the init; gives its pid and pidfd.
pub(crate) fn spawn(spawn: &Spawn<'_>) -> Result<(i32, OwnedFd), SpawnError> {
    if spawn.joins.is_empty() {
        return clone_and_exec(spawn);
    }
    // Joining is for the calling thread, and the caller's own threads stay where they are.
    std::thread::scope(|scope| {
        let joined = || {
            for (place, (namespace, flag)) in spawn.joins.iter().enumerate() {
                setns(namespace.as_fd(), *flag)
                    .map_err(|errno| SpawnError::Join(place, errno.raw_os_error()))?;
            }
            clone_and_exec(spawn)
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, joined);
        let thread = thread
            .map_err(|error| SpawnError::Clone(error.raw_os_error().unwrap_or(libc::EAGAIN)))?;
        thread.join().unwrap_or(Err(SpawnError::Clone(libc::EAGAIN)))
    })
}

/// setns(2) of the calling thread.
fn setns(namespace: BorrowedFd<'_>, flag: u32) -> Result<(), Errno> {
    let flag = c_int::try_from(flag).map_err(|_| Errno::INVAL)?;
    // SAFETY: changes a namespace of the calling thread; no memory is involved.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), flag) };
    if result == 0 { Ok(()) } else { Err(super::last_errno()) }
}

/// `CLONE_VM` shares the caller's memory rather than copying its page tables, so that the cost does
/// not grow with the caller; `CLONE_VFORK` suspends the calling thread (only that) until the child
/// has its own. Nothing of the caller's locks matters, as the child makes system calls only.
fn clone_and_exec(spawn: &Spawn<'_>) -> Result<(i32, OwnedFd), SpawnError> {
    // Not zeroed: only the pages that are used cost anything. u128 aligns it as the ABI wants.
    let mut stack = Vec::<u128>::with_capacity(STACK / size_of::<u128>());
    let [program, plan] = spawn.args;
    let mut child = Child {
        argv: [program.as_ptr(), plan.as_ptr(), ptr::null()],
        envp: [ptr::null()],
        image: spawn.image.as_raw_fd(),
        streams: spawn.streams.map(|stream| stream.map_or(-1, |stream| stream.as_raw_fd())),
        first_closed: 3 + spawn.preserve_fds,
        preserve_fds: spawn.preserve_fds,
        inherit: spawn.inherit.as_ptr(),
        inherit_count: spawn.inherit.len(),
        keep_capabilities: spawn.namespaces & libc::CLONE_NEWUSER.cast_unsigned() != 0,
        failed: None,
    };
    let mut pidfd: c_int = -1;
    // SAFETY: all zero is a valid clone_args: no flags, no pointers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(spawn.namespaces)
        | libc::CLONE_VM as u64
        | libc::CLONE_VFORK as u64
        | libc::CLONE_PIDFD as u64
        | CLONE_CLEAR_SIGHAND
        | if spawn.cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.stack = stack.as_mut_ptr() as u64;
    args.stack_size = STACK as u64;
    let cgroup = spawn.cgroup.map_or(0, |cgroup| cgroup.as_raw_fd());
    args.cgroup = u64::try_from(cgroup).unwrap_or(u64::MAX);
    // SAFETY: `args` names a stack of our own that nothing else uses and that outlives the child's
    // use of it, as CLONE_VFORK returns only after its exec or exit; `child` likewise. The child
    // runs `run_child`, which never returns and touches only `child`. CLONE_CLEAR_SIGHAND keeps
    // the caller's signal handlers from running on the child.
    let pid = unsafe { clone3(&args, run_child, (&raw mut child).cast()) };
    drop(stack);
    let pid = match i32::try_from(pid) {
        Ok(pid) if pid > 0 => pid,
        result => return Err(SpawnError::Clone(result.map_or(libc::EOVERFLOW, |errno| -errno))),
    };
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel stored a new descriptor that
    // nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: a plain read of our own memory; volatile because the child wrote it behind the
    // compiler's back.
    match unsafe { (&raw const child.failed).read_volatile() } {
        None => Ok((pid, pidfd)),
        Some(error) => {
            let _reaped = crate::supervise::reap(&pidfd); // it has exited; its status says nothing
            Err(error)
        }
    }
}

/// clone3(2) whose child calls `run` on its new stack.
///
/// # Safety
/// `args` must name a stack; `run` must be fit for a child with these flags.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(
    args: &libc::clone_args,
    run: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> c_long {
    let result: c_long;
    // SAFETY: in the parent this is a system call like any other. The child comes out of it with
    // the same registers but a stack pointer at the end of the new stack, which is 16-byte aligned
    // as the ABI wants it before a call; it never comes back here.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") argument,
            in("r13") run,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Spawns a process that waits to be killed, in new namespaces (`CLONE_NEW*`); gives its pid and pidfd.
///
/// It shares the caller's memory, so that nothing is copied, and never touches it. Its end is told
/// to nobody: [`reap_idle`] waits for it.
pub(crate) fn spawn_idle(namespaces: u32) -> Result<(i32, OwnedFd), i32> {
    let mut pidfd: c_int = -1;
    // SAFETY: all zero is a valid clone_args: no flags, no pointers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces)
        | libc::CLONE_VM as u64
        | libc::CLONE_PIDFD as u64
        | CLONE_CLEAR_SIGHAND;
    args.pidfd = &raw mut pidfd as u64;
    // SAFETY: the child makes one system call over and over, without memory or stack (its stack
    // pointer is the caller's, and stays unused); CLONE_CLEAR_SIGHAND keeps the caller's signal
    // handlers, which would use it, from running there.
    let pid = unsafe { clone3_idle(&args) };
    match i32::try_from(pid) {
        // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel stored a new descriptor that
        // nobody else owns.
        Ok(pid) if pid > 0 => Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
        result => Err(result.map_or(libc::EOVERFLOW, |errno| -errno)),
    }
}

/// clone3(2) whose child only ever calls pause(2).
///
/// # Safety
/// The flags must be fit for a child that shares memory and stack, and uses neither.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_idle(args: &libc::clone_args) -> c_long {
    let result: c_long;
    // SAFETY: in the parent this is a system call like any other; the child stays in the loop.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "3:",
            "mov eax, {pause}",
            "syscall",
            "jmp 3b",
            "2:",
            pause = const libc::SYS_pause,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Waits for the end of a process of [`spawn_idle`], which was killed.
pub(crate) fn reap_idle(pidfd: BorrowedFd<'_>) -> Result<(), i32> {
    let id = libc::id_t::try_from(pidfd.as_raw_fd()).map_err(|_| libc::EBADF)?;
    loop {
        // SAFETY: a null siginfo is not stored to.
        let result = unsafe {
            libc::waitid(libc::P_PIDFD, id, ptr::null_mut(), libc::WEXITED | libc::__WALL)
        };
        match errno() {
            _ if result == 0 => return Ok(()),
            libc::EINTR => {}
            // Somebody waits for all kinds of children.
            libc::ECHILD => return Ok(()),
            errno => return Err(errno),
        }
    }
}

extern "C" fn run_child(child: *mut c_void) -> ! {
    // SAFETY: `spawn` passed a pointer to a `Child` that lives while its thread is suspended, and
    // nothing else accesses it meanwhile.
    let child = unsafe { &mut *child.cast::<Child>() };
    // SAFETY: this is the child of `spawn`, before its exec.
    let failed = unsafe {
        arrange(child).and_then(|()| keep_capabilities(child)).err().unwrap_or_else(|| exec(child))
    };
    // SAFETY: as above; volatile so that the store is made before the exit below.
    unsafe { (&raw mut child.failed).write_volatile(Some(failed)) };
    loop {
        // SAFETY: ends the child only: it has a thread group of its own.
        unsafe { libc::syscall(libc::SYS_exit_group, 255) };
    }
}

/// The errno of the last call; the variable is the suspended thread's, which is not using it.
fn errno() -> c_int {
    // SAFETY: errno's location is valid for the thread whose TLS the child borrows.
    unsafe { *libc::__errno_location() }
}

/// Puts the descriptors in their places, and marks all that are not inherited.
///
/// # Safety
/// Only in the child of `spawn`: it has a descriptor table of its own.
unsafe fn arrange(child: &Child) -> Result<(), SpawnError> {
    let check = |result: c_long| {
        if result < 0 { Err(SpawnError::Descriptors(errno())) } else { Ok(()) }
    };
    for (number, stream) in (0..).zip(child.streams) {
        if stream >= 0 {
            // SAFETY: plain descriptor numbers.
            check(unsafe { libc::syscall(libc::SYS_dup3, stream, number, 0) })?;
        }
    }
    // SAFETY: plain numbers.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            child.first_closed,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    for i in 0..child.inherit_count {
        // SAFETY: `i` is below the length of the array that `inherit` points to.
        let fd = unsafe { *child.inherit.add(i) };
        // SAFETY: plain numbers.
        check(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFD, 0) })?;
    }
    for i in 0..child.preserve_fds {
        // SAFETY: plain numbers.
        check(unsafe { libc::syscall(libc::SYS_fcntl, 3 + i, libc::F_SETFD, 0) })?;
    }
    Ok(())
}

/// Lets the capabilities of a process that was born into a user namespace through execve(2), which
/// leaves them to the namespace's root only, and nobody is that before the maps are written: ambient
/// ones stay. They change nothing of the memory that is shared (setresuid(2) would make the
/// *caller* undumpable), and need no uid of the namespace to have a name.
///
/// # Safety
/// Only in the child of `spawn`.
unsafe fn keep_capabilities(child: &Child) -> Result<(), SpawnError> {
    const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    /// The last that every kernel knows that this runs on: CAP_CHECKPOINT_RESTORE, since Linux 5.9.
    const KNOWN: libc::c_int = 40;
    if !child.keep_capabilities {
        return Ok(());
    }
    let header: [u32; 2] = [LINUX_CAPABILITY_VERSION_3, 0];
    // Effective, permitted and inheritable: all, in two halves.
    let data = [u32::MAX; 6];
    // SAFETY: the layouts of struct __user_cap_header_struct and of two __user_cap_data_structs.
    if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) } < 0 {
        return Err(SpawnError::Capabilities(errno()));
    }
    for capability in 0..64_i32 {
        // SAFETY: plain numbers.
        let raised = unsafe {
            libc::syscall(
                libc::SYS_prctl,
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                capability,
                0,
                0,
            )
        };
        match raised {
            0 => {}
            _ if errno() == libc::EINVAL && capability > KNOWN => break,
            _ => return Err(SpawnError::Capabilities(errno())),
        }
    }
    Ok(())
}

/// Becomes the image; returns only when that failed.
///
/// # Safety
/// Only in the child of `spawn`.
unsafe fn exec(child: &Child) -> SpawnError {
    // SAFETY: both tables end with null and point to NUL-terminated strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            child.image,
            c"".as_ptr(),
            child.argv.as_ptr(),
            child.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    SpawnError::Exec(errno())
}
