//! Mounts: prepared detached, with their flags, then attached to an open place in the root.

use core::ffi::CStr;

use orlop_init::plan::{Attributes, Bind, Filesystem, IdMap, Special, Step};
use rustix::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, OFlags, StatVfsMountFlags, StatxFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};
use rustix::process::{WaitId, WaitIdOptions};

use super::paths::{self, Kind, Place};
use super::root::{change_propagation, clone_flags, make_read_only};
use crate::ops::copy_up;
use crate::progress::{At, Fail, Progress};
use crate::run::Init;
use crate::sys;
use orlop_init::wire::Str;

/// Longest value that fsconfig(2) takes, with its NUL.
const FSCONFIG_VALUE_MAX: usize = 256;

/// A bind mount.
pub(crate) fn bind(init: &mut Init<'_>, bind: &Bind<Str<'_>>) -> Result<(), Fail> {
    let tree = source(init, bind)?;
    let directory = paths::is_directory(&tree).at(Step::OpenSource)?;
    let kind = if directory { Kind::Directory } else { Kind::File };
    let place = mountpoint(init, bind.target.c_str()?, kind)?;
    map_ids(init, tree.as_fd(), bind.map)?;
    set_attributes(tree.as_fd(), false, bind.attributes)?;
    set_attributes(tree.as_fd(), true, bind.tree_attributes)?;
    paths::attach(tree.as_fd(), place.fd.as_fd()).at(Step::Attach)?;
    change_all(tree.as_fd(), bind.propagation)?;
    sys::retire(tree);
    sys::retire(place.fd);
    Ok(())
}

/// What is mounted, detached.
fn source(init: &Init<'_>, bind: &Bind<Str<'_>>) -> Result<OwnedFd, Fail> {
    if bind.map.is_some_and(|map| map.by_creator) {
        // EINVAL is of the map: the source is named by a path.
        return init.ask_for_source().map_err(|fail| match fail.step {
            Step::OpenSource if fail.errno == Errno::INVAL.raw_os_error() => {
                Fail::errno(Step::MapIds, Errno::INVAL)
            }
            _ => fail,
        });
    }
    let path = bind.source.c_str()?;
    match rustix::mount::open_tree(CWD, path, clone_flags(bind.recursive)) {
        Err(Errno::ACCESS) => {
            let source = init.ask_for_source()?;
            paths::clone_tree(source.as_fd(), bind.recursive).at(Step::OpenSource)
        }
        result => result.at(Step::OpenSource),
    }
}

fn set_attributes(mount: BorrowedFd<'_>, tree: bool, change: Attributes) -> Result<(), Fail> {
    if change.is_empty() {
        return Ok(());
    }
    match sys::mount_setattr(mount, tree, change.set, change.clear, 0) {
        Err(Errno::PERM) if change.yielding != 0 => {}
        result => return result.at(Step::SetAttributes),
    }
    // Some are locked: those that are there and that nobody wants cleared stay.
    let kept = change.yielding & attributes_of(mount).at(Step::SetAttributes)?;
    sys::mount_setattr(mount, tree, change.set, change.clear & !kept, 0).at(Step::SetAttributes)
}

/// The attributes of a mount, by statfs(2).
fn attributes_of(mount: BorrowedFd<'_>) -> Result<u64, Errno> {
    const ST_NOSYMFOLLOW: u64 = 0x2000;
    const PAIRS: [(u64, u64); 5] = [
        (StatVfsMountFlags::RDONLY.bits(), 0x1),
        (StatVfsMountFlags::NOSUID.bits(), 0x2),
        (StatVfsMountFlags::NODEV.bits(), 0x4),
        (StatVfsMountFlags::NOEXEC.bits(), 0x8),
        (ST_NOSYMFOLLOW, 0x20_0000),
    ];
    let flags = rustix::fs::fstatvfs(mount)?.f_flag.bits();
    let set = PAIRS.iter().filter(|(flag, _)| flags & flag != 0);
    Ok(set.fold(0, |attributes, (_, attribute)| attributes | attribute))
}

/// Before the mount is attached, or the kernel refuses.
fn map_ids(init: &Init<'_>, mount: BorrowedFd<'_>, map: Option<IdMap>) -> Result<(), Fail> {
    let Some(map) = map.filter(|map| !map.by_creator) else { return Ok(()) };
    let slot = map.slot.ok_or(Fail::new(Step::Decode))?;
    sys::map_mount_ids(mount, map.tree, init.slot(slot)?).at(Step::MapIds)
}

