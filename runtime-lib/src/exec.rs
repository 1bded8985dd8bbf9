//! A further process in a container.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::Process;
use orlop_init::plan::progress;
use rustix::fs::MemfdFlags;

use crate::cgroup::Cgroup;
use crate::cgroup::systemd::Bus;
use crate::compile::{HostFacts, Request, exec};
use crate::container::{Container, ExitStatus, Status};
use crate::error::{Error, ErrorKind, Result};
use crate::host;
use crate::plan::{CgroupNeed, Plan};
use crate::streams::{Stdio, Streams};
use crate::supervise::{self, HookState, Init, Launch, Running, Target};

/// What a further process needs; made by [`Container::exec`].
#[derive(Debug)]
pub struct ExecBuilder<'a> {
    container: &'a Container,
    process: Process,
    stdio: Stdio,
    console_socket: Option<OwnedFd>,
    shown_on: Option<(u16, u16)>,
    preserve_fds: u32,
    sub_cgroup: Option<String>,
    ignore_paused: bool,
    init_file: Option<PathBuf>,
}

/// A process in a container, by the handle of its creator.
#[derive(Debug)]
pub struct Exec {
    pid: i32,
    pidfd: OwnedFd,
    ended: Option<ExitStatus>,
}

impl<'a> ExecBuilder<'a> {
    pub(crate) fn new(container: &'a Container, process: Process) -> Self {
        Self {
            container,
            process,
            stdio: Stdio::default(),
            console_socket: None,
            shown_on: None,
            preserve_fds: 0,
            sub_cgroup: None,
            ignore_paused: false,
            init_file: None,
        }
    }

    /// The standard streams; [`Stdio::Null`] unless set. With `terminal` they are the terminal.
    #[must_use]
    pub fn stdio(mut self, stdio: Stdio) -> Self {
        self.stdio = stdio;
        self
    }

    /// A connected `AF_UNIX` stream socket that takes the master of the process's terminal.
    #[must_use]
    pub fn console_socket(mut self, socket: OwnedFd) -> Self {
        self.console_socket = Some(socket);
        self
    }

    /// The caller shows the terminal on one of its own, of so many rows and columns: the container's has this size from
    /// its beginning, whatever `process.consoleSize` says, and adds no carriage returns (`ONLCR` of termios(3)).
    #[must_use]
    pub fn shown_on(mut self, rows: u16, columns: u16) -> Self {
        self.shown_on = Some((rows, columns));
        self
    }

    /// How many of the caller's descriptors from 3 on the program inherits under the same numbers.
    #[must_use]
    pub fn preserve_fds(mut self, count: u32) -> Self {
        self.preserve_fds = count;
        self
    }

    /// An existing cgroup below the container's to run in.
    #[must_use]
    pub fn sub_cgroup(mut self, path: impl Into<String>) -> Self {
        self.sub_cgroup = Some(path.into());
        self
    }

    /// Runs in a paused container too: the process freezes at once, and goes on at `resume`.
    #[must_use]
    pub fn ignore_paused(mut self, yes: bool) -> Self {
        self.ignore_paused = yes;
        self
    }

