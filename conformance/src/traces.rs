//! What a container could leave behind: processes, and changes of its root filesystem.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Longest file whose content a [`Tree`] keeps, in bytes: busybox is compared by its times and size.
const COMPARED: u64 = 64 * 1024;

/// All that is below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

/// A file, without what changes when others are made beside or inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    size: u64,
    changed: (i64, i64),
    content: Vec<u8>,
}

impl Tree {
    /// Reads it.
    ///
    /// # Panics
    /// Where something of it cannot be read.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let mut entries = BTreeMap::new();
        collect(directory, &mut entries);
        Self(entries)
    }

    /// The first path at which it differs from another.
    #[must_use]
    pub fn difference(&self, other: &Self) -> String {
        let paths = self.0.keys().chain(other.0.keys());
        let mut differing = paths.filter(|path| self.0.get(*path) != other.0.get(*path));
        differing.next().map_or_else(String::new, |path| {
            format!("{}: {:?}, was {:?}", path.display(), self.0.get(path), other.0.get(path))
        })
    }

    /// Fails the test unless all that differs are mountpoints that were made: empty files and directories.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn assert_only_mountpoints_since(&self, before: &Self) {
        for (path, entry) in &before.0 {
            assert_eq!(self.0.get(path), Some(entry), "{} changed", path.display());
        }
        for (path, entry) in &self.0 {
            let directory = entry.mode & 0o170_000 == 0o040_000;
            let empty_file = entry.mode & 0o170_000 == 0o100_000 && entry.size == 0;
            let known = before.0.contains_key(path);
            assert!(known || directory || empty_file, "{} was made: {entry:?}", path.display());
        }
    }
}

fn collect(directory: &Path, entries: &mut BTreeMap<PathBuf, Entry>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let metadata = path.symlink_metadata().expect("metadata");
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            std::fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
        } else if kind.is_file() && metadata.len() <= COMPARED {
            std::fs::read(&path).expect("a file")
        } else {
            Vec::new()
        };
        let is_device = kind.is_char_device() || kind.is_block_device();
        let (size, changed) = if kind.is_dir() {
            (0, (0, 0))
        } else {
            (metadata.len(), (metadata.mtime(), metadata.mtime_nsec()))
        };
        let found = Entry {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            device: if is_device { metadata.rdev() } else { 0 },
            size,
            changed,
            content,
        };
        entries.insert(path.clone(), found);
        if kind.is_dir() {
            collect(&path, entries);
        }
    }
}

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// It has ended, and nobody has waited for it.
    pub zombie: bool,
    /// Its parent.
    pub parent: i32,
}

/// All processes in the cgroup that is named after a container, also where that cgroup is gone.
///
/// The init is born into its cgroup and cannot leave it, so this finds it under any name.
///
/// # Panics
/// Where there is no procfs.
#[must_use]
pub fn processes(id: &str) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("procfs") {
        let Some(pid) = entry.ok().and_then(|e| e.file_name().to_str()?.parse::<i32>().ok()) else {
            continue;
        };
        // A process may end while it is looked at.
        let Some(cgroup) = crate::proc::cgroup(pid) else { continue };
        if !cgroup.split('/').any(|name| name.trim_end_matches(" (deleted)") == id) {
            continue;
        }
        let status = crate::run::lossy(Path::new(&format!("/proc/{pid}/status")));
        let status = crate::proc::status(&status);
        let field = |name: &str| status.get(name).cloned().unwrap_or_default();
        if !status.is_empty() {
            let zombie = field("State").starts_with(['Z', 'X']);
            let parent = field("PPid").parse().unwrap_or(0);
            found.push(Process { pid, name: field("Name"), zombie, parent });
        }
    }
    found
}

/// Reaps what of a container has ended and is this process's child, as an engine's shim does; then says what is there.
#[must_use]
pub fn processes_after_reaping(id: &str) -> Vec<Process> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    for process in processes(id) {
        if process.zombie && process.parent == own {
            let pid = Pid::from_raw(process.pid);
            let _: nix::Result<WaitStatus> = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }
    processes(id)
}
