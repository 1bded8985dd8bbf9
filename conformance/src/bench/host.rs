//! What a measurement does to the host, or to its own view of it.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Writes back what is dirty, and drops the page cache, names and inodes.
///
/// # Errors
/// Where the host does not let this process do it, in words.
pub(super) fn drop_caches() -> Result<(), String> {
    nix::unistd::sync();
    let path = "/proc/sys/vm/drop_caches";
    std::fs::write(path, "3").map_err(|e| format!("{path}: {e}"))
}

/// Mounts in this process's mount namespace, which containers' namespaces begin as copies of.
#[derive(Debug)]
pub(super) struct Mounts {
    dir: PathBuf,
    count: usize,
}

impl Mounts {
    /// None yet. `dir` is where they are going to be.
    pub(super) fn new(dir: &Path) -> Result<Self, String> {
        let dir = dir.join("mounts");
        std::fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        mount(Some("mounts"), &dir, Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .map_err(|e| format!("{}: {e}", dir.display()))?;
        let new = Self { dir, count: 0 };
        std::fs::create_dir(new.dir.join("source")).map_err(|e| e.to_string())?;
        Ok(new)
    }

    /// Makes so many that there are `count`.
    pub(super) fn grow(&mut self, count: usize) -> Result<(), String> {
        let none: Option<&str> = None;
        let source = self.dir.join("source");
        while self.count < count {
            let target = self.dir.join(self.count.to_string());
            std::fs::create_dir(&target).map_err(|e| format!("{}: {e}", target.display()))?;
            mount(Some(&source), &target, none, MsFlags::MS_BIND, none)
                .map_err(|e| format!("mount {} on the host: {e}", self.count))?;
            self.count += 1;
        }
        Ok(())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        // With all that is in it. It is gone with the namespace, at the latest.
        let _: nix::Result<()> = umount2(&self.dir, MntFlags::MNT_DETACH);
    }
}
