//! Hooks that run inside.

use core::ffi::CStr;

use orlop_init::plan::{Hook, Step};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SeekFrom};
use rustix::io::{DupFlags, Errno};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::progress::{At, Fail};
use crate::run::Init;
use crate::sys;
use orlop_init::wire::Str;

/// As much of each of a hook's outputs as an error quotes, in bytes.
const QUOTED: usize = 1000;

/// Runs a hook: the state on its standard input, its output kept for the error.
pub(crate) fn run(init: &mut Init<'_>, hook: &Hook<Str<'_>>) -> Result<(), Fail> {
    // Files rather than pipes: neither side can block the other, nor a grandchild hold them.
    let input = state(hook).at(Step::Spawn)?;
    let output = rustix::fs::memfd_create(c"stdout", MemfdFlags::CLOEXEC).at(Step::Spawn)?;
    let errors = rustix::fs::memfd_create(c"stderr", MemfdFlags::CLOEXEC).at(Step::Spawn)?;
    let pid = match sys::fork().at(Step::Spawn)? {
        Some(pid) => pid,
        None => {
            let streams = [input.as_fd(), output.as_fd(), errors.as_fd()];
            let fail = become_hook(init, hook, streams).err();
            init.progress.fail(fail.unwrap_or(Fail::new(Step::ExecHook)));
            sys::exit(127)
        }
    };
    let result = wait(pid, hook.timeout_ms);
    if init.progress.failed() {
        // The child has stored why it could not execute.
        return Err(Fail { step: Step::ExecHook, errno: init.progress.errno() });
    }
    result.inspect_err(|_| {
        quote(init, b"stdout: ", output.as_fd());
        quote(init, b", stderr: ", errors.as_fd());
    })
}

/// The state as JSON, with the pid that the init has here, in a file that is read from its start.
fn state(hook: &Hook<Str<'_>>) -> Result<OwnedFd, Errno> {
    let file = rustix::fs::memfd_create(c"state", MemfdFlags::CLOEXEC)?;
    let mut digits = [0; 10];
    let pid = decimal(rustix::process::getpid().as_raw_pid().unsigned_abs(), &mut digits);
    for part in [hook.state_head.0, pid, hook.state_tail.0] {
        let mut part = part;
        while !part.is_empty() {
            let count = rustix::io::retry_on_intr(|| rustix::io::write(&file, part))?;
            part = part.get(count..).unwrap_or_default();
        }
    }
    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    Ok(file)
}

fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

/// In the child: returns only when it failed.
fn become_hook(
    init: &mut Init<'_>,
    hook: &Hook<Str<'_>>,
    streams: [BorrowedFd<'_>; 3],
) -> Result<(), Fail> {
    if hook.in_root {
        rustix::process::fchdir(init.root()?).at(Step::Chdir)?;
        // Later ones have the program's.
        sys::umask(init.umask);
    }
    for (number, stream) in (0..).zip(streams) {
        let mut target = sys::inherited(number).ok_or(Fail::new(Step::Spawn))?;
        let result = rustix::io::dup3(stream, &mut target, DupFlags::empty());
        sys::leave_open(target);
        result.at(Step::Spawn)?;
    }
    sys::close_range(3, u32::MAX, true).at(Step::Spawn)?;
    let path: &CStr = hook.path.c_str()?;
    let home = init.home.filter(|_| hook.home);
    let (args, env) = (hook.args.list(), hook.env.list().chain(home));
    Err(Fail::errno(Step::ExecHook, sys::execve(path, &mut init.strings, args, env)))
}

fn wait(pid: Pid, timeout_ms: u64) -> Result<(), Fail> {
    let mut timed_out = false;
    if timeout_ms > 0 {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).at(Step::Spawn)?;
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout_ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(timeout_ms % 1000).unwrap_or(0) * 1_000_000,
        };
        let mut events = [PollFd::new(&pidfd, PollFlags::IN)];
        // Nothing is caught here that would interrupt it: once more is all that can be needed.
        let poll = || rustix::event::poll(&mut events, Some(&timeout));
        if rustix::io::retry_on_intr(poll).at(Step::Spawn)? == 0 {
            rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).at(Step::Spawn)?;
            timed_out = true;
        }
    }
    let status = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED)
    })
    .at(Step::Spawn)?
    .ok_or(Fail::new(Step::Spawn))?;
    if timed_out {
        let seconds = i32::try_from(timeout_ms / 1000).unwrap_or(i32::MAX);
        return Err(Fail { step: Step::HookTimeout, errno: seconds });
    }
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Fail { step: Step::HookStatus, errno: code }),
        (_, Some(signal)) => Err(Fail { step: Step::HookSignal, errno: signal }),
        _ => Err(Fail::new(Step::Spawn)),
    }
}

fn quote(init: &Init<'_>, label: &[u8], file: BorrowedFd<'_>) {
    let mut text = [0; QUOTED];
    let count = rustix::io::pread(file, &mut text, 0).unwrap_or(0);
    init.progress.detail(label);
    init.progress.detail(text.get(..count).unwrap_or_default().trim_ascii_end());
}
