//! A container that was created and did not end with its command.

use std::path::PathBuf;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::run::{Done, lossy, wait_for};
use crate::{Bundle, proc};

/// A container in any state after `create` or `run --detach`.
#[derive(Debug)]
pub struct Container<'t> {
    /// Its bundle.
    pub bundle: Bundle<'t>,
    /// The pid that the pid file named.
    pub pid: i32,
    /// The file that its standard output goes to.
    pub output: PathBuf,
}

impl Container<'_> {
    /// Runs a command of the runtime: `call("kill", &["ID-less", "args"])` puts the id after the flags.
    #[track_caller]
    #[must_use]
    pub fn call(&self, command: &str, flags: &[&str], after: &[&str]) -> Done {
        let mut args = vec![command];
        args.extend(flags);
        args.push(&self.bundle.id);
        args.extend(after);
        self.bundle.test.call(&args)
    }

    /// `start`.
    #[track_caller]
    #[must_use]
    pub fn start(&self) -> Done {
        self.call("start", &[], &[])
    }

    /// `kill ID SIGNAL`.
    #[track_caller]
    #[must_use]
    pub fn kill(&self, signal: &str) -> Done {
        self.call("kill", &[], &[signal])
    }

    /// `delete`.
    #[track_caller]
    #[must_use]
    pub fn delete(&self) -> Done {
        self.call("delete", &[], &[])
    }

    /// What `state` prints.
    #[track_caller]
    #[must_use]
    pub fn state(&self) -> Value {
        self.call("state", &[], &[]).ok().json()
    }

    /// The status that `state` prints.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    /// What the payload has written so far.
    #[must_use]
    pub fn written(&self) -> String {
        lossy(&self.output)
    }

    /// Waits until the payload has written `text`.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) {
        wait_for(&format!("output {text:?}"), || self.written().contains(text));
    }

    /// Waits for the end of the init, as the engine's shim does, and reaps it.
    #[track_caller]
    #[must_use]
    pub fn reap(&self) -> WaitStatus {
        let pid = Pid::from_raw(self.pid);
        let mut status = None;
        wait_for("the end of the init", || match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => false,
            Ok(found) => {
                status = Some(found);
                true
            }
            Err(e) => panic!("the init {pid} is not a child of the runtime's caller: {e}"),
        });
        status.expect("a status")
    }

    /// Waits until the init has ended, without reaping it.
    #[track_caller]
    pub fn wait_gone(&self) {
        wait_for("the end of the init", || proc::is_gone(self.pid));
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // The bundle's own drop deletes the container; a zombie must not outlive the test's process table.
        let _: Done = self.call("delete", &["--force"], &[]);
        let _: nix::Result<WaitStatus> =
            waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
    }
}
