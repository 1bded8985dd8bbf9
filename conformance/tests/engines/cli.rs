//! Docker and Podman, whose commands are the same.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use orlop_conformance::console::{read_for, read_until};
use orlop_conformance::run::{Done, Running, limit};
use orlop_conformance::tmp::{TempDir, unique};
use orlop_conformance::{Run, proc};

use crate::{Driver, Runtime, daemons, wait_for};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Podman,
}

/// An engine with a runtime and a cgroup driver, for one check.
#[derive(Debug)]
pub(crate) struct Cli {
    pub(crate) kind: Kind,
    pub(crate) driver: Driver,
    pub(crate) runtime: Runtime,
    pub(crate) dir: TempDir,
    /// What runs it as another user than root.
    pub(crate) user: &'static [&'static str],
}

impl Cli {
    pub(crate) fn begin(kind: Kind, driver: Driver, runtime: Runtime) -> Self {
        match kind {
            Kind::Docker => daemons::docker(driver, Runtime::Ours),
            Kind::Podman => daemons::podman(),
        }
        Self { kind, driver, runtime, dir: TempDir::new("orlop-cli"), user: &[] }
    }

    /// The same engine with the control, to compare with.
    pub(crate) fn control(&self) -> Self {
        Self { user: self.user, ..Self::begin(self.kind, self.driver, Runtime::Control) }
    }

    fn program(&self) -> Vec<String> {
        let words: &[&str] = match (self.kind, self.runtime, self.driver) {
            (Kind::Docker, ..) => &["docker"],
            (Kind::Podman, Runtime::Ours, Driver::Systemd) => &["podman", "--runtime", "orlop"],
            // By path, as one tries it.
            (Kind::Podman, Runtime::Ours, Driver::Cgroupfs) => {
                &["podman", "--runtime", "/job/orlop"]
            }
            (Kind::Podman, Runtime::Control, _) => &["podman", "--runtime", "runc"],
        };
        let mut words = self.user.iter().chain(words).map(|w| (*w).to_owned()).collect::<Vec<_>>();
        if self.kind == Kind::Podman {
            words.push(format!("--cgroup-manager={:?}", self.driver).to_lowercase());
        }
        words
    }

    pub(crate) fn command(&self, args: &[&str]) -> Run {
        let program = self.program();
        Run::new(&program[0], self.dir.path()).args(&program[1..]).args(args)
    }

    #[track_caller]
    pub(crate) fn call(&self, args: &[&str]) -> Done {
        self.command(args).done()
    }

    /// The arguments of `run` before the image; without a network unless one is asked for.
    fn run_args<'a>(&self, flags: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["run"];
        if self.kind == Kind::Docker {
            let name = if self.runtime == Runtime::Ours { "orlop" } else { "runc" };
            args.extend(["--runtime", name]);
        }
        if !flags.iter().any(|f| f.starts_with("--net") || *f == "--pod") {
            args.extend(["--net", "none"]);
        }
        args.extend(flags);
        args
    }

    pub(crate) fn run_command(&self, flags: &[&str], args: &[&str]) -> Run {
        self.command(&self.run_args(flags)).arg("localhost/busybox").args(args)
    }

    /// `run --rm`.
    #[track_caller]
    pub(crate) fn run(&self, flags: &[&str], args: &[&str]) -> Done {
        self.run_command(&[&["--rm"], flags].concat(), args).done()
    }

    #[track_caller]
    pub(crate) fn sh(&self, flags: &[&str], script: &str) -> Done {
        self.run(flags, &["sh", "-c", script])
    }

    /// `run -d`; the container is removed when the value is dropped.
    #[track_caller]
    pub(crate) fn start(&self, flags: &[&str], args: &[&str]) -> Up<'_> {
        let up = Up { cli: self, name: unique("c") };
        let _ = self.run_command(&[&["-d", "--name", &up.name], flags].concat(), args).done().ok();
        up
    }

    /// Runs a command on a terminal of 31 rows and 91 columns.
    pub(crate) fn on_terminal(&self, args: &[&str]) -> Terminal {
        let size = Winsize { ws_row: 31, ws_col: 91, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let slave = File::from(pty.slave);
        let path = nix::unistd::ttyname(&slave).unwrap().display().to_string();
        let run = Run::new("setsid", self.dir.path()).args(["-c", "-w"]).args(self.program());
        let run = run.args(args).stdin(slave.try_clone().unwrap()).stdout(slave);
        Terminal { master: File::from(pty.master), path, running: run.spawn() }
    }

    /// `run --rm -it` on such a terminal.
    pub(crate) fn run_on_terminal(&self, args: &[&str]) -> Terminal {
        let flags = self.run_args(&["--rm", "-it"]);
        self.on_terminal(&[&flags, &["localhost/busybox"][..], args].concat())
    }
}

