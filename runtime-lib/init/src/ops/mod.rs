//! What each operation does, a file for each subject.

pub(crate) mod attributes;
mod copy_up;
pub(crate) mod devices;
pub(crate) mod hooks;
pub(crate) mod ids;
pub(crate) mod masks;
pub(crate) mod mounts;
pub(crate) mod paths;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod root;
pub(crate) mod schedule;
pub(crate) mod sysctl;
pub(crate) mod terminal;
pub(crate) mod time;
