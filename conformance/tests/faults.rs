//! Whatever goes wrong at whichever system call, of the command or of the init that it spawns: killed with SIGKILL or
//! refused by the kernel, a command fails with a message that says what failed, or it has done all that it was asked
//! for; a container that runs is confined as it must be, and `delete --force` leaves nothing.
//!
//! Each call goes wrong once; with `ORLOP_FAULTS=all`, in every way that is known for it. `ORLOP_FAULT` names one, by
//! a part of what a complaint begins with, such as `command.0 92`.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;
use orlop_conformance::faults::errnos::{is_interruption, is_private};
use orlop_conformance::faults::{Call, End, Fault, Inside, Traced, Wrong, errnos, inside, trace};
use orlop_conformance::run::{Done, lossy};
use orlop_conformance::{Bundle, Peer, Test, traces};
use serde_json::json;

const HOOKS: [&str; 5] =
    ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A container with something of everything that confines it, which is made over and over.
struct Victim<'t> {
    t: &'t Test,
    bundle: Bundle<'t>,
    root: String,
    output: PathBuf,
    errors: PathBuf,
}

fn hooks(bundle: &Bundle<'_>) -> serde_json::Value {
    let busybox = bundle.rootfs().join("bin/busybox");
    let mut hooks = serde_json::Map::new();
    for stage in HOOKS {
        let inside = stage == "startContainer";
        let path = if inside { PathBuf::from("/bin/busybox") } else { busybox.clone() };
        let mark = if inside { PathBuf::from("/shared") } else { bundle.dir.join("shared") };
        let hook = json!({"path": path, "args": ["touch", mark.join(stage)]});
        hooks.insert(stage.to_owned(), json!([hook]));
    }
    hooks.into()
}

fn begin() -> Option<Test> {
    let t = Test::begin()?;
    // runc executes itself and has many threads; crun has its own idea of an interrupted create.
    if t.differs(&[Peer::Runc, Peer::Crun], "is not made to fail anywhere") {
        None
    } else {
        Some(t)
    }
}

