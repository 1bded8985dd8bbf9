//! One runtime under measurement.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::config::plain;
use super::stage::Stage;
use super::{config, host, meter};
use crate::Run;
use crate::suite::report::Runtime;

/// What is measured in the first stage, in the order of the table.
pub(super) const COLUMNS: [(&str, &str); 10] = [
    ("run", "ms"),
    ("create", "ms"),
    ("start", "ms"),
    ("delete", "ms"),
    ("create + start + delete", "ms"),
    ("exec", "ms"),
    ("system calls of run", ""),
    ("peak RSS of run", "MiB"),
    ("held by a created container (PSS)", "MiB"),
    ("least memory", "KiB"),
];

/// What is measured in every stage.
pub(super) const EVERYWHERE: [&str; 3] = ["run", "create + start + delete", "exec"];

/// The bare kernel work, built by build.rs; empty where it could not be.
const FLOOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floor"));

/// A runtime, or the bare kernel work, and what was measured of it.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) version: String,
    program: PathBuf,
    dir: PathBuf,
    bundles: Vec<PathBuf>,
    floor: bool,
    holds: bool,
    next: AtomicU32,
    values: BTreeMap<(usize, &'static str), Vec<f64>>,
}

impl Subject {
    pub(super) fn runtime(runtime: &Runtime, dir: &Path, bundles: &[PathBuf]) -> Self {
        Self {
            name: runtime.label.clone(),
            version: runtime.version.clone(),
            program: runtime.path.clone(),
            dir: dir.to_owned(),
            bundles: bundles.to_vec(),
            floor: false,
            holds: false,
            next: AtomicU32::new(0),
            values: BTreeMap::new(),
        }
    }

    /// The bare kernel work; nothing where this program was built without a C compiler.
    pub(super) fn floor(dir: &Path, bundles: &[PathBuf]) -> Result<Option<Self>, String> {
        if FLOOR.is_empty() {
            return Ok(None);
        }
        let path = dir.join("floor");
        std::fs::write(&path, FLOOR).map_err(|e| format!("{}: {e}", path.display()))?;
        crate::rootfs::mode(&path, 0o755);
        let runtime = Runtime { label: "kernel floor".into(), path, version: String::new() };
        let mut subject = Self::runtime(&runtime, dir, bundles);
        subject.floor = true;
        Ok(Some(subject))
    }

    /// Whether this is the bare kernel work.
    pub(super) fn is_floor(&self) -> bool {
        self.floor
    }

    /// The size of its program in MiB.
    pub(super) fn size(&self) -> Option<f64> {
        std::fs::metadata(&self.program).ok().map(|m| mib(m.len() / 1024))
    }

    /// Starts the container that further processes are run in.
    pub(super) fn hold(&mut self) -> Result<(), String> {
        if self.floor {
            return Ok(());
        }
        let (bundle, id) = self.holder();
        let bundle = bundle.to_string_lossy().into_owned();
        self.holds = true;
        self.timed(&self.args(&["run", "--detach", "--bundle", &bundle, &id]), false).map(drop)
    }

