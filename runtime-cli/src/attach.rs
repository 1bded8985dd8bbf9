//! Staying with a container: its streams, the signals for it, and its end.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use orlop::{Container, Exec, ExecBuilder, Stdio};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fchown, fcntl_setfl, fstat, major, minor};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid, getpid, set_child_subreaper};
use rustix::stdio::{stderr, stdin, stdout};

use crate::args::Parsed;
use crate::failure::{Failure, Outcome};
use crate::global::Context;
use crate::launch::{Launch, Manner, give_up};
use crate::log::Log;
use crate::notify::{self, Proxy};
use crate::pump::{End, Pump};
use crate::signals;
use crate::terminal::{Host, Raw};

/// Runs a container and returns its exit code.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Outcome {
    let Launch { builder, terminal, root, report } =
        Launch::prepare(context, parsed, Manner::Attached)?;
    if !parsed.is_on("no-subreaper") {
        set_child_subreaper(Some(getpid()))
            .map_err(|errno| Failure::system("cannot become a subreaper", errno))?;
    }
    // From before there is a container, so that no signal meant for it is lost.
    let signals = signals::divert()?;
    let keep = report.keep;
    let run = |builder| notify::run(context, builder, Manner::Attached, keep);
    let ((mut container, proxy), session) = match terminal {
        true => Session::with_terminal(|socket, (rows, columns)| {
            run(builder.console_socket(socket).shown_on(rows, columns))
        })?,
        false => Session::with_pipes(root, |streams| run(builder.stdio(streams)))?,
    };
    report.deliver(context, &mut container)?;
    let ended = session.and_then(|mut session| {
        session.notify = proxy.map(|proxy| (proxy, context.log));
        session.follow(&mut container, &signals)
    });
    match &ended {
        Ok(_) if keep => {}
        // The program's exit code counts all the same.
        Ok(_) => container.delete(true).unwrap_or_else(|e| context.log.error(&e.to_string())),
        Err(_) => give_up(context, &mut container, keep),
    }
    ended
}

/// What can be stayed with.
trait Followed {
    /// Readable once it has ended.
    fn pidfd(&self) -> Option<BorrowedFd<'_>>;
    /// Its pid.
    fn pid(&self) -> i32;
    /// Sends it a signal. It may have ended just now, which is seen next, so nothing can go wrong.
    fn signal(&self, signal: i32);
    /// Its exit code.
    fn wait(&mut self) -> Result<i32, Failure>;
}

impl Followed for Container {
    fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd()
    }
    fn pid(&self) -> i32 {
        self.pid()
    }
    fn signal(&self, signal: i32) {
        let _: orlop::Result<()> = self.kill(signal);
    }
    fn wait(&mut self) -> Result<i32, Failure> {
        Ok(self.wait()?.code())
    }
}

impl Followed for Exec {
    fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.pidfd())
    }
    fn pid(&self) -> i32 {
        self.pid()
    }
    fn signal(&self, signal: i32) {
        let _: orlop::Result<()> = self.signal(signal);
    }
    fn wait(&mut self) -> Result<i32, Failure> {
        Ok(self.wait()?.code())
    }
}

/// Runs a process in a container and returns its exit code; `tell` is called once it runs.
pub(crate) fn exec(
    builder: ExecBuilder<'_>,
    terminal: bool,
    tell: impl FnOnce(&Exec) -> Result<(), Failure>,
) -> Outcome {
    let signals = signals::divert()?;
    let launched = |error: orlop::Error| Failure::exec(&error);
    let (mut exec, session) = match terminal {
        true => Session::with_terminal(|socket, (rows, columns)| {
            builder.console_socket(socket).shown_on(rows, columns).spawn().map_err(launched)
        })?,
        false => {
            Session::with_pipes((0, 0), |streams| builder.stdio(streams).spawn().map_err(launched))?
        }
    };
    let told = tell(&exec).and(session);
    let followed = told.and_then(|session| session.follow(&mut exec, &signals));
    if followed.is_err() {
        give_up_exec(&mut exec);
    }
    followed
}

/// Ends a process that nobody hears of. It is reaped too: the caller does not know its pid, and a
/// pid namespace does not end before all of its processes are reaped.
pub(crate) fn give_up_exec(exec: &mut Exec) {
    let _ended_already: orlop::Result<()> = exec.signal(nix::libc::SIGKILL);
    let _reaped_already: orlop::Result<orlop::ExitStatus> = exec.wait();
}

/// What connects the caller with the container.
#[derive(Debug)]
struct Session<'a> {
    pumps: Vec<Pump>,
    terminal: Option<Raw>,
    /// What the program says to the service manager, and where to tell of failures.
    notify: Option<(Proxy, &'a Log)>,
}

