//! One command, and everything that can go wrong with it.

use std::collections::BTreeMap;

use nix::libc;
use nix::sys::signal::Signal;

use super::errnos::{is_interruption, is_private};
use super::victim::Victim;
use super::{Call, End, Fault, Traced, Wrong, errnos, trace};
use crate::run::lossy;

/// What the faults of a sweep are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Killed.
    Kills,
    /// Refused.
    Errnos,
}

/// A command that goes wrong over and over.
#[derive(Debug)]
pub struct Sweep<'v, 't> {
    /// What it is done to.
    pub victim: &'v Victim<'t>,
    /// Its arguments.
    pub args: Vec<String>,
    /// The exit code of its failures.
    pub code: i32,
    /// It ends as the container's program does, also where something fails after that: a success may say what.
    pub stays: bool,
    /// What goes wrong.
    pub kind: Kind,
    /// Of so many calls one goes wrong in CI: those whose number is a multiple of it.
    pub stride: usize,
}

/// What a command came to.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// What went wrong.
    pub fault: &'a Fault,
    /// Where that was.
    pub call: &'a Call,
    /// How the command has ended.
    pub end: End,
    /// What it has said.
    pub stderr: String,
}

impl Outcome<'_> {
    /// It has ended as it does where nothing goes wrong.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.end == End::Exited(0)
    }

    /// It was killed, rather than something that it spawned.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.end == End::Signaled(Signal::SIGKILL)
    }

    /// Something that it spawned was killed.
    #[must_use]
    pub fn killed_another(&self) -> bool {
        self.fault.wrong == Wrong::Killed && !self.was_killed()
    }

    /// A command that is not killed succeeds silently or says what failed.
    fn check_message(&self, code: i32, stays: bool) -> Result<(), String> {
        let text = self.stderr.trim();
        if self.end == End::Hung {
            return Err("it hangs".to_owned());
        }
        if self.was_killed() && self.fault.wrong == Wrong::Killed {
            return Ok(());
        }
        if self.succeeded() && text.is_empty() {
            return Ok(());
        }
        if self.succeeded() && !stays {
            return Err(format!("success with {text:?}"));
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
        if self.end != End::Exited(code) && !self.succeeded() {
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
                if ["signal 9", "SIGKILL", "the init ended"]
                    .iter()
                    .any(|end| text.contains(end)) =>
            {
                return Ok(());
            }
            Wrong::Killed => "killed".to_owned(),
            Wrong::Fails(errno) | Wrong::FailsDone(errno) => words(errno),
        };
        // pthread_create(3) and posix_spawn(3) make this of it.
        let words = if ["mmap", "mprotect", "clone3"].contains(&self.call.name)
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
        args.extend(self.args.iter().map(String::as_str));
        let traced = trace((v.runtime(), &args), v.caller(), (&v.output, &v.errors), init, decide);
        (traced, lossy(&v.errors))
    }

    /// Makes everything go wrong. `before` prepares for the command, and may name an init to be traced too; `after`
    /// judges what the command has come to, and cleans up.
    ///
    /// # Panics
    /// With all that is not as it must be.
    pub fn run(
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
            if !all && only.is_none() && !number.is_multiple_of(self.stride) {
                continue;
            }
            let mut wrongs = match self.kind {
                Kind::Kills if last_was_private && !all => Vec::new(),
                Kind::Kills => vec![Wrong::Killed],
                Kind::Errnos => errnos(call),
            };
            if !all && !wrongs.is_empty() {
                wrongs = vec![wrongs[number / self.stride % wrongs.len()]];
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
                let message = outcome.check_message(self.code, self.stays);
                for complaint in [message, after(&outcome)].into_iter().filter_map(Result::err) {
                    complaints.push(format!("{place} {wrong:?}: {complaint}"));
                }
            }
        }
        let calls = undisturbed.calls.len();
        eprintln!("{:?}: {calls} calls, {count} faults, {successes} without effect", self.args);
        assert!(only.is_some() || (calls > 20 && count > 5), "too few calls: {calls}");
        assert!(
            complaints.is_empty(),
            "{} complaints:\n{}",
            complaints.len(),
            complaints.join("\n")
        );
    }
}

/// Both are so, or what is not.
///
/// # Errors
/// What is not.
pub fn both<T>(first: Result<T, String>, second: Result<(), String>) -> Result<(), String> {
    match (first, second) {
        (Ok(_), second) => second,
        (Err(first), Ok(())) => Err(first),
        (Err(first), Err(second)) => Err(format!("{first}; {second}")),
    }
}