impl<'t> Victim<'t> {
    fn new(t: &'t Test) -> Self {
        let mut bundle = t.bundle().sh(&format!("{}; sleep 1000", inside::SCRIPT));
        for directory in [
            "rootfs/masked",
            "rootfs/hidden",
            "rootfs/copied",
            "rootfs/shared",
            "rootfs/data",
            "shared",
            "data",
        ] {
            std::fs::create_dir(bundle.dir.join(directory)).unwrap();
        }
        orlop_conformance::rootfs::mode(&bundle.dir.join("shared"), 0o777);
        let (shared, data) = (bundle.dir.join("shared"), bundle.dir.join("data"));
        let hooks = hooks(&bundle);
        let all = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        let some = json!(["CAP_NET_BIND_SERVICE"]);
        let mounts = bundle.config["mounts"].as_array().unwrap().clone();
        let without = ["/dev/mqueue", "/dev/shm"];
        let mounts = mounts.into_iter().filter(|m| !without.iter().any(|w| m["destination"] == *w));
        bundle.config["mounts"] = mounts.collect();
        let bundle = bundle
            .file("masked/secret", "secret", 0o644)
            .file("hidden/secret", "secret", 0o644)
            .file("copied/file", "copied", 0o640)
            .set("/root/readonly", json!(true))
            .set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 1001], "umask": 0o27}))
            .set("/process/capabilities", json!({"bounding": all, "permitted": all, "effective": some, "inheritable": some, "ambient": some}))
            .set("/process/oomScoreAdj", json!(500))
            .set("/process/cwd", json!("/tmp"))
            .set("/process/rlimits", json!([
                {"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512},
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]))
            .set("/domainname", json!("faults"))
            .set("/linux/personality", json!({"domain": "LINUX32"}))
            .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}))
            .push("/linux/devices", json!({"type": "c", "path": "/dev/kmsg", "major": 1, "minor": 11, "fileMode": 0o666, "uid": 1000, "gid": 1000}))
            .set("/linux/maskedPaths", json!(["/proc/keys", "/proc/scsi", "/sys/firmware", "/masked/secret", "/hidden"]))
            .set("/linux/readonlyPaths", json!(["/proc/sys", "/proc/irq"]))
            .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 117}]}))
            .mount("/copied", "tmpfs", "tmpfs", &["nosuid", "tmpcopyup"])
            .mount("/shared", "bind", shared.to_str().unwrap(), &["bind", "nodev", "rslave"])
            .mount("/data", "bind", data.to_str().unwrap(), &["rbind", "ro"])
            .set("/hooks", hooks);
        bundle.write();
        let process = json!({
            "args": ["/bin/sh", "-c", inside::SCRIPT],
            "cwd": "/tmp",
            "env": ["PATH=/bin", "EXEC=1"],
            "user": {"uid": 1001, "gid": 1001, "additionalGids": [5], "umask": 0o77},
            "capabilities": {"bounding": all, "permitted": some, "effective": some, "inheritable": some, "ambient": some},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 256, "soft": 128}],
            "oomScoreAdj": 600,
            "noNewPrivileges": true
        });
        std::fs::write(bundle.dir.join("process.json"), process.to_string()).unwrap();
        let (output, errors) = (t.dir().join("inside"), t.dir().join("errors"));
        Self { t, bundle, root: t.root().to_str().unwrap().to_owned(), output, errors }
    }

    fn id(&self) -> &str {
        &self.bundle.id
    }

    /// `create` or `run`, undisturbed.
    fn made(&self, command: &[&str]) {
        self.forget();
        let output = std::fs::File::options().append(true).create(true).open(&self.output).unwrap();
        let run = self.t.command(command).arg("--bundle").arg(&self.bundle.dir).arg(self.id());
        let _ = run.stdout(output).done().ok();
    }

    fn started(&self) {
        self.made(&["run", "--detach"]);
        assert!(self.inside().is_some());
    }

    /// Removes what an earlier container has told.
    fn forget(&self) {
        let _missing = std::fs::remove_file(&self.output);
        for hook in HOOKS {
            let _missing = std::fs::remove_file(self.bundle.dir.join("shared").join(hook));
        }
    }

    /// What the program inside says; `None` where it does not come to its end.
    fn inside(&self) -> Option<Inside> {
        let mut inside = None;
        wait_a_little(|| {
            inside = Inside::parse(&lossy(&self.output));
            inside.is_some()
        });
        inside
    }

    /// The state's word; `None` where there is no container.
    fn status(&self) -> Result<Option<String>, String> {
        let done = self.t.call(&["state", self.id()]);
        if !done.status.success() {
            let none = done.code() == 1 && done.stderr.contains("container does not exist");
            return if none { Ok(None) } else { Err(format!("{done}")) };
        }
        let state = done.json();
        let status = state["status"].as_str().unwrap_or_default().to_owned();
        let consistent = (state["pid"] == 0) == (status == "stopped") && state["id"] == self.id();
        if consistent { Ok(Some(status)) } else { Err(format!("the state is {state}")) }
    }

    fn status_is(&self, possible: &[&str]) -> Result<Option<String>, String> {
        let status = self.status()?;
        let known = status.as_deref().is_none_or(|status| possible.contains(&status));
        if known { Ok(status) } else { Err(format!("the status is {status:?}")) }
    }

    /// What is there of the container.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        wait_a_little(|| traces::processes_after_reaping(self.id()).is_empty());
        left.extend(traces::processes_after_reaping(self.id()).iter().map(|p| format!("{p:?}")));
        if self.bundle.cgroup().exists() {
            left.push("its cgroup".to_owned());
        }
        for entry in std::fs::read_dir(self.t.root()).into_iter().flatten() {
            left.push(format!("{}", entry.unwrap().path().display()));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.bundle.dir.to_str().unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(dir)).map(str::to_owned));
        left
    }

    fn nothing_left(&self) -> Result<(), String> {
        let left = self.left();
        if left.is_empty() { Ok(()) } else { Err(format!("left: {}", left.join("; "))) }
    }

    /// `delete --force` succeeds, and nothing is there then.
    fn removed(&self) -> Result<(), String> {
        let done = self.t.call(&["delete", "--force", self.id()]);
        if !done.status.success() || !done.stderr.is_empty() {
            return Err(format!("after it: {done}"));
        }
        self.nothing_left().map_err(|left| format!("after delete --force: {left}"))
    }

    fn hooks_ran(&self, stages: &[&str]) -> Result<(), String> {
        for stage in stages {
            if !self.bundle.dir.join("shared").join(stage).exists() {
                return Err(format!("the {stage} hook did not run"));
            }
        }
        Ok(())
    }
}

