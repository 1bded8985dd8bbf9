//! Follows a command and what it spawns, system call by system call (ptrace(2)).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Wrong, sys};
use crate::caller::{Caller, Side};
use crate::run::{limit, lossy};

/// Calls whose number depends on when other threads do what.
const WAITS: [&str; 3] = ["futex", "restart_syscall", "sched_yield"];

/// A system call that a process is about to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who makes it: `command`, `init` (one that was there before) or `command.1`, the command's second child.
    pub process: String,
    /// How many calls it has made before, not counting those of its start until the program's own code, nor waits.
    pub index: u32,
    /// The call's name.
    pub name: &'static str,
    /// Its arguments.
    pub args: [u64; 6],
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(i32),
    /// By a signal: ours, or that of abort(3).
    Signaled(Signal),
    /// Not within the time that it is given: it was killed.
    Hung,
}

/// What was seen of a command.
#[derive(Debug)]
pub struct Traced {
    /// How it ended.
    pub end: End,
    /// All calls in the order in which they were made.
    pub calls: Vec<Call>,
    /// The call where something went wrong.
    pub hit: Option<Call>,
}

/// A process that is traced.
struct Tracee {
    name: String,
    /// Its next call's number; `None` while the program starts.
    next: Option<u32>,
    children: u32,
    /// What the kernel is to answer at the end of the call it is in.
    answer: Option<i32>,
    /// It is in a call of this name.
    inside: Option<&'static str>,
    /// It has not stopped yet: what stops it first is its birth.
    newborn: bool,
}

impl Tracee {
    fn new(name: String, next: Option<u32>, newborn: bool) -> Self {
        Self { name, next, children: 0, answer: None, inside: None, newborn }
    }
}

/// Kills what is traced when it takes too long.
struct Watchdog {
    shared: Arc<(Mutex<Watched>, Condvar)>,
}

#[derive(Default)]
struct Watched {
    pids: Vec<Pid>,
    done: bool,
    bitten: bool,
}

impl Watchdog {
    fn start() -> Self {
        let shared = Arc::<(Mutex<Watched>, Condvar)>::default();
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            let (watched, changed) = &*theirs;
            let guard = watched.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = changed.wait_timeout_while(guard, 2 * limit(), |watched| !watched.done);
            let (mut guard, timeout) = waiting.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                guard.bitten = true;
                for pid in &guard.pids {
                    let _gone: nix::Result<()> = kill(*pid, Signal::SIGKILL);
                }
            }
        });
        Self { shared }
    }

    fn watched<T>(&self, look: impl FnOnce(&mut Watched) -> T) -> T {
        look(&mut self.shared.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.watched(|watched| watched.done = true);
        self.shared.1.notify_all();
    }
}

struct Tracer<'a> {
    tracees: BTreeMap<Pid, Tracee>,
    /// Processes that stopped before their parent's event named them.
    early: Vec<Pid>,
    watchdog: Watchdog,
    decide: &'a mut dyn FnMut(&Call) -> Option<Wrong>,
    calls: Vec<Call>,
    hit: Option<Call>,
    /// Something was killed.
    killed: bool,
}

const OPTIONS: Options = Options::PTRACE_O_TRACESYSGOOD
    .union(Options::PTRACE_O_TRACECLONE)
    .union(Options::PTRACE_O_TRACEFORK)
    .union(Options::PTRACE_O_TRACEVFORK)
    .union(Options::PTRACE_O_TRACEEXEC)
    .union(Options::PTRACE_O_EXITKILL);

