//! Runs a filter as the kernel would, without the kernel.

use super::bpf::{Instruction, op};
use super::known::ret;

/// What a filter sees of a system call: the kernel's `struct seccomp_data` (linux/seccomp.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeccompData {
    /// The number of the call.
    pub number: u32,
    /// The architecture that the call was made for, as AUDIT_ARCH_* of linux/audit.h.
    pub arch: u32,
    /// Where the call was made.
    pub instruction_pointer: u64,
    /// The arguments of the call.
    pub args: [u64; 6],
}

impl SeccompData {
    /// The aligned word at an offset in bytes, in the byte order of this machine.
    fn word(&self, offset: u32) -> Option<u32> {
        let pair = match offset / 8 {
            0 if offset == 0 => return Some(self.number),
            0 if offset == 4 => return Some(self.arch),
            0 => return None,
            1 => self.instruction_pointer,
            n => *self.args.get(n as usize - 2)?,
        };
        let [a, b, c, d, e, f, g, h] = pair.to_ne_bytes();
        match offset % 8 {
            0 => Some(u32::from_ne_bytes([a, b, c, d])),
            4 => Some(u32::from_ne_bytes([e, f, g, h])),
            _ => None,
        }
    }
}

/// The answer of a filter to a system call.
///
/// A program that the kernel would not load (it runs past its end or has another instruction than
/// filters use) answers [`ret::KILL_PROCESS`].
#[must_use]
pub fn simulate(program: &[Instruction], call: &SeccompData) -> u32 {
    run(program, call).unwrap_or(ret::KILL_PROCESS)
}

fn run(program: &[Instruction], call: &SeccompData) -> Option<u32> {
    let mut rest = program.iter();
    let mut loaded = 0;
    loop {
        let Instruction { code, jt, jf, k } = *rest.next()?;
        let branch = |condition| if condition { usize::from(jt) } else { usize::from(jf) };
        let skip = match code {
            op::LOAD => {
                loaded = call.word(k)?;
                0
            }
            op::AND => {
                loaded &= k;
                0
            }
            op::JUMP => usize::try_from(k).ok()?,
            op::IF_EQUAL => branch(loaded == k),
            op::IF_GREATER => branch(loaded > k),
            op::IF_GREATER_OR_EQUAL => branch(loaded >= k),
            op::IF_BITS => branch(loaded & k != 0),
            op::RETURN => return Some(k),
            _ => return None,
        };
        if skip > 0 {
            rest.nth(skip - 1)?;
        }
    }
}
