//! System call names to numbers, for each architecture that the kernel of this machine runs.
//!
//! The tables are those of the crate `syscalls`; what they lack stands here: x32, the private calls
//! of arm, names that the crate spells differently, and calls newer than the crate.

use oci_spec::runtime::Arch;

use crate::error::{Error, Result};

/// The bit that marks a system call of the x32 ABI (arch/x86/include/uapi/asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// One way to make system calls: its numbers, and how wide its arguments are.
#[derive(Debug)]
pub(super) struct Abi {
    pub(super) arch: Arch,
    /// What the kernel shows filters as the architecture (linux/audit.h); x32 shows x86_64's.
    pub(super) audit: u32,
    /// The part of an argument that conditions look at.
    ///
    /// On x32 that is the low word too, as in libseccomp, though registers have 64 bits there.
    pub(super) argument_bits: u64,
    resolve: fn(&str) -> Option<u32>,
}

impl Abi {
    /// The number of a system call by its name, or `None` where the ABI has no such call.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        (self.resolve)(name)
    }

    /// The second door to a system call: the number of socketcall(2) or ipc(2), and the first
    /// argument that makes it do what `name` does.
    pub(super) fn multiplexed(&self, name: &str) -> Option<(u32, u64)> {
        let (door, operation) = multiplexed(name)?;
        Some((self.number(door)?, operation))
    }
}

/// The ABI of an architecture, or `None` where there is no table of its calls.
///
/// Without a table its calls get what those of an unlisted architecture get: the thread is killed.
/// That concerns mips n32, 31-bit s390, and what the kernel of this machine cannot run anyway.
pub(super) fn abi(arch: Arch) -> Option<&'static Abi> {
    let wanted = if arch == Arch::ScmpArchNative { NATIVE } else { arch };
    FAMILIES.iter().copied().flatten().find(|abi| abi.arch == wanted)
}

/// The ABI that orlop itself is built for.
pub(super) fn native() -> Result<&'static Abi> {
    abi(NATIVE).ok_or_else(|| Error::bug("the native architecture has no system call table"))
}

const WIDE: u64 = u64::MAX;
const NARROW: u64 = u32::MAX as u64;

/// The ABIs that one kernel can run together make a family.
const FAMILIES: &[&[Abi]] = &[
    #[cfg(any(target_arch = "x86_64", feature = "seccomp-all-architectures"))]
    x86::FAMILY,
    #[cfg(any(target_arch = "aarch64", feature = "seccomp-all-architectures"))]
    arm::FAMILY,
    #[cfg(any(target_arch = "riscv64", feature = "seccomp-all-architectures"))]
    riscv::FAMILY,
    #[cfg(any(target_arch = "powerpc64", feature = "seccomp-all-architectures"))]
    power::FAMILY,
    #[cfg(any(target_arch = "s390x", feature = "seccomp-all-architectures"))]
    s390::FAMILY,
    #[cfg(any(target_arch = "loongarch64", feature = "seccomp-all-architectures"))]
    loongarch::FAMILY,
    #[cfg(any(target_arch = "mips64", feature = "seccomp-all-architectures"))]
    mips::FAMILY,
];

/// The architecture that orlop is built for.
const NATIVE: Arch = if cfg!(target_arch = "x86_64") {
    Arch::ScmpArchX86_64
} else if cfg!(target_arch = "aarch64") {
    Arch::ScmpArchAarch64
} else if cfg!(target_arch = "riscv64") {
    Arch::ScmpArchRiscv64
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    Arch::ScmpArchPpc64le
} else if cfg!(target_arch = "powerpc64") {
    Arch::ScmpArchPpc64
} else if cfg!(target_arch = "s390x") {
    Arch::ScmpArchS390x
} else if cfg!(target_arch = "loongarch64") {
    Arch::ScmpArchLoongarch64
} else if cfg!(all(target_arch = "mips64", target_endian = "little")) {
    Arch::ScmpArchMipsel64
} else if cfg!(target_arch = "mips64") {
    Arch::ScmpArchMips64
} else {
    panic!("orlop has no system call table for this architecture")
};

const fn row(arch: Arch, audit: u32, argument_bits: u64, resolve: Resolve) -> Abi {
    Abi { arch, audit, argument_bits, resolve }
}

