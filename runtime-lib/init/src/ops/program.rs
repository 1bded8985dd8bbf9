//! The container's program: its home, its file, its execution.

use core::ffi::CStr;

use orlop_init::plan::Step;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, FileType, OFlags};
use rustix::io::Errno;

use super::paths::{self, Path};
use crate::progress::{At, Fail};
use crate::run::Init;
use crate::sys;
use orlop_init::wire::Str;

/// As much of `/etc/passwd` as is looked at: it is the image's file, and may be endless.
const PASSWD_MAX: usize = 16 << 20;

/// Keeps what one operation finds and a later one uses.
fn keep(init: &mut Init<'_>, text: &CStr) -> Result<&'static CStr, Fail> {
    init.memory.keep(text).ok_or(Fail::errno(Step::TooLong, Errno::NAMETOOLONG))
}

/// Looks the home of a user up; `/` where there is none.
pub(crate) fn find_home(init: &mut Init<'_>, uid: u32) -> Result<(), Fail> {
    let mut home = Path::new(b"HOME=")?;
    // NONBLOCK: an image may have put a fifo there.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let found = match paths::open(init.root()?, c"/etc/passwd", flags) {
        Ok(file) => push_home(&mut home, file.as_fd(), uid),
        // What an image may have there instead: nothing, or nothing that can be read.
        Err(
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::NXIO | Errno::NODEV,
        ) => Ok(false),
        Err(errno) => Err(errno),
    };
    if !found.at(Step::Open)? {
        home.push(b"/")?;
    }
    init.home = Some(keep(init, home.c_str()?)?);
    Ok(())
}

/// Appends the home of the first line with this uid; lines longer than the buffer are passed over.
fn push_home(home: &mut Path, file: rustix::fd::BorrowedFd<'_>, uid: u32) -> Result<bool, Errno> {
    let mode = rustix::fs::fstat(file)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Ok(false);
    }
    let mut buffer = [0; 4096];
    let (mut filled, mut total, mut skipping) = (0, 0, false);
    while total < PASSWD_MAX {
        let Some(room) = buffer.get_mut(filled..) else { return Ok(false) };
        let count = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut *room))?;
        let end = filled + count;
        let text = buffer.get(..end).unwrap_or_default();
        let lines = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        // The last line may lack its newline.
        let lines = if count == 0 { end } else { lines };
        for line in text.get(..lines).unwrap_or_default().split(|byte| *byte == b'\n') {
            if !core::mem::take(&mut skipping)
                && let Some(directory) = home_in(line, uid)
            {
                return Ok(home.push(directory).is_ok());
            }
        }
        if count == 0 {
            return Ok(false);
        }
        if lines == 0 && end == buffer.len() {
            skipping = true;
            filled = 0;
        } else {
            buffer.copy_within(lines..end, 0);
            filled = end - lines;
        }
        total += count;
    }
    Ok(false)
}

/// The sixth field of a line whose third is `uid`.
fn home_in(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|byte| *byte == b':');
    let id = core::str::from_utf8(fields.nth(2)?).ok()?;
    if id.parse() != Ok(uid) {
        return None;
    }
    fields.nth(2).filter(|home| !home.is_empty())
}

/// Finds the program as execvp(3) would, with the container's credentials.
pub(crate) fn find(init: &mut Init<'_>, name: &CStr, path: &[u8]) -> Result<(), Fail> {
    let bytes = name.to_bytes();
    if bytes.contains(&b'/') {
        check_file(name)?;
        init.program = keep(init, name)?;
        return Ok(());
    }
    for directory in path.split(|byte| *byte == b':') {
        let mut candidate = Path::new(if directory.is_empty() { b"." } else { directory })?;
        candidate.push(b"/")?;
        candidate.push(bytes)?;
        if !bytes.is_empty() && check_file(candidate.c_str()?).is_ok() {
            init.program = keep(init, candidate.c_str()?)?;
            return Ok(());
        }
    }
    Err(Fail::new(Step::NotInPath))
}

fn check_file(path: &CStr) -> Result<(), Fail> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::empty()).at(Step::Stat)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Fail::errno(Step::IsDirectory, Errno::ISDIR));
    }
    sys::may_execute(path).at(Step::NotExecutable)
}

/// Becomes the program.
pub(crate) fn execute(init: &mut Init<'_>, args: Str<'_>, env: Str<'_>) -> Result<(), Fail> {
    let (program, home) = (init.program, init.home);
    init.progress.executing();
    let env = env.list().chain(home);
    let errno = sys::execve(program, &mut init.strings, args.list(), env);
    Err(Fail::errno(Step::Execve, errno))
}
