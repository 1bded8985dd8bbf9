//! What is left of many containers: the same commands for a long time, and a count of everything before and after.
//!
//! All that can be counted exactly is made the soak's own: a mount namespace, `/run` and `/dev/shm`, a cgroup above its
//! containers', and the orphans of the runtime, who come to this process. The kernel's own figures are the whole
//! host's, who lives on meanwhile; there, only as much is a loss as so many containers would leave.

mod count;
mod sys;
mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::prctl;

use crate::suite::host;
use crate::tmp::TempDir;
use count::{Exactness, Figure, figures};
use work::Worker;

/// What to do, and how often.
#[derive(Debug)]
pub struct Options {
    /// The runtime.
    pub runtime: PathBuf,
    /// How many containers are created, started and deleted.
    pub cycles: u32,
    /// How many further processes are executed.
    pub execs: u32,
    /// How many commands run at a time.
    pub jobs: u32,
}

/// Containers and processes that only fill caches, for each job.
const WARM_UP: (u32, u32) = (20, 5);

/// Until when the kernel has put away what has ended, and until when what is the soak's own must be gone.
const SETTLED: Duration = Duration::from_secs(60);
const GONE: Duration = Duration::from_secs(5);

/// Where a soak's containers have their cgroups.
#[derive(Debug)]
struct Place {
    /// The directory of bundles and state.
    dir: PathBuf,
    /// The cgroup's name below the root.
    cgroup: String,
}

/// Does it, and prints what was there before and after; false where something is left.
///
/// # Errors
/// This is not root, the runtime fails, or the host lacks what is needed.
pub fn soak(options: &Options) -> Result<bool, String> {
    prctl::set_child_subreaper(true).map_err(|e| format!("subreaper: {e}"))?;
    host::enter_view()?;
    let dir = TempDir::new("orlop-soak");
    own_mounts()?;
    let cgroup = crate::tmp::unique("orlop-soak");
    let place = Place { dir: dir.path().to_owned(), cgroup };
    let result = counted(options, &place);
    place.remove_cgroups();
    result
}

impl Place {
    fn cgroup_dir(&self) -> PathBuf {
        PathBuf::from(host::CGROUPS).join(&self.cgroup)
    }

    /// Removes the empty cgroup, and what a runtime has left below it as far as it is empty.
    fn remove_cgroups(&self) {
        let dir = self.cgroup_dir();
        let below =
            std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        for cgroup in below.chain([dir.clone()]) {
            let _busy: std::io::Result<()> = std::fs::remove_dir(cgroup);
        }
    }
}

/// Nothing that others mount comes here, and nobody else's files are in these directories.
fn own_mounts() -> Result<(), String> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)
        .map_err(|e| format!("mount --make-rprivate /: {e}"))?;
    for target in ["/run", "/dev/shm"] {
        mount(Some("soak"), target, Some("tmpfs"), MsFlags::empty(), none)
            .map_err(|e| format!("{target}: {e}"))?;
    }
    Ok(())
}

fn counted(options: &Options, place: &Place) -> Result<bool, String> {
    let mut workers = (0..options.jobs.max(1))
        .map(|number| Worker::new(&options.runtime, place, number))
        .collect::<Result<Vec<_>, _>>()?;
    work(&mut workers, WARM_UP.0, WARM_UP.1)?;
    // What the warm-up has left to the kernel is not to be counted as there before.
    std::thread::sleep(Duration::from_secs(2));
    let before = figures(place);
    let begin = Instant::now();
    let share = |all: u32| all.div_ceil(options.jobs.max(1));
    work(&mut workers, share(options.cycles), share(options.execs))?;
    let time = begin.elapsed();
    let (after, settled) = settle(place, &before, options);
    println!(
        "{} containers and {} processes, {} at a time, in {:.1} s; settled after {:.1} s",
        share(options.cycles) * options.jobs.max(1),
        share(options.execs) * options.jobs.max(1),
        options.jobs.max(1),
        time.as_secs_f64(),
        settled.as_secs_f64()
    );
    Ok(report(&before, &after, options))
}

/// Everybody does their part at the same time.
fn work(workers: &mut [Worker], cycles: u32, execs: u32) -> Result<(), String> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|worker| scope.spawn(move || worker.work(cycles, execs)))
            .collect();
        let ends =
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a panic".to_owned()));
        ends.collect::<Vec<_>>().into_iter().try_for_each(|end| end?)
    })
}

/// Counts until there is no more than before, or the kernel has had its time.
fn settle(place: &Place, before: &[Figure], options: &Options) -> (Vec<Figure>, Duration) {
    let begin = Instant::now();
    loop {
        let after = figures(place);
        let left = |pair: &(&Figure, &Figure)| pair.1.left(pair.0, options.cycles).is_some();
        let mut left: Vec<_> = before.iter().zip(&after).filter(left).map(|pair| pair.1).collect();
        if begin.elapsed() > GONE {
            left.retain(|figure| figure.exactness == Exactness::Host);
        }
        if left.is_empty() || begin.elapsed() > SETTLED {
            return (after, begin.elapsed());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn report(before: &[Figure], after: &[Figure], options: &Options) -> bool {
    println!("{:<36} {:>9} {:>9}", "", "before", "after");
    let mut clean = true;
    for (old, new) in before.iter().zip(after) {
        let left = new.left(old, options.cycles);
        let note = match (left.is_some(), new.exactness) {
            (true, _) => "LEFT",
            (false, Exactness::Own) => "",
            (false, Exactness::Host) => "(the whole host's)",
        };
        println!("{:<36} {:>9} {:>9} {note}", new.name, old.count, new.count);
        left.into_iter().flatten().for_each(|what| println!("    {what}"));
        clean &= note != "LEFT";
    }
    clean
}
