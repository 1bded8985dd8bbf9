//! One of those who make containers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::json;

use super::Place;
use crate::Test;
use crate::run::lossy;
use crate::suite::payload;

/// Makes containers one after the other, and processes in one that stays for as long.
#[derive(Debug)]
pub(super) struct Worker {
    runtime: PathBuf,
    dir: PathBuf,
    root: PathBuf,
    name: String,
    next: u32,
}

impl Worker {
    /// With two bundles: of a program that ends at once, and of one that stays.
    pub(super) fn new(runtime: &Path, place: &Place, number: u32) -> Result<Self, String> {
        let dir = place.dir.join(format!("job-{number}"));
        let io = |e: std::io::Error| e.to_string();
        let (first, second) = (dir.join("ends"), dir.join("stays"));
        for (bundle, actions) in [(&first, &[][..]), (&second, &["forever"])] {
            std::fs::create_dir_all(bundle).map_err(io)?;
            let name = bundle.file_name().unwrap_or_default().display();
            let test = Test::given(runtime, bundle);
            let made = test
                .bundle()
                .payload(actions)
                .set("/linux/cgroupsPath", json!(format!("/{}/{number}-{name}", place.cgroup)));
            let mut config = made.config.clone();
            config["root"]["path"] = json!(made.rootfs());
            std::fs::write(bundle.join("config.json"), config.to_string()).map_err(io)?;
        }
        let (runtime, root) = (runtime.to_owned(), place.dir.join("root"));
        Ok(Self { runtime, dir, root, name: format!("soak-{number}"), next: 0 })
    }

    /// Creates, starts and deletes containers, then executes processes in one.
    pub(super) fn work(&mut self, cycles: u32, execs: u32) -> Result<(), String> {
        for _ in 0..cycles {
            self.cycle()?;
        }
        let (id, bundle) = (format!("{}-stays", self.name), self.bundle("stays"));
        let init = self.made(&["run", "--detach"], &bundle, &id)?;
        for number in 0..execs {
            // Every other one is the shim's child, as `exec --detach` leaves it.
            if number % 2 == 0 {
                self.call(&["exec", &id, payload::PATH])?;
            } else {
                let file = self.dir.join("pid");
                let file = file.to_string_lossy().into_owned();
                self.call(&["exec", "--detach", "--pid-file", &file, &id, payload::PATH])?;
                wait(self.pid()?)?;
            }
        }
        self.call(&["delete", "--force", &id])?;
        wait(init)
    }

    fn bundle(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// Every fourth container is deleted before it has run.
    fn cycle(&mut self) -> Result<(), String> {
        self.next += 1;
        let (id, bundle) = (format!("{}-{}", self.name, self.next), self.bundle("ends"));
        let init = self.made(&["create"], &bundle, &id)?;
        if self.next.is_multiple_of(4) {
            self.call(&["delete", "--force", &id])?;
            return wait(init);
        }
        self.call(&["start", &id])?;
        wait(init)?;
        self.call(&["delete", &id])
    }

    fn made(&self, command: &[&str], bundle: &str, id: &str) -> Result<Pid, String> {
        let file = self.dir.join("pid").to_string_lossy().into_owned();
        let more = ["--bundle", bundle, "--pid-file", &file, id];
        self.call(&[command, &more].concat())?;
        self.pid()
    }

    /// The process that the pid file names.
    fn pid(&self) -> Result<Pid, String> {
        let text = lossy(&self.dir.join("pid"));
        text.trim().parse().map(Pid::from_raw).map_err(|e| format!("pid file {text:?}: {e}"))
    }

    fn call(&self, args: &[&str]) -> Result<(), String> {
        let errors = self.dir.join("stderr");
        let file = std::fs::File::create(&errors).map_err(|e| e.to_string())?;
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(&self.root).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let status = command.status().map_err(|e| format!("{}: {e}", self.runtime.display()))?;
        if status.success() {
            return Ok(());
        }
        Err(format!("{args:?}: {status}: {}", lossy(&errors)))
    }
}

/// Waits for an orphan of the runtime, as a shim does.
fn wait(pid: Pid) -> Result<(), String> {
    waitpid(pid, None).map(drop).map_err(|e| format!("wait for {pid}: {e}"))
}