    /// An installed `orlop-init` to execute where the host forbids executing memfds.
    #[must_use]
    pub fn init_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.init_file = Some(path.into());
        self
    }

    /// Runs the process; returns when execve(2) has succeeded.
    ///
    /// # Errors
    /// The container is not running; a field of the process is wrong; the program cannot be
    /// executed ([`ErrorKind::Exec`]).
    pub fn spawn(self) -> Result<Exec> {
        self.check_state()?;
        let container = self.container;
        let stopped = || refused("cannot exec in a stopped container");
        let pidfd = container.open_pidfd()?.ok_or_else(stopped)?;
        let streams = Streams::open(&self.stdio)?;
        let running = Running { pid: container.record.pid, pidfd: pidfd.as_fd() };
        let (plan, init, cgroup) = self.launch(running, &streams)?;
        let target = Target {
            init: &init,
            cgroup: cgroup.as_ref(),
            streams: streams.all(),
            null_streams: streams.null,
            hook_environment: &[],
            joined: Some(HookState {
                id: &container.record.id,
                status: "running",
                pid: container.record.pid,
                bundle: &container.record.bundle,
                annotations: &container.record.annotations,
            }),
        };
        let result = supervise::execute(&plan, &target).and_then(|()| init.start(&plan));
        if let Err(error) = result {
            let out_of_memory =
                init.was_killed() && cgroup.as_ref().and_then(Cgroup::oom_kills).unwrap_or(0) > 0;
            init.destroy();
            return Err(if out_of_memory { error.hint("(possibly OOM-killed)") } else { error });
        }
        Ok(Exec { pid: init.pid(), pidfd: init.into_pidfd(), ended: None })
    }

    fn check_state(&self) -> Result<()> {
        match self.container.status()? {
            Status::Stopped => Err(refused("cannot exec in a stopped container")),
            Status::Paused if !self.ignore_paused => {
                Err(refused("cannot exec in a paused container (use --ignore-paused to override)"))
            }
            _ => Ok(()),
        }
    }

    /// `systemd`: the one that is to put the process where it belongs.
    fn compile(&self, null_streams: u8, pid: i32, systemd: Option<Bus>) -> Result<Plan> {
        let record = &self.container.record;
        let join = record.join.as_deref().ok_or_else(|| {
            let message = "the container was created by a version of orlop that kept too little \
                for further processes";
            Error::new(ErrorKind::Unsupported, message)
        })?;
        let filter = match join.seccomp_flags {
            Some(_) => Some(self.container.directory.read_filter()?),
            None => None,
        };
        let request = Request {
            id: record.id.clone(),
            bundle: record.bundle.clone(),
            no_pivot: join.no_pivot,
            no_new_keyring: join.no_new_keyring,
            preserve_fds: self.preserve_fds,
            notify: None,
            null_streams,
            console_socket: self.console_socket.is_some(),
            shown_on: self.shown_on,
            systemd,
            joins: true,
            joins_pid: join.has_pid_namespace(),
            rootless: None,
        };
        let mut facts = HostFacts::probe(false)?;
        let mut maps = None;
        if join.has_user_namespace() {
            maps = Some(host::id_maps(pid)?);
            facts.setgroups_denied = host::is_setgroups_denied(pid)?;
        }
        exec::compile(join, &self.process, filter, maps, &request, &facts)
    }

    /// Spawns the init where the container's processes belong; where the caller may not do that
    /// itself, with the help of the systemd that has made the container's cgroup.
    fn launch(
        &self,
        running: Running<'_>,
        streams: &Streams<'_>,
    ) -> Result<(Plan, Init, Option<Cgroup>)> {
        let plan = self.compile(streams.null, running.pid, None)?;
        let (cgroup, path, error) = match self.place(&plan, running, streams)? {
            Placed::Launched(init, cgroup) => return Ok((plan, init, cgroup)),
            Placed::Forbidden { cgroup, path, error } => (cgroup, path, error),
        };
        let record = &self.container.record;
        let below = path.strip_prefix(&record.cgroup);
        let (Some(unit), Some(below)) = (&record.unit, below) else { return Err(error) };
        let plan = self.compile(streams.null, running.pid, Some(unit.bus.clone()))?;
        let init = self.launch_into(&plan, None, running, streams)?;
        let attached = supervise::unit::attach(unit, below, &path, &init);
        attached.inspect_err(|_| init.destroy())?;
        Ok((plan, init, Some(cgroup)))
    }

    /// Spawns the init in the cgroup that is asked for, in the container's, or else where the
    /// container's own process has gone.
    fn place(&self, plan: &Plan, running: Running<'_>, streams: &Streams<'_>) -> Result<Placed> {
        let configured = self.container.open_cgroup()?;
        let is_own = configured.is_some();
        if let Some(path) = &self.sub_cgroup {
            let gone = || refused("the container's cgroup is gone");
            let cgroup = configured.ok_or_else(gone)?;
            let below = cgroup.open_below(path)?;
            let path = format!("{}/{}", cgroup.path(), path.trim_matches('/'));
            let launched = self.launch_into(plan, Some(below.as_fd()), running, streams);
            return Placed::of(launched, cgroup, path);
        }
        if let Some(cgroup) = configured {
            match self.launch_into(plan, Some(cgroup.as_fd()), running, streams) {
                // A container that has divided its cgroup has processes in the leaves only (EBUSY);
                // one that was moved may have had its first cgroup removed under us (ENODEV).
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENODEV)) => {}
                launched => {
                    let path = cgroup.path().to_owned();
                    return Placed::of(launched, cgroup, path);
                }
            }
        }
        // Without a cgroup of its own the container is in one of its caller's, and so may this be.
        let tolerant = plan.cgroup_need == CgroupNeed::IfPermitted && !is_own;
        let gone = || refused("cannot exec in a stopped container");
        let path = host::cgroup_of(running.pid)?;
        if path == "/" && tolerant {
            let init = self.launch_into(plan, None, running, streams)?;
            return Ok(Placed::Launched(init, None));
        }
        let cgroup = Cgroup::open(&path)?.ok_or_else(gone)?;
        match self.launch_into(plan, Some(cgroup.as_fd()), running, streams) {
            Err(error) if tolerant && is_forbidden(&error) => {}
            launched => return Placed::of(launched, cgroup, path),
        }
        let init = self.launch_into(plan, None, running, streams)?;
        Ok(Placed::Launched(init, None))
    }

    fn launch_into(
        &self,
        plan: &Plan,
        cgroup: Option<BorrowedFd<'_>>,
        running: Running<'_>,
        streams: &Streams<'_>,
    ) -> Result<Init> {
        let failed = |errno| Error::sys("cannot create the process's progress page", errno);
        let file = rustix::fs::memfd_create(c"orlop-progress", MemfdFlags::CLOEXEC);
        let file = file.map_err(failed)?;
        let size = u64::try_from(progress::SIZE).unwrap_or(0);
        rustix::fs::ftruncate(&file, size).map_err(failed)?;
        let console_socket = self.console_socket.as_ref();
        let console_socket = console_socket.map(host::duplicate).transpose()?;
        let launch = Launch {
            init_file: self.init_file.as_deref(),
            cgroup,
            progress: File::from(file),
            start: None,
            streams: streams.replaced(),
            console_socket,
            container: Some(running),
        };
        Init::spawn(plan, launch)
    }
}