impl Session<'_> {
    /// Starts it on pipes of the owner `root`.
    fn with_pipes<F>(
        root: (u32, u32),
        start: impl FnOnce(Stdio) -> Result<F, Failure>,
    ) -> Result<(F, Result<Self, Failure>), Failure> {
        let mut pumps = Vec::new();
        let streams = [
            stream(stdin(), Direction::In, root, &mut pumps)?,
            stream(stdout(), Direction::Out, root, &mut pumps)?,
            stream(stderr(), Direction::Out, root, &mut pumps)?,
        ];
        let started = start(Stdio::Descriptors(streams))?;
        Ok((started, Ok(Self { pumps, terminal: None, notify: None })))
    }

    /// Starts it on a terminal of its own, which ours then shows.
    fn with_terminal<F>(
        start: impl FnOnce(OwnedFd, (u16, u16)) -> Result<F, Failure>,
    ) -> Result<(F, Result<Self, Failure>), Failure> {
        let host = Host::find()?;
        let size = host.size().unwrap_or_default();
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(|errno| Failure::system("socketpair", errno))?;
        let started = start(theirs, size)?;
        Ok((started, Self::on_terminal(host, &ours)))
    }

    fn on_terminal(host: Host, socket: &OwnedFd) -> Result<Self, Failure> {
        let failed = |errno| Failure::system("cannot use the container's terminal", errno);
        let master = receive_descriptor(socket)?;
        fcntl_setfl(&master, OFlags::NONBLOCK).map_err(failed)?;
        let raw = Raw::enter(host, master.as_fd())?;
        let input = fcntl_dupfd_cloexec(&master, 0).map_err(failed)?;
        let pumps = vec![
            Pump::new(End::Shared(stdin()), End::Own(input)),
            Pump::new(End::Own(master), End::Shared(stdout())),
        ];
        Ok(Self { pumps, terminal: Some(raw), notify: None })
    }

    /// Copies and passes signals on until the container ends; its exit code.
    fn follow(mut self, container: &mut impl Followed, signals: &SignalFd) -> Outcome {
        while !self.turn(container, signals)? {}
        let code = container.wait()?;
        let mut lost = None;
        for pump in self.pumps.iter_mut().filter(|pump| pump.is_output()) {
            pump.drain();
            lost = lost.or(pump.failed());
        }
        if let Some((proxy, log)) = self.notify.take() {
            proxy.finish(log);
        }
        if let Some(errno) = lost {
            return Err(Failure::system("cannot pass on what the program has written", errno));
        }
        Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }

    /// Waits for something to do, and does it; whether the container has ended.
    fn turn(&mut self, container: &impl Followed, signals: &SignalFd) -> Result<bool, Failure> {
        let pidfd = container.pidfd().ok_or_else(|| Failure::new("the container has no pidfd"))?;
        let mut events = vec![
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        let mut active = Vec::with_capacity(self.pumps.len());
        for (index, pump) in self.pumps.iter().enumerate() {
            if let Some(event) = pump.awaits() {
                events.push(event);
                active.push(index);
            }
        }
        if let Some(event) = self.notify.as_ref().and_then(|(proxy, _)| proxy.awaits()) {
            events.push(event);
        }
        match poll(&mut events, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(errno) => return Err(Failure::system("poll", errno)),
        }
        let ready: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
        drop(events);
        let mut ready = ready.into_iter();
        let ended = ready.next().unwrap_or(false);
        if ready.next().unwrap_or(false) {
            self.pass_on(container, signals);
        }
        for (index, ready) in active.into_iter().zip(&mut ready) {
            if let (true, Some(pump)) = (ready, self.pumps.get_mut(index)) {
                pump.step();
            }
        }
        // What is left is the service manager's.
        if let (Some(true), Some((proxy, log))) = (ready.next(), &mut self.notify) {
            proxy.step(log);
        }
        Ok(ended)
    }

    fn pass_on(&self, container: &impl Followed, signals: &SignalFd) {
        while let Ok(Some(signal)) = signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            match number {
                nix::libc::SIGCHLD => reap_orphans(container.pid()),
                nix::libc::SIGWINCH => {
                    if let Some(terminal) = &self.terminal {
                        terminal.resize();
                    }
                }
                // Our own, from writing to a reader that went away.
                nix::libc::SIGPIPE if signal.ssi_pid == std::process::id() => {}
                number => container.signal(number),
            }
        }
    }
}

