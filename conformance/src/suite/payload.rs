//! The program inside the suite's containers, and what it says.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::proc::{Mount, mounts};
use crate::run::Done;
use crate::{Bundle, Container};

/// Where it is in a container.
pub const PATH: &str = "/payload";

static EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/payload"));

/// Another program than the embedded one (`--payload`).
static OTHER: OnceLock<PathBuf> = OnceLock::new();

/// Makes containers hold another program than the embedded one.
pub fn replace(path: PathBuf) {
    // A second choice has no effect; the command line gives one.
    let _: Result<(), PathBuf> = OTHER.set(path);
}

/// Writes the program to a file. It is never shared: a container may write to its root.
///
/// # Panics
/// Where the file cannot be written.
pub fn install(path: &Path) {
    match OTHER.get() {
        Some(other) => {
            std::fs::copy(other, path).unwrap_or_else(|e| panic!("{}: {e}", other.display()));
        }
        None => {
            std::fs::write(path, EMBEDDED).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        }
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Makes a root filesystem at `dir`, which must not exist: the payload, and the directories that mounts need.
///
/// # Panics
/// Where a file cannot be made.
pub fn rootfs(dir: &Path) {
    for name in ["dev", "etc", "proc", "sys", "tmp", "mnt", "home"] {
        std::fs::create_dir_all(dir.join(name)).expect("rootfs directory");
    }
    for (path, mode) in [(dir.to_owned(), 0o755), (dir.join("tmp"), 0o1777)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    }
    std::fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("passwd");
    std::fs::write(dir.join("etc/group"), "root:x:0:\n").expect("group");
    install(&dir.join(PATH.trim_start_matches('/')));
}

/// What the payload answered to one action.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Zero, or why it failed.
    pub errno: i32,
    /// What it found.
    pub value: Value,
}

impl Reply {
    /// The value; the case fails unless the action succeeded.
    #[track_caller]
    #[must_use]
    pub fn ok(&self) -> &Value {
        assert!(self.errno == 0, "the payload got {}", errno(self.errno));
        &self.value
    }

    /// The case fails unless the action failed with one of these.
    #[track_caller]
    pub fn fails(&self, errnos: &[i32]) {
        let want = errnos.iter().map(|e| errno(*e)).collect::<Vec<_>>().join(" or ");
        assert!(
            errnos.contains(&self.errno),
            "the payload got {} (wanted {want})",
            errno(self.errno)
        );
    }

    /// The value as text.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> &str {
        self.ok().as_str().unwrap_or_else(|| panic!("no text: {}", self.value))
    }
}

/// An errno's name.
fn errno(code: i32) -> String {
    if code == 0 { "no error".into() } else { format!("{:?}", nix::errno::Errno::from_raw(code)) }
}

/// The payload's answers in its output. Lines that are not its own (a runtime's messages) are left out.
#[must_use]
pub fn replies(output: &str) -> Vec<Reply> {
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|v| {
            let errno = i32::try_from(v.get("errno")?.as_i64()?).ok()?;
            Some(Reply { errno, value: v.get("value")?.clone() })
        })
        .collect()
}

/// What a process said of itself.
#[derive(Debug, Clone)]
pub struct Facts(pub Value);

impl std::ops::Index<&str> for Facts {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        &self.0[name]
    }
}

