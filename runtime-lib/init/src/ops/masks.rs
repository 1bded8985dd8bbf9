//! Masked and read-only paths.

use core::ffi::CStr;

use orlop_init::plan::Step;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::paths;
use super::root::make_read_only;
use crate::progress::{At, Fail};
use crate::run::Init;
use crate::sys;

/// What covers masked paths; made when first needed.
#[derive(Default)]
pub(crate) struct Covers {
    file: Option<OwnedFd>,
    directory: Option<OwnedFd>,
}

/// Opens a path that may be missing: there is nothing to hide or to protect then.
fn open(root: BorrowedFd<'_>, path: &CStr) -> Result<Option<OwnedFd>, Fail> {
    match paths::open(root, path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(Fail::errno(Step::OpenTarget, errno)),
    }
}

/// Hides a path.
pub(crate) fn mask(init: &mut Init<'_>, path: &CStr) -> Result<(), Fail> {
    let Some(place) = open(init.root()?, path)? else {
        return Ok(());
    };
    let cover = if paths::is_directory(&place).at(Step::OpenTarget)? {
        init.covers.for_directory()?
    } else {
        init.covers.for_file()?
    };
    paths::attach(cover.as_fd(), place.as_fd()).at(Step::Attach)?;
    sys::retire(cover);
    sys::retire(place);
    Ok(())
}

impl Covers {
    /// The descriptors.
    pub(crate) fn take(&mut self) -> [Option<OwnedFd>; 2] {
        [self.file.take(), self.directory.take()]
    }

    /// A mount of the host's `/dev/null`, which must be what it says: an image has no say in it
    /// (CVE-2025-31133).
    fn for_file(&mut self) -> Result<OwnedFd, Fail> {
        if self.file.is_none() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let null = rustix::fs::open(c"/dev/null", flags, Mode::empty()).at(Step::OpenSource)?;
            if !paths::is_device(&null, 1, 3).at(Step::OpenSource)? {
                return Err(Fail::new(Step::WrongObject));
            }
            self.file = Some(null);
        }
        clone(self.file.as_ref())
    }

    /// A mount of an empty read-only tmpfs; all of a container share one.
    pub(super) fn for_directory(&mut self) -> Result<OwnedFd, Fail> {
        if self.directory.is_some() {
            return clone(self.directory.as_ref());
        }
        let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
            .at(Step::OpenFilesystem)?;
        rustix::mount::fsconfig_set_string(context.as_fd(), c"size", c"0").at(Step::SetOption)?;
        rustix::mount::fsconfig_create(context.as_fd()).at(Step::CreateFilesystem)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount =
            rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
                .at(Step::CreateMount)?;
        sys::retire(context);
        self.directory = Some(rustix::io::fcntl_dupfd_cloexec(&mount, 3).at(Step::CreateMount)?);
        Ok(mount)
    }
}

fn clone(cover: Option<&OwnedFd>) -> Result<OwnedFd, Fail> {
    let cover = cover.ok_or(Fail::new(Step::Decode))?;
    paths::clone_tree(cover.as_fd(), false).at(Step::CreateMount)
}

/// Makes a tree read-only: a bind of itself, read-only before it is attached, its other flags kept.
pub(crate) fn read_only(init: &Init<'_>, path: &CStr) -> Result<(), Fail> {
    let Some(place) = open(init.root()?, path)? else {
        return Ok(());
    };
    let tree = paths::clone_tree(place.as_fd(), true).at(Step::CreateMount)?;
    make_read_only(tree.as_fd(), true)?;
    paths::attach(tree.as_fd(), place.as_fd()).at(Step::Attach)?;
    sys::retire(tree);
    sys::retire(place);
    Ok(())
}
