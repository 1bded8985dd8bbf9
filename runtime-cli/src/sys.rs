//! The process's entry: the only unsafe code of the command line.
//!
//! The entry is C's `main` rather than Rust's, whose preparations cost some 17 system calls (it
//! looks for the stack's guard page in `/proc/self/maps`, and sets up handlers to tell of its
//! overflow). What they do for safety is done here: the standard streams are open.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: these are main's arguments, as the C standard has them.
    let arguments = unsafe { arguments(argc, argv) };
    open_standard_streams();
    keep_heap();
    c_int::from(crate::entry(arguments))
}

/// # Safety
/// `argv` must have `argc` pointers to NUL-terminated strings.
#[cfg_attr(test, allow(dead_code))]
unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    (0..usize::try_from(argc).unwrap_or(0))
        .map(|index| {
            // SAFETY: `index` is below `argc`, so there is a pointer to a NUL-terminated string.
            let argument = unsafe { CStr::from_ptr(*argv.add(index)) };
            OsStr::from_bytes(argument.to_bytes()).to_owned()
        })
        .collect()
}

/// Opens `/dev/null` in place of standard streams that the caller closed: a file that is opened
/// later must not become one.
#[cfg_attr(test, allow(dead_code))]
fn open_standard_streams() {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: the array has three entries, and lives across the call.
    let result = unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    let closed = streams.iter().any(|stream| stream.revents & libc::POLLNVAL != 0);
    if result <= 0 || !closed {
        return;
    }
    loop {
        // SAFETY: the path is NUL-terminated. The lowest free number is used: the closed ones.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if fd > 2 {
            // SAFETY: it was opened just now, and nobody else knows of it.
            unsafe { libc::close(fd) };
        }
        if !(0..=2).contains(&fd) {
            return;
        }
        // SAFETY: a standard stream is inherited by what is executed.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    }
}

/// Lets the heap grow in one step and never shrink: the program is too short-lived for less.
#[cfg_attr(test, allow(dead_code))]
fn keep_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: there is one thread yet; the values are in the range that mallopt(3) takes.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, 256 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 * 1024 * 1024);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1024 * 1024);
    }
}
