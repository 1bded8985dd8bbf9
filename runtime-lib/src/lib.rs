//! Orlop runs OCI bundles on Linux.

pub mod bundle;
pub mod cgroup;
// Until creating containers calls it.
#[allow(dead_code, unused_imports)]
mod compile;
pub mod container;
pub mod error;
mod explain;
pub mod features;
mod plan;
pub mod seccomp;

pub use bundle::Bundle;
pub use container::{Builder, Container, ExitStatus, State, Status, Stdio};
pub use error::{Error, ErrorKind, Result};
pub use plan::Plan;
