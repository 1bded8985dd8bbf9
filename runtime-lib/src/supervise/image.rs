//! The sealed files that the init is made of: its program and its plan.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// The init's program, built by build.rs.
const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orlop-init"));

const HINT: &str = "where the host forbids executing memfds (vm.memfd_noexec = 2, an LSM), \
    install the init as a file and name it (Builder::init_file)";

/// The program to execute: a sealed copy in memory, so that `/proc/PID/exe` of a container never
/// leads to a file of the host (CVE-2019-5736), or the installed file that the caller named.
pub(super) fn open(installed: Option<&Path>) -> Result<OwnedFd> {
    if let Some(path) = installed {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        return rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::sys(format!("cannot open the init {path:?}"), errno));
    }
    let executable = MemfdFlags::from_bits_retain(libc::MFD_EXEC);
    sealed(c"orlop-init", IMAGE, executable)
        .map_err(|errno| Error::sys("cannot put the init into memory", errno).hint(HINT))
}

/// Why the program could not be executed.
pub(super) fn exec_error(errno: i32) -> Error {
    Error::sys("cannot execute the init", errno).hint(HINT)
}

/// The plan in its wire form.
pub(super) fn plan(bytes: &[u8]) -> Result<OwnedFd> {
    let plain = MemfdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    sealed(c"orlop-plan", bytes, plain)
        .map_err(|errno| Error::sys("cannot put the plan into memory", errno))
}

/// A file in memory that nobody can change any more.
fn sealed(name: &std::ffi::CStr, bytes: &[u8], kind: MemfdFlags) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create(name, flags | kind) {
        // Before Linux 6.3 there is no choice, and every memfd may be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        result => result?,
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
        rest = rest.get(count..).unwrap_or_default();
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}
