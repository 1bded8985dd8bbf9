//! Orlop runs OCI bundles on Linux.

pub mod cgroup;
mod compile;
pub mod error;
pub mod seccomp;

pub use error::{Error, ErrorKind, Result};
