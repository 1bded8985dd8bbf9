//! An agent that answers for a container's seccomp filter.

use std::cell::Cell;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::Value;

use crate::Test;

/// What a call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is made.
    Continue,
    /// This errno.
    Errno(i32),
}

/// What has happened so far.
#[derive(Debug, Default, Clone)]
pub struct Log {
    /// The messages that came with the listeners.
    pub told: Vec<Value>,
    /// The numbers of the calls that were asked for.
    pub calls: Vec<i64>,
}

/// An agent, in threads of the test. They end with the containers that they answer for; the one that waits for
/// connections ends with the test's process.
#[derive(Debug)]
pub struct Agent {
    /// Where it listens: the `listenerPath`.
    pub path: PathBuf,
    log: Arc<Mutex<Log>>,
    /// How many messages were looked at.
    seen: Cell<usize>,
}

impl Agent {
    /// Listens on a socket in the test's directory, and gives all calls the same answer.
    #[must_use]
    pub fn listen(test: &Test, answer: Answer) -> Self {
        let path = test.dir().join("agent.sock");
        let listener = UnixListener::bind(&path).expect("agent socket");
        let log = Arc::<Mutex<Log>>::default();
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (message, notifier) = receive(&stream.expect("a connection"));
                note(&shared, |log| log.told.push(message));
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&notifier, answer, &shared));
            }
        });
        Self { path, log, seen: Cell::new(0) }
    }

    /// What has happened so far.
    #[must_use]
    pub fn log(&self) -> Log {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next message; fails the test where none comes.
    #[track_caller]
    #[must_use]
    pub fn next_told(&self) -> Value {
        let seen = self.seen.get();
        self.seen.set(seen + 1);
        crate::run::wait_for("a message to the agent", || self.log().told.len() > seen);
        self.log().told.swap_remove(seen)
    }
}

fn note(log: &Mutex<Log>, what: impl FnOnce(&mut Log)) {
    what(&mut log.lock().unwrap_or_else(PoisonError::into_inner));
}

/// The message, and the one descriptor that came with its first bytes. It may come in parts, and its end is not that of
/// the connection: runc keeps it open.
fn receive(stream: &UnixStream) -> (Value, OwnedFd) {
    let mut buffer = [0_u8; 4096];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let (count, fds) = {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)
            .expect("a message");
        let parts = message.cmsgs().expect("control messages");
        let fds: Vec<RawFd> = parts
            .flat_map(|part| match part {
                ControlMessageOwned::ScmRights(list) => list,
                _ => Vec::new(),
            })
            .collect();
        (message.bytes, fds)
    };
    assert_eq!(fds.len(), 1, "exactly one descriptor is sent");
    let mut all = buffer[..count].to_vec();
    let mut stream = stream;
    loop {
        if let Ok(message) = serde_json::from_slice(&all) {
            return (message, sys::own(fds[0]));
        }
        let count = stream.read(&mut buffer).expect("the rest of the message");
        assert!(count > 0, "not JSON: {}", String::from_utf8_lossy(&all));
        all.extend(&buffer[..count]);
    }
}

/// Answers until no process is left that could ask.
fn serve(notifier: &OwnedFd, answer: Answer, log: &Mutex<Log>) {
    loop {
        let mut polled = [PollFd::new(notifier.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::NONE).expect("poll");
        let events = polled[0].revents().expect("events");
        if !events.contains(PollFlags::POLLIN) {
            return;
        }
        // The process may have been killed meanwhile.
        let Ok((id, call)) = sys::next(notifier) else { continue };
        note(log, |log| log.calls.push(call));
        let _: nix::Result<()> = sys::answer(notifier, id, answer);
    }
}

mod sys {
    #![allow(unsafe_code)]
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

    use nix::errno::Errno;

    use super::Answer;

    /// `SECCOMP_IOCTL_NOTIF_RECV`, `_SEND` (linux/seccomp.h).
    const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
    const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
    const CONTINUE: u32 = 1;

    /// `struct seccomp_notif`.
    #[repr(C)]
    #[derive(Default)]
    struct Notification {
        id: u64,
        pid: u32,
        flags: u32,
        call: i32,
        arch: u32,
        instruction_pointer: u64,
        args: [u64; 6],
    }

    /// `struct seccomp_notif_resp`.
    #[repr(C)]
    struct Response {
        id: u64,
        value: i64,
        error: i32,
        flags: u32,
    }

    /// Owns a descriptor that recvmsg has just made.
    pub(super) fn own(fd: RawFd) -> OwnedFd {
        // SAFETY: recvmsg installed this descriptor for the message that was just read, so nobody else owns it; it is
        // wrapped exactly once, here.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    /// The next call that is asked for: the question's id and the call's number.
    pub(super) fn next(notifier: &OwnedFd) -> nix::Result<(u64, i64)> {
        let mut notification = Notification::default();
        // SAFETY: the structure is zeroed, as the kernel wants it, has the kernel's layout, and outlives the call.
        let result = unsafe { libc::ioctl(notifier.as_raw_fd(), RECEIVE, &raw mut notification) };
        Errno::result(result).map(|_| (notification.id, i64::from(notification.call)))
    }

    /// Answers a question.
    pub(super) fn answer(notifier: &OwnedFd, id: u64, answer: Answer) -> nix::Result<()> {
        let (error, flags) = match answer {
            Answer::Continue => (0, CONTINUE),
            Answer::Errno(errno) => (-errno, 0),
        };
        let mut response = Response { id, value: 0, error, flags };
        // SAFETY: the structure has the kernel's layout and outlives the call.
        let result = unsafe { libc::ioctl(notifier.as_raw_fd(), SEND, &raw mut response) };
        Errno::result(result).map(drop)
    }
}
