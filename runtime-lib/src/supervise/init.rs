//! The init as its creator sees it: spawned, talked to, reaped.

use std::cell::{Cell, OnceCell};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use orlop_init::plan::{Header, LISTENER, Message, Op, REBORN, SOURCE, VERSION};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions,
};

use super::{image, mount_ids, report, sources};
use crate::container::ExitStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::host;
use crate::plan::{Bytes, Plan, Slot, Step};
use crate::sys::{Spawn, SpawnError, spawn};

/// What spawning takes beside the plan.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// An installed init to execute instead of the embedded one.
    pub(crate) init_file: Option<&'a Path>,
    /// The cgroup that the init is born into; `None` for the caller's.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// The file of the shared page.
    pub(crate) progress: File,
    /// The fifo that releases the container; without it, [`Init::start`] does.
    pub(crate) start: Option<OwnedFd>,
    /// The standard streams; `None` for the caller's.
    pub(crate) streams: [Option<BorrowedFd<'a>>; 3],
    /// The connected console socket.
    pub(crate) console_socket: Option<OwnedFd>,
    /// The container that the process joins.
    pub(crate) container: Option<Running<'a>>,
}

/// The init of a container that runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running<'a> {
    pub(crate) pid: i32,
    pub(crate) pidfd: BorrowedFd<'a>,
}

#[derive(Debug)]
struct Process {
    pid: i32,
    pidfd: OwnedFd,
}

/// A spawned init.
#[derive(Debug)]
pub(crate) struct Init {
    born: Process,
    /// What it has become in a joined pid namespace.
    reborn: OnceCell<Process>,
    control: OwnedFd,
    progress: File,
    /// It ended by SIGKILL.
    killed: Cell<bool>,
}

impl Init {
    /// Spawns the init of a plan; it begins at once.
    ///
    /// # Errors
    /// A namespace cannot be opened or joined, naming the field; the kernel refuses a process.
    pub(crate) fn spawn(plan: &Plan, launch: Launch<'_>) -> Result<Self> {
        let base = RawFd::try_from(3 + plan.preserve_fds)
            .map_err(|_| Error::new(ErrorKind::InvalidArgument, "too many descriptors"))?;
        let (control, theirs) = socket_pair()?;
        let mut inherit = Inherit { base, numbers: Vec::new(), held: Vec::new() };
        let header = Header {
            version: VERSION,
            ops: u32::try_from(plan.child.len()).unwrap_or(u32::MAX),
            control_fd: inherit.add(theirs)?,
            progress_fd: inherit.add(host::duplicate(&launch.progress)?)?,
            start_fd: launch.start.map_or(Ok(-1), |fifo| inherit.add(fifo))?,
            slots: open_slots(plan, launch.console_socket, launch.container, &mut inherit)?,
            ignored_signals: host::ignored_signals()?,
            sealed_mounts: plan.sealed_mounts(),
            strings: plan.strings(),
            preserve_fds: plan.preserve_fds,
            admission: plan.admission(),
            session: plan.session(),
        };
        let file = inherit.add(image::plan(&encode(&header, plan)?)?)?;
        let number = CString::new(file.to_string()).map_err(|_| Error::bug("a number with NUL"))?;
        let image = image::open(launch.init_file)?;
        let joins = plan.joins.iter().map(open_join).collect::<Result<Vec<_>>>()?;
        let child = Spawn {
            namespaces: plan.clone_flags,
            joins: &joins,
            cgroup: launch.cgroup,
            image: image.as_fd(),
            args: [c"orlop-init", &number],
            streams: launch.streams,
            preserve_fds: plan.preserve_fds,
            inherit: &inherit.numbers,
        };
        let (pid, pidfd) = spawn(&child).map_err(|error| spawn_error(error, plan))?;
        if plan.admission() {
            await_files(pid);
        }
        let born = Process { pid, pidfd };
        let progress = launch.progress;
        Ok(Self { born, reborn: OnceCell::new(), control, progress, killed: Cell::new(false) })
    }

    fn process(&self) -> &Process {
        self.reborn.get().unwrap_or(&self.born)
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        self.process().pid
    }

