//! Being told of what happens in a cgroup: processes that the OOM killer ends, and the end of all.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::{Cgroup, files};
use crate::error::{Error, Result};

/// The longest time without a look. The kernel delays what it tells within 10 ms of a change
/// before, and never tells it if the cgroup is removed meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// What has happened in a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The OOM killer has ended a process.
    OomKill,
    /// No process is left, or the cgroup has been removed.
    Ended,
}

/// A watch over a cgroup and all below it.
#[derive(Debug)]
pub struct Watch {
    events: OwnedFd,
    /// Without the memory controller there is none.
    memory: Option<OwnedFd>,
    /// How many kills were told of.
    kills: u64,
}

impl Cgroup {
    /// Begins to watch the cgroup: what happened before is not told.
    ///
    /// # Errors
    /// A file cannot be opened, as when the cgroup has been removed.
    pub fn watch(&self) -> Result<Watch> {
        Watch::open(&self.dir).map_err(|errno| self.failed("cannot watch", errno))
    }
}

impl Watch {
    fn open(dir: impl AsFd) -> rustix::io::Result<Self> {
        let events = files::open(&dir, "cgroup.events")?;
        let memory = match files::open(&dir, "memory.events") {
            Err(Errno::NOENT) => None,
            file => Some(file?),
        };
        let mut watch = Self { events, memory, kills: 0 };
        watch.kills = watch.count_kills();
        Ok(watch)
    }

    /// Waits for the next event, until the timeout (`None`: for ever); `None` is the timeout.
    /// Each kill is told once; the end is told by every call.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        self.look_until(timeout.map(|timeout| Instant::now() + timeout))
            .map_err(|errno| Error::sys("cannot read the events of the cgroup", errno))
    }

    fn look_until(&mut self, deadline: Option<Instant>) -> rustix::io::Result<Option<Event>> {
        loop {
            // Before the kills: none comes after the end.
            let ended = self.has_ended()?;
            if self.count_kills() > self.kills {
                self.kills += 1;
                return Ok(Some(Event::OomKill));
            }
            if ended {
                return Ok(Some(Event::Ended));
            }
            let left = deadline.map_or(LOOK, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            self.poll(left.min(LOOK))?;
        }
    }

    fn has_ended(&self) -> rustix::io::Result<bool> {
        match files::reread(&self.events) {
            Ok(text) => Ok(files::value_of(&text, "populated") == Some("0")),
            Err(Errno::NODEV) => Ok(true),
            Err(errno) => Err(errno),
        }
    }

    /// What cannot be read any more has not changed.
    fn count_kills(&self) -> u64 {
        let text = self.memory.as_ref().and_then(|file| files::reread(file).ok());
        let count = text.as_deref().and_then(|text| files::value_of(text, "oom_kill"));
        count.and_then(|count| count.parse().ok()).unwrap_or(self.kills)
    }

    fn poll(&self, timeout: Duration) -> rustix::io::Result<()> {
        let timeout = Timespec::try_from(timeout).map_err(|_| Errno::INVAL)?;
        let files = [Some(&self.events), self.memory.as_ref()];
        let mut files: Vec<_> =
            files.into_iter().flatten().map(|file| PollFd::new(file, PollFlags::PRI)).collect();
        match rustix::event::poll(&mut files, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn each_kill_is_told_once_and_the_end_after_all_kills() {
        let name = format!("orlop-watch-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        let memory = |kills| {
            let text = format!("low 0\nhigh 0\nmax 9\noom 3\noom_kill {kills}\n");
            fs::write(path.join("memory.events"), text).unwrap();
        };
        let populated = |n| {
            fs::write(path.join("cgroup.events"), format!("populated {n}\nfrozen 0\n")).unwrap();
        };
        memory(5);
        populated(1);
        let mut watch = Watch::open(File::open(&path).unwrap()).unwrap();
        let mut wait = || watch.wait(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(wait(), None, "what happened before is not told");
        memory(7);
        assert_eq!([wait(), wait(), wait()], [Some(Event::OomKill), Some(Event::OomKill), None]);
        memory(8);
        populated(0);
        assert_eq!(
            [wait(), wait(), wait()],
            [Some(Event::OomKill), Some(Event::Ended), Some(Event::Ended)]
        );
        fs::remove_dir_all(&path).unwrap();
    }
}
