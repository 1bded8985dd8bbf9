//! Making or opening the container's cgroup.
//!
//! The common case, a new leaf below a parent that hands down every controller, takes ten system
//! calls: open and statfs of the root, mkdir and open of the leaf, and open, read and close of
//! both `cgroup.controllers`. What the two lists do not settle is looked into only if they differ.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Cgroup, files};
use crate::error::{Error, ErrorKind, Result};

const MOUNT: &str = "/sys/fs/cgroup";
const FIELD: &str = "linux.cgroupsPath";

/// The unified hierarchy, as this process sees it.
#[derive(Debug)]
pub struct Hierarchy {
    root: OwnedFd,
}

impl Hierarchy {
    /// Opens `/sys/fs/cgroup`.
    ///
    /// # Errors
    /// The host has no pure cgroup v2.
    pub fn open() -> Result<Self> {
        Ok(Self { root: open_root()? })
    }

    /// Refuses a cgroup that is in use: it holds processes, or is frozen.
    ///
    /// # Errors
    /// It is; or it cannot be looked into.
    pub fn check_unused(&self, path: &str) -> Result<()> {
        match files::open_dir(&self.root, relative(path)?, OFlags::PATH) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("cannot open", path, errno)),
            Ok(dir) => {
                let root = rustix::io::fcntl_dupfd_cloexec(&self.root, 3)
                    .map_err(|errno| failed("cannot open", path, errno))?;
                let pristine = AtomicBool::new(false);
                Cgroup { root, dir, path: path.to_owned(), pristine }.check_unused()
            }
        }
    }

    /// As [`Cgroup::create`].
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn create(self, path: &str) -> Result<Cgroup> {
        Cgroup::create_in(self.root, path)
    }
}

impl Cgroup {
    /// Makes the cgroup `path` (absolute from the root of the hierarchy, clean) and what is
    /// missing above it, and has the ancestors hand down every controller they can.
    ///
    /// A cgroup that exists is taken if it is empty and not frozen.
    ///
    /// # Errors
    /// The host has no pure cgroup v2; the cgroup is in use, frozen or threaded; the kernel
    /// refuses (EACCES, EROFS: no permission; ENOSPC, EAGAIN: `cgroup.max.*` of an ancestor).
    /// What was made is removed again.
    pub fn create(path: &str) -> Result<Self> {
        Hierarchy::open()?.create(path)
    }

