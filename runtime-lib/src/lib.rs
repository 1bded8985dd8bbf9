//! Orlop runs OCI bundles on Linux: a root filesystem and a `config.json` of the
//! [runtime-spec](https://github.com/opencontainers/runtime-spec) become a contained process.
//!
//! ```no_run
//! use orlop::{Bundle, Container, Stdio};
//!
//! # fn main() -> orlop::Result<()> {
//! let bundle = Bundle::load("/var/lib/bundles/web")?;
//! let mut container = Container::builder("web-1", bundle)
//!     .state_root("/run/web")
//!     .stdio(Stdio::Inherit)
//!     .create()?;
//! container.start()?;
//! let status = container.wait()?;
//! container.delete(false)?;
//! println!("ended with {}", status.code());
//! # Ok(())
//! # }
//! ```
//!
//! # The life of a container
//!
//! * [`Bundle`] is what to run. [`Bundle::load`] and [`Bundle::from_json`] take all that is valid, also what the
//!   model in [`spec`] cannot read by itself (nulls, unknown capabilities); [`Bundle::from_spec`] takes a `Spec`.
//! * [`Builder`] is how: where its state is kept, its streams, who makes its cgroup. [`Builder::plan`] says what would be
//!   done, without rights and effects; [`Builder::create`] does it, all but the program; [`Builder::run`] does that too.
//! * [`Container`] is what is there then. It is `start`ed, `kill`ed, `pause`d, `update`d, asked for [`Stats`],
//!   [watched](Watch) for processes that the OOM killer ends, and `delete`d; [`Container::exec`] runs a further process in it.
//! * All of it is in the state directory, too: any process may [load](Container::load) a container and go on with it.
//!   A handle that is dropped leaves the container as it is.
//!
//! # Waiting
//!
//! Every call returns when it is done, in some milliseconds; only [`Container::wait`], [`Exec::wait`] and [`Watch::wait`]
//! wait for the container. For many of them at once, or in an asynchronous program, poll [`Container::pidfd`], or of a
//! container that was loaded [`Container::open_pidfd`]: it is readable when the init has ended, and `wait` does not
//! block then. Only the process that created a container has its exit status, as the init is its child; it stays a zombie
//! until `wait` or `delete`, unless somebody else reaps all children.
//!
//! # A terminal
//!
//! With `process.terminal`, the master of the program's terminal is sent to [`Builder::console_socket`], by one message
//! with one descriptor. To show it on a terminal of your own, name that one's size by [`Builder::shown_on`], put it
//! into raw mode but for `OPOST`, copy both ways, and pass changes of its size on.
//!
//! # What the caller needs
//!
//! Linux 5.14 with cgroup v2, and root; or a user namespace in the configuration, for a caller who is not root. Nothing of
//! the calling process changes: no working directory, umask, signal handler, environment or thread's credentials. It
//! may have any number of threads, and call from all of them.
//!
//! # Errors
//!
//! There is one type, [`Error`]. It tells its [kind](ErrorKind), the [field](Error::field) of `config.json` that caused
//! it and the errno. A call that fails leaves nothing behind, unless its documentation says so. What a process that was
//! killed in the middle has left is removed by [`Container::clean_up`].

pub mod bundle;
pub mod cgroup;
mod compile;
pub mod container;
mod control;
mod create;
pub mod error;
mod exec;
mod explain;
pub mod features;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod json;
mod plan;
pub mod rdt;
pub mod seccomp;
mod state;
mod streams;
mod supervise;
mod sys;
mod update;

/// The model of the runtime-spec that this library takes: crate `oci-spec`.
pub mod spec {
    pub use crate::bundle::parse_process;
    pub use oci_spec::runtime::*;
}

pub use bundle::Bundle;
pub use cgroup::stats::Stats;

pub use cgroup::{Event, Watch};
pub use container::{Container, ExitStatus, State, Status};
pub use create::{Builder, CgroupDriver};
pub use error::{Error, ErrorKind, Result};
pub use exec::{Exec, ExecBuilder};
pub use plan::Plan;
pub use streams::Stdio;
pub use update::parse_resources;
