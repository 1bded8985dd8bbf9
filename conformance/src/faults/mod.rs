//! What a runtime does when the kernel refuses, or when it is killed, at each system call that it makes.
//!
//! A command and all that it spawns up to the container's own program are traced ([`mod@trace`]); at one system call of one
//! of these processes something goes wrong ([`Fault`]). What is wrong there is chosen so that the kernel could have
//! done it ([`mod@errnos`]). What the container is afterwards is told by a program inside ([`inside`]).

pub mod commands;
pub mod errnos;
pub mod inside;
pub mod sweep;
mod sys;
pub mod trace;
pub mod victim;

pub use errnos::errnos;
pub use inside::Inside;
pub use sweep::{Kind, Sweep, both};
pub use trace::{Call, End, Traced, trace};
pub use victim::{HOOKS, Shape, Victim, ids, is_confined, model, wait_a_little};

/// What goes wrong at a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The process is killed before the kernel executes it.
    Killed,
    /// The kernel does not execute it, and answers with this errno.
    Fails(i32),
    /// The kernel executes it, and answers with this errno all the same, as close(2) may.
    FailsDone(i32),
}

/// What goes wrong where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The process, as [`Call::process`] names it.
    pub process: String,
    /// The number of the call among those of the process, from 0.
    pub index: u32,
    /// The call's name: where another has that number this time, nothing happens.
    pub name: &'static str,
    /// What happens there.
    pub wrong: Wrong,
}

impl Fault {
    /// What goes wrong at a call.
    #[must_use]
    pub fn at(call: &Call, wrong: Wrong) -> Self {
        Self { process: call.process.clone(), index: call.index, name: call.name, wrong }
    }

    /// Whether this is the call.
    #[must_use]
    pub fn is_at(&self, call: &Call) -> bool {
        (&self.process, self.index, self.name) == (&call.process, call.index, call.name)
    }
}
