//! rtnetlink(7): what moving a network device takes.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Types of messages.
pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Flags of requests.
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// All objects of a kind.
pub(super) const NLM_F_DUMP: u16 = 0x300;
/// A new object, that must not be there.
pub(super) const NLM_F_CREATE_NEW: u16 = 0x600;

/// As much as the kernel puts into one answer, in bytes.
const ANSWER: usize = 64 * 1024;

/// A socket to the network namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A message without its header.
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of NETLINK_ROUTE (0) to the calling thread's network namespace.
    pub(super) fn open() -> Result<Self, Errno> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        crate::sys::filter_netlink_dumps(&socket)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request, and gives what is answered.
    pub(super) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<Vec<Message>, Errno> {
        self.sequence += 1;
        let flags = NLM_F_REQUEST | flags | if flags == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        let length = u32::try_from(16 + body.len()).map_err(|_| Errno::MSGSIZE)?;
        let mut message = Vec::with_capacity(16 + body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0_u32.to_ne_bytes());
        message.extend_from_slice(body);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        self.answers()
    }

    /// Reads up to the end of a dump, or the acknowledgement.
    fn answers(&self) -> Result<Vec<Message>, Errno> {
        let mut buffer = vec![0; ANSWER];
        let mut messages = Vec::new();
        loop {
            let receive =
                || rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty());
            let (count, _) = rustix::io::retry_on_intr(receive)?;
            let mut rest = buffer.get(..count).unwrap_or_default();
            while let Some((kind, body, after)) = split(rest) {
                rest = after;
                match kind {
                    NLMSG_DONE => return Ok(messages),
                    NLMSG_ERROR => match word(body, 0).map(u32::cast_signed) {
                        Some(0) => return Ok(messages),
                        error => return Err(Errno::from_raw_os_error(-error.unwrap_or(-22))),
                    },
                    _ => messages.push(Message { kind, body: body.to_vec() }),
                }
            }
        }
    }
}

/// The first message: its type and body, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(word(bytes, 0)?).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// A 32-bit number.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Appends an attribute, padded.
pub(super) fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The attributes behind a fixed part of `start` bytes, by type.
pub(super) fn attributes(body: &[u8], start: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(start..).unwrap_or_default();
    std::iter::from_fn(move || {
        let number = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(number(0)?), number(2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The upper bits say how a value is to be read.
        Some((kind & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let mut body = vec![0; 8];
        push_attribute(&mut body, 3, b"eth0\0");
        push_attribute(&mut body, 8 | 0x8000, &[1, 2, 3, 4]);
        assert_eq!(body.len(), 8 + 12 + 8);
        let all: Vec<_> = attributes(&body, 8).collect();
        assert_eq!(all, [(3, b"eth0\0".as_slice()), (8, &[1, 2, 3, 4])]);
        // What is cut off, or has no length, ends the list.
        assert_eq!(attributes(&body, 14).count(), 0);
        assert_eq!(attributes(&[0; 8], 0).count(), 0);
    }

    #[test]
    fn messages_that_are_cut_off_are_none() {
        let message = [&20_u32.to_ne_bytes()[..], &[2, 0, 0, 0], &[0; 8], &[0xff; 4]].concat();
        let (kind, body, rest) = split(&message).unwrap();
        assert_eq!((kind, body, rest), (2, [0xff; 4].as_slice(), [].as_slice()));
        assert!(split(message.get(..19).unwrap()).is_none());
    }
}
