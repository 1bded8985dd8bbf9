//! The device program of a cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::sys;
use crate::error::{Error, Result};

/// An eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE` that allows or denies access to devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProgram {
    /// Each a `struct bpf_insn` of linux/bpf.h.
    instructions: Vec<[u8; 8]>,
}

impl DeviceProgram {
    pub(crate) fn new(instructions: Vec<[u8; 8]>) -> Self {
        Self { instructions }
    }

    /// The instructions, each a `struct bpf_insn` of linux/bpf.h in the order of bytes of the host.
    pub fn instructions(&self) -> &[[u8; 8]] {
        &self.instructions
    }

    /// Whether the program denies nothing: a new cgroup is the same without it.
    pub fn allows_everything(&self) -> bool {
        let one = 1i32.to_ne_bytes();
        matches!(self.instructions.as_slice(),
            [[0xb7, 0, 0, 0, value @ ..], [0x95, ..]] if *value == one)
    }
}

/// Loads and attaches a program in the place of those that are there; `pristine` says that there
/// are none.
pub(super) fn attach(
    cgroup: BorrowedFd<'_>,
    program: &DeviceProgram,
    pristine: bool,
) -> Result<()> {
    let cannot_attach = |errno| Error::sys("cannot attach the device program", errno);
    let new = load(program)?;
    let old = if pristine { Vec::new() } else { attached(cgroup)? };
    if let [only] = old.as_slice() {
        return sys::program_attach(cgroup, new.as_fd(), Some(only.as_fd())).map_err(cannot_attach);
    }
    sys::program_attach(cgroup, new.as_fd(), None).map_err(cannot_attach)?;
    // Only now: all attached programs must agree to an access, so nothing is open in between.
    for program in old {
        sys::program_detach(cgroup, program.as_fd())
            .map_err(|errno| Error::sys("cannot detach an earlier device program", errno))?;
    }
    Ok(())
}

fn load(program: &DeviceProgram) -> Result<OwnedFd> {
    let mut result = Err(Errno::AGAIN);
    for _ in 0..30 {
        result = sys::program_load(program.instructions(), &mut []);
        // A signal interrupts the verifier with EAGAIN.
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    result.map_err(|errno| {
        let message = "cannot load the device program";
        // Only a program that the verifier refuses has a log.
        if errno != Errno::INVAL && errno != Errno::ACCESS {
            return Error::sys(message, errno);
        }
        let mut log = vec![0u8; 64 * 1024];
        let _: Result<_, Errno> = sys::program_load(program.instructions(), &mut log); // as before
        let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text).trim().replace('\n', "; ");
        Error::sys(format!("{message} ({text})"), errno)
    })
}

/// The programs that are attached to the cgroup itself.
fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64]; // BPF_CGROUP_MAX_PROGS
    let count = sys::program_query(cgroup, &mut ids)
        .map_err(|errno| Error::sys("cannot list the device programs of the cgroup", errno))?;
    let mut programs = Vec::new();
    for id in ids.iter().take(count) {
        match sys::program_by_id(*id) {
            Ok(program) => programs.push(program),
            // Somebody else's, which an LSM keeps from us, or gone: it can only deny more.
            Err(Errno::ACCESS | Errno::PERM | Errno::NOENT) => {}
            Err(errno) => {
                return Err(Error::sys("cannot open a device program of the cgroup", errno));
            }
        }
    }
    Ok(programs)
}
