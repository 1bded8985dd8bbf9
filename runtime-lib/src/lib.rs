//! Orlop runs OCI bundles on Linux.

pub mod bundle;
pub mod cgroup;
pub mod container;
pub mod error;
pub mod features;
mod plan;
pub mod seccomp;

pub use bundle::Bundle;
pub use container::{Builder, Container, ExitStatus, State, Status, Stdio};
pub use error::{Error, ErrorKind, Result};
pub use plan::Plan;
