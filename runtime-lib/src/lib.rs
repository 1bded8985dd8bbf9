//! Orlop runs OCI bundles on Linux.

pub mod cgroup;
pub mod error;
pub mod seccomp;

pub use error::{Error, ErrorKind, Result};