fn change_all(mount: BorrowedFd<'_>, changes: Str<'_>) -> Result<(), Fail> {
    changes.0.iter().try_for_each(|change| change_propagation(mount, *change))
}

/// A new filesystem.
pub(crate) fn filesystem(
    init: &mut Init<'_>,
    filesystem: &Filesystem<Str<'_>>,
) -> Result<(), Fail> {
    let special = filesystem.special;
    let place = place(init, filesystem)?;
    if filesystem.options.list().any(is_for_mount) {
        return mount_as_before(init, filesystem, &place);
    }
    let context = if special.has(Special::JOINED_PIDS) {
        open_joined_procfs(init.pid_namespace, init.root()?)?
    } else {
        rustix::mount::fsopen(filesystem.fstype.c_str()?, FsOpenFlags::FSOPEN_CLOEXEC)
            .at(Step::OpenFilesystem)?
    };
    configure(init.progress, context.as_fd(), filesystem, &place)?;
    let attributes = u32::try_from(filesystem.attributes).map_err(|_| Fail::new(Step::Decode))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .at(Step::CreateMount)?;
    if special.has(Special::COPY_UP) && !place.created {
        copy_up::copy(place.fd.as_fd(), mount.as_fd()).at(Step::CopyUp)?;
    }
    map_ids(init, mount.as_fd(), filesystem.map)?;
    paths::attach(mount.as_fd(), place.fd.as_fd()).at(Step::Attach)?;
    change_all(mount.as_fd(), filesystem.propagation)?;
    sys::retire(context);
    sys::retire(place.fd);
    keep(init, special, mount)
}

/// A procfs of a pid namespace that this process is not in.
fn open_joined_procfs(
    namespace: Option<BorrowedFd<'_>>,
    placeholder: BorrowedFd<'_>,
) -> Result<OwnedFd, Fail> {
    let namespace = namespace.ok_or(Fail::new(Step::Decode))?;
    let open = || rustix::mount::fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC);
    let context = open().at(Step::OpenFilesystem)?;
    match rustix::mount::fsconfig_set_fd(context.as_fd(), c"pidns", namespace) {
        Ok(()) => return Ok(context),
        // An older kernel: a procfs is always of its opener's namespace.
        Err(Errno::INVAL) => {}
        Err(errno) => return Err(Fail::errno(Step::SetOption, errno)),
    }
    // So a child opens it, which shares the descriptors and does nothing else: it is among the
    // processes of that namespace for a moment.
    let mut shared = rustix::io::fcntl_dupfd_cloexec(placeholder, 3).at(Step::OpenFilesystem)?;
    let Some(child) = sys::fork_sharing_descriptors().at(Step::Clone)? else {
        let opened = open().and_then(|context| {
            rustix::io::dup3(&context, &mut shared, rustix::io::DupFlags::CLOEXEC)
        });
        sys::exit(i32::from(opened.is_err()))
    };
    let options = WaitIdOptions::EXITED;
    let status = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(child), options))
        .at(Step::OpenFilesystem)?;
    match status.and_then(|status| status.exit_status()) {
        Some(0) => Ok(shared),
        _ => Err(Fail::new(Step::OpenFilesystem)),
    }
}

/// The mountpoint.
fn place(init: &Init<'_>, filesystem: &Filesystem<Str<'_>>) -> Result<Place, Fail> {
    let target = filesystem.target.c_str()?;
    if filesystem.special.has(Special::PLAIN_TARGET) {
        match paths::open_plain(init.root()?, target, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            result => {
                return result.at(Step::OpenTarget).map(|fd| Place { fd, created: false });
            }
        }
    }
    mountpoint(init, target, Kind::Directory)
}

/// The place to mount something on, made where it is missing. A link of the image may lead to the
/// root itself: what is mounted there is never seen.
fn mountpoint(init: &Init<'_>, target: &CStr, kind: Kind) -> Result<Place, Fail> {
    let place = paths::ensure(init.root()?, target, kind)?;
    if !place.created && is_same(place.fd.as_fd(), init.root()?).at(Step::OpenTarget)? {
        init.progress.detail(b"it leads to the container's root");
        return Err(Fail::errno(Step::OpenTarget, Errno::INVAL));
    }
    Ok(place)
}

