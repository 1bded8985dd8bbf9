//! The embedded API: a container and its life.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::plan::Plan;

/// Where a container is in its life (runtime-spec, runtime.md, State).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// `create` is at work, or was killed there.
    Creating,
    /// Set up, and waiting for `start`.
    Created,
    /// The program runs.
    Running,
    /// Frozen.
    Paused,
    /// The program has ended.
    Stopped,
}

impl Status {
    /// The runtime-spec's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The state of a container (runtime-spec, runtime.md, State).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// The container's id.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// Pid of its init in the caller's pid namespace; 0 when stopped.
    pub pid: i32,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root filesystem.
    pub rootfs: PathBuf,
    /// When it was created: RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// The annotations of config.json.
    pub annotations: BTreeMap<String, String>,
    /// Uid of the user that created it.
    pub owner: u32,
}

/// The standard streams of a container without a terminal.
#[derive(Debug, Default)]
pub enum Stdio {
    /// Those of the calling process.
    Inherit,
    /// `/dev/null` for each.
    #[default]
    Null,
    /// These: standard input, output, error.
    Descriptors([OwnedFd; 3]),
}

/// How a container's init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
}

impl ExitStatus {
    /// The code that a shell would show: the exit code, or 128 + the signal.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

/// What a new container needs; made by [`Container::builder`].
#[derive(Debug)]
pub struct Builder {
    _private: (),
}

impl Builder {
    /// Directory of all containers' state; `/run/orlop` unless set. Created with mode 0700 when missing.
    #[must_use]
    pub fn state_root(self, _root: impl Into<PathBuf>) -> Self {
        self
    }
    /// The standard streams; [`Stdio::Null`] unless set. With `process.terminal` they are the terminal.
    #[must_use]
    pub fn stdio(self, _stdio: Stdio) -> Self {
        self
    }
    /// A connected `AF_UNIX` stream socket that takes the master of the container's terminal.
    #[must_use]
    pub fn console_socket(self, _socket: OwnedFd) -> Self {
        self
    }
    /// How many of the caller's descriptors from 3 on the program inherits under the same numbers.
    #[must_use]
    pub fn preserve_fds(self, _count: u32) -> Self {
        self
    }
    /// Environment (`KEY=value`) of hooks in the runtime namespace that name none of their own; empty unless set.
    #[must_use]
    pub fn hook_environment(self, _env: Vec<String>) -> Self {
        self
    }
    /// Moves the root over `/` instead of pivot_root(2).
    #[must_use]
    pub fn no_pivot(self, _yes: bool) -> Self {
        self
    }
    /// Keeps the caller's session keyring.
    #[must_use]
    pub fn no_new_keyring(self, _yes: bool) -> Self {
        self
    }
    /// An installed `orlop-init` to execute where the host forbids executing memfds.
    #[must_use]
    pub fn init_file(self, _path: impl Into<PathBuf>) -> Self {
        self
    }
    /// What creating would do, without doing it.
    ///
    /// # Errors
    /// What is wrong with config.json, naming the field.
    pub fn plan(&self) -> Result<Plan> {
        Err(Error::bug("not built"))
    }
    /// Creates the container: all but its program is there afterwards, waiting for [`Container::start`],
    /// by this process or any other.
    ///
    /// # Errors
    /// Naming the field; nothing is left behind.
    pub fn create(self) -> Result<Container> {
        Err(Error::bug("not built"))
    }
    /// Creates and starts in one step, cheaper than both.
    ///
    /// # Errors
    /// As [`Builder::create`] and [`Container::start`]; nothing is left behind.
    pub fn run(self) -> Result<Container> {
        Err(Error::bug("not built"))
    }
}

/// A container.
#[derive(Debug)]
pub struct Container {
    _private: (),
}

impl Container {
    /// Begins a new container of this id from a bundle.
    pub fn builder(_id: impl Into<String>, _bundle: Bundle) -> Builder {
        Builder { _private: () }
    }
    /// Finds a container that exists.
    ///
    /// # Errors
    /// `container does not exist` ([`ErrorKind::NotFound`](crate::ErrorKind)).
    pub fn load(_state_root: impl AsRef<Path>, _id: &str) -> Result<Self> {
        Err(Error::bug("not built"))
    }
    /// The ids below a state root, sorted; those whose state cannot be read too.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(_state_root: impl AsRef<Path>) -> Result<Vec<String>> {
        Err(Error::bug("not built"))
    }
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        ""
    }
    /// Pid of its init (0 before there is one).
    #[must_use]
    pub fn pid(&self) -> i32 {
        0
    }
    /// What config.json asked for that has no effect, each with its field; empty for a loaded container.
    #[must_use]
    pub fn warnings(&self) -> &[(crate::error::Field, String)] {
        &[]
    }
    /// Its state, as of now.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn state(&self) -> Result<State> {
        Err(Error::bug("not built"))
    }
    /// Starts the program of a created container, and returns when execve(2) has succeeded.
    ///
    /// # Errors
    /// It is in another state; the program cannot be executed; a hook failed.
    pub fn start(&mut self) -> Result<()> {
        Err(Error::bug("not built"))
    }
    /// Sends a signal (number) to its init; SIGKILL reaches all processes of a container without a
    /// pid namespace of its own.
    ///
    /// # Errors
    /// `container not running`.
    pub fn kill(&self, _signal: i32) -> Result<()> {
        Err(Error::bug("not built"))
    }
    /// Deletes a stopped (or created) container; `force` kills a running one first.
    ///
    /// # Errors
    /// It runs; or something of it cannot be removed.
    pub fn delete(&mut self, _force: bool) -> Result<()> {
        Err(Error::bug("not built"))
    }
    /// Waits for the init to end; only in the process that created it.
    ///
    /// # Errors
    /// It is not a child of the caller.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Err(Error::bug("not built"))
    }
    /// The init's pidfd, where this handle created it: readable (poll) when the init ends.
    #[must_use]
    pub fn pidfd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}