/// Runs a command to its end. `decide` is asked before each system call what goes wrong there.
///
/// All processes that the command makes are followed until they execute another program by execve(2), as hooks and the
/// container's program are; the init is executed by execveat(2). So is `init`, a process that is there already. What
/// sleeps at the command's end is let go. It is `caller`'s, or root's.
///
/// # Panics
/// Where ptrace(2) is not allowed.
pub fn trace(
    (program, args): (&Path, &[&str]),
    caller: Option<&Caller>,
    (output, errors): (&Path, &Path),
    init: Option<i32>,
    decide: &mut dyn FnMut(&Call) -> Option<Wrong>,
) -> Traced {
    let watchdog = Watchdog::start();
    let mut tracer = Tracer {
        tracees: BTreeMap::new(),
        early: Vec::new(),
        watchdog,
        decide,
        calls: Vec::new(),
        hit: None,
        killed: false,
    };
    if let Some(pid) = init.map(Pid::from_raw) {
        ptrace::seize(pid, OPTIONS).expect("PTRACE_SEIZE");
        tracer.add(pid, Tracee::new("init".to_owned(), Some(0), false));
        ptrace::interrupt(pid).expect("PTRACE_INTERRUPT");
    }
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command.stdout(File::options().append(true).create(true).open(output).expect("output file"));
    command.stderr(File::create(errors).expect("output file"));
    // Traced by root, set-user-ID programs are what they are (ptrace(2)): first of all.
    sys::trace(&mut command);
    if let Some(caller) = caller {
        caller.run(&mut command, Side::Inside);
    }
    #[expect(clippy::zombie_processes, reason = "waitpid(2) below sees its stops and its end")]
    let child = command.spawn().expect("the runtime");
    let root = Pid::from_raw(i32::try_from(child.id()).expect("a pid is an i32"));
    let begun = waitpid(root, None);
    assert!(matches!(begun, Ok(WaitStatus::Stopped(_, Signal::SIGTRAP))), "{begun:?}");
    ptrace::setoptions(root, OPTIONS).expect("PTRACE_SETOPTIONS");
    tracer.add(root, Tracee::new("command".to_owned(), None, false));
    go_on(root, None);
    let end = tracer.run(root);
    Traced { end, calls: tracer.calls, hit: tracer.hit }
}

/// Resumes a process; one that was killed meanwhile cannot be.
fn go_on(pid: Pid, signal: Option<Signal>) {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => panic!("PTRACE_SYSCALL: {errno}"),
    }
}