/// Whether both are the same directory of the same mount.
fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mount = |fd| {
        let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        Ok((stat.stx_mnt_id, stat.stx_ino))
    };
    Ok(mount(one)? == mount(other)?)
}

/// Keeps a mount for what comes later.
fn keep(init: &mut Init<'_>, special: Special, mount: OwnedFd) -> Result<(), Fail> {
    if special.has(Special::SEAL) {
        return init.sealed.push(mount);
    }
    if special.has(Special::PROCFS) {
        init.procfs = Some(mount);
    } else {
        sys::retire(mount);
    }
    Ok(())
}

fn configure(
    progress: Progress,
    context: BorrowedFd<'_>,
    filesystem: &Filesystem<Str<'_>>,
    place: &Place,
) -> Result<(), Fail> {
    if !filesystem.source.0.is_empty() {
        let source = filesystem.source.c_str()?;
        rustix::mount::fsconfig_set_string(context, c"source", source).at(Step::SetOption)?;
    }
    for option in filesystem.options.list() {
        set_option(context, option).map_err(|errno| {
            progress.detail(option.to_bytes());
            explain(progress, context);
            Fail::errno(Step::SetOption, errno)
        })?;
    }
    if filesystem.special.has(Special::MODE_OF_TARGET) && !place.created {
        set_mode_of(context, place.fd.as_fd()).at(Step::SetOption)?;
    }
    rustix::mount::fsconfig_create(context).map_err(|errno| {
        explain(progress, context);
        Fail::errno(Step::CreateFilesystem, errno)
    })
}

fn set_option(context: BorrowedFd<'_>, option: &CStr) -> Result<(), Errno> {
    let Some(equals) = option.to_bytes().iter().position(|byte| *byte == b'=') else {
        return rustix::mount::fsconfig_set_flag(context, option);
    };
    let (key, value) = option.to_bytes_with_nul().split_at_checked(equals).ok_or(Errno::INVAL)?;
    let value = value.get(1..).ok_or(Errno::INVAL)?;
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"\0"));
    match quoted.filter(|_| key.ends_with(b"context")) {
        Some(label) => {
            // Here nothing but the label itself will do; mount(2) takes the quotes off.
            let mut buffer = [0; FSCONFIG_VALUE_MAX];
            buffer.get_mut(..label.len()).ok_or(Errno::INVAL)?.copy_from_slice(label);
            let label = CStr::from_bytes_until_nul(&buffer).map_err(|_| Errno::INVAL)?;
            rustix::mount::fsconfig_set_string(context, key, label)
        }
        None => {
            let value = CStr::from_bytes_with_nul(value).map_err(|_| Errno::INVAL)?;
            rustix::mount::fsconfig_set_string(context, key, value)
        }
    }
}

/// Labels the root of a filesystem, by way of the working directory.
pub(crate) fn relabel(init: &Init<'_>, target: &CStr, label: &[u8]) -> Result<(), Fail> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = paths::open(init.root()?, target, flags).at(Step::OpenTarget)?;
    rustix::process::fchdir(&directory).at(Step::OpenTarget)?;
    sys::retire(directory);
    rustix::fs::setxattr(c".", c"security.selinux", label, XattrFlags::empty()).at(Step::Whole)
}

/// `mode=`: that of the directory which the tmpfs covers.
fn set_mode_of(context: BorrowedFd<'_>, directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let mode = rustix::fs::fstat(directory)?.st_mode;
    let mut octal = *b"0000\0";
    for (digit, shift) in octal.iter_mut().zip([9, 6, 3, 0]) {
        *digit = b'0' + u8::try_from((mode >> shift) & 7).unwrap_or(0);
    }
    let octal = CStr::from_bytes_with_nul(&octal).map_err(|_| Errno::INVAL)?;
    rustix::mount::fsconfig_set_string(context, c"mode", octal)
}

/// The kernel's own words on a failure: what reading the context gives, each line begun by a
/// letter for its severity and a space.
fn explain(progress: Progress, context: BorrowedFd<'_>) {
    let mut line = [0; 256];
    while let Ok(count) = rustix::io::read(context, &mut line) {
        let text = line.get(2..count).unwrap_or_default().trim_ascii_end();
        if text.is_empty() {
            return;
        }
        progress.detail(b": ");
        progress.detail(text);
    }
}