impl Exec {
    /// Its pid in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its pidfd: readable (poll) when it ends.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends it a signal (number).
    ///
    /// # Errors
    /// It has ended (ESRCH); the number is no signal's.
    pub fn signal(&self, signal: i32) -> Result<()> {
        crate::sys::pidfd_send_signal(self.pidfd.as_fd(), signal)
            .map_err(|errno| Error::sys("cannot signal the process", errno))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Somebody else has reaped it.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let foreign = || refused("the process is not a child of this one: no child processes");
        let status = supervise::reap(&self.pidfd)?.ok_or_else(foreign)?;
        self.ended = Some(status);
        Ok(status)
    }
}

/// What came of spawning an init in a cgroup.
enum Placed {
    Launched(Init, Option<Cgroup>),
    /// The caller may not put a process there.
    Forbidden {
        /// The container's, or what is left of it.
        cgroup: Cgroup,
        /// Where the process belongs.
        path: String,
        error: Error,
    },
}

impl Placed {
    fn of(launched: Result<Init>, cgroup: Cgroup, path: String) -> Result<Self> {
        match launched {
            Ok(init) => Ok(Self::Launched(init, Some(cgroup))),
            Err(error) if is_forbidden(&error) => {
                let error = error.hint(
                    "moving a process takes rights over the cgroup above where it is and where it \
                     is to go: call from below it, as `systemd-run --user --scope` does",
                );
                Ok(Self::Forbidden { cgroup, path, error })
            }
            Err(error) => Err(error),
        }
    }
}

fn is_forbidden(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM))
}

fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidState, why)
}