type Resolve = fn(&str) -> Option<u32>;

/// Asks a table of the crate, and then [`newer`] with what that table's numbers start from.
macro_rules! table {
    ($table:ident, $name:expr, $base:expr) => {
        match $name.parse::<syscalls::$table::Sysno>() {
            Ok(number) => u32::try_from(number.id()).ok(),
            Err(()) => newer($name).map(|number| $base + number),
        }
    };
}

/// System calls that the crate's tables do not have yet. Since Linux 5.1 new calls have the same
/// number everywhere.
fn newer(name: &str) -> Option<u32> {
    match name {
        "listns" => Some(470),
        "rseq_slice_yield" => Some(471),
        _ => None,
    }
}

#[cfg(any(target_arch = "x86_64", feature = "seccomp-all-architectures"))]
mod x86 {
    use super::{Abi, Arch, NARROW, WIDE, X32_BIT, newer, row};

    pub(super) const FAMILY: &[Abi] = &[
        row(Arch::ScmpArchX86_64, 0xc000_003e, WIDE, |name| table!(x86_64, name, 0)),
        row(Arch::ScmpArchX86, 0x4000_0003, NARROW, |name| table!(x86, name, 0)),
        row(Arch::ScmpArchX32, 0xc000_003e, NARROW, x32),
    ];

    /// x32 shares the numbers of `x86_64`, but for calls that take pointers to structures of another
    /// layout and calls it never had (arch/x86/entry/syscalls/syscall_64.tbl).
    fn x32(name: &str) -> Option<u32> {
        let number = match name {
            "rt_sigaction" => 512,
            "rt_sigreturn" => 513,
            "ioctl" => 514,
            "readv" => 515,
            "writev" => 516,
            "recvfrom" => 517,
            "sendmsg" => 518,
            "recvmsg" => 519,
            "execve" => 520,
            "ptrace" => 521,
            "rt_sigpending" => 522,
            "rt_sigtimedwait" => 523,
            "rt_sigqueueinfo" => 524,
            "sigaltstack" => 525,
            "timer_create" => 526,
            "mq_notify" => 527,
            "kexec_load" => 528,
            "waitid" => 529,
            "set_robust_list" => 530,
            "get_robust_list" => 531,
            "vmsplice" => 532,
            "move_pages" => 533,
            "preadv" => 534,
            "pwritev" => 535,
            "rt_tgsigqueueinfo" => 536,
            "recvmmsg" => 537,
            "sendmmsg" => 538,
            "process_vm_readv" => 539,
            "process_vm_writev" => 540,
            "setsockopt" => 541,
            "getsockopt" => 542,
            "io_setup" => 543,
            "io_submit" => 544,
            "execveat" => 545,
            "preadv2" => 546,
            "pwritev2" => 547,
            "_sysctl" | "create_module" | "epoll_ctl_old" | "epoll_wait_old"
            | "get_kernel_syms" | "get_thread_area" | "nfsservctl" | "query_module"
            | "set_thread_area" | "uselib" | "vserver" => return None,
            _ => table!(x86_64, name, 0)?,
        };
        Some(X32_BIT | number)
    }
}

#[cfg(any(target_arch = "aarch64", feature = "seccomp-all-architectures"))]
mod arm {
    use super::{Abi, Arch, NARROW, WIDE, newer, row};

    pub(super) const FAMILY: &[Abi] = &[
        row(Arch::ScmpArchAarch64, 0xc000_00b7, WIDE, aarch64),
        row(Arch::ScmpArchArm, 0x4000_0028, NARROW, arm),
    ];

    /// The crate calls newfstatat by the name that C libraries give it.
    fn aarch64(name: &str) -> Option<u32> {
        match name {
            "newfstatat" => Some(79),
            _ => table!(aarch64, name, 0),
        }
    }

    /// The private calls are in arch/arm/include/uapi/asm/unistd.h.
    fn arm(name: &str) -> Option<u32> {
        match name {
            "breakpoint" => Some(0x000f_0001),
            "cacheflush" => Some(0x000f_0002),
            "usr26" => Some(0x000f_0003),
            "usr32" => Some(0x000f_0004),
            "set_tls" => Some(0x000f_0005),
            "get_tls" => Some(0x000f_0006),
            _ => table!(arm, name, 0),
        }
    }
}

