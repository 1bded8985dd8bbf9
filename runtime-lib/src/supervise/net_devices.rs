//! Moving network devices into the container (runtime-spec, config-linux.md, Network Devices).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::netlink::{
    NLM_F_CREATE_NEW, NLM_F_DUMP, Netlink, RTM_GETADDR, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK,
    attributes, push_attribute, word,
};
use crate::error::{Error, ErrorKind, Result};
use crate::sys;

/// Attributes of links and addresses, of <linux/if_link.h> and <linux/if_addr.h>.
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
/// Since Linux 5.13.
const IFLA_NEW_IFINDEX: u16 = 49;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;

const IFF_UP: u32 = 1;

/// A permanent address with global scope, as RTM_NEWADDR takes it but for the device's index.
struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<u8>,
}

/// Moves a device of the caller's network namespace into that of a process: under its new name, with
/// its permanent global addresses, up.
///
/// # Errors
/// There is no such device, or one of the new name is in the container already; the kernel refuses.
pub(super) fn move_into(pid: i32, name: &str, new_name: &str) -> Result<()> {
    let failed = |what: &str, errno: Errno| {
        Error::sys(format!("cannot {what} the network device {name:?}"), errno)
    };
    let namespace = open_namespace(pid)?;
    let mut here = Netlink::open().map_err(|errno| failed("move", errno))?;
    let mut there = open_in(&namespace).map_err(|errno| failed("move", errno))?;
    let index = find(&mut here, name).and_then(|index| index.ok_or(Errno::NODEV));
    let index = index.map_err(|errno| failed("find", errno))?;
    let addresses =
        addresses(&mut here, index).map_err(|errno| failed("list the addresses of", errno))?;
    if !new_name.contains('%') {
        match find(&mut there, new_name) {
            Ok(None) => {}
            Ok(Some(_)) => {
                let what = format!("cannot move the network device {name:?} to {new_name:?}");
                return Err(Error::sys(what, Errno::EXIST));
            }
            Err(errno) => return Err(failed("move", errno)),
        }
    }
    let index = send(&mut here, &mut there, index, &namespace, new_name)
        .map_err(|errno| failed("move", errno))?;
    for address in &addresses {
        add(&mut there, index, address).map_err(|errno| failed("keep the addresses of", errno))?;
    }
    set_up(&mut there, index).map_err(|errno| failed("set up", errno))
}

/// The network namespace of the init, which must be another than the caller's.
fn open_namespace(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    let failed = |errno| Error::sys(format!("cannot open {path:?}"), errno);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed)?;
    let joined = rustix::fs::fstat(&namespace).map_err(failed)?;
    let own = rustix::fs::stat("/proc/thread-self/ns/net").map_err(failed)?;
    if (own.st_dev, own.st_ino) == (joined.st_dev, joined.st_ino) {
        let message = "the container's network namespace is the runtime's own";
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    Ok(namespace)
}

/// A socket to another network namespace: opened by a thread that enters it, as only threads can.
fn open_in(namespace: &OwnedFd) -> Result<Netlink, Errno> {
    std::thread::scope(|scope| {
        let open = || {
            sys::join_network(namespace.as_fd())?;
            Netlink::open()
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, open);
        let thread = thread
            .map_err(|error| error.raw_os_error().map_or(Errno::AGAIN, Errno::from_raw_os_error))?;
        thread.join().unwrap_or(Err(Errno::AGAIN))
    })
}

/// struct ifinfomsg.
fn link(index: u32, flags: u32, changed: u32) -> Vec<u8> {
    let head = [0, index, flags, changed];
    head.into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn name_attribute(body: &mut Vec<u8>, name: &str) {
    push_attribute(body, IFLA_IFNAME, format!("{name}\0").as_bytes());
}

/// The index of a device.
fn find(netlink: &mut Netlink, name: &str) -> Result<Option<u32>, Errno> {
    let mut body = link(0, 0, 0);
    name_attribute(&mut body, name);
    match netlink.request(RTM_GETLINK, 0, &body) {
        Ok(answer) => Ok(answer.first().and_then(|message| word(&message.body, 4))),
        Err(Errno::NODEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn addresses(netlink: &mut Netlink, index: u32) -> Result<Vec<Address>, Errno> {
    // struct ifaddrmsg: the kernel gives those of this device alone.
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    let answer = netlink.request(RTM_GETADDR, NLM_F_DUMP, &body)?;
    let own = answer.iter().filter(|message| message.kind == RTM_NEWADDR);
    Ok(own.filter_map(|message| address(&message.body, index)).collect())
}

/// An address that the container keeps: not one that the kernel or a protocol made for the host.
fn address(body: &[u8], index: u32) -> Option<Address> {
    const RT_SCOPE_UNIVERSE: u8 = 0;
    const IFA_F_PERMANENT: u32 = 0x80;
    /// No duplicate detection, no route of its own, and what else was asked for with it.
    const KEPT: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
    let &[family, prefix, old_flags, scope, ..] = body else { return None };
    let flags = attributes(body, 8).find(|(kind, _)| *kind == IFA_FLAGS);
    let flags = flags.and_then(|(_, value)| word(value, 0)).unwrap_or(old_flags.into());
    let kept = scope == RT_SCOPE_UNIVERSE && flags & IFA_F_PERMANENT != 0;
    if word(body, 4) != Some(index) || !kept {
        return None;
    }
    let mut copied = Vec::new();
    for (kind, value) in attributes(body, 8) {
        if matches!(kind, IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST | IFA_RT_PRIORITY) {
            push_attribute(&mut copied, kind, value);
        }
    }
    push_attribute(&mut copied, IFA_FLAGS, &(flags & KEPT).to_ne_bytes());
    Some(Address { family, prefix, attributes: copied })
}

/// Moves a device, and gives its index in the other namespace: the same, where that is free.
fn send(
    here: &mut Netlink,
    there: &mut Netlink,
    index: u32,
    namespace: &OwnedFd,
    new_name: &str,
) -> Result<u32, Errno> {
    let links = there.request(RTM_GETLINK, NLM_F_DUMP, &link(0, 0, 0))?;
    let taken: Vec<u32> = links.iter().filter_map(|message| word(&message.body, 4)).collect();
    let free = taken.iter().max().map_or(1, |highest| highest + 1);
    let new_index = if taken.contains(&index) { free } else { index };
    let mut body = link(index, 0, 0);
    name_attribute(&mut body, new_name);
    push_attribute(&mut body, IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
    push_attribute(&mut body, IFLA_NEW_IFINDEX, &new_index.to_ne_bytes());
    here.request(RTM_NEWLINK, 0, &body)?;
    Ok(new_index)
}

fn add(netlink: &mut Netlink, index: u32, address: &Address) -> Result<(), Errno> {
    let mut body = vec![address.family, address.prefix, 0, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&address.attributes);
    match netlink.request(RTM_NEWADDR, NLM_F_CREATE_NEW, &body) {
        // A kernel that keeps addresses when a device moves.
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn set_up(netlink: &mut Netlink, index: u32) -> Result<(), Errno> {
    netlink.request(RTM_NEWLINK, 0, &link(index, IFF_UP, IFF_UP)).map(drop)
}