/// Whatever ends by itself has ended after this time, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something is so, or for longer than it could take.
fn wait_a_little(mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !ready() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What the faults of a sweep are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kills,
    Errnos,
}

/// A command that goes wrong over and over.
struct Sweep<'v, 't> {
    victim: &'v Victim<'t>,
    args: Vec<&'v str>,
    /// The exit code of its failures.
    code: i32,
    kind: Kind,
}

/// What a command came to.
struct Outcome<'a> {
    fault: &'a Fault,
    call: &'a Call,
    end: End,
    stderr: String,
}

impl Outcome<'_> {
    fn succeeded(&self) -> bool {
        self.end == End::Exited(0)
    }

    /// It was killed, rather than something that it spawned.
    fn was_killed(&self) -> bool {
        self.end == End::Signaled(Signal::SIGKILL)
    }

    /// Something that it spawned was killed.
    fn killed_another(&self) -> bool {
        self.fault.wrong == Wrong::Killed && !self.was_killed()
    }

    /// A command that is not killed succeeds silently or says what failed.
    fn check_message(&self, code: i32) -> Result<(), String> {
        let text = self.stderr.trim();
        if self.end == End::Hung {
            return Err("it hangs".to_owned());
        }
        if self.was_killed() && self.fault.wrong == Wrong::Killed {
            return Ok(());
        }
        if self.succeeded() {
            return if text.is_empty() { Ok(()) } else { Err(format!("success with {text:?}")) };
        }
        // The standard library ends a program without memory.
        let memory = ["mmap", "mremap", "mprotect"].contains(&self.call.name);
        if self.end == End::Signaled(Signal::SIGABRT) && memory {
            return Ok(());
        }
        // A program that was killed before its execve(2) is one that was killed after it.
        if self.end == End::Exited(137) && self.killed_another() {
            return Ok(());
        }
        // Nothing takes any more what a program in the container writes.
        if self.end == End::Exited(141) && self.call.name == "write" {
            return Ok(());
        }
        if self.end != End::Exited(code) {
            return Err(format!("it ended with {:?}: {text}", self.end));
        }
        for bad in ["panicked", "bug", "errno", "os error"] {
            if text.contains(bad) {
                return Err(format!("the message says {bad:?}: {text}"));
            }
        }
        // An init that ended before its container was started: there is nothing left to start.
        let ended = ["has stopped", "the init ended"].iter().any(|end| text.contains(end));
        if ended && self.call.name == "read" && self.fault.process != "command" {
            return Ok(());
        }
        if is_interruption(self.fault.wrong) {
            return Err(format!("an interrupted call is to be made again: {text}"));
        }
        let words = match self.fault.wrong {
            Wrong::Killed
                if ["signal 9", "the init ended"].iter().any(|end| text.contains(end)) =>
            {
                return Ok(());
            }
            Wrong::Killed => "killed".to_owned(),
            Wrong::Fails(errno) | Wrong::FailsDone(errno) => words(errno),
        };
        // pthread_create(3) makes this of it.
        let words = if ["mmap", "mprotect"].contains(&self.call.name)
            && text.contains(&self::words(libc::EAGAIN))
        {
            self::words(libc::EAGAIN)
        } else {
            words
        };
        if text.contains(&words) && text.len() > words.len() + 10 {
            Ok(())
        } else {
            Err(format!("the message does not say {words:?}: {text}"))
        }
    }
}

