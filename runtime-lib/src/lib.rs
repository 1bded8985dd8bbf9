//! Orlop runs OCI bundles on Linux.

pub mod bundle;
pub mod cgroup;
mod compile;
pub mod container;
mod control;
mod create;
pub mod error;
mod explain;
pub mod features;
mod host;
mod plan;
pub mod seccomp;
mod state;
mod supervise;
mod sys;
mod update;

pub use bundle::Bundle;
pub use cgroup::stats::Stats;
pub use cgroup::{Event, Watch};
pub use container::{Container, ExitStatus, State, Status};
pub use create::{Builder, Stdio};
pub use error::{Error, ErrorKind, Result};
pub use plan::Plan;
pub use update::parse_resources;

/// The types of config.json, in the version that this library takes.
pub use oci_spec;
