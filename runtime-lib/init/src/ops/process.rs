//! What the process itself becomes: directory, credentials, capabilities.

use core::ffi::CStr;

use orlop_init::plan::{Capabilities, Step};
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;

use super::paths;
use crate::progress::{At, Fail};
use crate::run::{Init, PATH_MAX};
use crate::sys;

/// A session keyring of the container's; a kernel built without keyrings has none to protect.
pub(crate) fn session_keyring(name: &CStr, permissions: u32) -> Result<(), Fail> {
    match sys::join_session_keyring(name) {
        Err(Errno::NOSYS) => Ok(()),
        Ok(keyring) if permissions != 0 => {
            sys::set_key_permissions(keyring, permissions).at(Step::Chmod)
        }
        result => result.map(drop).at(Step::Whole),
    }
}

/// Creates the working directory where it is missing.
pub(crate) fn create_cwd(init: &Init<'_>, path: &CStr) -> Result<(), Fail> {
    paths::ensure_directory(init.root()?, path).map(drop)
}

/// Changes to the working directory, inside the root: a magic link to a descriptor that leads out
/// of it is refused (CVE-2024-21626).
fn enter(init: &Init<'_>, path: &CStr) -> Result<(), Errno> {
    let directory =
        paths::open(init.root().map_err(|_| Errno::BADF)?, path, OFlags::PATH | OFlags::DIRECTORY)?;
    rustix::process::fchdir(&directory)
}

/// The first try, as the runtime's user: it may be a directory that only root can enter.
pub(crate) fn chdir(init: &mut Init<'_>, path: &CStr) -> Result<(), Fail> {
    match enter(init, path) {
        // A network filesystem that squashes root: the container's user may be allowed.
        Err(Errno::ACCESS) => {
            init.chdir_refused = true;
            Ok(())
        }
        result => result.at(Step::Chdir),
    }
}

/// Closes all descriptors but the standard streams, those that the program inherits and the two
/// that report; the memory that setting up took goes too, as the program's may be scarce.
pub(crate) fn close_descriptors(init: &mut Init<'_>) -> Result<(), Fail> {
    sys::release_stack();
    init.release_descriptors();
    let mut keep = init.last_descriptors();
    keep.sort_unstable();
    let mut next = init.first_own_descriptor();
    for fd in keep.into_iter().flatten() {
        if fd > next {
            sys::close_range(next, fd - 1, false).at(Step::Whole)?;
        }
        next = next.max(fd + 1);
    }
    sys::close_range(next, u32::MAX, false).at(Step::Whole)
}

/// The second try, as the container's user, and the proof that it is inside: no descriptor is left
/// that could lead out.
pub(crate) fn chdir_again(init: &Init<'_>, path: &CStr) -> Result<(), Fail> {
    if init.chdir_refused {
        rustix::process::chdir(path).at(Step::Chdir)?;
    }
    let mut buffer = [0; PATH_MAX];
    match sys::getcwd(&mut buffer) {
        Ok(path) if path.first() == Some(&b'/') => Ok(()),
        Ok(_) => Err(Fail::new(Step::CwdOutside)),
        Err(errno) => Err(Fail::errno(Step::CwdOutside, errno)),
    }
}

/// Drops capabilities from the bounding set, up to the last that the kernel knows.
pub(crate) fn bounding_set(keep: u64) -> Result<(), Fail> {
    /// The last that every kernel knows that this runs on: CAP_CHECKPOINT_RESTORE, since Linux 5.9.
    const KNOWN: u32 = 40;
    for capability in 0..64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        match sys::drop_bounding(capability) {
            Err(Errno::INVAL) if capability > KNOWN => break,
            result => result.at(Step::Whole)?,
        }
    }
    Ok(())
}

/// The supplementary groups, exactly.
pub(crate) fn groups(gids: &[u8]) -> Result<(), Fail> {
    sys::setgroups(gids).at(Step::Whole)
}

/// The group and user of the program.
pub(crate) fn user(uid: u32, gid: u32) -> Result<(), Fail> {
    if uid != 0 {
        sys::keep_capabilities().at(Step::Whole)?;
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Step::Whole)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Step::Whole)
}

/// The capability sets, exactly.
pub(crate) fn capabilities(sets: Capabilities) -> Result<(), Fail> {
    sys::capset(sets.effective, sets.permitted, sets.inheritable).at(Step::Whole)?;
    sys::clear_ambient().at(Step::Whole)?;
    for capability in (0..64).filter(|capability| sets.ambient & (1 << capability) != 0) {
        sys::raise_ambient(capability).at(Step::Whole)?;
    }
    Ok(())
}
