//! Seccomp profiles of the runtime-spec, compiled to the kernel's filters.
//!
//! A profile names system calls and says what they get: the call, an errno, a signal, death. The
//! kernel takes that as a program in classic BPF that runs before each system call, so it has to be
//! right first and short second. The way of a profile:
//!
//! 1. [`known`] has every word that a profile may use, and what the kernel calls it.
//! 2. `names` turns the names of system calls into numbers, architecture by architecture.
//! 3. `rules` makes of the profile, for each number, an answer or a list of rules on arguments.
//! 4. `tree` writes the binary search over the numbers, with the assembler in `bpf`.
//!
//! [`simulate()`] runs the result. All of it happens in the runtime's process, without effects; the
//! container's init only hands the bytes to seccomp(2).
//!
//! # What a profile means
//!
//! The runtime-spec leaves much open, and what profiles count on is what runc and libseccomp do:
//!
//! * A name that no architecture knows is ignored. Calls of an unlisted architecture are killed.
//! * A rule without arguments goes before all rules with arguments for that call; among several the
//!   first counts. Rules that answer what the default answers anyway count for nothing.
//! * All conditions of a rule have to hold; but if two of them look at one argument, one of all
//!   suffices. Where rules with different answers match the same call, the more special one counts:
//!   see the order in `rules`.
//! * 32-bit architectures and x32 compare the low half of arguments only.
//! * Sockets and System V IPC have two doors on some architectures, socketcall(2) and ipc(2) beside
//!   calls of their own; a rule watches both.
//! * Calls newer than the newest that the profile names get ENOSYS where the default would deny
//!   them, because programs fall back on ENOSYS and give up on EPERM. Calls are as new as their
//!   number.

mod bpf;
pub mod known;
mod names;
mod rules;
mod simulate;
#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests;
mod tree;

use oci_spec::runtime::LinuxSeccomp;

pub use bpf::Instruction;
pub use simulate::{SeccompData, simulate};

use crate::error::{Error, Result};
use known::{flag, ret};

/// The most instructions that the kernel takes (`BPF_MAXINSNS`, linux/bpf_common.h).
const MOST_INSTRUCTIONS: usize = 4096;

/// A compiled profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program, at most 4096 instructions.
    pub instructions: Vec<Instruction>,
    /// The flags for seccomp(2), `SECCOMP_FILTER_FLAG_*` of linux/seccomp.h.
    pub flags: u32,
}

/// A system call that has to work under a filter, for [`Filter::check_allows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// Its name, for the error.
    pub name: &'a str,
    /// Its number on the architecture that orlop is built for.
    pub number: u32,
    /// Its arguments; 0 where they are not known beforehand.
    pub args: [u64; 6],
}

/// Compiles a profile, the place of which in config.json is `field` (`linux.seccomp`).
///
/// # Errors
/// Names the field that is wrong, or `field` itself where the program gets too long for the kernel.
pub fn compile(profile: &LinuxSeccomp, field: &str) -> Result<Filter> {
    let mut flags = rules::flags(profile, field)?;
    let policy = rules::Policy::read(profile, field)?;
    let instructions = tree::program(&policy);
    if instructions.len() > MOST_INSTRUCTIONS {
        let count = instructions.len();
        let message = format!("the filter has {count} instructions, the kernel takes 4096");
        return Err(Error::unsupported(field.to_owned(), message)
            .hint("list fewer architectures or conditions on arguments"));
    }
    // Decided by the program: a rule for a call that no architecture knows asks nobody.
    let asks = |i: &Instruction| i.code == bpf::op::RETURN && i.k & ret::ACTION == ret::USER_NOTIF;
    if instructions.iter().any(asks) {
        flags |= flag::NEW_LISTENER;
    } else {
        // The kernel refuses it without a listener, where it means nothing.
        flags &= !flag::WAIT_KILLABLE_RECV;
    }
    Ok(Filter { instructions, flags })
}

impl Filter {
    /// Whether calls are given to an agent: the filter has a listener then.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.flags & flag::NEW_LISTENER != 0
    }

    /// The filter of which these are the bytes ([`Filter::to_bytes`]); what is left over of an
    /// incomplete instruction is dropped.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], flags: u32) -> Self {
        let (instructions, _) = bytes.as_chunks::<8>();
        let instructions = instructions.iter().map(|&[a, b, jt, jf, c, d, e, f]| Instruction {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes([c, d, e, f]),
        });
        Self { instructions: instructions.collect(), flags }
    }

    /// The program as seccomp(2) takes it: 8 bytes for each instruction, in this machine's byte order.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 * self.instructions.len());
        for Instruction { code, jt, jf, k } in &self.instructions {
            bytes.extend(code.to_ne_bytes());
            bytes.extend([*jt, *jf]);
            bytes.extend(k.to_ne_bytes());
        }
        bytes
    }

    /// Checks that calls still work once the filter is loaded, for those that the init has to make
    /// between loading it and becoming the container's program. What the agent is asked for may
    /// work.
    ///
    /// # Errors
    /// Names `field` and the first call that the filter does not let pass.
    pub fn check_allows(&self, calls: &[Call<'_>], field: &str) -> Result<()> {
        for call in calls {
            if !matches!(self.action(call)?, ret::ALLOW | ret::LOG | ret::USER_NOTIF) {
                let name = call.name;
                let message = format!(
                    "the profile denies {name}(2), which the container's start needs after the \
                     filter is loaded"
                );
                return Err(Error::config(field.to_owned(), message)
                    .hint(format!("allow {name} in {field}.syscalls")));
            }
        }
        Ok(())
    }

    /// The first of these calls that the agent is asked for.
    ///
    /// # Errors
    /// There are no filters for this architecture.
    pub fn asked_of_agent<'a>(&self, calls: &'a [Call<'a>]) -> Result<Option<&'a Call<'a>>> {
        for call in calls {
            if self.action(call)? == ret::USER_NOTIF {
                return Ok(Some(call));
            }
        }
        Ok(None)
    }

    /// The answer to a call of this architecture, without its data.
    fn action(&self, call: &Call<'_>) -> Result<u32> {
        let Call { number, args, .. } = *call;
        let arch = names::native()?.audit;
        let data = SeccompData { number, arch, instruction_pointer: 0, args };
        Ok(simulate(&self.instructions, &data) & ret::ACTION)
    }
}