/// A flag of the filesystem that fsconfig(2) has no name for.
const IVERSION: &CStr = c"iversion";
/// Its flag of mount(2), <linux/mount.h>.
const MS_I_VERSION: u32 = 1 << 23;

/// Whether fsconfig(2) cannot take an option: it is too long (an overlay's `lowerdir`), or unknown.
fn is_for_mount(option: &CStr) -> bool {
    option.count_bytes() >= FSCONFIG_VALUE_MAX || option == IVERSION
}

/// mount(2): onto the open place, by way of the working directory.
fn mount_as_before(
    init: &mut Init<'_>,
    filesystem: &Filesystem<Str<'_>>,
    place: &Place,
) -> Result<(), Fail> {
    // mount(2) copies one page.
    let mut data = paths::Path::default();
    let mut flags = legacy_flags(filesystem.attributes);
    let mut separator: &[u8] = b"";
    for option in filesystem.options.list() {
        if option == IVERSION {
            flags |= MountFlags::from_bits_retain(MS_I_VERSION);
            continue;
        }
        data.push(separator)?;
        data.push(option.to_bytes())?;
        separator = b",";
    }
    rustix::process::fchdir(&place.fd).at(Step::OpenTarget)?;
    let source =
        if filesystem.source.0.is_empty() { c"none" } else { filesystem.source.c_str()? };
    rustix::mount::mount(source, c".", filesystem.fstype.c_str()?, flags, data.c_str()?)
        .at(Step::CreateMount)?;
    let target = filesystem.target.c_str()?;
    let mount = paths::open(init.root()?, target, OFlags::PATH).at(Step::OpenTarget)?;
    change_all(mount.as_fd(), filesystem.propagation)?;
    keep(init, filesystem.special, mount)
}

fn legacy_flags(attributes: u64) -> MountFlags {
    const PAIRS: [(u64, MountFlags); 8] = [
        (0x01, MountFlags::RDONLY),
        (0x02, MountFlags::NOSUID),
        (0x04, MountFlags::NODEV),
        (0x08, MountFlags::NOEXEC),
        (0x10, MountFlags::NOATIME),
        (0x20, MountFlags::STRICTATIME),
        (0x80, MountFlags::NODIRATIME),
        (0x20_0000, MountFlags::NOSYMFOLLOW),
    ];
    let set = PAIRS.iter().filter(|(attribute, _)| attributes & attribute != 0);
    set.fold(MountFlags::empty(), |flags, (_, flag)| flags | *flag)
}

/// Changes a mount that is there.
pub(crate) fn remount(
    init: &Init<'_>,
    target: &CStr,
    attributes: Attributes,
    tree_attributes: Attributes,
) -> Result<(), Fail> {
    let mount = paths::open(init.root()?, target, OFlags::PATH).at(Step::OpenTarget)?;
    set_attributes(mount.as_fd(), false, attributes)?;
    set_attributes(mount.as_fd(), true, tree_attributes)
}

/// The mounts that turn read-only once everything is in place.
pub(crate) struct Sealed {
    /// Their descriptors, which stay open until execve(2).
    mounts: sys::Table<usize>,
    count: usize,
}

impl Sealed {
    /// Room for so many.
    pub(crate) fn with_room(count: u32) -> Result<Self, Errno> {
        let count = usize::try_from(count).map_err(|_| Errno::NOMEM)?;
        Ok(Self { mounts: sys::Table::with_room(count)?, count: 0 })
    }

    fn push(&mut self, mount: OwnedFd) -> Result<(), Fail> {
        let slot = self.mounts.get_mut(self.count).ok_or(Fail::new(Step::Decode))?;
        *slot = usize::try_from(mount.into_raw_fd()).map_err(|_| Fail::new(Step::Decode))?;
        self.count += 1;
        Ok(())
    }

    /// Turns them read-only.
    pub(crate) fn seal(&mut self) -> Result<(), Fail> {
        for i in 0..self.count {
            let fd = self.mounts.get_mut(i).and_then(|fd| i32::try_from(*fd).ok());
            let mount = fd.and_then(sys::inherited).ok_or(Fail::new(Step::Decode))?;
            make_read_only(mount.as_fd(), false)?;
        }
        self.count = 0;
        Ok(())
    }
}