/// Takes the exit status of everything that ended and became our child, the init's excepted.
fn reap_orphans(init: i32) {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, look) {
        match status.pid() {
            Some(pid) if pid.as_raw() != init => {
                if waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

/// The container's end for one of our streams: a pipe, so that the program never holds a
/// descriptor of the caller. `/dev/null` is passed on as it is: there is nothing to copy.
fn stream(
    ours: BorrowedFd<'static>,
    direction: Direction,
    (uid, gid): (u32, u32),
    pumps: &mut Vec<Pump>,
) -> Result<OwnedFd, Failure> {
    let failed = |errno| Failure::system("cannot make the container's streams", errno);
    if is_null(ours).map_err(failed)? {
        return fcntl_dupfd_cloexec(ours, 3).map_err(failed);
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (theirs, own) = match direction {
        Direction::In => (read, write),
        Direction::Out => (write, read),
    };
    fcntl_setfl(&own, OFlags::NONBLOCK).map_err(failed)?;
    if (uid, gid) != (0, 0) {
        match fchown(&theirs, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
            // Ids that the caller may not map, which is found out later, and said by the field's name.
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    pumps.push(match direction {
        Direction::In => Pump::new(End::Shared(ours), End::Own(own)),
        Direction::Out => Pump::new(End::Own(own), End::Shared(ours)),
    });
    Ok(theirs)
}

fn is_null(stream: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = fstat(stream)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3))
}

/// Takes the one descriptor that was sent to this socket.
fn receive_descriptor(socket: &OwnedFd) -> Result<OwnedFd, Failure> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut payload = [0; 4096];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut payload)], &mut control, flags))
        .map_err(|errno| Failure::system("the container's terminal did not arrive", errno))?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or_else(|| Failure::new("the container's terminal did not arrive"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
    use std::io::{Read as _, Write as _};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};

    struct Program {
        child: Child,
        pidfd: OwnedFd,
    }

    impl Program {
        /// A shell on these streams.
        fn start(script: &str, streams: [OwnedFd; 3]) -> Self {
            let [input, output, error] = streams;
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]).stdin(input).stdout(output).stderr(error);
            let child = command.spawn().unwrap();
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
            Self { child, pidfd }
        }
    }

    impl Followed for Program {
        fn pidfd(&self) -> Option<BorrowedFd<'_>> {
            Some(self.pidfd.as_fd())
        }
        fn pid(&self) -> i32 {
            Pid::from_child(&self.child).as_raw_nonzero().get()
        }
        fn signal(&self, signal: i32) {
            let signal = Signal::from_named_raw(signal).unwrap();
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
        fn wait(&mut self) -> Result<i32, Failure> {
            let status = self.child.wait().unwrap();
            Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap()))
        }
    }

    /// Orphans are reaped for the whole process, so one test has to follow at a time.
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

    /// A pipe whose one end stands for one of our streams.
    fn shared(end: OwnedFd) -> BorrowedFd<'static> {
        // Leaked: the descriptor has to stay open as long as a standard stream does.
        let end: &'static OwnedFd = Box::leak(Box::new(end));
        end.as_fd()
    }

    /// Follows a script; its output, and its exit code.
    fn follow(script: &str, input: &[u8]) -> (String, u8) {
        let _alone = ALONE.lock();
        let (our_input, mut feed) = std::io::pipe().unwrap();
        let (mut result, our_output) = std::io::pipe().unwrap();
        feed.write_all(input).unwrap();
        drop(feed);
        let mut pumps = Vec::new();
        let root = (0, 0);
        let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        let streams = [
            stream(shared(our_input.into()), Direction::In, root, &mut pumps).unwrap(),
            stream(shared(our_output.into()), Direction::Out, root, &mut pumps).unwrap(),
            stream(shared(null.into()), Direction::Out, root, &mut pumps).unwrap(),
        ];
        assert_eq!(pumps.len(), 2, "there is nothing to copy to /dev/null");
        let mut program = Program::start(script, streams);
        let signals = signals::divert().unwrap();
        let session = Session { pumps, terminal: None, notify: None };
        let code = session.follow(&mut program, &signals).unwrap();
        fcntl_setfl(&result, OFlags::NONBLOCK).unwrap();
        let mut output = Vec::new();
        let _: std::io::Result<usize> = result.read_to_end(&mut output);
        (String::from_utf8(output).unwrap(), code)
    }

    #[test]
    fn input_and_its_end_reach_the_program_and_output_comes_back() {
        assert_eq!(
            follow("cat; echo end; exit 7", b"some text\n"),
            ("some text\nend\n".to_owned(), 7)
        );
    }

    #[test]
    fn a_signal_of_ours_is_the_program_s() {
        let _alone = ALONE.lock();
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        // Before signals are diverted: std leaves its children the mask of their parent.
        let mut program = Program::start("exec sleep 20", [null(), null(), null()]);
        let signals = signals::divert().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR2).unwrap();
        let session = Session { pumps: Vec::new(), terminal: None, notify: None };
        assert_eq!(session.follow(&mut program, &signals).unwrap(), 128 + 12);
    }

    #[test]
    fn a_program_that_a_signal_ended_gives_128_and_the_signal() {
        assert_eq!(follow("kill -KILL $$", b""), (String::new(), 137));
    }

    #[test]
    fn nobody_waits_for_a_grandchild_that_holds_the_output() {
        let start = std::time::Instant::now();
        assert_eq!(follow("sleep 3 & echo done", b""), ("done\n".to_owned(), 0));
        assert!(start.elapsed() < std::time::Duration::from_secs(2));
    }

    #[test]
    fn the_master_of_a_terminal_is_taken_from_the_socket() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        let message = receive_descriptor(&ours).unwrap_err().message;
        assert!(message.starts_with("the container's terminal did not arrive"), "{message}");
        crate::launch::send_descriptor(&theirs, stdin(), b"/dev/ptmx").unwrap();
        assert!(receive_descriptor(&ours).is_ok());
    }
}
