//! Looks into each process that appears: what a container could get of a runtime that enters it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sys;

/// What identifies a file.
fn identity(path: &str) -> Option<(u64, u64)> {
    let m = std::fs::metadata(path).ok()?;
    Some((m.dev(), m.ino()))
}

/// Watches for some seconds. `marker` is a file of the host: whoever can open it by a process's root or working
/// directory has got out.
pub(crate) fn watch(seconds: u64, marker: &str) -> Value {
    let own = std::process::id();
    let payload = identity("/proc/self/exe");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut finds = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut next = own + 1;
    while Instant::now() < end {
        // Pids come in order: the next few are tried without reading the directory.
        let first = next;
        for pid in first..first + 16 {
            if std::fs::symlink_metadata(format!("/proc/{pid}")).is_ok() {
                seen.insert(pid);
                look(pid, payload, marker, &mut finds);
                next = pid;
            }
        }
        if seen.contains(&next) && std::fs::symlink_metadata(format!("/proc/{next}")).is_err() {
            next += 1;
        }
    }
    json!({"seen": seen.len(), "finds": finds})
}

fn look(pid: u32, payload: Option<(u64, u64)>, marker: &str, finds: &mut BTreeSet<String>) {
    let at = |name: &str| format!("/proc/{pid}/{name}");
    let exe = identity(&at("exe"));
    let foreign = exe.is_some() && exe != payload;
    // A sealed file in memory is harmless: it can be opened, and not written.
    let sealed = File::open(at("exe")).is_ok_and(|file| sys::is_sealed(&file));
    if foreign && !sealed && OpenOptions::new().write(true).open(at("exe")).is_ok() {
        finds.insert("the program of a process that is not the container's can be written".into());
    }
    for name in ["root", "cwd"] {
        if File::open(format!("{}{marker}", at(name))).is_ok() {
            finds.insert(format!("the host's files can be opened by a process's {name}"));
        }
    }
    for entry in std::fs::read_dir(at("fd")).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(to) = std::fs::read_link(&path) else { continue };
        // A directory of the host leads to the marker, upwards.
        let up = format!("{}/../../../../../../../../../../..{marker}", path.display());
        if File::open(up).is_ok() {
            finds.insert(format!(
                "the host's files can be opened by a descriptor to {}",
                to.display()
            ));
        }
    }
}