impl Tracer<'_> {
    fn add(&mut self, pid: Pid, tracee: Tracee) {
        self.tracees.insert(pid, tracee);
        self.watchdog.watched(|watched| {
            watched.pids.push(pid);
            if watched.bitten {
                let _gone: nix::Result<()> = kill(pid, Signal::SIGKILL);
            }
        });
    }

    fn remove(&mut self, pid: Pid) {
        self.tracees.remove(&pid);
        self.watchdog.watched(|watched| watched.pids.retain(|known| *known != pid));
        self.early.retain(|early| *early != pid);
        self.adopt();
    }

    /// Lets those go on whose parent was killed before it could name them.
    fn adopt(&mut self) {
        for orphan in std::mem::take(&mut self.early) {
            self.add(orphan, Tracee::new("orphan".to_owned(), Some(0), false));
            go_on(orphan, None);
        }
    }

    /// Whether nothing that is traced is left.
    fn is_done(&self) -> bool {
        self.tracees.is_empty() && self.early.is_empty() && !self.has_strangers()
    }

    /// Whether something is traced that has not stopped yet, and that its parent did not live to name. It would stand
    /// still for ever, with all that its parent had open.
    fn has_strangers(&self) -> bool {
        if !self.killed {
            return false;
        }
        let own = nix::unistd::gettid().to_string();
        let processes = std::fs::read_dir("/proc")
            .expect("procfs")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw));
        let mut unknown = processes.filter(|pid| !self.tracees.contains_key(pid));
        unknown.any(|pid| {
            let status = lossy(Path::new(&format!("/proc/{pid}/status")));
            crate::proc::status(&status).get("TracerPid") == Some(&own)
        })
    }

    fn run(&mut self, root: Pid) -> End {
        let mut end = None;
        let mut idle = 0;
        while end.is_none() || !self.is_done() {
            // Children of other threads are other tests'.
            let mut flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            if end.is_some() {
                flags |= WaitPidFlag::WNOHANG;
            }
            let status = match waitpid(None, Some(flags)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => break,
                Err(errno) => panic!("waitpid: {errno}"),
            };
            if status == WaitStatus::StillAlive {
                idle += 1;
                if idle > 3 {
                    self.adopt();
                    if self.all_sleep() && !self.has_strangers() {
                        self.let_go();
                        break;
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            idle = 0;
            match status {
                WaitStatus::Exited(pid, code) => {
                    self.remove(pid);
                    if pid == root {
                        end = Some(End::Exited(code));
                    }
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    self.remove(pid);
                    if pid == root {
                        end = Some(End::Signaled(signal));
                    }
                }
                _ => self.stopped(status, root),
            }
        }
        if self.watchdog.watched(|watched| watched.bitten) {
            return End::Hung;
        }
        end.unwrap_or(End::Hung)
    }

    fn stopped(&mut self, status: WaitStatus, root: Pid) {
        let Some(pid) = status.pid() else { return };
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            self.early.push(pid);
            return;
        };
        match status {
            WaitStatus::PtraceSyscall(_) => self.system_call(pid),
            _ if std::mem::take(&mut tracee.newborn) => go_on(pid, None),
            WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => {
                if tracee.inside == Some("execve") && pid != root {
                    self.remove(pid);
                    let _gone: nix::Result<()> = ptrace::detach(pid, None);
                } else {
                    go_on(pid, None);
                }
            }
            WaitStatus::PtraceEvent(_, _, event) => {
                let born = [
                    Event::PTRACE_EVENT_CLONE,
                    Event::PTRACE_EVENT_FORK,
                    Event::PTRACE_EVENT_VFORK,
                ];
                if born.iter().any(|kind| event == *kind as i32) {
                    self.birth(pid);
                }
                go_on(pid, None);
            }
            WaitStatus::Stopped(_, signal) => go_on(pid, Some(signal)),
            other => panic!("{other:?}"),
        }
    }

    fn birth(&mut self, parent: Pid) {
        let Ok(child) = ptrace::getevent(parent) else { return };
        let child = Pid::from_raw(i32::try_from(child).expect("a pid is an i32"));
        let Some(tracee) = self.tracees.get_mut(&parent) else { return };
        let name = format!("{}.{}", tracee.name, tracee.children);
        tracee.children += 1;
        if let Some(orphan) = self.tracees.get_mut(&child) {
            orphan.name = name;
            return;
        }
        let early = self.early.iter().position(|known| *known == child);
        self.add(child, Tracee::new(name, Some(0), early.is_none()));
        if let Some(place) = early {
            self.early.swap_remove(place);
            go_on(child, None);
        }
    }

    /// At the beginning or the end of a system call.
    fn system_call(&mut self, pid: Pid) {
        const ENTRY: u8 = 1;
        const EXIT: u8 = 2;
        // A process that was killed by another's end is there no more.
        let (Ok(info), Ok(mut registers)) = (ptrace::syscall_info(pid), ptrace::getregs(pid))
        else {
            return;
        };
        let Some(tracee) = self.tracees.get_mut(&pid) else { return };
        match info.op {
            ENTRY => {
                let args = [
                    registers.rdi,
                    registers.rsi,
                    registers.rdx,
                    registers.r10,
                    registers.r8,
                    registers.r9,
                ];
                let name = name(registers.orig_rax);
                tracee.inside = Some(name);
                if WAITS.contains(&name) {
                    // Not counted.
                } else if let Some(index) = tracee.next {
                    tracee.next = Some(index + 1);
                    let call = Call { process: tracee.name.clone(), index, name, args };
                    let wrong = (self.decide)(&call);
                    if wrong.is_some() {
                        self.hit = Some(call.clone());
                    }
                    self.calls.push(call);
                    match wrong {
                        None => {}
                        Some(Wrong::Killed) => {
                            self.killed = true;
                            let _gone: nix::Result<()> = kill(pid, Signal::SIGKILL);
                            return;
                        }
                        Some(Wrong::FailsDone(errno)) => tracee.answer = Some(errno),
                        Some(Wrong::Fails(errno)) => {
                            tracee.answer = Some(errno);
                            // Another call in its place, which every filter allows and which does nothing.
                            registers.orig_rax = libc::SYS_getpid.cast_unsigned();
                            let _gone: nix::Result<()> = ptrace::setregs(pid, registers);
                        }
                    }
                } else if name == "poll" {
                    // The last thing that is done for a Rust program before its own code: are 0, 1 and 2 open?
                    tracee.next = Some(0);
                }
            }
            EXIT => {
                tracee.inside = None;
                if let Some(errno) = tracee.answer.take() {
                    registers.rax = i64::from(-errno).cast_unsigned();
                    let _gone: nix::Result<()> = ptrace::setregs(pid, registers);
                }
            }
            _ => {}
        }
        go_on(pid, None);
    }

    /// Whether nothing that is traced does anything.
    fn all_sleep(&self) -> bool {
        self.tracees.keys().all(|pid| {
            let stat = lossy(Path::new(&format!("/proc/{pid}/stat")));
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        })
    }

    /// Stops tracing what sleeps, and lets it sleep on.
    fn let_go(&mut self) {
        for pid in std::mem::take(&mut self.tracees).into_keys() {
            let _gone: nix::Result<()> = kill(pid, Signal::SIGSTOP);
            loop {
                match waitpid(pid, Some(WaitPidFlag::__WALL)) {
                    Ok(WaitStatus::Stopped(_, Signal::SIGSTOP)) => {
                        let _gone: nix::Result<()> = ptrace::detach(pid, None);
                        break;
                    }
                    Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_) => break,
                    Ok(_) => go_on(pid, None),
                }
            }
        }
    }
}

fn name(number: u64) -> &'static str {
    let number = usize::try_from(number).ok();
    number.and_then(syscalls::Sysno::new).map_or("unknown", |call| call.name())
}
