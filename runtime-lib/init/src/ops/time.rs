//! The time namespace.

use orlop_init::plan::Step;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::attributes::host_procfs;
use super::sysctl;
use crate::progress::{At, Fail};
use crate::sys;

const CLONE_NEWTIME: u32 = 0x80;

/// Makes a time namespace, sets its clocks, and enters it. The descriptor of the one that is made for
/// children is all that leads into it before the first child.
pub(crate) fn enter_new(offsets: &[u8]) -> Result<(), Fail> {
    sys::unshare(CLONE_NEWTIME).at(Step::Whole)?;
    let procfs = host_procfs()?;
    if !offsets.is_empty() {
        let path = c"self/timens_offsets";
        sysctl::write_file(procfs.as_fd(), path, ResolveFlags::empty(), offsets)?;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = c"self/ns/time_for_children";
    let namespace = rustix::fs::openat(&procfs, path, flags, Mode::empty()).at(Step::HostProcfs)?;
    sys::setns(namespace.as_fd(), CLONE_NEWTIME).at(Step::Whole)?;
    sys::retire(namespace);
    sys::retire(procfs);
    Ok(())
}
