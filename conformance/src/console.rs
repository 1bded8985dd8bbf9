//! The engine's side of a console socket, and terminals for attached runs.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::os::fd::{AsFd, AsRawFd};

use crate::run::Running;
use crate::{Run, Test};

/// Runs a command line on a new terminal of so many rows and columns, which is its controlling one, as a shell's would
/// be; the terminal's master.
///
/// # Panics
/// Where there is no terminal to be had.
#[must_use]
pub fn on_terminal<A: AsRef<OsStr>>(
    (rows, columns): (u16, u16),
    directory: &Path,
    command: impl IntoIterator<Item = A>,
) -> (File, Running) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).expect("a terminal");
    let slave = File::from(pty.slave);
    let run = Run::new("setsid", directory).args(["-c", "-w"]).args(command);
    let run = run.stdin(slave.try_clone().expect("a descriptor")).stdout(slave);
    (File::from(pty.master), run.spawn())
}

/// A console socket that waits for the runtime.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    /// Where it listens.
    pub path: PathBuf,
}

/// What came through a console socket.
#[derive(Debug)]
pub struct Console {
    /// The payload of the message.
    pub payload: Vec<u8>,
    /// The terminal's master.
    pub master: File,
}

impl ConsoleSocket {
    /// Listens on a socket in the test's directory.
    #[must_use]
    pub fn listen(test: &Test) -> Self {
        let path = test.dir().join("console.sock");
        Self { listener: UnixListener::bind(&path).expect("console socket"), path }
    }

    /// Takes what the runtime sent. It may be called after the runtime has ended: the backlog keeps the connection.
    ///
    /// # Panics
    /// Where the message is not one payload with exactly one descriptor.
    #[must_use]
    pub fn accept(&self) -> Console {
        let (stream, _) = self.listener.accept().expect("a connection");
        receive(&stream).expect("exactly one descriptor is sent")
    }
}

/// The one message; `None` where the sender has ended before it sent one.
fn receive(stream: &UnixStream) -> Option<Console> {
    let mut buffer = [0_u8; 4096];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let (bytes, fds) = {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
        let mut fds = Vec::new();
        for part in message.cmsgs().expect("control messages") {
            if let ControlMessageOwned::ScmRights(list) = part {
                fds.extend(list);
            }
        }
        (message.bytes, fds)
    };
    if bytes == 0 {
        return None;
    }
    assert_eq!(fds.len(), 1, "exactly one descriptor is sent");
    assert!(bytes < 4096, "the payload is below 4096 bytes");
    Some(Console { payload: buffer[..bytes].to_vec(), master: sys::own(fds[0]) })
}

/// All terminals that come through a console socket, and what is said on them.
#[derive(Debug)]
pub struct Terminals {
    socket: ConsoleSocket,
    masters: Vec<File>,
    text: Vec<u8>,
}

impl From<ConsoleSocket> for Terminals {
    fn from(socket: ConsoleSocket) -> Self {
        socket.listener.set_nonblocking(true).expect("a socket");
        Self { socket, masters: Vec::new(), text: Vec::new() }
    }
}

impl Terminals {
    /// Where the socket listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.socket.path
    }

    /// Hangs all of them up, and those too that were sent meanwhile.
    pub fn forget(&mut self) {
        let _said = self.text();
        self.masters.clear();
        self.text.clear();
    }

    /// What was said so far, with plain ends of lines.
    ///
    /// # Panics
    /// Where what comes is no terminal.
    pub fn text(&mut self) -> String {
        while let Ok((stream, _)) = self.socket.listener.accept() {
            stream.set_nonblocking(false).expect("a socket");
            self.masters.extend(receive(&stream).map(|console| console.master));
        }
        for master in &mut self.masters {
            loop {
                let mut polled = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
                let ready = poll(&mut polled, PollTimeout::ZERO).expect("poll");
                let mut buffer = [0_u8; 4096];
                // EIO is the end of a terminal, for as long as nobody opens it.
                match if ready == 0 { Ok(0) } else { master.read(&mut buffer) } {
                    Ok(0) | Err(_) => break,
                    Ok(count) => self.text.extend_from_slice(&buffer[..count]),
                }
            }
        }
        String::from_utf8_lossy(&self.text).replace('\r', "")
    }
}

mod sys {
    #![allow(unsafe_code)]
    use super::{File, FromRawFd, OwnedFd, RawFd};

    /// Owns a descriptor that recvmsg has just made.
    pub(super) fn own(fd: RawFd) -> File {
        // SAFETY: recvmsg installed this descriptor for the message that was just read and nix hands it out as a
        // bare number, so nobody else owns or closes it; it is wrapped exactly once, here.
        File::from(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Reads a terminal's master until the other side is closed or `text` has come.
///
/// # Panics
/// Where neither happens in time.
#[must_use]
pub fn read_until(master: &mut File, text: &str) -> String {
    let mut all = Vec::new();
    let came = read_for(master, text, crate::run::limit(), &mut all);
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(came, "the terminal never said {text:?}: {all:?}");
    all
}

/// The same for a while only: false where neither has happened by then. What comes is added to `all`, in which the text
/// is looked for.
///
/// # Panics
/// Where the master cannot be polled.
#[must_use]
pub fn read_for(master: &mut File, text: &str, time: Duration, all: &mut Vec<u8>) -> bool {
    let end = Instant::now() + time;
    loop {
        if !text.is_empty() && String::from_utf8_lossy(all).contains(text) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        let mut polled = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, PollTimeout::from(200_u16)).expect("poll") == 0 {
            continue;
        }
        let mut buffer = [0_u8; 1024];
        match master.read(&mut buffer) {
            Ok(0) => return true,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            // EIO is how a terminal says that nobody has the other side open any more. Before the payload has opened
            // it that may come too early.
            Err(_) if text.is_empty() => return true,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