pub(crate) struct Terminal {
    master: File,
    path: String,
    pub(crate) running: Running,
}

impl Terminal {
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        read_until(&mut self.master, text)
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Resizes it until the program on it says so. Clients ask for signals when the container already runs: the first
    /// may be lost, and there is none where the size is the same.
    pub(crate) fn resize_until(&mut self, rows: u16, columns: u16, text: &str) {
        let end = Instant::now() + limit();
        let mut said = Vec::new();
        loop {
            for rows in [rows + 1, rows] {
                let (rows, columns) = (rows.to_string(), columns.to_string());
                let stty = ["stty", "-F", &self.path, "rows", &rows, "cols", &columns];
                let _ = daemons::call(&stty).ok();
            }
            if read_for(&mut self.master, text, Duration::from_secs(10), &mut said) {
                return;
            }
            assert!(Instant::now() < end, "never {text:?}: {:?}", String::from_utf8_lossy(&said));
        }
    }
}

/// A container that runs.
pub(crate) struct Up<'c> {
    cli: &'c Cli,
    pub(crate) name: String,
}

impl Up<'_> {
    #[track_caller]
    pub(crate) fn call(&self, command: &str, flags: &[&str]) -> Done {
        self.cli.call(&[&[command], flags, &[&self.name]].concat())
    }

    #[track_caller]
    pub(crate) fn inspect(&self, format: &str) -> String {
        self.call("inspect", &["-f", format]).ok().stdout.trim().to_owned()
    }

    #[track_caller]
    pub(crate) fn exec(&self, flags: &[&str], args: &[&str]) -> Done {
        self.cli.call(&[&["exec"], flags, &[&self.name], args].concat())
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_for(text, || self.call("logs", &[]).stdout.contains(text));
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&self) -> String {
        self.call("wait", &[]).ok().stdout.trim().to_owned()
    }

    /// Leaves the removal to somebody else.
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }

    /// Its cgroup, as seen from the host.
    pub(crate) fn cgroup(&self) -> Cgroup {
        let pid = self.inspect("{{.State.Pid}}").parse().unwrap();
        Cgroup { path: proc::cgroup(pid).unwrap() }
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        // Podman would give the container ten seconds to end by itself.
        let at_once: &[&str] = if self.cli.kind == Kind::Podman { &["-t", "0"] } else { &[] };
        let _: Done = self.call("rm", &[&["-f", "-v"], at_once].concat());
    }
}

pub(crate) struct Cgroup {
    pub(crate) path: String,
}

impl Cgroup {
    /// A file's content, without the line's end.
    #[track_caller]
    pub(crate) fn read(&self, file: &str) -> String {
        let path = format!("/sys/fs/cgroup{}/{file}", self.path);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        text.trim().to_owned()
    }

    /// The name of the systemd unit that it belongs to.
    pub(crate) fn scope(&self) -> &str {
        self.path.split('/').find(|part| part.ends_with(".scope")).expect("a scope")
    }
}

/// A program that waits for a file, and then takes memory until it is killed.
pub(crate) const GREEDY: &str = "until test -e /go; do sleep 0.1; done; exec tail /dev/zero";
