//! The caller's terminal, while a container's is shown on it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::failure::Failure;

/// The caller's terminal, in its own mode.
#[derive(Debug)]
pub(crate) enum Host {
    /// One of the standard streams.
    Stream(BorrowedFd<'static>),
    /// `/dev/tty`.
    Opened(File),
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(stream) => *stream,
            Self::Opened(file) => file.as_fd(),
        }
    }
}

impl Host {
    /// The terminal behind one of the standard streams, else the controlling one.
    pub(crate) fn find() -> Result<Self, Failure> {
        if let Some(stream) = [stderr(), stdout(), stdin()].into_iter().find(|s| isatty(s)) {
            return Ok(Self::Stream(stream));
        }
        let opened = File::options().read(true).write(true).open("/dev/tty");
        opened.map(Self::Opened).map_err(|error| Failure::io("open /dev/tty", &error))
    }

    /// Its rows and columns.
    pub(crate) fn size(&self) -> Option<(u16, u16)> {
        tcgetwinsize(self).ok().map(|size| (size.ws_row, size.ws_col))
    }
}

/// The caller's terminal in raw mode but for what it makes of output, until this is dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    host: Host,
    saved: Termios,
    master: OwnedFd,
}

impl Raw {
    /// Turns the caller's terminal over to the one of this master.
    pub(crate) fn enter(host: Host, master: BorrowedFd<'_>) -> Result<Self, Failure> {
        let failed = |errno| Failure::system("cannot set the terminal's mode", errno);
        let master = fcntl_dupfd_cloexec(master, 0).map_err(failed)?;
        let saved = tcgetattr(&host).map_err(failed)?;
        let mut raw = saved.clone();
        raw.make_raw();
        // The container's terminal leaves carriage returns to the caller's.
        raw.output_modes.insert(OutputModes::OPOST);
        tcsetattr(&host, OptionalActions::Now, &raw).map_err(failed)?;
        let this = Self { host, saved, master };
        this.resize();
        Ok(this)
    }

    /// Gives the container's terminal the size of the caller's.
    pub(crate) fn resize(&self) {
        if let Ok(size) = tcgetwinsize(&self.host) {
            // A size that cannot be set is no reason to end the container.
            let _: rustix::io::Result<()> = tcsetwinsize(&self.master, size);
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nothing to be done about a terminal that is gone.
        let _: rustix::io::Result<()> = tcsetattr(&self.host, OptionalActions::Now, &self.saved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use rustix::termios::{LocalModes, Winsize};

    #[test]
    fn the_caller_s_terminal_is_raw_meanwhile_and_the_container_s_has_its_size() {
        let (host, container) = (openpty(None, None).unwrap(), openpty(None, None).unwrap());
        let size = Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&host.slave, size).unwrap();
        let local = || tcgetattr(&host.slave).unwrap().local_modes;
        let before = local();
        assert!(before.contains(LocalModes::ECHO | LocalModes::ICANON));

        let opened = Host::Opened(host.slave.try_clone().unwrap().into());
        let raw = Raw::enter(opened, container.master.as_fd()).unwrap();
        assert!(!local().intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG));
        let output = tcgetattr(&host.slave).unwrap().output_modes;
        assert!(output.contains(OutputModes::OPOST | OutputModes::ONLCR), "{output:?}");
        assert_eq!(tcgetwinsize(&container.slave).unwrap().ws_col, 77);

        tcsetwinsize(&host.slave, Winsize { ws_col: 120, ..size }).unwrap();
        raw.resize();
        assert_eq!(tcgetwinsize(&container.slave).unwrap().ws_col, 120);

        drop(raw);
        assert_eq!(local(), before);
    }
}
