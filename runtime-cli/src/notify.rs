//! `NOTIFY_SOCKET`: what a container's program says by sd_notify(3), told to the caller's service
//! manager, which cannot be reached from inside.
//!
//! Only that the program is ready is passed on. All else that it sends comes from the container too,
//! and would speak for us: `MAINPID=`, or descriptors to be kept.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use orlop::{Builder, Container, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use crate::failure::Failure;
use crate::global::Context;
use crate::launch::{Manner, give_up, send_with_descriptor};
use crate::log::Log;

/// What a service manager takes at once (NOTIFY_BUFFER_MAX of systemd).
const LONGEST: usize = 4096;
/// How long a service manager is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many messages are looked through when the program has ended; a queue holds no more
/// (`net.unix.max_dgram_qlen` is 512 at most where anybody has set it).
const REMAINDER: u32 = 1024;

/// The service manager that the caller names, and how the command stays with the container.
#[derive(Debug)]
pub(crate) struct Manager(UnixDatagram);

/// What the program says, on its way to the service manager.
#[derive(Debug)]
pub(crate) struct Proxy {
    manager: UnixDatagram,
    /// The process that the service manager is to watch.
    main: i32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The program is not ready.
    Listening(UnixDatagram),
    /// It is: these messages are to be sent, and then the barrier.
    Telling(VecDeque<Vec<u8>>),
    /// The service manager closes the other end when it has read them.
    Barrier(OwnedFd),
    /// There is nothing left to do.
    Over,
}

/// Whether the service manager is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Barrier {
    Awaited,
    Left,
}

/// Whether the caller names a service manager.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|address| !address.is_empty())
}

impl Manager {
    /// The one that the caller names, unless it cannot be reached, which is no reason to fail.
    pub(crate) fn find(context: &Context<'_>) -> Option<Self> {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
        let socket = connect(address.as_bytes());
        let warn = |error: &io::Error| {
            context.log.warning(&format!("NOTIFY_SOCKET: cannot reach {address:?}: {error}"));
        };
        socket.inspect_err(warn).ok().map(Self)
    }

    /// Begins to listen to the program of a container; `None` where it does not know of it.
    fn listen(self, container: &Container, manner: Manner) -> Result<Option<Proxy>, Failure> {
        let Some(socket) = container.notify_socket()? else { return Ok(None) };
        let nonblocking = socket.set_nonblocking(true).and(self.0.set_nonblocking(true));
        nonblocking.map_err(|error| Failure::io("NOTIFY_SOCKET", &error))?;
        // Where this command stays, its end is the container's, with the exit code.
        let main = match manner {
            Manner::Attached => getpid().as_raw_nonzero().get(),
            Manner::Detached => container.pid(),
        };
        Ok(Some(Proxy { manager: self.0, main, phase: Phase::Listening(socket) }))
    }
}

fn connect(address: &[u8]) -> io::Result<UnixDatagram> {
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// Creates and starts a container; with a service manager, in two steps, between which the socket
/// can be bound.
pub(crate) fn run(
    context: &Context<'_>,
    builder: Builder,
    manner: Manner,
    keep: bool,
) -> Result<(Container, Option<Proxy>), Failure> {
    let launched = |error: orlop::Error| Failure::launch(&error);
    if !is_wanted() {
        return Ok((builder.run().map_err(launched)?, None));
    }
    let manager = Manager::find(context);
    let mut container = builder.create().map_err(launched)?;
    let listening = manager.map_or(Ok(None), |manager| manager.listen(&container, manner));
    let started = listening.and_then(|proxy| {
        container.start().map_err(launched)?;
        Ok(proxy)
    });
    match started {
        Ok(proxy) => Ok((container, proxy)),
        Err(failure) => {
            give_up(context, &mut container, keep);
            Err(failure)
        }
    }
}

/// Starts a created container, and waits until its program is ready, or has ended.
pub(crate) fn start(context: &Context<'_>, container: &mut Container) -> Result<(), Failure> {
    if !is_wanted() || container.status()? != Status::Created {
        return Ok(container.start()?);
    }
    // Still created after this is opened: it is the init's.
    let pid = Pid::from_raw(container.pid()).ok_or_else(|| Failure::new("no init"))?;
    let init = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|errno| Failure::system("cannot open the init's pidfd", errno))?;
    let manager = Manager::find(context);
    let proxy = match manager {
        Some(manager) => manager.listen(container, Manner::Detached)?,
        None => None,
    };
    container.start()?;
    if let Some(proxy) = proxy {
        proxy.wait(context.log, init.as_fd());
    }
    Ok(())
}

