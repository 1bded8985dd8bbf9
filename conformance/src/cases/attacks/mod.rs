//! Attacks: holes that runtimes of this kind had, tried. A runtime passes with a clean error or with a container that is
//! correct and confined; what it must never do is named by each case.
//!
//! What is attacked is the case's own: a tree of files that stands for the host (the [`Sentinel`]), compared before and
//! after, and never a setting of the whole machine.

mod calls;
mod images;
mod leaks;
mod races;
mod users;

use std::path::{Path, PathBuf};

use crate::suite::{Case, Kind, Section};
use crate::traces::Tree;
use crate::{Bundle, Done, Test};

/// A file in the sentinel whose name is nowhere else.
const MARKER: &str = "marker-of-the-host";

/// What stands for the host.
#[derive(Debug)]
struct Sentinel<'t> {
    test: &'t Test,
    dir: PathBuf,
    before: Tree,
    runtime: (u64, i64, i64),
    mounts: String,
    core_pattern: String,
}

fn stamp(path: &Path) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt;
    let m = path.metadata().unwrap();
    (m.len(), m.mtime(), m.mtime_nsec())
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

impl<'t> Sentinel<'t> {
    fn new(test: &'t Test) -> Self {
        let dir = test.dir().join("sentinel");
        for name in ["empty", "full", "dev", "pts"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        for name in [MARKER, "file", "full/file", "null", "ptmx", "dev/ptmx"] {
            std::fs::write(dir.join(name), "untouched").unwrap();
        }
        crate::suite::payload::install(&dir.join("program"));
        Self {
            test,
            before: Tree::of(&dir),
            dir,
            runtime: stamp(test.runtime()),
            mounts: text("/proc/self/mountinfo"),
            core_pattern: text("/proc/sys/kernel/core_pattern"),
        }
    }

    /// A path in it.
    fn at(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// Makes a symlink in a bundle's root, in place of what is there, that leads to it.
    fn link(&self, bundle: &Bundle<'_>, from: &str, to: &str) {
        link(bundle, from, &self.at(to));
    }

    #[track_caller]
    fn is_untouched(&self) {
        let now = Tree::of(&self.dir);
        assert!(now == self.before, "the host's files changed: {}", now.difference(&self.before));
        assert_eq!(stamp(self.test.runtime()), self.runtime, "the runtime's program changed");
        assert_eq!(text("/proc/self/mountinfo"), self.mounts, "the host's mounts changed");
        assert_eq!(text("/proc/sys/kernel/core_pattern"), self.core_pattern);
    }
}

/// Makes a symlink in a bundle's root, in place of what is there.
fn link(bundle: &Bundle<'_>, from: &str, to: &str) {
    let path = bundle.rootfs().join(from);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _: std::io::Result<()> = std::fs::remove_dir_all(&path);
    let _: std::io::Result<()> = std::fs::remove_file(&path);
    std::os::unix::fs::symlink(to, path).unwrap();
}

/// The container must not have started, or not have seen the marker.
#[track_caller]
fn confined(done: &Done) {
    assert!(!done.stdout.contains("untouched"), "a file of the host was read: {done}");
    assert!(
        !done.stdout.contains(&format!("/{MARKER}\"")),
        "the host's files are to be seen: {done}"
    );
}

/// Mounts without those at or below a destination.
fn without_mount<'t>(mut bundle: Bundle<'t>, destination: &str) -> Bundle<'t> {
    let list = bundle.config["mounts"].as_array_mut().unwrap();
    list.retain(|m| !Path::new(m["destination"].as_str().unwrap()).starts_with(destination));
    bundle
}

fn section<'l>(list: &'l mut Vec<Case>, name: &'static str) -> Section<'l> {
    Section::new(list, Kind::Attack, name, "")
}

pub(super) fn add(list: &mut Vec<Case>) {
    images::add(list);
    leaks::add(list);
    calls::add(list);
    users::add(list);
    races::add(list);
}
