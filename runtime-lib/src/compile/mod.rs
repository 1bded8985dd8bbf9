//! Spec -> plan, without effects.

// Nothing but the tests calls these yet.
#![allow(dead_code)]

pub(crate) mod cgroup_path;
pub(crate) mod device_program;
pub(crate) mod resources;
