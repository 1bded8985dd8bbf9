//! Running a program to its end, with a time limit.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::caller::{Caller, Side};

/// How long a command may take before the test fails: 30 seconds, or `ORLOP_TEST_SECONDS`.
///
/// Far above what any command needs: a loaded machine must not fail a test, nor an emulated one.
#[must_use]
pub fn limit() -> Duration {
    let seconds = std::env::var("ORLOP_TEST_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Done {
    /// The command, for messages.
    pub command: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// What it and its children had written to standard output when it ended.
    pub stdout: String,
    /// The same for standard error.
    pub stderr: String,
}

impl Done {
    /// The exit code; 128 + signal where a signal ended the command.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Fails the test unless the command ended with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code() == code, "expected exit code {code}: {self}");
        self
    }

    /// Fails the test unless the command ended with 1 and said `text` on standard error.
    #[track_caller]
    pub fn fails(self, text: &str) -> Self {
        self.fails_with_any(&[text])
    }

    /// Like [`Done::fails`], where more than one wording is right.
    #[track_caller]
    pub fn fails_with_any(self, texts: &[&str]) -> Self {
        let done = self.exits(1);
        let said = texts.iter().any(|text| done.stderr.contains(text));
        assert!(said, "expected one of {texts:?} on standard error: {done}");
        done
    }

    /// Standard output, parsed as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }

    /// The lines of standard output.
    #[must_use]
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}`: {}\n--- stdout\n{}--- stderr\n{}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}

/// A command to run. Its output goes to files: a container that outlives the command may keep them open, and a pipe
/// would then never end.
#[derive(Debug)]
pub struct Run {
    command: Command,
    out: PathBuf,
    err: PathBuf,
    own_stdout: bool,
    limit: Duration,
}

/// The program that `PATH` leads to.
#[must_use]
pub fn in_path(program: impl AsRef<Path>) -> Option<PathBuf> {
    let dirs = std::env::var_os("PATH")?;
    std::env::split_paths(&dirs).map(|dir| dir.join(&program)).find(|path| path.exists())
}

impl Run {
    /// A command whose output files are made in `dir`. Its standard input is empty.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>, dir: &Path) -> Self {
        let name = crate::tmp::unique("out");
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).process_group(0);
        let (out, err) = (dir.join(format!("{name}.stdout")), dir.join(format!("{name}.stderr")));
        Self { command, out, err, own_stdout: true, limit: limit() }
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<OsString>) -> Self {
        self.command.env(key, value.into());
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Gives it another time than [`limit`].
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.limit = time;
        self
    }

    /// Runs it as a user and group of this number, without other groups.
    #[must_use]
    pub fn user(mut self, id: u32) -> Self {
        self.command.uid(id).gid(id);
        self
    }

    /// Makes it a command of an ordinary user's.
    #[must_use]
    pub fn by(mut self, caller: &Caller, side: Side) -> Self {
        caller.run(&mut self.command, side);
        self
    }

    /// Makes a system call fail in it and in all that it starts, by a seccomp filter.
    ///
    /// # Panics
    /// Where there is no call of that name.
    #[must_use]
    pub fn refusing(mut self, call: &str, errno: i32) -> Self {
        let number = call.parse::<syscalls::Sysno>().expect("a system call").id();
        sys::refuse(&mut self.command, number, errno);
        self
    }

    /// Gives it a standard input.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Gives it a standard output; [`Done::stdout`] is then empty.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self.own_stdout = false;
        self
    }

    /// Where its standard output goes.
    #[must_use]
    pub fn output_file(&self) -> PathBuf {
        self.out.clone()
    }

    /// Starts it, for tests that do something while it runs.
    #[must_use]
    pub fn spawn(mut self) -> Running {
        if self.own_stdout {
            self.command.stdout(File::create(&self.out).expect("output file"));
        }
        self.command.stderr(File::create(&self.err).expect("output file"));
        let text = std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(|a| a.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" ");
        let child = self.command.spawn().unwrap_or_else(|e| panic!("cannot run `{text}`: {e}"));
        // The command holds the parent's copies of what it was given (a pipe's end, a terminal).
        drop(self.command);
        Running { child, text, out: self.out, err: self.err, limit: self.limit }
    }

    /// Runs it to its end.
    #[track_caller]
    #[must_use]
    pub fn done(self) -> Done {
        self.spawn().done()
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    text: String,
    out: PathBuf,
    err: PathBuf,
    limit: Duration,
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid is an i32")
    }

    /// Whether it has not ended yet.
    ///
    /// # Panics
    /// Where it cannot be asked.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout_so_far(&self) -> String {
        lossy(&self.out)
    }

    /// Waits for its end; kills it and fails the test where that takes too long.
    #[track_caller]
    #[must_use]
    pub fn done(mut self) -> Done {
        let end = Instant::now() + self.limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            if Instant::now() > end {
                // Dropping it kills it.
                panic!("`{}` hangs; its standard error: {}", self.text, lossy(&self.err));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let (stdout, stderr) = (lossy(&self.out), lossy(&self.err));
        Done { command: std::mem::take(&mut self.text), status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing where it has ended and was waited for.
        let _: std::io::Result<()> = self.child.kill();
        let _: std::io::Result<ExitStatus> = self.child.wait();
    }
}

/// A file's content as text, empty where there is none.
#[must_use]
pub fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Polls until `ready` is true; fails the test after [`limit`].
#[track_caller]
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + limit();
    while !ready() {
        assert!(Instant::now() < end, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

mod sys {
    #![allow(unsafe_code)]

    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// Makes a system call fail in a command.
    pub(super) fn refuse(command: &mut Command, number: i32, errno: i32) {
        let (number, errno) = (number.cast_unsigned(), errno.cast_unsigned());
        let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
        // Loads the number (at the start of struct seccomp_data), compares it, and returns.
        let mut program = [
            statement(0x20, 0),
            libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: number },
            statement(0x06, libc::SECCOMP_RET_ERRNO | errno),
            statement(0x06, libc::SECCOMP_RET_ALLOW),
        ];
        let set = move || {
            let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
            // SAFETY: the filter points to four statements that live until the call has copied them, and it is a whole
            // program: its one jump leads to a return.
            let done = unsafe {
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
            };
            if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: the closure runs between fork and execve of a process with other threads, where a lock could be held
        // forever and memory must not be allocated; it is one system call on memory of its own.
        unsafe { command.pre_exec(set) };
    }
}