    /// Removes it.
    pub(super) fn let_go(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.holds) {
            return Ok(());
        }
        let (_, id) = self.holder();
        self.timed(&self.args(&["delete", "--force", &id]), false).map(drop)
    }

    /// Its bundle and id: of each runtime its own, as it has a cgroup of its own.
    fn holder(&self) -> (PathBuf, String) {
        let name = format!("hold-{}", plain(&self.name));
        (self.dir.join(&name), name)
    }

    /// The median of what was measured in a stage.
    pub(super) fn median(&self, stage: usize, column: &str) -> Option<f64> {
        let found = self.values.iter().find(|((s, c), _)| *s == stage && *c == column);
        let mut list = found?.1.clone();
        list.sort_by(f64::total_cmp);
        let middle = list.len() / 2;
        if list.len().is_multiple_of(2) {
            Some(f64::midpoint(*list.get(middle.checked_sub(1)?)?, *list.get(middle)?))
        } else {
            list.get(middle).copied()
        }
    }

    pub(super) fn put(&mut self, stage: usize, column: &'static str, value: f64) {
        self.values.entry((stage, column)).or_default().push(value);
    }

    fn args(&self, args: &[&str]) -> Vec<OsString> {
        let root = self.dir.join(format!("root-{}", plain(&self.name)));
        let mut all = vec![self.program.clone().into(), "--root".into(), root.into()];
        all.extend(args.iter().map(OsString::from));
        all
    }

    fn id(&self, kind: &str) -> String {
        format!("{kind}-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn bundle(&self, slot: usize) -> String {
        self.bundles[slot].to_string_lossy().into_owned()
    }

    fn run_command(&self, slot: usize) -> Vec<OsString> {
        if self.floor {
            return vec![self.program.clone().into(), self.bundles[slot].join("rootfs").into()];
        }
        self.args(&["run", "--bundle", &self.bundle(slot), &self.id("run")])
    }

    /// One run, one exec, and one create, start, delete; or several of each at a time.
    pub(super) fn round(
        &mut self,
        number: usize,
        stage: &Stage,
        counts: bool,
    ) -> Result<(), String> {
        let mut found = Vec::new();
        let cold = stage.cold;
        let run = at_a_time(stage.jobs, |slot| self.timed(&self.run_command(slot), cold))?;
        found.push(("run", run));
        if !self.floor {
            let (_, holder) = self.holder();
            let exec = at_a_time(stage.jobs, |_| {
                self.timed(&self.args(&["exec", &holder, "/bin/true"]), cold)
            })?;
            found.push(("exec", exec));
            if stage.jobs == 1 {
                found.extend(self.cycle(0, cold)?);
            } else {
                let cycle = at_a_time(stage.jobs, |slot| self.cycle(slot, cold).map(|_| 0.0))?;
                found.push(("create + start + delete", cycle));
            }
        }
        if counts {
            found.into_iter().for_each(|(column, value)| self.put(number, column, value));
        }
        Ok(())
    }

    /// A container's whole life.
    fn cycle(&self, slot: usize, cold: bool) -> Result<Vec<(&'static str, f64)>, String> {
        let id = self.id("cycle");
        let pid_file = self.dir.join(format!("pid-{slot}"));
        let file = pid_file.to_string_lossy().into_owned();
        let bundle = self.bundle(slot);
        let command = self.args(&["create", "--bundle", &bundle, "--pid-file", &file, &id]);
        let create = self.timed(&command, cold)?;
        let pid = std::fs::read_to_string(&pid_file).map_err(|e| format!("pid file: {e}"))?;
        let pid = pid.trim().parse().map_err(|e| format!("pid file: {e}"))?;
        let held = pss(pid);
        let start = self.timed(&self.args(&["start", &id]), cold)?;
        // As its shim would: the init's end is waited for and not part of any command's time.
        waitpid(Pid::from_raw(pid), None).map_err(|e| format!("{}: wait: {e}", self.name))?;
        let delete = self.timed(&self.args(&["delete", &id]), cold)?;
        let mut found = vec![("create", create), ("start", start), ("delete", delete)];
        found.push(("create + start + delete", create + start + delete));
        found.extend(held.map(|mib| ("held by a created container (PSS)", mib)));
        Ok(found)
    }

    /// Runs a command and returns its wall time in milliseconds, from before it is spawned until it was reaped.
    fn timed(&self, command: &[OsString], cold: bool) -> Result<f64, String> {
        let errors = self.dir.join(self.id("stderr"));
        let file = std::fs::File::create(&errors).map_err(|e| e.to_string())?;
        let (program, args) = command.split_first().ok_or("an empty command")?;
        let mut process = Command::new(program);
        process.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        if cold {
            host::drop_caches()?;
        }
        let begin = Instant::now();
        let status = process.status().map_err(|e| format!("{}: {e}", self.program.display()))?;
        let time = begin.elapsed();
        let said = crate::run::lossy(&errors);
        std::fs::remove_file(&errors).map_err(|e| e.to_string())?;
        if status.success() {
            return Ok(time.as_secs_f64() * 1e3);
        }
        Err(format!("{command:?}: {status}: {said}"))
    }

    /// Peak memory of a `run`, three times.
    pub(super) fn memory(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            let command = self.run_command(0);
            let peak = meter::peak(&command, &self.dir)?;
            self.put(0, "peak RSS of run", mib(peak));
        }
        Ok(())
    }

    /// System calls of a `run`, of all its processes.
    pub(super) fn system_calls(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            let summary = self.dir.join("strace");
            let command = self.run_command(0);
            let run = Run::new("strace", &self.dir).args(["-f", "-c", "-o"]).arg(&summary);
            let done = run.args(&command).done();
            if !done.status.success() {
                return Err(done.to_string());
            }
            let text = crate::run::lossy(&summary);
            let total = total_calls(&text).ok_or_else(|| format!("strace said: {text}"))?;
            self.put(0, "system calls of run", total);
        }
        Ok(())
    }

    /// Whether a container that may take `bytes` of memory runs to a good end.
    pub(super) fn starts_within(&self, bytes: u64) -> Result<bool, String> {
        let bundle = self.bundles.first().ok_or("no bundle")?;
        let bundle = config::limited(bundle, &self.dir, bytes)?;
        let id = self.id("limited");
        let bundle = bundle.to_string_lossy().into_owned();
        let run = self.timed(&self.args(&["run", "--bundle", &bundle, &id]), false);
        if run.is_err() {
            // What is left of one that was killed.
            self.timed(&self.args(&["delete", "--force", &id]), false)?;
        }
        Ok(run.is_ok())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Where a measurement ended in a panic; nothing can be said then.
        let _: Result<(), String> = self.let_go();
    }
}

