//! What is counted.

use std::path::{Path, PathBuf};

use super::{Place, sys};
use crate::run::lossy;

/// Whose a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exactness {
    /// The soak's alone: one more is one too many.
    Own,
    /// The whole host's.
    Host,
}

/// A figure, and where it is the soak's own what it counts.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) count: u64,
    pub(super) exactness: Exactness,
    names: Vec<String>,
}

impl Figure {
    fn own(name: &'static str, names: Vec<String>) -> Self {
        let count = u64::try_from(names.len()).unwrap_or(u64::MAX);
        Self { name, count, exactness: Exactness::Own, names }
    }

    fn host(name: &'static str, count: u64) -> Self {
        Self { name, count, exactness: Exactness::Host, names: Vec::new() }
    }

    /// What there is that was not there before, by name as far as it has names; `None` where nothing is left.
    ///
    /// Of a figure of the whole host a tenth of the number of containers counts, and 100 are never too many.
    pub(super) fn left(&self, before: &Self, containers: u32) -> Option<Vec<String>> {
        let slack = match self.exactness {
            Exactness::Own => 0,
            Exactness::Host => u64::from(containers / 10).max(100),
        };
        let new = self.names.iter().filter(|name| !before.names.contains(name)).cloned();
        let new: Vec<_> = new.collect();
        (self.count > before.count + slack || !new.is_empty()).then_some(new)
    }
}

/// All that is counted, in the order of the report.
pub(super) fn figures(place: &Place) -> Vec<Figure> {
    let cgroup = place.cgroup_dir();
    let (children, zombies): (Vec<_>, Vec<_>) =
        children().into_iter().partition(|child| !child.ends_with("zombie"));
    let mut figures = vec![
        Figure::own("processes", children),
        Figure::own("zombies", zombies),
        Figure::own("mounts", mounts()),
        Figure::own("cgroups", below(&cgroup, true)),
        Figure::own("files of the state directory", below(&place.dir.join("root"), false)),
        Figure::own("files in /run", below(Path::new("/run"), false)),
        Figure::own("files in /dev/shm", below(Path::new("/dev/shm"), false)),
        Figure::own("own descriptors", descriptors()),
        Figure::host(
            "dying cgroups below the soak's",
            field(&cgroup.join("cgroup.stat"), "nr_dying_descendants"),
        ),
        Figure::host("BPF programs", programs()),
        Figure::host("keys of root", keys()),
    ];
    for (name, cache) in [
        ("network namespaces (slab)", "net_namespace"),
        ("mounts (slab)", "mnt_cache"),
        ("tasks (slab)", "task_struct"),
    ] {
        figures.push(Figure::host(name, field(Path::new("/proc/slabinfo"), cache)));
    }
    figures
}

/// This process's children; the runtime's orphans are among them.
fn children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.map(|task| lossy(&task.path().join("children")));
    let mut found = Vec::new();
    for pid in lists.collect::<String>().split_ascii_whitespace() {
        let status = crate::proc::status(&lossy(&PathBuf::from(format!("/proc/{pid}/status"))));
        let of = |name: &str| status.get(name).map_or("", String::as_str);
        let end = if of("State").starts_with('Z') { "zombie" } else { "alive" };
        found.push(format!("{pid} {} {end}", of("Name")));
    }
    found
}

/// The mounts of this mount namespace, which is the soak's own.
fn mounts() -> Vec<String> {
    lossy(Path::new("/proc/thread-self/mountinfo")).lines().map(str::to_owned).collect()
}

fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    // The one of this very directory has no link any more when it is read.
    let links = entries.filter_map(|entry| {
        let link = std::fs::read_link(entry.path()).ok()?;
        Some(format!("{} {}", entry.file_name().display(), link.display()))
    });
    links.filter(|link| !link.contains("/proc/")).collect()
}

/// All paths below a directory, or only its directories.
fn below(dir: &Path, directories: bool) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory || !directories {
            found.push(entry.path().display().to_string());
        }
        if is_directory {
            found.extend(below(&entry.path(), directories));
        }
    }
    found
}

/// The number after a word at the beginning of a line; 0 where there is none.
fn field(path: &Path, name: &str) -> u64 {
    let text = lossy(path);
    let line = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(name));
    line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn programs() -> u64 {
    let mut count = 0;
    let mut id = 0;
    while let Some(next) = sys::next_program(id) {
        (count, id) = (count + 1, next);
    }
    count
}

/// The number of keys that root has (`/proc/key-users`: `0: usage keys/instantiated ...`).
fn keys() -> u64 {
    let text = lossy(Path::new("/proc/key-users"));
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("0:"));
    let keys =
        line.and_then(|line| line.split_ascii_whitespace().nth(1)?.split('/').next()?.parse().ok());
    keys.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_of_its_own_is_left_and_one_more_of_the_hosts_is_not() {
        let own =
            |names: &[&str]| Figure::own("x", names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(own(&["a"]).left(&own(&["a"]), 1000), None);
        assert_eq!(own(&["a", "b"]).left(&own(&["a"]), 1000), Some(vec!["b".to_owned()]));
        assert_eq!(own(&["b"]).left(&own(&["a"]), 1000), Some(vec!["b".to_owned()]));
        assert_eq!(Figure::host("x", 150).left(&Figure::host("x", 50), 1000), None);
        assert_eq!(Figure::host("x", 151).left(&Figure::host("x", 50), 1000), Some(Vec::new()));
        assert_eq!(Figure::host("x", 1000).left(&Figure::host("x", 50), 10_000), None);
    }

    #[test]
    fn what_is_counted_can_be_read_here() {
        assert!(!mounts().is_empty());
        assert!(descriptors().len() > 1);
        let dir = crate::tmp::TempDir::new("orlop-count");
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/f"), "").unwrap();
        assert_eq!((below(dir.path(), true).len(), below(dir.path(), false).len()), (1, 2));
        std::fs::write(dir.path().join("stat"), "nr_descendants 1\nnr_dying_descendants 17\n")
            .unwrap();
        assert_eq!(field(&dir.path().join("stat"), "nr_dying_descendants"), 17);
    }
}
