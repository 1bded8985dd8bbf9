//! regex-lite under the name of regex.
//!
//! oci-spec checks one field (`process.execCPUAffinity`) with one regular expression, and brings the whole of regex for
//! it: 0.4 MB of the command, pages of which every container's start maps. regex-lite has the same interface for what
//! is used of it. Only this workspace's binaries take it (`[patch.crates-io]`); who depends on the library gets regex.
pub use regex_lite::*;
