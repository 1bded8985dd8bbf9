//! One test: its directory, its runtime, its state root, and the check that nothing stays behind.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::console::on_terminal;
use crate::run::{Done, Run, Running, in_path};
use crate::tmp::TempDir;
use crate::{Bundle, rootfs};

/// Where test containers get their cgroups.
pub const CGROUP_PARENT: &str = "orlop-conformance";

/// The runtimes whose differences are known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Anything else: judged by the contract alone.
    Orlop,
    /// opencontainers/runc.
    Runc,
    /// containers/crun.
    Crun,
}

/// A test's own directory, runtime and state root.
#[derive(Debug)]
pub struct Test {
    runtime: PathBuf,
    peer: Peer,
    dir: PathBuf,
    /// Goes away with the test; a given directory does not.
    _own: Option<TempDir>,
    /// The suite's containers hold its own payload; the others busybox.
    payload: bool,
}

/// Writes past libtest's capture, which would hide it in tests that pass.
fn loudly(text: &str) {
    let _: std::io::Result<()> = std::io::stderr().write_all(text.as_bytes());
}

/// Whether every test shall have systemd make its cgroups (`ORLOP_CGROUP_DRIVER=systemd`).
pub(crate) fn by_systemd() -> bool {
    std::env::var_os("ORLOP_CGROUP_DRIVER").is_some_and(|driver| driver == "systemd")
}

/// The global option that says so.
#[must_use]
pub fn driver_flag() -> Option<&'static str> {
    by_systemd().then_some("--systemd-cgroup")
}

/// The runtime under test: `ORLOP_RUNTIME`, or the workspace's newest build of `orlop`.
#[must_use]
pub fn runtime_path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ORLOP_RUNTIME") {
        let path = PathBuf::from(path);
        if path.components().count() > 1 {
            return path.canonicalize().ok();
        }
        return in_path(path);
    }
    // target/<profile>/deps/<test> is this program: the binaries of the workspace are two levels up.
    let target = std::env::current_exe().ok()?.parent()?.parent()?.parent()?.to_owned();
    ["x86_64-unknown-linux-gnu/release/orlop", "release/orlop", "debug/orlop"]
        .iter()
        .map(|name| target.join(name))
        .filter(|path| path.exists())
        .max_by_key(|path| path.metadata().and_then(|m| m.modified()).ok())
}

fn reason_to_skip() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".into());
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return Some("no cgroup v2 at /sys/fs/cgroup (run with conformance/in-cgroup2.sh)".into());
    }
    if rootfs::busybox().is_none() {
        return Some("no /bin/busybox (package busybox-static)".into());
    }
    if runtime_path().is_none() {
        return Some("no runtime: build orlop, or name one by ORLOP_RUNTIME".into());
    }
    None
}

/// Says loudly why a test cannot run here.
///
/// # Panics
/// Where `ORLOP_NO_SKIP` is set, so that a CI cannot pass by skipping.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("ORLOP_NO_SKIP").is_none(), "cannot run: {reason}");
    loudly(&format!("SKIPPED {}: {reason}\n", test_name()));
}

impl Test {
    /// Begins a test, or says loudly why it cannot run here.
    ///
    /// # Panics
    /// Where it cannot run and `ORLOP_NO_SKIP` is set, so that a CI cannot pass by skipping.
    #[must_use]
    pub fn begin() -> Option<Self> {
        static SKIP: OnceLock<Option<String>> = OnceLock::new();
        if let Some(reason) = SKIP.get_or_init(reason_to_skip) {
            skip(reason);
            return None;
        }
        // Like an engine's shim: the init of a created container becomes this process's child.
        nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
        let runtime = runtime_path()?;
        let name = runtime.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let peer = match name.as_str() {
            "runc" => Peer::Runc,
            "crun" => Peer::Crun,
            _ => Peer::Orlop,
        };
        let own = TempDir::new("orlop-test");
        let dir = own.path().to_owned();
        Some(Self { runtime, peer, dir, _own: Some(own), payload: false })
    }

    /// A case of the suite: on a given runtime, in a directory that its caller made and removes, with the suite's
    /// payload in its containers.
    ///
    /// # Panics
    /// Where this process cannot become the one that orphans go to.
    #[must_use]
    pub fn given(runtime: &Path, dir: &Path) -> Self {
        nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
        let (runtime, dir) = (runtime.to_owned(), dir.to_owned());
        Self { runtime, peer: Peer::Orlop, dir, _own: None, payload: true }
    }

    /// Whether its containers hold the suite's payload.
    #[must_use]
    pub fn has_payload(&self) -> bool {
        self.payload
    }

    /// True where the runtime under test is known not to do what the test wants: the test then ends, and says so.
    ///
    /// `ORLOP_DIFFERENCES=test` runs such tests all the same, to find out whether the difference is still there.
    #[must_use]
    pub fn differs(&self, peers: &[Peer], why: &str) -> bool {
        let known = peers.contains(&self.peer);
        if known {
            loudly(&format!("DIFFERS {}: {:?}: {why}\n", test_name(), self.peer));
        }
        known && std::env::var_os("ORLOP_DIFFERENCES").is_none()
    }

    /// True where the runtime says that it does not support what the test wants: the test then ends, and says so.
    ///
    /// Saying so is right as long as it is true; a runtime that pretends, or fails otherwise, fails the test.
    #[must_use]
    pub fn unsupported(&self, done: &Done) -> bool {
        let text = "not supported by this version of";
        let said = done.code() == 1 && done.stderr.lines().any(|line| line.contains(text));
        if said {
            loudly(&format!("UNSUPPORTED {}: {}\n", test_name(), done.stderr.trim_end()));
        }
        said
    }

    /// Ends a test that this machine lacks something for, and says so: `if t.lacks("AppArmor", is_off) { return }`.
    ///
    /// # Panics
    /// Where `ORLOP_HAS` names it: a machine that was made to have it (conformance/vm.sh) must not skip.
    #[must_use]
    pub fn lacks(&self, what: &str, missing: bool) -> bool {
        if missing {
            let expected = std::env::var("ORLOP_HAS").unwrap_or_default();
            assert!(!expected.split(' ').any(|name| name == what), "no {what} here");
            loudly(&format!("SKIPPED {}: no {what}\n", test_name()));
        }
        missing
    }

    /// Which runtime this is.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The program under test.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The test's own directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The state root that [`Test::command`] names.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir().join("root")
    }

    /// A new bundle with a default config.
    #[must_use]
    pub fn bundle(&self) -> Bundle<'_> {
        Bundle::new(self)
    }

    /// The runtime without any argument.
    #[must_use]
    pub fn bare(&self) -> Run {
        Run::new(&self.runtime, self.dir())
    }

    /// The runtime with the test's state root and `args`.
    #[must_use]
    pub fn command<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.bare().arg("--root").arg(self.root()).args(driver_flag()).args(args)
    }

    /// The same, begun on a terminal of so many rows and columns; the terminal's master.
    #[must_use]
    pub fn call_on_terminal(&self, size: (u16, u16), args: &[&str]) -> (File, Running) {
        let root = self.root();
        let own = [self.runtime.as_os_str(), "--root".as_ref(), root.as_os_str()];
        on_terminal(size, self.dir(), own.into_iter().chain(args.iter().map(OsStr::new)))
    }

    /// Runs the runtime with the test's state root and `args` to its end.
    #[track_caller]
    #[must_use]
    pub fn call(&self, args: &[&str]) -> Done {
        self.command(args).done()
    }
}

/// libtest names its threads after the tests.
fn test_name() -> String {
    std::thread::current().name().unwrap_or("?").to_owned()
}
