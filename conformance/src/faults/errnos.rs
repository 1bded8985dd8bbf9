//! What the kernel may answer to which system call.

use super::{Call, Wrong};

/// What can go wrong at a call; nothing where the kernel has no say in it, or only about wrong arguments.
///
/// Among them are the answers of a sandbox that knows the call as little as an old kernel does (EPERM, ENOSYS).
///
/// Source: the ERRORS of the manual pages, and what limits (memory, descriptors, processes, quota), broken disks,
/// security modules and seccomp filters answer to any call.
#[must_use]
pub fn errnos(call: &Call) -> Vec<Wrong> {
    let failing = |list: &[i32]| list.iter().map(|errno| Wrong::Fails(*errno)).collect();
    match call.name {
        // The descriptor is closed whatever the kernel says (close(2), NOTES).
        "close" => [libc::EIO, libc::EINTR].map(Wrong::FailsDone).into(),
        _ => failing(refusals(call)),
    }
}

fn refusals(call: &Call) -> &'static [i32] {
    use libc::{
        E2BIG, EACCES, EAGAIN, EBUSY, ECHILD, ECONNREFUSED, EDQUOT, EINTR, EINVAL, EIO, EMFILE,
        ENFILE, ENOBUFS, ENOLCK, ENOMEM, ENOSPC, ENOSYS, EPERM, EROFS,
    };
    match call.name {
        "brk" | "exit" | "exit_group" | "futex" | "getegid" | "geteuid" | "getgid" | "getpgrp"
        | "getpid" | "getppid" | "gettid" | "getuid" | "munmap" | "madvise" | "rseq"
        | "restart_syscall" | "rt_sigaction" | "rt_sigprocmask" | "rt_sigreturn"
        | "sched_yield" | "set_robust_list" | "set_tid_address" | "sigaltstack" | "umask"
        | "uname" => &[],
        "getrandom" => &[ENOSYS],
        "mmap" | "mprotect" | "mremap" => &[ENOMEM],
        "open" | "openat" => &[EMFILE, EIO, ENFILE, ENOMEM, EACCES],
        "openat2" => &[EMFILE, EAGAIN, EIO, ENOMEM, EACCES, ENOSYS],
        "read" | "pread64" => &[EIO, EINTR],
        "readlink" | "readlinkat" | "getdents64" => &[EIO, ENOMEM, EACCES],
        "write" | "pwrite64" => &[EIO, EINTR, ENOSPC],
        "stat" | "fstat" | "lstat" | "newfstatat" | "statx" | "statfs" | "fstatfs" => {
            &[EIO, ENOMEM, EACCES]
        }
        "getcwd" => &[ENOMEM, EACCES],
        "mkdir" | "mkdirat" | "mknod" | "mknodat" | "symlink" | "symlinkat" | "rename"
        | "renameat" | "renameat2" => &[ENOSPC, EIO, EACCES, EROFS, EDQUOT],
        "unlink" | "unlinkat" | "rmdir" => &[EIO, EACCES, EROFS, EBUSY],
        "ftruncate" => &[EIO, ENOSPC],
        "memfd_create" | "eventfd2" | "timerfd_create" | "epoll_create1" | "pipe2"
        | "signalfd4" => &[EMFILE, ENOMEM, ENOSYS],
        "fcntl" => &[EMFILE, EACCES],
        "dup" | "dup2" | "dup3" => &[EMFILE, EBUSY, ENOMEM],
        "socket" | "socketpair" => &[EMFILE, ENOMEM, EACCES],
        "connect" => &[ECONNREFUSED, EACCES, EINTR],
        "sendto" | "sendmsg" => &[ENOBUFS, EINTR, ENOMEM],
        // Only recvmsg(2) makes something that memory may be missing for (recv(2), ERRORS).
        "recvfrom" => &[EINTR],
        "recvmsg" => &[ENOMEM, EINTR],
        "clone" | "clone3" | "fork" | "vfork" => &[EAGAIN, ENOMEM, EPERM, ENOSPC, ENOSYS],
        "execve" | "execveat" => &[ENOMEM, EACCES, E2BIG],
        "unshare" | "setns" => &[EPERM, ENOSPC, ENOMEM],
        "keyctl" => &[EDQUOT, ENOMEM, EACCES, ENOSYS],
        "ioctl" => &[EIO, EPERM, ENOMEM],
        "open_tree" | "fsopen" | "fsmount" | "fspick" => &[EPERM, EMFILE, ENOMEM, ENOSYS],
        "fsconfig" => &[EINVAL, ENOMEM, EPERM, EBUSY],
        "move_mount" | "mount" | "mount_setattr" | "pivot_root" => {
            &[EPERM, EINVAL, ENOMEM, EBUSY, ENOSYS]
        }
        "umount2" => &[EBUSY, EPERM],
        "chroot" | "chdir" | "fchdir" => &[EACCES, EIO, ENOMEM],
        "prctl" | "prlimit64" | "setrlimit" | "personality" | "capget" => &[EPERM, EINVAL],
        "seccomp" => &[EINVAL, ENOMEM, EACCES, ENOSYS],
        "setgroups" => &[EPERM, ENOMEM],
        "setresuid" | "setresgid" | "setuid" | "setgid" => &[EPERM, EAGAIN],
        "bpf" => &[EPERM, EAGAIN, ENOMEM, EINVAL],
        "wait4" | "waitid" => &[EINTR, ECHILD],
        "pidfd_open" => &[EMFILE, ENOMEM, ENOSYS],
        "poll" | "ppoll" | "epoll_wait" | "epoll_pwait" => &[EINTR, ENOMEM],
        "nanosleep" | "clock_nanosleep" => &[EINTR],
        "flock" => &[ENOLCK, EINTR],
        "chmod" | "fchmod" | "fchmodat" | "fchmodat2" | "chown" | "fchown" | "fchownat"
        | "lchown" => &[EIO, EPERM, EROFS],
        "access" | "faccessat" | "faccessat2" => &[EACCES, EIO],
        "sendfile" | "copy_file_range" | "splice" => &[EIO, ENOSPC],
        "lseek" => &[EINVAL],
        _ => &[EPERM, ENOMEM],
    }
}