/// Does something `jobs` times at a time; gives the milliseconds that one took, which are those of all by their number.
fn at_a_time(
    jobs: usize,
    work: impl Fn(usize) -> Result<f64, String> + Sync,
) -> Result<f64, String> {
    if jobs <= 1 {
        return work(0);
    }
    let begin = Instant::now();
    let done: Result<Vec<f64>, String> = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..jobs).map(|slot| scope.spawn(move || work(slot))).collect();
        threads.into_iter().map(|t| t.join().map_err(|_| "a thread panicked")?).collect()
    });
    let time = begin.elapsed().as_secs_f64() * 1e3;
    done.map(|_| time / f64::from(u32::try_from(jobs).unwrap_or(u32::MAX)))
}

/// The number of calls in the last line of `strace -c`: `100.00  0.010000  12  764  83 total`.
fn total_calls(summary: &str) -> Option<f64> {
    let line = summary.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// The proportional set size of a process in MiB.
fn pss(pid: i32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok().map(mib)
}

/// KiB as MiB.
fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

#[cfg(test)]
impl Subject {
    /// One that was not measured, for tests of reports.
    pub(super) fn made_up(name: &str, floor: bool) -> Self {
        let runtime =
            Runtime { label: name.into(), path: "/proc/self/exe".into(), version: "1".into() };
        let mut subject = Self::runtime(&runtime, Path::new("/"), &[]);
        subject.floor = floor;
        subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_is_read_from_a_summary_of_strace() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n\
                    ------ ----------- ----------- --------- --------- ----------------\n\
                    100.00    0.018232          23       764        83 total\n";
        assert_eq!(total_calls(text), Some(764.0));
    }

    #[test]
    fn median_of_even_and_odd_counts() {
        let mut s = Subject::made_up("x", false);
        assert_eq!(s.median(0, "run"), None);
        [3.0, 1.0, 2.0].iter().for_each(|v| s.put(0, "run", *v));
        assert_eq!(s.median(0, "run"), Some(2.0));
        s.put(0, "run", 10.0);
        assert_eq!(s.median(0, "run"), Some(2.5));
        assert_eq!(s.median(1, "run"), None);
    }

    #[test]
    fn time_of_several_at_a_time_is_shared_by_them() {
        let sleep = |_| {
            std::thread::sleep(std::time::Duration::from_millis(40));
            Ok(0.0)
        };
        let each = at_a_time(4, sleep).expect("no failure");
        assert!((10.0..40.0).contains(&each), "{each}");
        assert_eq!(
            at_a_time(2, |slot| if slot == 1 { Err("no".into()) } else { Ok(1.0) }),
            Err("no".into())
        );
    }
}
