//! The embedded API: a container and its life.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::cgroup::Cgroup;
use crate::control::{not_found, not_running};
use crate::create::Creation;
use crate::error::{Error, ErrorKind, Field, Result};
use crate::host;
use crate::plan::HookPlan;
use crate::rdt::Resctrl;
use crate::state::{self, Record, StateDirectory};
use crate::supervise::{self, HookState};

pub use crate::create::Builder;

/// How long `delete` waits for processes that it has killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a container is in its life (runtime-spec, runtime.md, State).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
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

/// A container.
///
/// Dropping the handle leaves the container as it is.
#[derive(Debug)]
pub struct Container {
    pub(crate) directory: StateDirectory,
    pub(crate) record: Record,
    pub(crate) hook_environment: Vec<String>,
    pub(crate) warnings: Vec<(Field, String)>,
    /// Its cgroup, in the process that created it.
    pub(crate) cgroup: Option<Cgroup>,
    /// The init's, in the process that created it.
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) ended: Option<ExitStatus>,
}

impl Container {
    /// Begins a new container of this id from a bundle.
    pub fn builder(id: impl Into<String>, bundle: crate::Bundle) -> Builder {
        Builder::new(id.into(), bundle)
    }

    /// Finds a container that exists.
    ///
    /// # Errors
    /// `container does not exist` ([`ErrorKind::NotFound`]), also while `create` is at work on it.
    pub fn load(state_root: impl AsRef<Path>, id: &str) -> Result<Self> {
        let directory = StateDirectory::of(state_root.as_ref(), id)?;
        let record = directory.record()?.ok_or_else(not_found)?;
        Ok(Self::from_record(directory, record))
    }

    pub(crate) fn from_record(directory: StateDirectory, record: Record) -> Self {
        Self {
            directory,
            record,
            hook_environment: Vec::new(),
            warnings: Vec::new(),
            cgroup: None,
            pidfd: None,
            ended: None,
        }
    }

