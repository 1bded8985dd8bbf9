//! Orlop runs OCI bundles on Linux.

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
