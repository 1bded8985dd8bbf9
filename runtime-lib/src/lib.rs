//! Orlop runs OCI bundles on Linux.

pub mod error;
pub mod seccomp;
pub mod cgroup;

pub use error::{Error, ErrorKind, Result};
