//! cgroup v2.

/// A write to a file of the cgroup (placeholder; the cgroup module is being built beside this).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupWrite;
/// The device program (placeholder).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProgram;
