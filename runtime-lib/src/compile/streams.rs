//! `process.terminal` and `process.consoleSize`, and the standard streams without a terminal.

use orlop_init::plan::{Op, Terminal};

use super::{Columns, Config};
use crate::error::{Error, Result};
use crate::plan::{HostOp, Slot};

/// The bits of standard input, output and error.
const ALL: u8 = 0b111;

fn wants_terminal(config: &Config<'_>) -> bool {
    config.process.terminal().unwrap_or(false)
}

pub(super) fn terminal(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    const FIELD: &str = "process.terminal";
    if !wants_terminal(config) {
        if config.request.console_socket {
            return Err(Error::config(
                FIELD,
                "cannot use console socket if runc will not detach or allocate tty",
            ));
        }
        if config.process.console_size().is_some() {
            out.warn("process.consoleSize", "has no effect without process.terminal");
        }
        return Ok(());
    }
    if !config.request.console_socket {
        return Err(Error::config(
            FIELD,
            "cannot allocate tty if runc will detach without setting console socket",
        ));
    }
    let asked = match config.process.console_size() {
        Some(size) => (extent(size.height(), "height")?, extent(size.width(), "width")?),
        None => (0, 0),
    };
    let shown_on = config.request.shown_on;
    let (rows, columns) = shown_on.filter(|size| *size != (0, 0)).unwrap_or(asked);
    let socket_slot = out.slot(FIELD, Slot::ConsoleSocket)?;
    let uid = config.process.user().uid();
    let console = !config.request.joins;
    // A process that is reborn has a session of its own, and takes the terminal itself.
    let controlling = !super::namespaces::is_reborn(config);
    let plain = shown_on.is_some();
    let terminal = Terminal { socket_slot, rows, columns, plain, uid, console, controlling };
    out.child(FIELD, Op::Terminal(terminal));
    Ok(())
}

/// Height or width, as `struct winsize` holds it.
fn extent(value: u64, leaf: &str) -> Result<u16> {
    u16::try_from(value).map_err(|_| {
        let text = format!("{value} is more than a terminal can have (65535)");
        Error::config(format!("process.consoleSize.{leaf}"), text)
    })
}

/// Streams that are the host's `/dev/null` become the container's, whose cgroup and mount they then
/// are under. A `/dev` that is bound is not looked into.
pub(super) fn reopen_null(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    let streams = config.request.null_streams & ALL;
    if streams != 0 && !wants_terminal(config) && !config.dev_is_bound {
        out.child("process", Op::ReopenNull { streams });
    }
    Ok(())
}

/// Streams that are not `/dev/null` are given to the container's user, so that it can reopen them
/// as `/dev/stdout`. Those that are the user's already stay as they are, and so do all groups.
pub(super) fn owner(config: &Config<'_>, out: &mut Columns) -> Result<()> {
    if wants_terminal(config) || config.request.null_streams & ALL == ALL {
        return Ok(());
    }
    let uid = config.process.user().uid();
    let outside = match config.user.maps() {
        Some(maps) => maps.users.outside(uid),
        // Of a namespace that is joined by its path alone nobody has said who that is outside.
        None if config.user.is_some() => None,
        None => Some(uid),
    };
    if let Some(uid) = outside {
        out.host("process.user.uid", HostOp::StdioOwner { uid });
    }
    Ok(())
}
