//! Peak memory of a command.
//!
//! The kernel starts a program's `ru_maxrss` at the peak of the memory that the process had before its execve. Started
//! from a process of 10 MiB (or by vfork from one), even a program of 100 KiB shows 10 MiB. So the command is started
//! from a process that has just begun and by a real fork, whose child has only the pages that a fork copies. What that
//! child alone takes is the floor below which nothing is seen; it is measured, and printed with the results.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::Run;

/// The line that the meter prints on standard error.
const MARK: &str = "orlop-conformance-meter";

/// `orlop-conformance meter CMD...`: runs CMD and prints its peak memory in KiB. Returns CMD's exit code.
///
/// # Errors
/// Where no process can be made.
pub fn run(command: &[OsString]) -> Result<i32, String> {
    let args: Vec<CString> = command
        .iter()
        .map(|a| CString::new(a.as_bytes()).map_err(|e| e.to_string()))
        .collect::<Result<_, _>>()?;
    let (status, peak) = sys::fork_exec_wait(&args).map_err(|e| format!("meter: {e}"))?;
    eprintln!("{MARK} {peak}");
    Ok(status)
}

/// The peak memory in KiB of a command and of those of its descendants that were waited for.
///
/// # Errors
/// Where the command fails.
pub(super) fn peak(command: &[OsString], dir: &Path) -> Result<u64, String> {
    let done = start(command, dir);
    if !done.status.success() {
        return Err(done.to_string());
    }
    reading(&done.stderr).ok_or_else(|| done.to_string())
}

/// What the meter shows for no program at all, in KiB.
///
/// # Errors
/// Where the meter cannot be run.
pub(super) fn floor(dir: &Path) -> Result<u64, String> {
    let done = start(&["/no/such/program".into()], dir);
    reading(&done.stderr).ok_or_else(|| done.to_string())
}

fn start(command: &[OsString], dir: &Path) -> crate::Done {
    // Not by its name: that may be another one in the mount namespace that was entered.
    Run::new("/proc/self/exe", dir).arg("meter").args(command).done()
}

fn reading(stderr: &str) -> Option<u64> {
    stderr.lines().find_map(|line| line.strip_prefix(MARK)?.trim().parse().ok())
}

mod sys {
    #![allow(unsafe_code)]
    use std::ffi::CString;
    use std::os::raw::c_char;

    /// Forks, executes `args`, waits. Returns the exit code and the peak memory in KiB.
    pub(super) fn fork_exec_wait(args: &[CString]) -> std::io::Result<(i32, u64)> {
        let mut argv: Vec<*const c_char> = args.iter().map(|a| a.as_ptr()).collect();
        argv.push(std::ptr::null());
        // SAFETY: the meter has one thread, so that the child's copy of the memory is whole and no lock in it is held
        // by a thread that does not exist there; the child calls only execvp and _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: argv ends with a null pointer, and the strings that it points to live in `args`, which this
            // frame borrows. _exit does not return and runs nothing of the parent's.
            unsafe {
                libc::execvp(argv[0], argv.as_ptr());
                libc::_exit(127);
            }
        }
        if pid < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let mut status = 0;
        // SAFETY: rusage is plain integers, for which all zeros is a value; wait4 overwrites it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live variables of the types that wait4 writes, and the pid is our own child's,
        // which nobody else waits for.
        if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } != pid {
            return Err(std::io::Error::last_os_error());
        }
        let code = if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        };
        Ok((code, u64::try_from(usage.ru_maxrss).unwrap_or(0)))
    }
}