    /// Its pidfd.
    pub(crate) fn into_pidfd(self) -> OwnedFd {
        self.reborn.into_inner().unwrap_or(self.born).pidfd
    }

    /// Waits for the init to be reborn in a pid namespace, and takes the new process for it.
    ///
    /// # Errors
    /// As [`Init::wait_for`]; the process is not ours.
    pub(crate) fn adopt(&self, plan: &Plan) -> Result<()> {
        let pid = self.number(plan, REBORN)?;
        let foreign =
            || Error::new(ErrorKind::Init, "the init named a process that is not our child");
        let pid = i32::try_from(pid).map_err(|_| foreign())?;
        let known = Pid::from_raw(pid).ok_or_else(foreign)?;
        let pidfd = rustix::process::pidfd_open(known, PidfdFlags::empty())
            .map_err(|errno| Error::sys("cannot open the init's pidfd", errno))?;
        // The init is not to be trusted with names of processes: it must be a child of this one.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let wait = || rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options);
        rustix::io::retry_on_intr(wait).map_err(|errno| foreign().errno(errno))?;
        self.reborn.set(Process { pid, pidfd }).map_err(|_| Error::bug("reborn twice"))
    }

    /// Lets the process that was adopted go on.
    ///
    /// # Errors
    /// As [`Init::wait_for`].
    pub(crate) fn release(&self, plan: &Plan) -> Result<()> {
        let _status = reap(&self.born.pidfd)?; // it ends with nothing to say
        self.tell(plan, Message::Adopted)
    }

    /// Waits until there is a message, or the end of file; false where the process that was born ends
    /// without: its successor, if there is one already, holds the socket too, and waits at it.
    fn has_spoken(&self) -> Result<bool> {
        let failed = |errno| Error::sys("cannot wait for the init", errno);
        let mut events = [
            PollFd::new(&self.control, PollFlags::IN),
            PollFd::new(&self.born.pidfd, PollFlags::IN),
        ];
        let _some = crate::host::poll(&mut events, None).map_err(failed)?;
        let [control, _] = events;
        if !control.revents().is_empty() {
            return Ok(true);
        }
        // It may have spoken since, and ended.
        let mut events = [PollFd::new(&self.control, PollFlags::IN)];
        crate::host::poll(&mut events, Some(Duration::ZERO)).map_err(failed)
    }

    /// Waits for the init to load its filter, and takes the filter's listener.
    ///
    /// # Errors
    /// As [`Init::wait_for`]; this process may not look into the init.
    pub(crate) fn take_listener(&self, plan: &Plan) -> Result<OwnedFd> {
        let number = self.number(plan, LISTENER)?;
        let number = RawFd::try_from(number).map_err(|_| Error::bug("a negative descriptor"))?;
        let pidfd = &self.process().pidfd;
        let flags = PidfdGetfdFlags::empty();
        let listener = rustix::process::pidfd_getfd(pidfd, number, flags).map_err(|errno| {
            Error::sys("cannot take the listener of the seccomp filter", errno)
                .hint("it takes CAP_SYS_PTRACE, and kernel.yama.ptrace_scope below 3")
        })?;
        // What the init says is not trusted: the agent gets a listener, and nothing else of the init's.
        let link = format!("/proc/self/fd/{}", listener.as_raw_fd());
        let kind = rustix::fs::readlink(&link, Vec::new())
            .map_err(|errno| Error::sys(format!("cannot read {link:?}"), errno))?;
        if kind.as_bytes() != b"anon_inode:seccomp notify" {
            return Err(Error::bug("the init named a descriptor that is no listener"));
        }
        Ok(listener)
    }

