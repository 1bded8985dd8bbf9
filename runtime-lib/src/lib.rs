//! Orlop runs OCI bundles on Linux.

pub mod bundle;
pub mod cgroup;
// Until creating containers calls it.
#[allow(dead_code, unused_imports)]
mod compile;
pub mod container;
pub mod error;
mod explain;
mod plan;
pub mod seccomp;
mod compile;
mod create;
mod host;
mod state;
mod supervise;
mod sys;

pub use bundle::Bundle;
pub use container::{Container, ExitStatus, State, Status};
pub use create::{Builder, Stdio};
pub use error::{Error, ErrorKind, Result};
pub use plan::Plan;
