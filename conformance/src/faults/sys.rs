//! The only unsafe code: what a child does between fork and exec.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::ptrace;

/// Makes the command stop at its execve(2), traced by the thread that spawns it.
pub(super) fn trace(command: &mut Command) {
    let trace_me = || ptrace::traceme().map_err(std::io::Error::from);
    // SAFETY: the closure runs between fork and execve of a process with other threads, where a lock could be held
    // forever and memory must not be allocated; it is one system call and the conversion of a number.
    unsafe { command.pre_exec(trace_me) };
}
