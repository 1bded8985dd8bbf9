//! What the kernel says about a process: mounts, namespaces, status.

use std::collections::BTreeMap;
use std::path::Path;

/// One line of `/proc/PID/mountinfo`.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The directory of the filesystem that is mounted.
    pub root: String,
    /// Where it is mounted.
    pub target: String,
    /// Options of this mount: `ro`, `nosuid`, ...
    pub options: Vec<String>,
    /// Propagation fields: `shared:1`, `master:2`, ...
    pub propagation: Vec<String>,
    /// The filesystem's type.
    pub fstype: String,
    /// What is mounted.
    pub source: String,
    /// Options of the filesystem.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Whether the mount has all of `options`.
    #[must_use]
    pub fn has(&self, options: &[&str]) -> bool {
        options.iter().all(|o| self.options.iter().any(|have| have == o))
    }
}

/// Parses the text of a mountinfo file.
///
/// # Panics
/// Where a line has another form than proc_pid_mountinfo(5) says.
#[must_use]
pub fn mounts(text: &str) -> Vec<Mount> {
    let list = |s: &str| s.split(',').map(str::to_owned).collect::<Vec<_>>();
    text.lines()
        .map(|line| {
            let (front, back) = line.split_once(" - ").expect("a separator in mountinfo");
            let front = front.split(' ').collect::<Vec<_>>();
            let back = back.split(' ').collect::<Vec<_>>();
            Mount {
                root: front[3].to_owned(),
                target: front[4].to_owned(),
                options: list(front[5]),
                propagation: front[6..].iter().map(|s| (*s).to_owned()).collect(),
                fstype: back[0].to_owned(),
                source: back[1].to_owned(),
                super_options: list(back.get(2).copied().unwrap_or_default()),
            }
        })
        .collect()
}

/// The mount on top at `target`.
///
/// # Panics
/// Where nothing is mounted there.
#[must_use]
#[track_caller]
pub fn mount_at(mounts: &[Mount], target: &str) -> Mount {
    mounts
        .iter()
        .rfind(|m| m.target == target)
        .unwrap_or_else(|| panic!("nothing is mounted at {target}"))
        .clone()
}

/// The fields of a `/proc/PID/status` text.
#[must_use]
pub fn status(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

/// A process's namespace as the kernel names it (`pid:[4026531836]`).
#[must_use]
pub fn namespace(pid: i32, kind: &str) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Whether a process has ended (or is a zombie that waits for its parent).
#[must_use]
pub fn is_gone(pid: i32) -> bool {
    let text = crate::run::lossy(Path::new(&format!("/proc/{pid}/stat")));
    text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// The cgroup v2 directory of a process.
#[must_use]
pub fn cgroup(pid: i32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}
