//! The system calls that have no safe wrapper.
#![allow(unsafe_code)]

use std::ffi::CString;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use serde_json::{Value, json};

use crate::Reply;

/// Any system call, by number, with numbers for arguments.
pub(crate) fn call(number: i64, args: [i64; 6]) -> nix::Result<i64> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the arguments come from a test, which passes numbers and null pointers only; the kernel checks them. A
    // call that changes this process's memory (brk, munmap) would harm nothing but this expendable process.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// Any system call whose first argument is a path at `index`.
pub(crate) fn call_path(
    number: i64,
    path: &str,
    index: usize,
    mut args: [i64; 6],
) -> nix::Result<i64> {
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    args[index] = path.as_ptr() as i64;
    call(number, args)
}

/// Runs `work` in a child and says how that ended.
pub(crate) fn in_child(work: impl FnOnce()) -> Reply {
    // SAFETY: this program has one thread, so the child may use everything that the parent could.
    match unsafe { fork() }? {
        ForkResult::Child => {
            work();
            std::process::exit(0)
        }
        ForkResult::Parent { child } => ended(child),
    }
}

/// Waits for a process and says how it ended.
pub(crate) fn ended(child: Pid) -> Reply {
    Ok(match waitpid(child, None)? {
        WaitStatus::Exited(_, code) => json!({"code": code}),
        WaitStatus::Signaled(_, signal, _) => json!({"signal": signal as i32}),
        other => json!(format!("{other:?}")),
    })
}

/// Makes children that sleep, until one cannot be made or there are `most`; says how many, then ends them.
pub(crate) fn forks(most: u32) -> Value {
    let mut children = Vec::new();
    let mut errno = 0;
    for _ in 0..most {
        // SAFETY: this program has one thread; the child makes one system call and never returns.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => loop {
                nix::unistd::pause();
            },
            Ok(ForkResult::Parent { child }) => children.push(child),
            Err(e) => {
                errno = e as i32;
                break;
            }
        }
    }
    for child in &children {
        let _: nix::Result<()> = nix::sys::signal::kill(*child, nix::sys::signal::SIGKILL);
        let _: nix::Result<WaitStatus> = waitpid(*child, None);
    }
    json!({"made": children.len(), "errno": errno})
}

/// Leaves a child behind that sleeps.
pub(crate) fn leave_sleeper() -> Reply {
    // SAFETY: this program has one thread; the child makes one system call and never returns.
    match unsafe { fork() }? {
        ForkResult::Child => loop {
            nix::unistd::pause();
        },
        ForkResult::Parent { child } => Ok(json!(child.as_raw())),
    }
}

/// Whether a file is one in memory that nobody can write any more.
pub(crate) fn is_sealed(file: &std::fs::File) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: F_GET_SEALS takes no pointer, and the descriptor is borrowed from a live file.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    seals >= 0 && seals & libc::F_SEAL_WRITE != 0
}

/// Takes memory and writes to each page of it.
pub(crate) fn touch(bytes: usize) -> Value {
    let mut memory = vec![0_u8; bytes];
    for page in memory.chunks_mut(4096) {
        // SAFETY: `page` is a live, exclusive reference to at least one byte; volatile only keeps the write.
        unsafe { std::ptr::write_volatile(&raw mut page[0], 1) };
    }
    json!(memory.len())
}

/// The terminal's size: rows and columns.
pub(crate) fn window(fd: i32) -> nix::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one struct winsize, which `size` is, and keeps no pointer to it.
    Errno::result(unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) })?;
    Ok((size.ws_row, size.ws_col))
}

/// The file status flags of a descriptor.
pub(crate) fn flags(fd: i32) -> nix::Result<i32> {
    // SAFETY: F_GETFL takes no pointer; a number that is no descriptor is EBADF.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFL) })
}

/// Reads some bytes of a descriptor of that number.
pub(crate) fn read(fd: i32) -> nix::Result<Vec<u8>> {
    let mut buffer = vec![0_u8; 4096];
    // SAFETY: the buffer is live and as long as said.
    let n = Errno::result(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })?;
    buffer.truncate(usize::try_from(n).unwrap_or(0));
    Ok(buffer)
}

/// The result of a prctl that takes numbers only.
pub(crate) fn prctl(option: i32, arg: i64) -> nix::Result<i32> {
    // SAFETY: the options that are used here take numbers and return one.
    Errno::result(unsafe { libc::prctl(option, arg, 0, 0, 0) })
}

/// The signal that is sent when the parent ends.
pub(crate) fn death_signal() -> i32 {
    let mut signal = 0_i32;
    // SAFETY: PR_GET_PDEATHSIG writes one int, to a live one.
    let _: i32 = unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal, 0, 0, 0) };
    signal
}

/// A clock's time in nanoseconds.
pub(crate) fn clock(id: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec, to a live one.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The processors that this process may run on.
pub(crate) fn affinity() -> Vec<usize> {
    // SAFETY: cpu_set_t is an array of integers, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size that is given, to a live set.
    unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    // SAFETY: CPU_ISSET reads the bit of a number below CPU_SETSIZE (1024) in a live set.
    (0..1024).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Waits for one of the signals, which must be blocked; says which came.
pub(crate) fn wait_signal() -> i32 {
    // SAFETY: sigset_t is plain data, initialised by sigfillset; sigwaitinfo may be given no siginfo.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        crate::say(&Ok(json!("ready")));
        libc::sigwaitinfo(&raw const set, std::ptr::null_mut())
    }
}
