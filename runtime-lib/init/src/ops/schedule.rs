//! Which processors the program runs on.

use orlop_init::plan::Step;
use rustix::io::Errno;

use crate::progress::{At, Fail};
use crate::sys;

/// More processors than any kernel has.
const ALL: [u8; 1024] = [0xff; 1024];

/// Runs on these processors, or on all; the kernel leaves out those that the cgroup does not allow.
pub(crate) fn affinity(cpus: &[u8], tolerant: bool) -> Result<(), Fail> {
    match sys::set_affinity(if cpus.is_empty() { &ALL } else { cpus }) {
        // None of them is there, or allowed.
        Err(Errno::INVAL) if tolerant => sys::set_affinity(&ALL).at(Step::Whole),
        result => result.at(Step::Whole),
    }
}