    /// The ids below a state root, sorted; those whose state cannot be read too.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(state_root: impl AsRef<Path>) -> Result<Vec<String>> {
        state::list(state_root.as_ref())
    }

    /// Removes what a `create` that was killed has left of a container: its processes, cgroup and
    /// directory. Success where there is nothing.
    ///
    /// # Errors
    /// Something of it cannot be removed.
    pub fn clean_up(
        state_root: impl AsRef<Path>,
        id: &str,
        hook_environment: Vec<String>,
    ) -> Result<()> {
        let directory = StateDirectory::of(state_root.as_ref(), id)?;
        if !directory.exists()? {
            return Ok(());
        }
        let record = match undamaged(directory.record())? {
            Some(record) => Some(record),
            None => undamaged(directory.intent())?,
        };
        let Some(record) = record else {
            return directory.remove();
        };
        let mut container = Self::from_record(directory, record);
        container.hook_environment = hook_environment;
        // Without a cgroup, this is how it is found.
        if container.is_alive()? {
            container.kill_and_wait()?;
        }
        container.destroy(true)
    }

    /// Environment (`KEY=value`) of hooks that name none of their own; empty unless set.
    #[must_use]
    pub fn with_hook_environment(mut self, environment: Vec<String>) -> Self {
        self.hook_environment = environment;
        self
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Absolute path of its bundle.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.record.bundle
    }

    /// Pid of its init.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.record.pid
    }

    /// What config.json asked for that has no effect, each with its field; empty for a loaded
    /// container.
    #[must_use]
    pub fn warnings(&self) -> &[(Field, String)] {
        &self.warnings
    }

    /// Its state, as of now.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn state(&self) -> Result<State> {
        let status = self.status()?;
        let record = &self.record;
        Ok(State {
            id: record.id.clone(),
            status,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            annotations: record.annotations.clone(),
            owner: self.directory.owner()?,
        })
    }

    /// Where it is in its life, as of now.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn status(&self) -> Result<Status> {
        if !self.is_alive()? {
            return Ok(Status::Stopped);
        }
        if let Some(cgroup) = self.open_cgroup()?
            && cgroup.is_frozen()?
        {
            return Ok(Status::Paused);
        }
        if self.directory.open_fifo()?.is_some() {
            return Ok(Status::Created);
        }
        // One that is killed before it was started lets go of the fifo some time before it is gone.
        let ends = self.directory.has_fifo()? && host::is_exiting(self.record.pid)?;
        Ok(if ends { Status::Stopped } else { Status::Running })
    }

    /// Whether the init runs, and is not another process of the same pid.
    fn is_alive(&self) -> Result<bool> {
        if self.record.pid <= 0 || self.ended.is_some() {
            return Ok(false);
        }
        Ok(host::start_time(self.record.pid)? == Some(self.record.start_time))
    }

    /// Starts the program of a created container, and returns when execve(2) has succeeded.
    ///
    /// # Errors
    /// It is in another state; the program cannot be executed ([`ErrorKind::Exec`]); a hook failed
    /// ([`ErrorKind::Hook`]), and the container is killed then.
    pub fn start(&mut self) -> Result<()> {
        let refused = |why: &'static str| Err(Error::new(ErrorKind::InvalidState, why));
        match self.status()? {
            Status::Created => {}
            Status::Running => return refused("cannot start an already running container"),
            Status::Stopped => return refused("cannot start a container that has stopped"),
            Status::Paused => return refused("cannot start a container in the paused state"),
        }
        self.release()?;
        self.run_poststart()
    }

    /// Binds the socket on which the program of a container that was created with
    /// [`Builder::notify_directory`] tells that it is ready (sd_notify(3)); `None` for another.
    /// Each datagram is a message. They come from the container: nothing in them can be relied on.
    ///
    /// # Errors
    /// Somebody else listens on it; it cannot be bound.
    pub fn notify_socket(&self) -> Result<Option<UnixDatagram>> {
        self.directory.bind_notify()
    }

    /// Lets the init go on, and waits until it executes the program.
    fn release(&self) -> Result<()> {
        const STARTED: &str = "cannot start an already running container";
        let started = || Error::new(ErrorKind::InvalidState, STARTED);
        let fifo = self.directory.open_fifo()?.ok_or_else(started)?;
        // Of two that start it at once, one does.
        let cannot = |errno| Error::sys("cannot release the init", errno);
        let lock = || rustix::fs::flock(&fifo, FlockOperation::NonBlockingLockExclusive);
        match rustix::io::retry_on_intr(lock) {
            Err(Errno::AGAIN) => return Err(started()),
            result => result.map_err(cannot)?,
        }
        if rustix::fs::fstat(&fifo).map_err(cannot)?.st_nlink != 1 {
            return Err(started());
        }
        let progress = self.directory.open_progress()?;
        rustix::io::retry_on_intr(|| rustix::io::write(&fifo, b"s")).map_err(cannot)?;
        self.directory.remove_fifo()?;
        // The init holds the only other end: execve(2) or its death closes it.
        host::poll(&mut [PollFd::new(&fifo, PollFlags::empty())], None)
            .map_err(|errno| Error::sys("cannot wait for the init", errno))?;
        if supervise::executed(&progress)? {
            return Ok(());
        }
        Err(supervise::exec_failure(&self.record.late, &progress))
    }

    /// Runs the poststart hooks; a container with a failed one is killed.
    pub(crate) fn run_poststart(&self) -> Result<()> {
        let result = self.run_hooks(&self.record.poststart, "running", self.record.pid);
        if result.is_err() {
            let _dead_already = self.kill(libc::SIGKILL); // it may have ended by itself
        }
        result
    }

    fn run_hooks(&self, hooks: &[HookPlan], status: &'static str, pid: i32) -> Result<()> {
        let record = &self.record;
        let state = HookState {
            id: &record.id,
            status,
            pid,
            bundle: &record.bundle,
            annotations: &record.annotations,
        };
        let environment = &self.hook_environment;
        hooks.iter().try_for_each(|hook| supervise::run_hook(hook, &state, None, environment))
    }

    /// A further process in it; `process` is a `process` object of the runtime-spec. What it leaves
    /// open (capabilities, resource limits, AppArmor profile, SELinux label) is the container's.
    #[must_use]
    pub fn exec(&self, process: oci_spec::runtime::Process) -> crate::ExecBuilder<'_> {
        crate::ExecBuilder::new(self, process)
    }

    /// Sends a signal (number) to its init. SIGKILL reaches all processes of a container without a
    /// pid namespace of its own, also when its init has ended; that nobody is left is no error then.
    ///
    /// # Errors
    /// `container not running`; the number is no signal's.
    pub fn kill(&self, signal: i32) -> Result<()> {
        let alive = self.is_alive()?;
        if signal == libc::SIGKILL
            && !self.record.own_pid_namespace
            && let Some(cgroup) = self.open_cgroup()?
        {
            if cgroup.is_populated()? {
                cgroup.kill()?;
                return if cgroup.is_frozen().unwrap_or(false) { cgroup.thaw() } else { Ok(()) };
            }
            // All are gone, as was asked.
            if !alive {
                return Ok(());
            }
        }
        if !alive {
            return Err(not_running());
        }
        let Some(pidfd) = self.open_pidfd()? else {
            return Err(not_running());
        };
        match send_signal(pidfd.as_fd(), signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Err(not_running()),
            Err(Errno::INVAL) => {
                let message = format!("unknown signal \"{signal}\"");
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            Err(errno) => return Err(Error::sys("cannot signal the init", errno)),
        }
        if signal == libc::SIGKILL
            && let Some(cgroup) = self.open_cgroup()?
            && cgroup.is_frozen().unwrap_or(false)
        {
            cgroup.thaw()?;
        }
        Ok(())
    }

    /// A pidfd of the init, also of a container that was loaded: readable (poll) when the init ends. `None` where it has
    /// ended.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open_pidfd(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.record.pid) else {
            return Ok(None);
        };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(Error::sys("cannot open the init's pidfd", errno)),
        };
        // Of the process that is meant: the pid may have been used again.
        Ok(self.is_alive()?.then_some(pidfd))
    }

    /// Deletes a stopped or created container; `force` kills a running one first. What its hooks
    /// (poststop) make of it is the result when all else is gone.
    ///
    /// # Errors
    /// It runs; something of it cannot be removed; a poststop hook failed.
    pub fn delete(&mut self, force: bool) -> Result<()> {
        let status = self.status()?;
        if !force && matches!(status, Status::Running | Status::Paused) {
            let (id, status) = (&self.record.id, status.as_str());
            let message = format!("cannot delete container {id} that is not stopped: {status}");
            return Err(Error::new(ErrorKind::InvalidState, message));
        }
        if status != Status::Stopped {
            self.kill_and_wait()?;
        }
        self.destroy(force)
    }

    /// Ends the init, and waits for it.
    pub(crate) fn kill_and_wait(&mut self) -> Result<()> {
        let Some(pidfd) = self.open_pidfd()? else {
            return Ok(());
        };
        match self.kill(libc::SIGKILL) {
            Err(error) if error.kind() != ErrorKind::InvalidState => return Err(error),
            _ => {}
        }
        let ended = host::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(PATIENCE))
            .map_err(|errno| Error::sys("cannot wait for the init", errno))?;
        if !ended {
            return Err(Error::new(ErrorKind::InvalidState, "container init still running"));
        }
        Ok(())
    }

    /// Removes processes that are left, the cgroup and the directory; then runs the poststop hooks.
    pub(crate) fn destroy(&mut self, force: bool) -> Result<()> {
        // An embedder's child would stay a zombie until it calls wait.
        if let (None, Some(own)) = (self.ended, &self.pidfd) {
            self.ended = supervise::reap_if_ended(own)?;
        }
        let cgroup = match self.cgroup.take() {
            Some(cgroup) => Some(cgroup),
            None => self.open_cgroup()?,
        };
        // A later cgroup of the same path is another container's.
        let recorded = self.record.cgroup_number;
        let is_anothers = match &cgroup {
            Some(cgroup) if recorded != 0 => cgroup.number()? != recorded,
            _ => false,
        };
        if let Some(cgroup) = cgroup.filter(|_| !is_anothers) {
            // With a pid namespace of its own, all processes die with the init.
            let kill = force || !self.record.own_pid_namespace || self.record.pid == 0;
            cgroup.destroy(kill)?;
        }
        if let Some(unit) = self.record.unit.as_ref().filter(|_| !is_anothers) {
            supervise::unit::stop(unit)?;
        }
        if let Some(rdt) = &self.record.rdt
            && let Ok(resctrl) = Resctrl::open()
        {
            resctrl.remove(rdt)?;
        }
        self.directory.remove()?;
        self.run_hooks(&self.record.poststop, "stopped", 0)
    }

    /// Waits for the init to end; only in the process that created it.
    ///
    /// # Errors
    /// It is not a child of the caller, or somebody else has reaped it.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let foreign = || {
            let message = "the container's init is not a child of this process";
            Error::new(ErrorKind::InvalidState, message)
        };
        let pidfd = self.pidfd.as_ref().ok_or_else(foreign)?;
        let status = supervise::reap(pidfd)?.ok_or_else(foreign)?;
        self.ended = Some(status);
        Ok(status)
    }

    /// The init's pidfd, where this handle created it: readable (poll) when the init ends.
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn created(directory: StateDirectory, creation: Creation) -> Self {
        Self {
            directory,
            record: creation.record,
            hook_environment: creation.hook_environment,
            warnings: creation.warnings,
            cgroup: creation.cgroup,
            pidfd: Some(creation.pidfd),
            ended: None,
        }
    }
}

/// A record that is damaged, or was never written, names nothing to clean up; one that could not be read does.
fn undamaged(record: Result<Option<Record>>) -> Result<Option<Record>> {
    match record {
        Err(error) if error.raw_os_error().is_none() => Ok(None),
        record => record,
    }
}

fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    if signal == 0 {
        // The null signal only asks whether it is there: a pidfd that polls as ended is not.
        let ended = host::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(Duration::ZERO))?;
        return if ended { Err(Errno::SRCH) } else { Ok(()) };
    }
    crate::sys::pidfd_send_signal(pidfd, signal)
}