    /// Waits for a message with a number.
    fn number(&self, plan: &Plan, kind: u8) -> Result<u32> {
        let mut message = [0; 5];
        match (self.hear(plan, &mut message)?, message) {
            (5, [first, a, b, c, d]) if first == kind => Ok(u32::from_le_bytes([a, b, c, d])),
            _ => Err(Error::bug("the init sent a message out of turn")),
        }
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// The init failed or died: what it was doing, with its field.
    pub(crate) fn wait_for(&self, plan: &Plan, message: Message) -> Result<()> {
        let mut bytes = [0; 5];
        match (self.hear(plan, &mut bytes)?, bytes) {
            (1, [byte, ..]) if byte == message as u8 => Ok(()),
            _ => Err(Error::bug("the init sent a message out of turn")),
        }
    }

    /// The next message that does not ask for the source of a mount: those are answered.
    fn hear(&self, plan: &Plan, bytes: &mut [u8; 5]) -> Result<usize> {
        let may_be_succeeded = plan.child.iter().any(|step| matches!(step.op, Op::Reborn { .. }));
        loop {
            if may_be_succeeded && self.reborn.get().is_none() && !self.has_spoken()? {
                return Err(self.failure(plan));
            }
            let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.control, &mut *bytes));
            match (read, *bytes) {
                (Ok(5), [SOURCE, a, b, c, d]) => {
                    let index = u32::from_le_bytes([a, b, c, d]);
                    sources::answer(self.control.as_fd(), plan, self.pid(), index)?;
                }
                (Ok(0) | Err(Errno::CONNRESET), _) => return Err(self.failure(plan)),
                (Ok(count), _) => return Ok(count),
                (Err(errno), _) => return Err(Error::sys("cannot read from the init", errno)),
            }
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`Init::wait_for`].
    pub(crate) fn tell(&self, plan: &Plan, message: Message) -> Result<()> {
        let flags = rustix::net::SendFlags::NOSIGNAL;
        let send = || rustix::net::send(&self.control, &[message as u8], flags);
        match rustix::io::retry_on_intr(send) {
            Ok(_) => Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(self.failure(plan)),
            Err(errno) => Err(Error::sys("cannot write to the init", errno)),
        }
    }

    /// Releases an init without a fifo, and waits until the program executes.
    ///
    /// # Errors
    /// A startContainer hook or execve(2) failed.
    pub(crate) fn start(&self, plan: &Plan) -> Result<()> {
        self.tell(plan, Message::Start)?;
        let mut byte = [0];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.control, &mut byte)) {
            // The socket is closed by execve(2), or by the init's end.
            Ok(0) | Err(Errno::CONNRESET) if report::executed(&self.progress)? => Ok(()),
            Ok(0) | Err(Errno::CONNRESET) => Err(self.failure(plan)),
            Ok(_) => Err(Error::bug("the init sent a message out of turn")),
            Err(errno) => Err(Error::sys("cannot read from the init", errno)),
        }
    }

    /// What went wrong in an init that is about to end, if it is.
    pub(crate) fn failure_soon(&self, plan: &Plan) -> Option<Error> {
        /// A process that was killed takes its time only to give its memory back.
        const PATIENCE: Duration = Duration::from_secs(2);
        let mut events = [PollFd::new(&self.process().pidfd, PollFlags::IN)];
        // Where that fails, the next message that does not come tells.
        let ended = crate::host::poll(&mut events, Some(PATIENCE)).unwrap_or(false);
        ended.then(|| self.failure(plan))
    }

    /// What went wrong in an init that has ended, or is about to, if it is.
    pub(crate) fn ended(&self, plan: &Plan) -> Option<Error> {
        // Its memory goes before its process does, and with that most of what can be done to it.
        let ends = host::is_exiting(self.pid()).unwrap_or(false);
        ends.then(|| self.failure(plan))
    }

    /// What went wrong in an init that has closed its socket, or ended; it is to be destroyed then.
    fn failure(&self, plan: &Plan) -> Error {
        // Not reaped yet: its number is that of its successor's process group.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let ended = wait(&self.process().pidfd, options).ok().flatten();
        self.killed.set(ended == Some(ExitStatus::Signaled(libc::SIGKILL)));
        report::failure(plan, &self.progress, ended)
    }

    /// Whether it was found to have ended by SIGKILL, as the OOM killer ends a process.
    pub(crate) fn was_killed(&self) -> bool {
        self.killed.get()
    }

    /// Kills the init and waits for its end.
    pub(crate) fn destroy(&self) {
        if let (None, Some(group)) = (self.reborn.get(), Pid::from_raw(self.born.pid)) {
            let _gone = rustix::process::pidfd_send_signal(&self.born.pidfd, Signal::KILL);
            // A successor that it did not name yet: the number is theirs until both are reaped.
            let _none = rustix::process::kill_process_group(group, Signal::KILL);
            let wait = || rustix::process::waitid(WaitId::Pgid(Some(group)), WaitIdOptions::EXITED);
            while rustix::io::retry_on_intr(wait).is_ok() {}
        }
        for Process { pidfd, .. } in self.reborn.get().into_iter().chain([&self.born]) {
            let _gone = rustix::process::pidfd_send_signal(pidfd, Signal::KILL); // or dead already
            let _status = reap(pidfd); // it has no other use here
        }
    }
}

