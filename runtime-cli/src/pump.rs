//! Copying from one descriptor to another without ever waiting for either.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::pipe::fcntl_getpipe_size;
use rustix::termios::isatty;

/// How much is read at once.
const BUFFER: usize = 16 * 1024;
/// How much a pipe that is ready takes without waiting (`PIPE_BUF`).
const PIPE_CHUNK: usize = 4096;
/// How much a pipe holds unless it was told otherwise.
const PIPE_SIZE: usize = 64 * 1024;

/// One end of a copy.
#[derive(Debug)]
pub(crate) enum End {
    /// Ours: closed when there is no more to copy. Reads and writes of it do not wait.
    Own(OwnedFd),
    /// One of our standard streams: shared with others, so its modes are left alone.
    Shared(BorrowedFd<'static>),
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(own) => own.as_fd(),
            Self::Shared(shared) => *shared,
        }
    }
}

/// A copy under way.
#[derive(Debug)]
pub(crate) struct Pump {
    from: Option<End>,
    to: Option<End>,
    buffer: Vec<u8>,
    sent: usize,
    chunk: usize,
    output: bool,
    failed: Option<Errno>,
}

impl Pump {
    /// A copy that begins now.
    pub(crate) fn new(from: End, to: End) -> Self {
        let file = fstat(to.as_fd()).map(|s| FileType::from_raw_mode(s.st_mode));
        // A file takes all of it, what waits for a reader only as much as there is room for.
        let chunk = if file == Ok(FileType::RegularFile) { BUFFER } else { PIPE_CHUNK };
        let output = matches!(to, End::Shared(_));
        let (from, to) = (Some(from), Some(to));
        Self { from, to, buffer: Vec::new(), sent: 0, chunk, output, failed: None }
    }

    /// What to wait for, if there is more to copy.
    pub(crate) fn awaits(&self) -> Option<PollFd<'_>> {
        match (&self.from, &self.to) {
            (_, Some(to)) if self.is_loaded() => {
                Some(PollFd::from_borrowed_fd(to.as_fd(), PollFlags::OUT))
            }
            (Some(from), Some(_)) => Some(PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN)),
            _ => None,
        }
    }

    /// Takes one step, once what [`Pump::awaits`] names is ready.
    pub(crate) fn step(&mut self) {
        if self.is_loaded() {
            self.send();
        } else {
            self.load();
        }
    }

    /// Whether it copies to one of our standard streams.
    pub(crate) fn is_output(&self) -> bool {
        self.output
    }

    /// What it could not go on for, where that is not that one of the ends was gone.
    pub(crate) fn failed(&self) -> Option<Errno> {
        self.failed
    }

    /// Copies what is there already and ends: whoever still holds the other end is not waited for.
    pub(crate) fn drain(&mut self) {
        let size = self.from.as_ref().and_then(|from| fcntl_getpipe_size(from).ok());
        let mut left = size.unwrap_or(PIPE_SIZE);
        loop {
            while self.is_loaded() {
                let polled = self.awaits().map(|ready| poll(&mut [ready], None));
                match polled {
                    Some(Err(errno)) if errno != Errno::INTR => return self.end(Some(errno)),
                    _ => self.send(),
                }
            }
            if left == 0 || !self.load() {
                return;
            }
            left = left.saturating_sub(self.buffer.len());
        }
    }

    fn is_loaded(&self) -> bool {
        self.sent < self.buffer.len()
    }

    /// Reads what there is; false if that is nothing.
    fn load(&mut self) -> bool {
        let Some(from) = &self.from else { return false };
        self.buffer.resize(BUFFER, 0);
        self.sent = 0;
        // Interrupted is not empty: what is drained is not looked at again.
        match retry_on_intr(|| read(from, &mut self.buffer)) {
            Ok(0) => self.end(None),
            Ok(count) => {
                self.buffer.truncate(count);
                return true;
            }
            Err(Errno::AGAIN) => self.buffer.clear(),
            Err(errno) => self.end(failure(errno, from)),
        }
        false
    }

    /// Copies no more: the reader is told of the end, and the writer by SIGPIPE.
    fn end(&mut self, failed: Option<Errno>) {
        self.failed = failed;
        self.buffer.clear();
        self.sent = 0;
        self.from = None;
        self.to = None;
    }

    fn send(&mut self) {
        let end = self.buffer.len().min(self.sent + self.chunk);
        let (Some(to), Some(bytes)) = (&self.to, self.buffer.get(self.sent..end)) else { return };
        match write(to, bytes) {
            Ok(count) => self.sent += count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => self.end(failure(errno, to)),
        }
    }
}

/// What an errno of an end says beside that nobody holds its other side, which a terminal says by EIO.
fn failure(errno: Errno, end: &End) -> Option<Errno> {
    let gone = matches!(errno, Errno::PIPE | Errno::CONNRESET) || errno == Errno::IO && isatty(end);
    (!gone).then_some(errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::{Read as _, Write as _};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    fn run(pump: &mut Pump) {
        while let Some(ready) = pump.awaits() {
            poll(&mut [ready], None).unwrap();
            pump.step();
        }
    }

    #[test]
    fn the_end_of_the_input_closes_the_output() {
        let (read, write) = pipe();
        let (mut out, to) = std::io::pipe().unwrap();
        std::fs::File::from(write).write_all(b"hello").unwrap();
        let mut pump = Pump::new(End::Own(read), End::Own(to.into()));
        run(&mut pump);
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_reader_that_went_away_ends_the_copy_and_the_writer_is_told() {
        let (read, write) = pipe();
        let (out, to) = pipe();
        drop(out);
        rustix::io::write(&write, b"x").unwrap();
        let mut pump = Pump::new(End::Own(read), End::Own(to));
        run(&mut pump);
        assert_eq!(rustix::io::write(&write, b"x"), Err(Errno::PIPE));
    }

    #[test]
    fn output_that_cannot_be_written_is_a_failure_and_a_reader_that_went_away_is_none() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (gone, closed) = pipe();
        drop(gone);
        for (to, failed) in [(full.into(), Some(Errno::NOSPC)), (closed, None)] {
            let (read, write) = pipe();
            rustix::io::write(&write, b"x").unwrap();
            let mut pump = Pump::new(End::Own(read), End::Own(to));
            run(&mut pump);
            assert_eq!(pump.failed(), failed);
        }
    }

    #[test]
    fn draining_does_not_wait_for_who_still_holds_the_pipe() {
        let (read, write) = pipe();
        let (out, to) = std::io::pipe().unwrap();
        rustix::io::write(&write, b"last words").unwrap();
        let mut pump = Pump::new(End::Own(read), End::Own(to.into()));
        pump.drain();
        drop(pump);
        let mut text = String::new();
        { out }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
        drop(write);
    }

    #[test]
    fn draining_ends_though_the_writer_never_does() {
        let (read, write) = pipe();
        let sink = std::fs::File::options().write(true).open("/dev/null").unwrap();
        let mut pump = Pump::new(End::Own(read), End::Own(sink.into()));
        let full = vec![0; PIPE_SIZE];
        rustix::io::write(&write, &full).unwrap();
        pump.load();
        rustix::io::write(&write, &full).unwrap();
        pump.drain();
        assert!(pump.awaits().is_some(), "it stopped after one pipe's worth");
    }
}