/// The errno's text, as callers match it.
fn words(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

impl Sweep<'_, '_> {
    fn once(
        &self,
        init: Option<i32>,
        decide: &mut dyn FnMut(&Call) -> Option<Wrong>,
    ) -> (Traced, String) {
        let v = self.victim;
        let mut args = vec!["--root", v.root.as_str()];
        args.extend(&self.args);
        let traced = trace(v.t.runtime(), &args, (&v.output, &v.errors), init, decide);
        (traced, lossy(&v.errors))
    }

    /// Makes everything go wrong. `before` prepares for the command, and may name an init to be traced too; `after`
    /// judges what the command has come to, and cleans up.
    fn run(
        &self,
        before: impl Fn() -> Option<i32>,
        after: impl Fn(&Outcome<'_>) -> Result<(), String>,
    ) {
        let (undisturbed, said) = self.once(before(), &mut |_| None);
        assert_eq!((undisturbed.end, said.as_str()), (End::Exited(0), ""), "{:?}", self.args);
        self.victim.removed().unwrap();
        let all = std::env::var_os("ORLOP_FAULTS").is_some_and(|which| which == "all");
        let only = std::env::var("ORLOP_FAULT").ok();
        let (mut count, mut successes, mut complaints) = (0, 0, Vec::new());
        let mut private = BTreeMap::new();
        for (number, call) in undisturbed.calls.iter().enumerate() {
            let last_was_private = private.insert(&call.process, is_private(call)).unwrap_or(false);
            let mut wrongs = match self.kind {
                Kind::Kills if last_was_private && !all => Vec::new(),
                Kind::Kills => vec![Wrong::Killed],
                Kind::Errnos => errnos(call),
            };
            if !all && !wrongs.is_empty() {
                wrongs = vec![wrongs[number % wrongs.len()]];
            }
            for wrong in wrongs {
                let fault = Fault::at(call, wrong);
                let place = format!("{} {} ({})", fault.process, fault.index, call.name);
                if only.as_ref().is_some_and(|only| !place.contains(only.as_str())) {
                    continue;
                }
                let init = before();
                let (traced, stderr) =
                    self.once(init, &mut |call| fault.is_at(call).then_some(fault.wrong));
                let hit = traced.hit.unwrap_or_else(|| call.clone());
                let outcome = Outcome { fault: &fault, call: &hit, end: traced.end, stderr };
                count += 1;
                successes += u32::from(outcome.succeeded());
                let message = outcome.check_message(self.code);
                for complaint in [message, after(&outcome)].into_iter().filter_map(Result::err) {
                    complaints.push(format!("{place} {wrong:?}: {complaint}"));
                }
            }
        }
        let calls = undisturbed.calls.len();
        eprintln!("{:?}: {calls} calls, {count} faults, {successes} without effect", self.args);
        assert!(only.is_some() || (calls > 20 && count > 20), "too few calls: {calls}");
        assert!(
            complaints.is_empty(),
            "{} complaints:\n{}",
            complaints.len(),
            complaints.join("\n")
        );
    }
}

/// What an undisturbed container is, which is as its config says.
fn model(victim: &Victim<'_>) -> Inside {
    victim.started();
    let inside = victim.inside().unwrap();
    victim.hooks_ran(&HOOKS[..4]).unwrap();
    victim.removed().unwrap();
    victim.hooks_ran(&HOOKS[4..]).unwrap();
    assert_eq!(inside.status("Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(inside.status("CapBnd"), "0000000020000420");
    assert_eq!(inside.status("CapEff"), "0000000000000400");
    assert_eq!(inside.status("CapAmb"), "0000000000000400");
    assert_eq!(
        (inside.status("NoNewPrivs").as_str(), inside.status("Seccomp").as_str()),
        ("1", "2")
    );
    let mounts = inside.section("mountinfo").join("\n");
    for mask in ["/proc/keys", "/masked/secret", "/hidden", "/proc/sys", "/data", "/copied"] {
        assert!(mounts.contains(&format!(" on {mask} type ")), "{mask}: {mounts}");
    }
    let refused = inside.section("refused").join("\n");
    for words in
        ["kmsg: Operation not permitted", "Structure needs cleaning", "Read-only file system"]
    {
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(inside.section("/masked/secret"), &[] as &[String]);
    inside
}

/// What makes a difference: an /etc/passwd that may not be read is as good as none, as an image may have it.
fn differences(model: &Inside, inside: &Inside, fault: &Fault) -> Vec<String> {
    let no_passwd = fault.name == "openat2" && fault.wrong == Wrong::Fails(libc::EACCES);
    let mut differences = model.differences(inside);
    differences.retain(|line| !(no_passwd && line.contains(" HOME=")));
    differences
}

/// A container that was made in spite of a fault is the same as one that was made without.
fn is_confined(victim: &Victim<'_>, model: &Inside, fault: &Fault) -> Result<(), String> {
    let inside = victim
        .inside()
        .ok_or_else(|| format!("its program did not get through: {}", lossy(&victim.output)))?;
    let differences = differences(model, &inside, fault);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(format!("SUCCESS, BUT THE CONTAINER DIFFERS:\n  {}", differences.join("\n  ")))
    }
}

fn both<T>(first: Result<T, String>, second: Result<(), String>) -> Result<(), String> {
    match (first, second) {
        (Ok(_), second) => second,
        (Err(first), Ok(())) => Err(first),
        (Err(first), Err(second)) => Err(format!("{first}; {second}")),
    }
}

fn sweep_create(kind: Kind) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t);
    let model = model(&victim);
    let bundle = victim.bundle.dir.to_str().unwrap();
    let args = vec!["create", "--bundle", bundle, victim.id()];
    let sweep = Sweep { victim: &victim, args, code: 1, kind };
    let before = || {
        victim.forget();
        None
    };
    sweep.run(before, |outcome| {
        // Nothing runs: the init has ended when it was created, and before it was started.
        let ended = outcome.succeeded() && outcome.fault.process != "command";
        let status = victim.status();
        let result = if ended && status == Ok(Some("stopped".to_owned())) {
            Ok(())
        } else if outcome.succeeded() {
            start_and_look(&victim, &model, outcome.fault)
        } else if outcome.was_killed() {
            victim.status_is(&["created", "stopped"]).map(drop)
        } else {
            victim.nothing_left()
        };
        both(result, victim.removed())
    });
}

fn start_and_look(victim: &Victim<'_>, model: &Inside, fault: &Fault) -> Result<(), String> {
    let done: Done = victim.t.call(&["start", victim.id()]);
    if !done.status.success() {
        return Err(format!("SUCCESS, BUT {done}"));
    }
    both(is_confined(victim, model, fault), victim.hooks_ran(&HOOKS[..4]))
}

fn sweep_run(kind: Kind) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t);
    let model = model(&victim);
    let bundle = victim.bundle.dir.to_str().unwrap();
    let args = vec!["run", "--detach", "--bundle", bundle, victim.id()];
    let sweep = Sweep { victim: &victim, args, code: 1, kind };
    let before = || {
        victim.forget();
        None
    };
    sweep.run(before, |outcome| {
        let result = if outcome.killed_another() && outcome.succeeded() {
            victim.status_is(&["running", "stopped"]).map(drop)
        } else if outcome.succeeded() {
            both(is_confined(&victim, &model, outcome.fault), victim.hooks_ran(&HOOKS[..4]))
        } else if outcome.was_killed() {
            victim.status_is(&["running", "stopped"]).map(drop)
        } else {
            victim.nothing_left()
        };
        both(result, victim.removed())
    });
}

