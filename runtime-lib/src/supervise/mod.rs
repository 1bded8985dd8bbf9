//! Executes a plan: spawns the init, does the creator's column beside it, and turns what the init
//! tells into errors that name the field.

mod agent;
pub(crate) mod hooks;
mod host_column;
mod id_maps;
mod image;
mod init;
mod mount_ids;
mod net_devices;
mod netlink;
mod report;
mod socket;
mod sources;
pub(crate) mod unit;

pub(crate) use hooks::{HookState, run_hook};
pub(crate) use host_column::{Target, execute};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use init::encode;
pub(crate) use init::{Init, Launch, Running, reap, reap_if_ended};
pub(crate) use report::{Late, exec_failure, executed};
