//! containerd by its own client, `ctr`.

use std::fs::File;
use std::io::Write;

use nix::pty::openpty;
use orlop_conformance::console::read_until;
use orlop_conformance::run::Done;
use orlop_conformance::tmp::{TempDir, unique};
use orlop_conformance::{Run, proc};

use crate::cli::GREEDY;
use crate::{Driver, Runtime, check, daemons, is_heard, wait_for};

macro_rules! checks {
    ($module:ident, $driver:ident, $($check:ident)+) => {
        mod $module {
            $(#[test]
            fn $check() {
                super::check(|runtime| super::$check(&super::Ctr::begin(super::Driver::$driver, runtime)));
            })+
        }
    };
}

checks! { ctr_cgroupfs, Cgroupfs, runs_to_the_end tasks_are_managed terminals_work out_of_memory_is_an_event }
checks! { ctr_systemd, Systemd, tasks_are_managed out_of_memory_is_an_event }

struct Ctr {
    driver: Driver,
    runtime: Runtime,
    dir: TempDir,
    id: String,
}

impl Ctr {
    fn begin(driver: Driver, runtime: Runtime) -> Self {
        daemons::containerd();
        Self { driver, runtime, dir: TempDir::new("orlop-ctr"), id: unique("ctr") }
    }

    fn call(&self, args: &[&str]) -> Done {
        Run::new("ctr", self.dir.path()).args(args).done()
    }

    fn run_args(&self, flags: &[&str], args: &[&str]) -> Vec<String> {
        let binary = self.runtime.path();
        let mut words = vec!["run", "--runc-binary", &binary];
        let cgroup = match self.driver {
            Driver::Systemd => format!("machine.slice:ctr:{}", self.id),
            Driver::Cgroupfs => format!("/ctr/{}", self.id),
        };
        words.extend(["--cgroup", &cgroup]);
        if self.driver == Driver::Systemd {
            words.push("--runc-systemd-cgroup");
        }
        words.extend(flags);
        words.extend(["localhost/busybox:latest", &self.id]);
        words.extend(args);
        words.into_iter().map(str::to_owned).collect()
    }

    fn run(&self, flags: &[&str], args: &[&str]) -> Run {
        Run::new("ctr", self.dir.path()).args(self.run_args(flags, args))
    }

    /// The task's line of `ctr task ls`, in words.
    fn listed(&self) -> Vec<String> {
        let list = self.call(&["task", "ls"]).ok().stdout;
        let line = list.lines().find(|line| line.starts_with(&self.id)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn state(&self) -> String {
        self.listed().pop().unwrap_or_else(|| "gone".to_owned())
    }

    #[track_caller]
    fn pid(&self) -> i32 {
        self.listed()[1].parse().unwrap()
    }
}

impl Drop for Ctr {
    fn drop(&mut self) {
        let _: Done = self.call(&["task", "rm", "-f", &self.id]);
        let _: Done = self.call(&["container", "rm", &self.id]);
    }
}

fn runs_to_the_end(e: &Ctr) {
    let (read, mut write) = std::io::pipe().unwrap();
    let script = "read x; echo got $x; echo err >&2; exit 3";
    let running = e.run(&["--rm"], &["sh", "-c", script]).stdin(read).spawn();
    write.write_all(b"hello\n").unwrap();
    let done = running.done().exits(3);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("got hello\n", "err\n"));
    let done = e.run(&["--rm"], &["/no/such/program"]).done();
    assert_ne!(done.code(), 0);
    assert!(done.stderr.contains("no such file or directory"), "{done}");
    assert_eq!(e.state(), "gone");
}

fn tasks_are_managed(e: &Ctr) {
    let flags = ["-d", "--null-io", "--memory-limit", "67108864", "--cpus", "0.5"];
    let trap = "trap 'exit 5' TERM; while :; do sleep 1000 & wait $!; done";
    let _ = e.run(&flags, &["sh", "-c", trap]).done().ok();
    assert_eq!(e.state(), "RUNNING");
    let pid = e.pid();
    let cgroup = proc::cgroup(pid).unwrap();
    let want = match e.driver {
        Driver::Cgroupfs => format!("/ctr/{}", e.id),
        Driver::Systemd => format!("/machine.slice/ctr-{}.scope", e.id),
    };
    assert_eq!(cgroup, want);
    let limit =
        |file: &str| std::fs::read_to_string(format!("/sys/fs/cgroup{cgroup}/{file}")).unwrap();
    assert_eq!(limit("memory.max").trim(), "67108864");
    assert_eq!(limit("cpu.max").trim(), "50000 100000");

    let exec =
        ["task", "exec", "--exec-id", "e1", &e.id, "sh", "-c", "cat /proc/self/cgroup; exit 4"];
    let done = e.call(&exec).exits(4);
    // ctr asks for no cgroup namespace.
    assert_eq!(done.stdout, format!("0::{cgroup}\n"));
    let exec = ["task", "exec", "--exec-id", "e2", &e.id, "/no/such/program"];
    assert!(e.call(&exec).stderr.contains("no such file or directory"));
    assert!(e.call(&["task", "ps", &e.id]).ok().stdout.contains(&pid.to_string()));
    assert!(e.call(&["task", "metrics", &e.id]).ok().stdout.contains("memory.usage_limit"));

    let _ = e.call(&["task", "pause", &e.id]).ok();
    assert_eq!(e.state(), "PAUSED");
    assert!(limit("cgroup.events").contains("frozen 1"));
    let _ = e.call(&["task", "resume", &e.id]).ok();
    assert_eq!(e.state(), "RUNNING");
    let _ = e.call(&["task", "kill", "-s", "SIGTERM", &e.id]).ok();
    wait_for("the end", || e.state() == "STOPPED");
    let done = e.call(&["task", "rm", &e.id]).ok();
    assert!(done.stderr.contains("non-zero exit code 5"), "{done}");
}

fn terminals_work(e: &Ctr) {
    let pty = openpty(None, None).unwrap();
    let mut master = File::from(pty.master);
    let slave = File::from(pty.slave);
    let args =
        e.run_args(&["--rm", "--tty"], &["sh", "-c", "tty; read line; echo \"got $line\"; exit 6"]);
    let run = Run::new("setsid", e.dir.path()).args(["-c", "-w", "ctr"]).args(args);
    let running = run.stdin(slave.try_clone().unwrap()).stdout(slave).spawn();
    let _ = read_until(&mut master, "/dev/");
    master.write_all(b"hello\r").unwrap();
    let _ = read_until(&mut master, "got hello");
    let _ = running.done().exits(6);
}

fn out_of_memory_is_an_event(e: &Ctr) {
    assert!(is_heard(|| {
        let e = Ctr::begin(e.driver, e.runtime);
        let events = Run::new("ctr", e.dir.path()).arg("events").spawn();
        let flags = ["-d", "--null-io", "--memory-limit", "25165824"];
        let _ = e.run(&flags, &["sh", "-c", GREEDY]).done().ok();
        // From now on the shim listens. This may end with the container.
        let _: Done = e.call(&["task", "exec", "--exec-id", "go", &e.id, "touch", "/go"]);
        let said = |topic: &str| {
            let text = events.stdout_so_far();
            text.lines().any(|line| line.contains(topic) && line.contains(&e.id))
        };
        wait_for("the end", || e.state() == "STOPPED");
        let done = e.call(&["task", "rm", &e.id]).ok();
        assert!(done.stderr.contains("non-zero exit code 137"), "{done}");
        wait_for("the last event", || said("/tasks/delete"));
        said("/tasks/oom")
    }));
}