impl Proxy {
    /// What to wait for, unless it is over.
    pub(crate) fn awaits(&self) -> Option<PollFd<'_>> {
        let (descriptor, flags) = match &self.phase {
            Phase::Listening(socket) => (socket.as_fd(), PollFlags::IN),
            Phase::Telling(_) => (self.manager.as_fd(), PollFlags::OUT),
            Phase::Barrier(pipe) => (pipe.as_fd(), PollFlags::IN),
            Phase::Over => return None,
        };
        Some(PollFd::from_borrowed_fd(descriptor, flags))
    }

    /// Goes on, now that what was waited for is there.
    pub(crate) fn step(&mut self, log: &Log) {
        match self.try_step() {
            Ok(Some(next)) => self.phase = next,
            Ok(None) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => {
                let text = crate::failure::errno_text(errno);
                log.warning(&format!("NOTIFY_SOCKET: {text}"));
                self.phase = Phase::Over;
            }
        }
    }

    fn try_step(&mut self) -> Result<Option<Phase>, Errno> {
        match &mut self.phase {
            Phase::Listening(socket) => {
                let Some(ready) = hear(socket)? else { return Ok(None) };
                let main = format!("MAINPID={}\n", self.main).into_bytes();
                Ok(Some(Phase::Telling(VecDeque::from([ready, main]))))
            }
            Phase::Telling(messages) => {
                let Some(message) = messages.front() else {
                    return set_barrier(&self.manager).map(|pipe| Some(Phase::Barrier(pipe)));
                };
                send(&self.manager, message, SendFlags::NOSIGNAL)?;
                messages.pop_front();
                Ok(None)
            }
            Phase::Barrier(_) | Phase::Over => Ok(Some(Phase::Over)),
        }
    }

    /// Waits until the service manager knows that the program is ready, or the init has ended.
    pub(crate) fn wait(mut self, log: &Log, init: BorrowedFd<'_>) {
        let mut left = REMAINDER;
        while let (Phase::Listening(_), Some(awaited)) = (&self.phase, self.awaits()) {
            // The init first: when it has ended, all that it sent is there.
            let mut events = [PollFd::from_borrowed_fd(init, PollFlags::IN), awaited];
            let polled = poll(&mut events, None);
            let [ended, heard] = events.map(|event| !event.revents().is_empty());
            if polled.is_ok() && heard {
                self.step(log);
            }
            if polled.is_ok() && ended {
                left -= 1;
                if left == 0 || !heard {
                    return;
                }
            }
        }
        self.tell(log, Barrier::Awaited);
    }

    /// Passes on what is there already; nobody waits for what the service manager makes of it.
    pub(crate) fn finish(mut self, log: &Log) {
        for _ in 0..REMAINDER {
            if !matches!(self.phase, Phase::Listening(_)) || !self.is_ready(Duration::ZERO) {
                break;
            }
            self.step(log);
        }
        if matches!(self.phase, Phase::Telling(_)) {
            self.tell(log, Barrier::Left);
        }
    }

    /// Sends what there is to send, and perhaps waits until the service manager has read it.
    fn tell(mut self, log: &Log, barrier: Barrier) {
        let end = Instant::now() + PATIENCE;
        while self.awaits().is_some() {
            if barrier == Barrier::Left && matches!(self.phase, Phase::Barrier(_)) {
                return;
            }
            if !self.is_ready(end.saturating_duration_since(Instant::now())) {
                log.warning("NOTIFY_SOCKET: the service manager does not answer");
                return;
            }
            self.step(log);
        }
    }

    fn is_ready(&self, patience: Duration) -> bool {
        let Some(awaited) = self.awaits() else { return false };
        let mut events = [awaited];
        let timeout = Timespec::try_from(patience).ok();
        // An interruption counts as readiness: the next step finds out.
        poll(&mut events, timeout.as_ref()) != Ok(0)
    }
}

/// A message of the program; only that it is ready is heard.
fn hear(socket: &UnixDatagram) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = [0; LONGEST];
    // Without room for them, the kernel closes descriptors that come with it.
    let (_, length) = recv(socket, &mut buffer, RecvFlags::TRUNC)?;
    let Some(message) = buffer.get(..length) else { return Ok(None) };
    let mut lines = message.split(|byte| *byte == b'\n');
    let ready = lines.find(|line| line.starts_with(b"READY="));
    Ok(ready.map(|line| [line, b"\n"].concat()))
}

/// Gives the service manager one end of a pipe to close (sd_notify_barrier(3)).
fn set_barrier(manager: &UnixDatagram) -> Result<OwnedFd, Errno> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    send_with_descriptor(manager, theirs.as_fd(), b"BARRIER=1")?;
    Ok(ours)
}