fn sweep_start(kind: Kind) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t);
    let model = model(&victim);
    let sweep = Sweep { victim: &victim, args: vec!["start", victim.id()], code: 1, kind };
    let before = || {
        victim.made(&["create"]);
        let state = victim.t.call(&["state", victim.id()]).ok().json();
        Some(i32::try_from(state["pid"].as_i64().unwrap()).unwrap())
    };
    sweep.run(before, |outcome| {
        let mut result = victim.status_is(&["created", "running", "stopped"]).map(drop);
        if outcome.succeeded() && !outcome.killed_another() {
            let looked =
                both(is_confined(&victim, &model, outcome.fault), victim.hooks_ran(&HOOKS[..4]));
            result = both(result, looked);
        } else if victim.status() == Ok(Some("created".to_owned())) {
            // Whoever finds it so can start it; the released one may have begun to run since.
            let done = t.call(&["start", victim.id()]);
            if done.status.success() {
                result = both(result, is_confined(&victim, &model, outcome.fault));
            } else if !done.stderr.contains("cannot start") {
                result = both(result, Err(format!("{done}")));
            }
        }
        both(result, victim.removed())
    });
}

fn sweep_exec(kind: Kind) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t);
    let process = victim.bundle.dir.join("process.json");
    let process = process.to_str().unwrap();
    victim.started();
    victim.forget();
    let _ = exec(&victim, process).ok();
    let model = victim.inside().unwrap();
    assert_eq!(model.status("Uid"), "1001\t1001\t1001\t1001");
    assert_eq!(
        (model.status("CapEff").as_str(), model.status("Seccomp").as_str()),
        ("0000000000000400", "2")
    );
    victim.removed().unwrap();
    let args = vec!["exec", "--process", process, victim.id()];
    let sweep = Sweep { victim: &victim, args, code: 255, kind };
    // The container's own processes.
    let own = RefCell::new(Vec::new());
    let before = || {
        if victim.status().unwrap().as_deref() != Some("running") {
            victim.started();
            let mut processes = Vec::new();
            wait_a_little(|| {
                processes = traces::processes(victim.id());
                processes.iter().any(|process| process.name == "sleep")
            });
            *own.borrow_mut() = processes.iter().map(|process| process.pid).collect();
        }
        victim.forget();
        None
    };
    sweep.run(before, |outcome| {
        let mut result = victim.status_is(&["running"]).map(drop);
        if outcome.succeeded() && !outcome.killed_another() {
            result = both(result, is_confined(&victim, &model, outcome.fault));
        }
        // A program whose `exec` was killed runs on to its end.
        let mut left = Vec::new();
        wait_a_little(|| {
            left = traces::processes_after_reaping(victim.id());
            left.retain(|process| !own.borrow().contains(&process.pid));
            left.is_empty()
        });
        if left.is_empty() { result } else { both(result, Err(format!("left: {left:?}"))) }
    });
    victim.removed().unwrap();
}