#[cfg(any(target_arch = "riscv64", feature = "seccomp-all-architectures"))]
mod riscv {
    use super::{Abi, Arch, WIDE, newer, row};

    pub(super) const FAMILY: &[Abi] =
        &[row(Arch::ScmpArchRiscv64, 0xc000_00f3, WIDE, |name| table!(riscv64, name, 0))];
}

#[cfg(any(target_arch = "powerpc64", feature = "seccomp-all-architectures"))]
mod power {
    use super::{Abi, Arch, NARROW, WIDE, newer, row};

    pub(super) const FAMILY: &[Abi] = &[
        row(Arch::ScmpArchPpc64, 0x8000_0015, WIDE, |name| table!(powerpc64, name, 0)),
        row(Arch::ScmpArchPpc64le, 0xc000_0015, WIDE, |name| table!(powerpc64, name, 0)),
        row(Arch::ScmpArchPpc, 0x0000_0014, NARROW, |name| table!(powerpc, name, 0)),
    ];
}

#[cfg(any(target_arch = "s390x", feature = "seccomp-all-architectures"))]
mod s390 {
    use super::{Abi, Arch, WIDE, newer, row};

    pub(super) const FAMILY: &[Abi] =
        &[row(Arch::ScmpArchS390x, 0x8000_0016, WIDE, |name| table!(s390x, name, 0))];
}

#[cfg(any(target_arch = "loongarch64", feature = "seccomp-all-architectures"))]
mod loongarch {
    use super::{Abi, Arch, WIDE, newer, row};

    pub(super) const FAMILY: &[Abi] = &[row(Arch::ScmpArchLoongarch64, 0xc000_0102, WIDE, number)];

    /// The crate calls newfstatat by the name that C libraries give it.
    fn number(name: &str) -> Option<u32> {
        match name {
            "newfstatat" => Some(79),
            _ => table!(loongarch64, name, 0),
        }
    }
}

#[cfg(any(target_arch = "mips64", feature = "seccomp-all-architectures"))]
mod mips {
    use super::{Abi, Arch, NARROW, WIDE, newer, row};

    pub(super) const FAMILY: &[Abi] = &[
        row(Arch::ScmpArchMips64, 0x8000_0008, WIDE, |name| table!(mips64, name, 5000)),
        row(Arch::ScmpArchMipsel64, 0xc000_0008, WIDE, |name| table!(mips64, name, 5000)),
        row(Arch::ScmpArchMips, 0x0000_0008, NARROW, |name| table!(mips, name, 4000)),
        row(Arch::ScmpArchMipsel, 0x4000_0008, NARROW, |name| table!(mips, name, 4000)),
    ];
}

/// What socketcall(2) and ipc(2) do by their first argument (linux/net.h, linux/ipc.h).
fn multiplexed(name: &str) -> Option<(&'static str, u64)> {
    let socket = |operation| Some(("socketcall", operation));
    let ipc = |operation| Some(("ipc", operation));
    match name {
        "socket" => socket(1),
        "bind" => socket(2),
        "connect" => socket(3),
        "listen" => socket(4),
        "accept" => socket(5),
        "getsockname" => socket(6),
        "getpeername" => socket(7),
        "socketpair" => socket(8),
        "send" => socket(9),
        "recv" => socket(10),
        "sendto" => socket(11),
        "recvfrom" => socket(12),
        "shutdown" => socket(13),
        "setsockopt" => socket(14),
        "getsockopt" => socket(15),
        "sendmsg" => socket(16),
        "recvmsg" => socket(17),
        "accept4" => socket(18),
        "recvmmsg" => socket(19),
        "sendmmsg" => socket(20),
        "semop" => ipc(1),
        "semget" => ipc(2),
        "semctl" => ipc(3),
        "semtimedop" => ipc(4),
        "msgsnd" => ipc(11),
        "msgrcv" => ipc(12),
        "msgget" => ipc(13),
        "msgctl" => ipc(14),
        "shmat" => ipc(21),
        "shmdt" => ipc(22),
        "shmget" => ipc(23),
        "shmctl" => ipc(24),
        _ => None,
    }
}