/// Waits until the files in `/proc` of a process that was spawned are its user's, or it ends.
///
/// Its creator goes on as soon as the process has memory of its own. Until execve(2) has come to its end, that is as
/// undumpable as its creator, and the files of such a process are root's (proc(5)).
fn await_files(pid: i32) {
    const PATIENCE: Duration = Duration::from_secs(10);
    if rustix::process::dumpable_behavior() == Ok(DumpableBehavior::Dumpable) {
        return;
    }
    let (path, own) = (format!("/proc/{pid}/oom_score_adj"), rustix::process::geteuid().as_raw());
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match rustix::fs::stat(&path) {
            Ok(stat) if stat.st_uid == own => break,
            Err(Errno::NOENT) => break,
            _ if host::is_exiting(pid).unwrap_or(false) => break,
            _ => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}

/// Waits for a child's end; `None` where somebody else has reaped it (`SIGCHLD` is ignored).
pub(crate) fn reap(pidfd: &OwnedFd) -> Result<Option<ExitStatus>> {
    wait(pidfd, WaitIdOptions::EXITED)
}

/// A child's end, if it has ended.
pub(crate) fn reap_if_ended(pidfd: &OwnedFd) -> Result<Option<ExitStatus>> {
    wait(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

fn wait(pidfd: &OwnedFd, options: WaitIdOptions) -> Result<Option<ExitStatus>> {
    let status = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)
    });
    let status = match status {
        Ok(status) => status,
        Err(Errno::CHILD) => None,
        Err(errno) => return Err(Error::sys("cannot wait for the init", errno)),
    };
    Ok(status.and_then(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(ExitStatus::Exited(code)),
        (None, Some(signal)) => Some(ExitStatus::Signaled(signal)),
        (None, None) => None,
    }))
}

/// The descriptors that the init inherits: above those that the program does.
struct Inherit {
    base: RawFd,
    numbers: Vec<RawFd>,
    held: Vec<OwnedFd>,
}

impl Inherit {
    fn add(&mut self, fd: OwnedFd) -> Result<RawFd> {
        let fd = if fd.as_raw_fd() < self.base {
            rustix::io::fcntl_dupfd_cloexec(&fd, self.base)
                .map_err(|errno| Error::sys("cannot duplicate a descriptor", errno))?
        } else {
            fd
        };
        let number = fd.as_raw_fd();
        self.numbers.push(number);
        self.held.push(fd);
        Ok(number)
    }
}

fn no_container() -> Error {
    Error::bug("no container to join")
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| Error::sys("cannot create a socket pair", errno))
}

fn open_slots(
    plan: &Plan,
    console_socket: Option<OwnedFd>,
    container: Option<Running<'_>>,
    inherit: &mut Inherit,
) -> Result<Bytes> {
    let mut console_socket = console_socket;
    let mut numbers = Vec::new();
    for step in &plan.slots {
        let fd = match &step.op {
            Slot::Namespace { .. } => open_join(step)?.0,
            Slot::UserNamespace(maps) => {
                mount_ids::namespace(maps).map_err(|error| error.at(step.field.clone()))?
            }
            Slot::Container => host::duplicate(container.ok_or_else(no_container)?.pidfd)?,
            Slot::ContainerRoot => {
                let path = format!("/proc/{}/root", container.ok_or_else(no_container)?.pid);
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(&path, flags, Mode::empty())
                    .map_err(|errno| Error::sys(format!("cannot open {path:?}"), errno))?
            }
            Slot::ConsoleSocket => {
                console_socket.take().ok_or_else(|| Error::bug("no console socket"))?
            }
        };
        numbers.extend_from_slice(&inherit.add(fd)?.to_le_bytes());
    }
    Ok(Bytes::blob(numbers))
}