fn exec(victim: &Victim<'_>, process: &str) -> Done {
    let output = std::fs::File::options().append(true).create(true).open(&victim.output).unwrap();
    victim.t.command(["exec", "--process", process, victim.id()]).stdout(output).done()
}

fn sweep_delete(kind: Kind, made: &[&str], delete: &[&str]) {
    let Some(t) = begin() else { return };
    let victim = Victim::new(&t);
    let args = delete.iter().copied().chain([victim.id()]).collect();
    let sweep = Sweep { victim: &victim, args, code: 1, kind };
    let before = || {
        victim.made(made);
        None
    };
    let here = if made == ["create"] { "created" } else { "running" };
    sweep.run(before, |outcome| {
        let result = if outcome.succeeded() {
            both(victim.nothing_left(), victim.hooks_ran(&["poststop"]))
        } else {
            victim.status_is(&[here, "stopped"]).map(drop)
        };
        both(result, victim.removed())
    });
}

#[test]
fn create_survives_every_refused_system_call_or_says_what_failed() {
    sweep_create(Kind::Errnos);
}

#[test]
fn create_and_its_init_can_be_killed_before_any_system_call() {
    sweep_create(Kind::Kills);
}

#[test]
fn run_survives_every_refused_system_call_or_says_what_failed() {
    sweep_run(Kind::Errnos);
}

#[test]
fn run_and_its_init_can_be_killed_before_any_system_call() {
    sweep_run(Kind::Kills);
}

#[test]
fn start_survives_every_refused_system_call_or_says_what_failed() {
    sweep_start(Kind::Errnos);
}

#[test]
fn start_and_the_init_can_be_killed_before_any_system_call() {
    sweep_start(Kind::Kills);
}

#[test]
fn exec_survives_every_refused_system_call_or_says_what_failed() {
    sweep_exec(Kind::Errnos);
}

#[test]
fn exec_and_its_init_can_be_killed_before_any_system_call() {
    sweep_exec(Kind::Kills);
}

#[test]
fn forced_delete_survives_every_refused_system_call_or_says_what_failed() {
    sweep_delete(Kind::Errnos, &["run", "--detach"], &["delete", "--force"]);
}

#[test]
fn forced_delete_can_be_killed_before_any_system_call() {
    sweep_delete(Kind::Kills, &["run", "--detach"], &["delete", "--force"]);
}

#[test]
fn delete_of_a_created_container_survives_every_refused_system_call_or_says_what_failed() {
    sweep_delete(Kind::Errnos, &["create"], &["delete"]);
}

#[test]
fn delete_of_a_created_container_can_be_killed_before_any_system_call() {
    sweep_delete(Kind::Kills, &["create"], &["delete"]);
}