/// Whether all that the call does ends with the process: one that is killed after it is as if it were killed before.
#[must_use]
pub fn is_private(call: &Call) -> bool {
    matches!(
        call.name,
        "access"
            | "brk"
            | "capget"
            | "capset"
            | "chdir"
            | "close"
            | "close_range"
            | "dup"
            | "dup2"
            | "dup3"
            | "faccessat"
            | "faccessat2"
            | "fchdir"
            | "fcntl"
            | "fsconfig"
            | "fsmount"
            | "fsopen"
            | "fstat"
            | "fstatfs"
            | "getcwd"
            | "getdents64"
            | "getegid"
            | "geteuid"
            | "getgid"
            | "getpid"
            | "getppid"
            | "getrandom"
            | "gettid"
            | "getuid"
            | "lseek"
            | "madvise"
            | "memfd_create"
            | "mmap"
            | "mount_setattr"
            | "move_mount"
            | "mprotect"
            | "mremap"
            | "munmap"
            | "newfstatat"
            | "open_tree"
            | "pidfd_open"
            | "pivot_root"
            | "poll"
            | "ppoll"
            | "prctl"
            | "pread64"
            | "prlimit64"
            | "readlink"
            | "readlinkat"
            | "rseq"
            | "rt_sigaction"
            | "rt_sigprocmask"
            | "seccomp"
            | "set_robust_list"
            | "setgroups"
            | "sethostname"
            | "setdomainname"
            | "setresgid"
            | "setresuid"
            | "sigaltstack"
            | "socketpair"
            | "stat"
            | "statfs"
            | "statx"
            | "umask"
            | "umount2"
            | "uname"
            | "unshare"
    )
}

/// Whether the call may be interrupted by a handler of a signal and only has to be made again.
#[must_use]
pub fn is_interruption(wrong: Wrong) -> bool {
    matches!(wrong, Wrong::Fails(libc::EINTR) | Wrong::FailsDone(libc::EINTR))
}