/// Opens a namespace to join, with its `CLONE_NEW*`.
fn open_join(step: &Step<Slot>) -> Result<(OwnedFd, u32)> {
    let Slot::Namespace { path, flag, foreign } = &step.op else {
        return Err(Error::bug("only namespaces are joined"));
    };
    let open = || {
        let namespace = open_namespace(path, *flag)?;
        if *foreign { not_our_own(namespace, path) } else { Ok(namespace) }
    };
    open().map(|namespace| (namespace, *flag)).map_err(|error| error.at(step.field.clone()))
}

/// Opens a namespace's file, which must be of the type that config.json says.
fn open_namespace(path: &Path, flag: u32) -> Result<OwnedFd> {
    let fd =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
            .map_err(|errno| Error::sys(format!("cannot open the namespace {path:?}"), errno))?;
    match crate::sys::namespace_type(fd.as_fd()) {
        Ok(actual) if actual == flag => Ok(fd),
        Ok(_) => Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("{path:?} is a namespace of another type"),
        )),
        Err(errno) => {
            Err(Error::new(ErrorKind::InvalidConfig, format!("{path:?} is not a namespace"))
                .errno(errno))
        }
    }
}

/// A namespace in which sysctls will be written must not be the runtime's own: they would be the
/// host's.
fn not_our_own(namespace: OwnedFd, path: &Path) -> Result<OwnedFd> {
    let failed = |errno| Error::sys(format!("cannot look at the namespace {path:?}"), errno);
    let joined = rustix::fs::fstat(&namespace).map_err(failed)?;
    for kind in ["net", "ipc", "uts", "user"] {
        let own = match rustix::fs::stat(format!("/proc/self/ns/{kind}")) {
            Ok(own) => own,
            // A kernel without such namespaces.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(Error::sys("cannot look at the runtime's namespaces", errno)),
        };
        if (own.st_dev, own.st_ino) == (joined.st_dev, joined.st_ino) {
            let message =
                format!("{path:?} is the runtime's own, in which linux.sysctl may not write");
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
    }
    Ok(namespace)
}

fn spawn_error(error: SpawnError, plan: &Plan) -> Error {
    match error {
        SpawnError::Clone(libc::EPERM) => Error::sys("cannot create the namespaces", libc::EPERM)
            .at("linux.namespaces")
            .hint("CAP_SYS_ADMIN is needed"),
        SpawnError::Clone(libc::ENOSPC) => Error::sys("cannot create the namespaces", libc::ENOSPC)
            .at("linux.namespaces")
            .hint("a limit of /proc/sys/user/max_*_namespaces is reached"),
        SpawnError::Clone(libc::EBUSY) => {
            Error::sys("cannot create a process in the cgroup", libc::EBUSY)
                .at(plan.cgroup.field.clone())
                .hint("cgroups below it have controllers enabled, so it cannot hold processes")
        }
        SpawnError::Clone(errno) => Error::sys("cannot create the container's process", errno),
        SpawnError::Join(place, errno) => {
            let error = Error::sys("cannot join the namespace", errno);
            match plan.joins.get(place) {
                Some(step) => error.at(step.field.clone()),
                None => error,
            }
        }
        SpawnError::Capabilities(errno) => {
            Error::sys("cannot keep the capabilities of the user namespace", errno)
        }
        SpawnError::Descriptors(errno) => Error::sys("cannot pass descriptors to the init", errno),
        SpawnError::Exec(errno) => image::exec_error(errno),
    }
}

/// The plan in its wire form.
pub(crate) fn encode(header: &Header<Bytes>, plan: &Plan) -> Result<Vec<u8>> {
    let failed = |_| Error::bug("the plan cannot be encoded");
    let mut bytes = postcard::to_extend(header, Vec::with_capacity(16 * 1024)).map_err(failed)?;
    for step in &plan.child {
        bytes = postcard::to_extend::<Op<Bytes>, _>(&step.op, bytes).map_err(failed)?;
    }
    Ok(bytes)
}
