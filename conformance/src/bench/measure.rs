//! One runtime under measurement.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::meter;
use crate::Run;

/// What is measured, in the order of the table.
pub(super) const COLUMNS: [(&str, &str); 9] = [
    ("run", "ms"),
    ("create", "ms"),
    ("start", "ms"),
    ("delete", "ms"),
    ("cycle", "ms"),
    ("exec", "ms"),
    ("syscalls", ""),
    ("peak RSS", "MiB"),
    ("held PSS", "MiB"),
];

/// A runtime, or the bare kernel work, and what was measured of it.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    program: PathBuf,
    dir: PathBuf,
    bundle: PathBuf,
    floor: bool,
    next: u32,
    values: BTreeMap<&'static str, Vec<f64>>,
}

impl Subject {
    pub(super) fn runtime(name: &str, program: &Path, dir: &Path, bundle: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            dir: dir.to_owned(),
            bundle: bundle.to_owned(),
            floor: false,
            next: 0,
            values: BTreeMap::new(),
        }
    }

    pub(super) fn floor(program: &Path, dir: &Path, bundle: &Path) -> Self {
        Self { floor: true, ..Self::runtime("kernel floor", program, dir, bundle) }
    }

    /// Whether this is the bare kernel work.
    pub(super) fn is_floor(&self) -> bool {
        self.floor
    }

    /// Starts the container that [`Subject::round`] runs further processes in.
    pub(super) fn hold(&mut self) -> Result<(), String> {
        if self.floor {
            return Ok(());
        }
        let (bundle, id) = self.holder();
        let bundle = bundle.to_string_lossy().into_owned();
        self.timed(&self.args(&["run", "--detach", "--bundle", &bundle, &id])).map(drop)
    }

    /// Removes it.
    pub(super) fn let_go(&mut self) -> Result<(), String> {
        if self.floor {
            return Ok(());
        }
        let (_, id) = self.holder();
        self.timed(&self.args(&["delete", "--force", &id])).map(drop)
    }

    /// Its bundle and id: of each runtime its own, as it has a cgroup of its own.
    fn holder(&self) -> (PathBuf, String) {
        (self.dir.join(format!("hold-{}", self.name)), format!("hold-{}", self.name))
    }

    /// The median of what was measured.
    pub(super) fn median(&self, column: &str) -> Option<f64> {
        let mut list = self.values.get(column)?.clone();
        list.sort_by(f64::total_cmp);
        let middle = list.len() / 2;
        if list.len().is_multiple_of(2) {
            Some(f64::midpoint(*list.get(middle.checked_sub(1)?)?, *list.get(middle)?))
        } else {
            list.get(middle).copied()
        }
    }

    fn put(&mut self, column: &'static str, value: f64) {
        self.values.entry(column).or_default().push(value);
    }

    fn args(&self, args: &[&str]) -> Vec<OsString> {
        let root = self.dir.join(format!("root-{}", self.name));
        let mut all = vec![self.program.clone().into(), "--root".into(), root.into()];
        all.extend(args.iter().map(OsString::from));
        all
    }

    fn run_command(&mut self) -> Vec<OsString> {
        if self.floor {
            return vec![self.program.clone().into(), self.bundle.join("rootfs").into()];
        }
        self.next += 1;
        let id = format!("run-{}", self.next);
        let bundle = self.bundle.to_string_lossy().into_owned();
        self.args(&["run", "--bundle", &bundle, &id])
    }

    /// One run, one exec, and one create, start, delete.
    pub(super) fn round(&mut self, counts: bool) -> Result<(), String> {
        let command = self.run_command();
        let run = self.timed(&command)?;
        if counts {
            self.put("run", run);
        }
        if self.floor {
            return Ok(());
        }
        let (_, holder) = self.holder();
        let exec = self.timed(&self.args(&["exec", &holder, "/bin/true"]))?;
        let (pid, id, create) = self.create()?;
        let held = pss(pid);
        let start = self.timed(&self.args(&["start", &id]))?;
        // As its shim would: the init's end is waited for and not part of any command's time.
        waitpid(Pid::from_raw(pid), None).map_err(|e| format!("{}: wait: {e}", self.name))?;
        let delete = self.timed(&self.args(&["delete", &id]))?;
        if counts {
            self.put("exec", exec);
            self.put("create", create);
            self.put("start", start);
            self.put("delete", delete);
            self.put("cycle", create + start + delete);
            held.into_iter().for_each(|mib| self.put("held PSS", mib));
        }
        Ok(())
    }

    fn create(&mut self) -> Result<(i32, String, f64), String> {
        self.next += 1;
        let id = format!("cycle-{}", self.next);
        let pid_file = self.dir.join("pid");
        let bundle = self.bundle.to_string_lossy().into_owned();
        let file = pid_file.to_string_lossy().into_owned();
        let command = self.args(&["create", "--bundle", &bundle, "--pid-file", &file, &id]);
        let time = self.timed(&command)?;
        let pid = std::fs::read_to_string(&pid_file).map_err(|e| format!("pid file: {e}"))?;
        let pid = pid.trim().parse().map_err(|e| format!("pid file: {e}"))?;
        Ok((pid, id, time))
    }

    /// Runs a command and returns its wall time in milliseconds, from before it is spawned until it was reaped.
    fn timed(&self, command: &[OsString]) -> Result<f64, String> {
        let errors = self.dir.join("stderr");
        let file = std::fs::File::create(&errors).map_err(|e| e.to_string())?;
        let (program, args) = command.split_first().ok_or("an empty command")?;
        let mut process = Command::new(program);
        process.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let begin = Instant::now();
        let status = process.status().map_err(|e| format!("{}: {e}", self.program.display()))?;
        let time = begin.elapsed();
        if status.success() {
            return Ok(time.as_secs_f64() * 1e3);
        }
        Err(format!("{command:?}: {status}: {}", crate::run::lossy(&errors)))
    }

    /// Peak memory of a `run`, three times.
    pub(super) fn memory(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            let command = self.run_command();
            let peak = meter::peak(&command, &self.dir)?;
            self.put("peak RSS", mib(peak));
        }
        Ok(())
    }

    /// System calls of a `run`, of all its processes.
    pub(super) fn system_calls(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            let summary = self.dir.join("strace");
            let command = self.run_command();
            let run = Run::new("strace", &self.dir).args(["-f", "-c", "-o"]).arg(&summary);
            let done = run.args(&command).done();
            if !done.status.success() {
                return Err(done.to_string());
            }
            let text = crate::run::lossy(&summary);
            let total = total_calls(&text).ok_or_else(|| format!("strace said: {text}"))?;
            self.put("syscalls", total);
        }
        Ok(())
    }
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
        let mut s = Subject::runtime("x", Path::new("x"), Path::new("/"), Path::new("/"));
        assert_eq!(s.median("run"), None);
        [3.0, 1.0, 2.0].iter().for_each(|v| s.put("run", *v));
        assert_eq!(s.median("run"), Some(2.0));
        s.put("run", 10.0);
        assert_eq!(s.median("run"), Some(2.5));
    }
}
