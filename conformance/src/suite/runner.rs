//! Runs cases, several at a time, each in a process of its own and in bounded time.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::report::{Cell, Report, Row, Runtime, Verdict};
use super::{Case, Kind, Outcome, child, known, sweep};
use crate::run::{in_path, lossy};

/// What to run.
#[derive(Debug)]
pub struct Plan {
    /// The runtimes, the first being the one that is judged.
    pub runtimes: Vec<Runtime>,
    /// Which cases, of all.
    pub kind: Kind,
    /// Parts of titles; a case is run that has one of them.
    pub filters: Vec<String>,
    /// How many cases run at a time.
    pub jobs: usize,
    /// How long a race is run, in seconds.
    pub seconds: u64,
    /// Another payload than the embedded one.
    pub payload: Option<PathBuf>,
}

/// How long a case may take, races aside, in seconds.
const LIMIT: u64 = 90;

/// What is known of a runtime from its `--version`.
///
/// # Errors
/// Where it cannot be run, in words.
pub fn runtime(label: Option<String>, path: &Path) -> Result<Runtime, String> {
    let path = if path.components().count() > 1 {
        path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?
    } else {
        in_path(path).ok_or_else(|| format!("no program {} in PATH", path.display()))?
    };
    let out = Command::new(&path)
        .arg("--version")
        .output()
        .map_err(|e| format!("{}: {e}", path.display()))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    // "runc version 1.3.6+ds1", "crun version 1.28", "youki version: 0.5.7"
    let line = text.lines().next().unwrap_or_default().replace("version:", "version");
    let version = line.replace(" version ", " ").trim().to_owned();
    if !out.status.success() || !version.contains(' ') {
        return Err(format!("{} --version: {}: {text}", path.display(), out.status));
    }
    Ok(Runtime { label: label.unwrap_or_else(|| version.clone()), path, version })
}

/// A piece of work: a case by its number, a runtime by its number.
type Job = (usize, usize);

/// Runs the cases that the plan names, of all that there are.
///
/// `progress` is called for each result, with how many are done of how many.
///
/// # Panics
/// Where this program cannot be started again, which it is for each case.
pub fn run(
    cases: &[Case],
    plan: &Plan,
    progress: &(dyn Fn(usize, usize, &Row, &Runtime) + Sync),
) -> Report {
    // What a case's process leaves behind in spite of itself comes here.
    nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
    let wanted = |case: &Case| {
        let title = case.title();
        case.kind == plan.kind && plan.filters.iter().any(|f| title.contains(f.as_str()))
    };
    let chosen: Vec<usize> = (0..cases.len()).filter(|i| wanted(&cases[*i])).collect();
    let jobs: Vec<Job> =
        chosen.iter().flat_map(|case| (0..plan.runtimes.len()).map(|r| (*case, r))).collect();
    let work = std::env::temp_dir().join(crate::tmp::unique("orlop-suite"));
    std::fs::create_dir(&work).unwrap_or_else(|e| panic!("{}: {e}", work.display()));
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Mutex<Vec<(Job, Cell)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let case = &cases[job.0];
                    let cell = cell(case, job.0, &plan.runtimes[job.1], plan, &work);
                    let number = done.fetch_add(1, Ordering::Relaxed) + 1;
                    progress(
                        number,
                        jobs.len(),
                        &row(case, vec![cell.clone()]),
                        &plan.runtimes[job.1],
                    );
                    results.lock().expect("no panic holds it").push((*job, cell));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no panic held it");
    results.sort_by_key(|(job, _)| *job);
    let mut cells = results.into_iter().map(|(_, cell)| cell);
    let rows = chosen
        .iter()
        .map(|case| row(&cases[*case], cells.by_ref().take(plan.runtimes.len()).collect()))
        .collect();
    if let Err(text) = sweep::remove_tree(&work) {
        eprintln!("{text}");
    }
    let _: std::io::Result<()> =
        std::fs::remove_dir(Path::new(super::host::CGROUPS).join(crate::harness::CGROUP_PARENT));
    Report::new(plan.runtimes.clone(), rows)
}

fn row(case: &Case, cells: Vec<Cell>) -> Row {
    Row { section: case.section, name: case.name.clone(), spec: case.spec, cells }
}

fn cell(case: &Case, number: usize, runtime: &Runtime, plan: &Plan, work: &Path) -> Cell {
    let start = Instant::now();
    let missing: Vec<String> = case.needs.iter().filter_map(super::host::Need::missing).collect();
    let (verdict, text) = if missing.is_empty() {
        match try_case(number, runtime, plan, work) {
            Outcome::Pass => (Verdict::Pass, String::new()),
            Outcome::Skip(reason) => (Verdict::Skip, reason),
            Outcome::Fail(text) => match known::reason(&runtime.version, &case.title()) {
                Some(reason) => (Verdict::Known, format!("{reason}\n{text}")),
                None => (Verdict::Fail, text),
            },
        }
    } else {
        (Verdict::Skip, missing.join("; "))
    };
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Cell { verdict, text, millis }
}

/// Runs a case in a process of its own and cleans up after it.
fn try_case(number: usize, runtime: &Runtime, plan: &Plan, work: &Path) -> Outcome {
    let dir = work.join(crate::tmp::unique("case"));
    std::fs::create_dir(&dir).expect("a directory in our own");
    let mut child = spawn(number, runtime, plan, &dir);
    let pid = i32::try_from(child.id()).unwrap_or(0);
    let mut outcome = wait(&mut child, pid, plan);
    let said: Option<Outcome> = serde_json::from_str(&lossy(&child::outcome_file(&dir))).ok();
    if outcome.is_none() {
        outcome = said;
    }
    let stderr = lossy(&dir.join("stderr"));
    let outcome =
        outcome.unwrap_or_else(|| Outcome::Fail(format!("the case's process died: {stderr}")));
    let left = sweep::clean(pid, &dir);
    match outcome {
        Outcome::Pass if !left.is_empty() => {
            Outcome::Fail(format!("left behind: {}", left.join(", ")))
        }
        other => other,
    }
}

fn spawn(number: usize, runtime: &Runtime, plan: &Plan, dir: &Path) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("orlop-conformance").args(["case", &number.to_string()]);
    command.arg("--runtime").arg(&runtime.path).arg("--dir").arg(dir);
    command.args(["--seconds", &plan.seconds.to_string()]);
    if let Some(payload) = &plan.payload {
        command.arg("--payload").arg(payload);
    }
    command.stdin(Stdio::null()).process_group(0).current_dir(dir);
    command.stdout(File::create(dir.join("stdout")).expect("a file in our own directory"));
    command.stderr(File::create(dir.join("stderr")).expect("a file in our own directory"));
    command.spawn().expect("this program can be started again")
}

/// Waits for a case's process; kills it and all that it started where it takes too long.
fn wait(child: &mut Child, pid: i32, plan: &Plan) -> Option<Outcome> {
    let limit = LIMIT + 2 * plan.seconds;
    let end = Instant::now() + Duration::from_secs(limit);
    while child.try_wait().is_ok_and(|status| status.is_none()) {
        if Instant::now() > end {
            sweep::kill_tree(pid);
            let _: std::io::Result<std::process::ExitStatus> = child.wait();
            return Some(Outcome::Fail(format!("took more than {limit} s")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}
