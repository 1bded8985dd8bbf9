//! The standard streams of a process without a terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// The standard streams of a container without a terminal.
#[derive(Debug, Default)]
pub enum Stdio {
    /// Those of the calling process.
    Inherit,
    /// `/dev/null` for each.
    #[default]
    Null,
    /// These: standard input, output, error.
    Descriptors([OwnedFd; 3]),
}

/// The standard streams, opened.
pub(crate) struct Streams<'a> {
    /// `/dev/null`, where it is needed.
    null_file: Option<OwnedFd>,
    given: Given<'a>,
    /// Bit n: stream n is `/dev/null`.
    pub(crate) null: u8,
}

enum Given<'a> {
    /// The caller's; bit n of the mask: it has no stream n.
    Own(u8),
    Descriptors(&'a [OwnedFd; 3]),
    None,
}

const OWN: [BorrowedFd<'static>; 3] =
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];

impl<'a> Streams<'a> {
    /// Opens what is missing, and looks at what is there.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened; a stream cannot be looked at.
    pub(crate) fn open(stdio: &'a Stdio) -> Result<Self> {
        let mut null = 0;
        let mut missing = 0;
        let mut look = |(number, stream): (u8, BorrowedFd<'_>)| {
            match is_null(stream) {
                Ok(true) => null |= 1 << number,
                Ok(false) => {}
                // It is closed.
                Err(Errno::BADF) => {
                    missing |= 1 << number;
                    null |= 1 << number;
                }
                Err(errno) => {
                    return Err(Error::sys(format!("cannot look at stream {number}"), errno));
                }
            }
            Ok(())
        };
        let given = match stdio {
            Stdio::Inherit => {
                (0..).zip(OWN).try_for_each(&mut look)?;
                Given::Own(missing)
            }
            Stdio::Descriptors(streams) => {
                (0..).zip(streams.each_ref().map(AsFd::as_fd)).try_for_each(&mut look)?;
                Given::Descriptors(streams)
            }
            Stdio::Null => Given::None,
        };
        if matches!(given, Given::None) {
            (null, missing) = (7, 7);
        }
        let null_file = if missing == 0 { None } else { Some(open_null()?) };
        Ok(Self { null_file, given, null })
    }

    /// Those that the init gets in place of the caller's.
    pub(crate) fn replaced(&self) -> [Option<BorrowedFd<'_>>; 3] {
        let null = self.null_file.as_ref().map(AsFd::as_fd);
        match self.given {
            Given::Own(missing) => {
                [0, 1, 2].map(|number| if missing & (1 << number) == 0 { None } else { null })
            }
            Given::Descriptors(streams) => streams.each_ref().map(|stream| Some(stream.as_fd())),
            Given::None => [null; 3],
        }
    }

    /// All three.
    pub(crate) fn all(&self) -> [BorrowedFd<'_>; 3] {
        let [a, b, c] = self.replaced();
        let [x, y, z] = OWN;
        [a.unwrap_or(x), b.unwrap_or(y), c.unwrap_or(z)]
    }
}

/// Whether a stream is `/dev/null`.
fn is_null(stream: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(stream)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && rustix::fs::major(stat.st_rdev) == 1
        && rustix::fs::minor(stat.st_rdev) == 3)
}

fn open_null() -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open("/dev/null", flags, Mode::empty())
        .map_err(|errno| Error::sys("cannot open \"/dev/null\"", errno))?;
    Ok(file)
}
