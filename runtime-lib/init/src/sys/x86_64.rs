//! What depends on the x86_64 architecture.

use core::arch::{asm, global_asm, naked_asm};

// The kernel enters here with the stack pointer at argc. The frame below is aligned as the ABI
// demands of a call, and rbp = 0 ends the chain of frames.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {entry}",
    "ud2",
    entry = sym super::entry,
);

/// A system call of up to five arguments.
///
/// # Safety
/// Whatever the call does to memory and descriptors must be right for this process.
pub(super) unsafe fn syscall5(
    number: usize,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> isize {
    let result: isize;
    // SAFETY: the kernel's calling convention: arguments in these registers, rcx and r11
    // clobbered, flags restored; what the call itself does is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// The kernel refuses a signal handler without a restorer on this architecture, though ours never
/// returns.
#[unsafe(naked)]
pub(super) extern "C" fn restorer() {
    naked_asm!("mov eax, 15", "syscall", "ud2");
}

pub(super) mod nr {
    pub(in crate::sys) const RT_SIGACTION: usize = 13;
    pub(in crate::sys) const RT_SIGPROCMASK: usize = 14;
    pub(in crate::sys) const IOCTL: usize = 16;
    pub(in crate::sys) const MADVISE: usize = 28;
    pub(in crate::sys) const SOCKET: usize = 41;
    pub(in crate::sys) const CLONE: usize = 56;
    pub(in crate::sys) const FORK: usize = 57;
    pub(in crate::sys) const EXECVE: usize = 59;
    pub(in crate::sys) const UMASK: usize = 95;
    pub(in crate::sys) const SETGROUPS: usize = 116;
    pub(in crate::sys) const CAPSET: usize = 126;
    pub(in crate::sys) const PERSONALITY: usize = 135;
    pub(in crate::sys) const PRCTL: usize = 157;
    pub(in crate::sys) const GETCWD: usize = 79;
    pub(in crate::sys) const SCHED_SETAFFINITY: usize = 203;
    pub(in crate::sys) const EXIT_GROUP: usize = 231;
    pub(in crate::sys) const SET_MEMPOLICY: usize = 238;
    pub(in crate::sys) const KEYCTL: usize = 250;
    pub(in crate::sys) const IOPRIO_SET: usize = 251;
    pub(in crate::sys) const UNSHARE: usize = 272;
    pub(in crate::sys) const PRLIMIT64: usize = 302;
    pub(in crate::sys) const SETNS: usize = 308;
    pub(in crate::sys) const SCHED_SETATTR: usize = 314;
    pub(in crate::sys) const SECCOMP: usize = 317;
    pub(in crate::sys) const CLOSE_RANGE: usize = 436;
    pub(in crate::sys) const FACCESSAT2: usize = 439;
    pub(in crate::sys) const MOUNT_SETATTR: usize = 442;
}

// The compiler calls these; without libc they are ours.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller promises `bytes` readable at `from` and writable at `to`; the direction
    // flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") bytes => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= bytes {
        // SAFETY: a forward copy reads each byte before it is overwritten, as `to` does not begin
        // inside the source.
        return unsafe { memcpy(to, from, bytes) };
    }
    // SAFETY: `bytes` > 0 here, so both last bytes exist; copying backwards reads each byte before
    // it is overwritten; the direction flag is cleared again.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") bytes => _,
            inout("rdi") to.add(bytes).sub(1) => _, inout("rsi") from.add(bytes).sub(1) => _,
            options(nostack));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, bytes: usize) -> *mut u8 {
    // SAFETY: the caller promises `bytes` writable at `to`.
    unsafe {
        asm!("rep stosb", inout("rcx") bytes => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, bytes: usize) -> i32 {
    let mut i = 0;
    while i < bytes {
        // SAFETY: the caller promises `bytes` readable at both; i is below that. Volatile, lest
        // the compiler recognise the loop and call this function from itself.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        i += 1;
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, bytes: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, bytes) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller promises a NUL; every byte before it is readable.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