    fn create_in(root: OwnedFd, path: &str) -> Result<Self> {
        let relative = relative(path)?;
        let existing = make_dirs(&root, relative)
            .map_err(|errno| failed("cannot create", path, errno).at(FIELD))?;
        let is_new = existing < relative.len();
        let dir = match files::open_dir(&root, relative, OFlags::PATH) {
            Ok(dir) => dir,
            Err(errno) => {
                unmake_dirs(&root, relative, existing);
                return Err(failed("cannot open", path, errno).at(FIELD));
            }
        };
        let pristine = AtomicBool::new(is_new);
        let cgroup = Self { root, dir, path: path.to_owned(), pristine };
        match cgroup.prepare(relative, is_new) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                unmake_dirs(&cgroup.root, relative, existing);
                Err(error)
            }
        }
    }

    fn prepare(&self, relative: &str, is_new: bool) -> Result<()> {
        if !is_new {
            self.check_unused()?;
        }
        let read = |dir: &OwnedFd| {
            files::read(dir, "cgroup.controllers")
                .map_err(|errno| self.failed("cannot read the controllers of", errno).at(FIELD))
        };
        let (all, given) = (read(&self.root)?, read(&self.dir)?);
        if all == given && has_domain_controller(&all) {
            return Ok(());
        }
        self.check_type()?;
        hand_down(&self.root, relative, &all)
            .map_err(|errno| self.failed("cannot reach", errno).at(FIELD))
    }

    /// Takes the cgroup `path` that somebody else has made for the container, and has the ancestors
    /// hand down every controller they can.
    ///
    /// # Errors
    /// There is none; it is threaded.
    pub(crate) fn adopt(path: &str) -> Result<Self> {
        let missing = || failed("cannot open", path, Errno::NOENT).at(FIELD);
        let cgroup = Self::open(path)?.ok_or_else(missing)?;
        cgroup.prepare(relative(path)?, true)?;
        Ok(cgroup)
    }

    /// Opens the cgroup `path` (absolute from the root of the hierarchy, clean), if there is one.
    ///
    /// # Errors
    /// The host has no pure cgroup v2, or the kernel refuses.
    pub fn open(path: &str) -> Result<Option<Self>> {
        let root = open_root()?;
        match files::open_dir(&root, relative(path)?, OFlags::PATH) {
            Ok(dir) => {
                let pristine = AtomicBool::new(false);
                Ok(Some(Self { root, dir, path: path.to_owned(), pristine }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("cannot open", path, errno)),
        }
    }

    /// Opens an existing sub-cgroup, for a process to be cloned into; "" and "/" are the cgroup
    /// itself. The kernel sees to it that the path does not leave the cgroup.
    ///
    /// # Errors
    /// `bad sub cgroup path` if it does leave it; ENOENT if there is none.
    pub fn open_below(&self, path: &str) -> Result<OwnedFd> {
        let relative = match path.trim_start_matches('/') {
            "" => ".",
            relative => relative,
        };
        files::open_dir(&self.dir, relative, OFlags::PATH).map_err(|errno| match errno {
            Errno::XDEV | Errno::LOOP => {
                Error::new(ErrorKind::InvalidArgument, format!("bad sub cgroup path: {path}"))
            }
            _ => failed(&format!("cannot open {path:?} below"), &self.path, errno),
        })
    }

    /// A cgroup that was there before must not hold another container.
    fn check_unused(&self) -> Result<()> {
        let count = self.pids()?.len();
        if count != 0 {
            let message = format!("container's cgroup is not empty: {count} process(es) found");
            return Err(Error::new(ErrorKind::InvalidState, message).at(FIELD));
        }
        if self.is_frozen()? {
            let message = "container's cgroup unexpectedly frozen";
            return Err(Error::new(ErrorKind::InvalidState, message).at(FIELD));
        }
        Ok(())
    }

    /// A process with its memory and devices cannot be put into a threaded cgroup, nor into one
    /// that the kernel calls invalid because its parent is threaded.
    fn check_type(&self) -> Result<()> {
        let text = files::read(&self.dir, "cgroup.type")
            .map_err(|errno| self.failed("cannot read the type of", errno).at(FIELD))?;
        let state = match text.trim() {
            "domain" => return Ok(()),
            "domain invalid" => "an invalid state (its parent is threaded)".to_owned(),
            other => format!("{other} mode"),
        };
        let message = format!(
            "cannot enter cgroupv2 {:?} with domain controllers -- it is in {state}",
            self.path
        );
        Err(Error::unsupported(FIELD, message))
    }
}

fn failed(action: &str, path: &str, errno: Errno) -> Error {
    Error::sys(format!("{action} the cgroup {path:?}"), errno)
}

/// The path from the root's descriptor. Anything that could lead elsewhere is a caller's mistake.
pub(super) fn relative(path: &str) -> Result<&str> {
    let relative = path.strip_prefix('/').unwrap_or_default();
    let is_clean = relative.split('/').all(|name| !matches!(name, "" | "." | ".."));
    if !is_clean || relative.contains('\0') {
        let message = format!("{path:?} is not a clean absolute path of a cgroup");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    Ok(relative)
}

pub(super) fn open_root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(MOUNT, flags, rustix::fs::Mode::empty())
        .map_err(|errno| Error::sys(format!("cannot open {MOUNT:?}"), errno))?;
    let file_system = rustix::fs::fstatfs(&root)
        .map_err(|errno| Error::sys(format!("cannot examine {MOUNT:?}"), errno))?;
    if file_system.f_type == libc::CGROUP2_SUPER_MAGIC {
        return Ok(root);
    }
    let message = format!(
        "{MOUNT} is not a cgroup2 file system: cgroup v1 and hybrid set-ups are not supported"
    );
    let hint = "boot with systemd.unified_cgroup_hierarchy=1 or mount cgroup2 there";
    Err(Error::new(ErrorKind::Unsupported, message).hint(hint))
}

/// Makes what is missing of `path`; returns the length of the prefix that was there before.
///
/// On an error nothing that was made is left.
fn make_dirs(root: &OwnedFd, path: &str) -> rustix::io::Result<usize> {
    match files::make_dir(root, path) {
        Ok(()) => return Ok(parent(path).len()),
        Err(Errno::EXIST) => return Ok(path.len()),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let mut existing = None;
    let ends = path.match_indices('/').map(|(index, _)| index).chain([path.len()]);
    for prefix in ends.filter_map(|end| path.get(..end)) {
        match files::make_dir(root, prefix) {
            Ok(()) => existing = existing.or(Some(parent(prefix).len())),
            Err(Errno::EXIST) => {}
            Err(errno) => {
                unmake_dirs(root, parent(prefix), existing.unwrap_or(prefix.len()));
                return Err(errno);
            }
        }
    }
    Ok(existing.unwrap_or(path.len()))
}

/// Removes what [`make_dirs`] made, deepest first. What came into use meanwhile refuses, and stays.
fn unmake_dirs(root: &OwnedFd, path: &str, existing: usize) {
    let mut prefix = path;
    while prefix.len() > existing && files::remove_dir(root, prefix).is_ok() {
        prefix = parent(prefix);
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Whether a list has a controller that no threaded cgroup can have.
fn has_domain_controller(list: &str) -> bool {
    list.split_whitespace().any(|name| !matches!(name, "cpu" | "cpuset" | "perf_event" | "pids"))
}

/// Has each ancestor of `path` hand down the controllers of `all` that it can.
///
/// What an ancestor refuses (it holds processes, or is not ours to write) is no error here: not
/// before a limit needs it, and then the write of that limit names the controller.
fn hand_down(root: &OwnedFd, path: &str, all: &str) -> rustix::io::Result<()> {
    let mut available = all.to_owned();
    let mut holder: Option<OwnedFd> = None;
    for name in path.split('/') {
        let dir = holder.as_ref().unwrap_or(root);
        let child = files::open_dir(dir, name, OFlags::PATH)?;
        let given = files::read(&child, "cgroup.controllers")?;
        let missing: Vec<String> = available
            .split_whitespace()
            .filter(|controller| given.split_whitespace().all(|name| name != *controller))
            .map(|controller| format!("+{controller}"))
            .collect();
        if missing.is_empty() {
            available = given;
        } else {
            // One refused controller fails the whole write.
            if files::write(dir, "cgroup.subtree_control", &missing.join(" ")).is_err() {
                for controller in &missing {
                    let _: rustix::io::Result<()> =
                        files::write(dir, "cgroup.subtree_control", controller); // see above
                }
            }
            available = files::read(&child, "cgroup.controllers")?;
        }
        holder = Some(child);
    }
    Ok(())
}