impl Facts {
    /// A fact that is text.
    #[track_caller]
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("no {name}: {}", self.0[name]))
    }

    /// A fact that is a number.
    #[track_caller]
    #[must_use]
    pub fn number(&self, name: &str) -> i64 {
        self.0[name].as_i64().unwrap_or_else(|| panic!("no {name}: {}", self.0[name]))
    }

    /// A field of `/proc/self/status`.
    #[track_caller]
    #[must_use]
    pub fn status(&self, name: &str) -> &str {
        self.0["status"][name].as_str().unwrap_or_else(|| panic!("no {name} in status"))
    }

    /// A field of status that is a hexadecimal set.
    #[track_caller]
    #[must_use]
    pub fn set(&self, name: &str) -> u64 {
        u64::from_str_radix(self.status(name), 16).expect("a hexadecimal set")
    }

    /// An environment variable.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&str> {
        let list = self.0["env"].as_array()?;
        list.iter().find_map(|v| v.as_str()?.strip_prefix(name)?.strip_prefix('='))
    }

    /// The mount table.
    #[must_use]
    pub fn mounts(&self) -> Vec<Mount> {
        mounts(self.text("mountinfo"))
    }

    /// The mount on top at a path; the case fails where there is none.
    #[track_caller]
    #[must_use]
    pub fn mount(&self, target: &str) -> Mount {
        crate::proc::mount_at(&self.mounts(), target)
    }

    /// A namespace as the kernel names it.
    #[track_caller]
    #[must_use]
    pub fn ns(&self, kind: &str) -> &str {
        self.0["ns"][kind].as_str().unwrap_or_else(|| panic!("no namespace {kind}"))
    }
}

/// The payload's arguments for these actions.
#[must_use]
pub fn command(actions: &[&str]) -> Vec<String> {
    std::iter::once(PATH).chain(actions.iter().copied()).map(str::to_owned).collect()
}

fn at(done: &Done) -> Vec<Reply> {
    replies(&done.stdout)
}

impl Bundle<'_> {
    /// Makes the container do these actions.
    #[must_use]
    pub fn payload(self, actions: &[&str]) -> Self {
        self.set("/process/args", json!(command(actions)))
    }

    /// Runs it with these actions to its end, which must be a good one; gives an answer for each.
    #[track_caller]
    #[must_use]
    pub fn acts(self, actions: &[&str]) -> Vec<Reply> {
        let bundle = self.payload(actions);
        let done = bundle.run().ok();
        let replies = at(&done);
        assert!(replies.len() == actions.len(), "wanted {} answers: {done}", actions.len());
        replies
    }

    /// Runs it with one action.
    #[track_caller]
    #[must_use]
    pub fn act(self, action: &str) -> Reply {
        self.acts(&[action]).remove(0)
    }

    /// Runs it and asks the payload what it sees.
    #[track_caller]
    #[must_use]
    pub fn facts(self) -> Facts {
        Facts(self.act("facts").ok().clone())
    }

    /// Gives the process these capabilities: bounding, effective and permitted.
    #[must_use]
    pub fn capabilities(self, names: &[&str]) -> Self {
        let set = json!(names);
        self.set(
            "/process/capabilities",
            json!({"bounding": set, "effective": set, "permitted": set}),
        )
    }

    /// The container's process sleeps until it is killed.
    #[must_use]
    pub fn sleeping(self) -> Self {
        self.payload(&["forever"])
    }

    /// Adds a hook that writes what it finds: the payload, with the host's root.
    #[must_use]
    pub fn hook(self, kind: &str, program: &Path, actions: &[&str]) -> Self {
        let hook = json!({"path": program, "args": command(actions)});
        self.push(&format!("/hooks/{kind}"), hook)
    }
}

impl Container<'_> {
    /// The payload's answers so far.
    #[must_use]
    pub fn replies(&self) -> Vec<Reply> {
        replies(&self.written())
    }

    /// Waits for this many answers.
    #[track_caller]
    #[must_use]
    pub fn wait_replies(&self, number: usize) -> Vec<Reply> {
        crate::run::wait_for("the payload's answers", || self.replies().len() >= number);
        self.replies()
    }

    /// Executes the payload in the container with these actions, to a good end.
    #[track_caller]
    #[must_use]
    pub fn exec(&self, flags: &[&str], actions: &[&str]) -> Vec<Reply> {
        let command = command(actions);
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        let done = self.call("exec", flags, &command).ok();
        let replies = at(&done);
        assert!(replies.len() == actions.len(), "wanted {} answers: {done}", actions.len());
        replies
    }

    /// Executes the payload in the container and asks it what it sees.
    #[track_caller]
    #[must_use]
    pub fn exec_facts(&self, flags: &[&str]) -> Facts {
        Facts(self.exec(flags, &["facts"]).remove(0).ok().clone())
    }
}
