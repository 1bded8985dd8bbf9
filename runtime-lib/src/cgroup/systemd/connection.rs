//! A connection to a bus, or to systemd itself: blocking, with a deadline for everything.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::address::Socket;
use super::message::{self, Call, Kind, Message};
use super::wire::{Malformed, Reader};
use crate::host;

/// The longest line of the authentication.
const LONGEST_LINE: usize = 1024;
/// How many signals are kept that came before the answer they belong behind.
const MOST_SIGNALS: usize = 64;

/// Why talking failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// A system call failed.
    Sys(Errno),
    /// The deadline has passed.
    Late,
    /// The other side has hung up.
    Closed,
    /// The other side does not let us in; its words.
    Rejected(String),
    /// The other side sent what makes no sense.
    Malformed(&'static str),
    /// The call was answered with an error of this name; and its text.
    Refused(String, String),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Sys(errno)
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    deadline: Instant,
    /// On a bus, calls carry a destination, and answers who sent them.
    is_bus: bool,
    last_serial: u32,
    input: Vec<u8>,
    signals: VecDeque<Message>,
}

impl Connection {
    /// Connects, and authenticates: as this user, or as the one that the kernel says we are.
    pub(super) fn open(
        to: &Socket,
        is_bus: bool,
        user: Option<u32>,
        deadline: Instant,
    ) -> Result<Self> {
        let address = match to {
            Socket::Path(path) => SocketAddrUnix::new(path.as_slice()),
            Socket::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
        }?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::STREAM;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
        // EAGAIN: too many wait to be accepted, and poll(2) does not tell when there is room.
        let mut pause = Duration::from_millis(1);
        while let Err(errno) = rustix::net::connect(&socket, &address) {
            match errno {
                Errno::INTR => {}
                Errno::AGAIN if Instant::now() + pause < deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(200));
                }
                Errno::AGAIN => return Err(Fault::Late),
                other => return Err(other.into()),
            }
        }
        let (input, signals) = (Vec::new(), VecDeque::new());
        let mut connection = Self { socket, deadline, is_bus, last_serial: 0, input, signals };
        connection.authenticate(user)?;
        if is_bus {
            connection.bus_call("Hello", &[])?;
        }
        Ok(connection)
    }

    /// SASL's EXTERNAL. Without a user's name the other side goes by the kernel's word alone, which
    /// is right in user namespaces too, but which systemd's own socket takes since version 248 only.
    ///
    /// All is sent at once: systemd does not look at a message that it reads together with `BEGIN`
    /// until more comes.
    fn authenticate(&mut self, user: Option<u32>) -> Result<()> {
        let name = |user: u32| user.to_string().bytes().map(|b| format!("{b:02x}")).collect();
        let expected: &[&str] = if user.is_some() { &["OK"] } else { &["DATA", "OK"] };
        self.send(
            match user.map(name) {
                Some::<String>(name) => format!("\0AUTH EXTERNAL {name}\r\nBEGIN\r\n"),
                None => "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".to_owned(),
            }
            .as_bytes(),
        )?;
        for expected in expected {
            let line = self.line()?;
            if line.split(' ').next() != Some(expected) {
                return Err(Fault::Rejected(readable(&line)));
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.input.drain(..end).collect();
                self.input.drain(..2);
                let line = String::from_utf8(line);
                return line.map_err(|_| Fault::Malformed("a line that is not UTF-8"));
            }
            if self.input.len() > LONGEST_LINE {
                return Err(Fault::Malformed("a line without an end"));
            }
            self.fill()?;
        }
    }

    /// Calls a method of the bus itself.
    pub(super) fn bus_call(&mut self, member: &str, text: &[&str]) -> Result<Message> {
        let arguments: Vec<_> = text.iter().map(|text| super::Value::text(*text)).collect();
        self.call(&Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
            arguments: &arguments,
        })
    }

    /// Whether this is a bus.
    pub(super) fn is_bus(&self) -> bool {
        self.is_bus
    }

    /// Calls a method, and waits for the answer.
    pub(super) fn call(&mut self, call: &Call<'_>) -> Result<Message> {
        self.last_serial += 1;
        let serial = self.last_serial;
        self.send(&call.encode(serial, self.is_bus))?;
        loop {
            let message = self.receive()?;
            match message.kind {
                Kind::Return if message.reply_serial == serial => return Ok(message),
                Kind::Error if message.reply_serial == serial => {
                    return Err(Fault::Refused(readable(&message.error_name), text_of(&message)));
                }
                Kind::Signal if self.signals.len() < MOST_SIGNALS => {
                    self.signals.push_back(message);
                }
                // Calls of us, which nobody has reason for, and what answers nothing.
                _ => {}
            }
        }
    }

    /// Waits for a signal.
    pub(super) fn signal(&mut self) -> Result<Message> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            let message = self.receive()?;
            if message.kind == Kind::Signal {
                return Ok(message);
            }
        }
    }

    fn receive(&mut self) -> Result<Message> {
        loop {
            if let Some(length) = message::length(&self.input)?
                && self.input.len() >= length
            {
                let rest = self.input.split_off(length);
                let whole = std::mem::replace(&mut self.input, rest);
                return Ok(message::decode(&whole)?);
            }
            self.fill()?;
        }
    }

    /// Reads what has come, or waits for it. Descriptors that came with it are not taken.
    fn fill(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        // Also where there is always more: a peer that never stops talking has no more time.
        if Instant::now() >= self.deadline {
            return Err(Fault::Late);
        }
        match rustix::io::read(&self.socket, &mut buffer) {
            Ok(0) | Err(Errno::CONNRESET) => Err(Fault::Closed),
            Ok(count) => {
                self.input.extend_from_slice(buffer.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::AGAIN) => self.wait(PollFlags::IN),
            Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Fault::Closed),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn wait(&self, flags: PollFlags) -> Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let ready = host::poll(&mut [PollFd::new(&self.socket, flags)], Some(left))?;
        if ready { Ok(()) } else { Err(Fault::Late) }
    }
}

/// The text that most errors have as their first argument.
fn text_of(message: &Message) -> String {
    if !message.signature.starts_with('s') {
        return String::new();
    }
    Reader::new(&message.body).text().map(readable).unwrap_or_default()
}

/// Foreign text, fit to be shown: one line of limited length.
fn readable(text: &str) -> String {
    text.chars().take(512).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
