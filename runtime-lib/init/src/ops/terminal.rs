//! The terminal, and standard streams that must not be the host's.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use orlop_init::plan::{Step, Terminal};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Uid};
use rustix::io::{DupFlags, Errno};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, OutputModes, Winsize};

use super::paths;
use crate::progress::{At, Fail};
use crate::run::Init;
use crate::sys;

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// A new pty of the container's devpts: its slave becomes the standard streams and the
/// controlling terminal, its master goes to the console socket.
pub(crate) fn set_up(init: &Init<'_>, terminal: &Terminal) -> Result<(), Fail> {
    let root = init.root()?;
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = paths::open(root, c"/dev/pts/ptmx", flags).at(Step::OpenPty)?;
    // What an image or volume may have put there is no pty (CVE-2025-52565).
    let devpts = rustix::fs::fstatfs(&master).at(Step::OpenPty)?.f_type;
    if !paths::is_device(&master, 5, 2).at(Step::OpenPty)?
        || devpts.cast_unsigned() != DEVPTS_SUPER_MAGIC
    {
        return Err(Fail::new(Step::WrongObject));
    }
    rustix::pty::unlockpt(&master).at(Step::SetPty)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .at(Step::OpenPty)?;
    rustix::fs::fchown(&slave, Some(Uid::from_raw(terminal.uid)), None).at(Step::Chown)?;
    set_size(&master, terminal).at(Step::SetPty)?;
    if terminal.plain {
        let mut modes = rustix::termios::tcgetattr(&slave).at(Step::SetPty)?;
        modes.output_modes.remove(OutputModes::ONLCR);
        rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes).at(Step::SetPty)?;
    }
    if terminal.console {
        mount_console(root, slave.as_fd())?;
    }
    send(init.slot(terminal.socket_slot)?, master.as_fd()).at(Step::SendPty)?;
    if terminal.controlling {
        rustix::process::ioctl_tiocsctty(&slave).at(Step::SetPty)?;
    }
    for stream in 0..3 {
        replace_stream(slave.as_fd(), stream)?;
    }
    Ok(())
}

fn set_size(master: &OwnedFd, terminal: &Terminal) -> Result<(), Errno> {
    if terminal.rows == 0 || terminal.columns == 0 {
        return Ok(());
    }
    let size =
        Winsize { ws_row: terminal.rows, ws_col: terminal.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size)
}

/// One message with one descriptor, as receivers check it.
fn send(socket: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Result<(), Errno> {
    let descriptors = [master];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let payload = [rustix::io::IoSlice::new(b"/dev/pts/ptmx")];
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &payload, &mut control, SendFlags::NOSIGNAL)
    })
    .map(drop)
}

/// The slave as `/dev/console`: on a new file, or on one that is there, never through a link
/// (CVE-2026-88264).
fn mount_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<(), Fail> {
    let mount = paths::clone_tree(slave, false).at(Step::MountConsole)?;
    let dev = paths::ensure_directory(root, c"/dev")?;
    let place = match paths::create_file(dev.as_fd(), c"console") {
        Err(Errno::EXIST) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&dev, c"console", flags, Mode::empty()).at(Step::MountConsole)?
        }
        result => result.at(Step::MountConsole)?,
    };
    let kind = rustix::fs::fstat(&place).at(Step::MountConsole)?.st_mode;
    if FileType::from_raw_mode(kind) == FileType::Symlink {
        return Err(Fail::errno(Step::MountConsole, Errno::LOOP));
    }
    paths::attach(mount.as_fd(), place.as_fd()).at(Step::MountConsole)
}

fn replace_stream(by: BorrowedFd<'_>, stream: i32) -> Result<(), Fail> {
    // 0 to 2 were open before, or become open now; either way nothing else uses the number.
    let mut target = sys::inherited(stream).ok_or(Fail::new(Step::Decode))?;
    let result = rustix::io::dup3(by, &mut target, DupFlags::empty());
    sys::leave_open(target);
    result.at(Step::Whole)
}

/// Opens the container's `/dev/null` for streams that are the host's: a descriptor of the host's
/// mount would be left over otherwise.
pub(crate) fn reopen_null(init: &Init<'_>, streams: u8) -> Result<(), Fail> {
    const NULL: &CStr = c"/dev/null";
    let null = paths::open(init.root()?, NULL, OFlags::RDWR).at(Step::Open)?;
    if !paths::is_device(&null, 1, 3).at(Step::Open)? {
        return Err(Fail::new(Step::WrongObject));
    }
    for stream in (0..3).filter(|stream| streams & (1 << stream) != 0) {
        replace_stream(null.as_fd(), stream)?;
    }
    Ok(())
}
