//! The agent that answers for a seccomp filter (runtime-spec, config-linux.md, Container Process
//! State).

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::Serialize;

use super::hooks::HookState;
use crate::error::{Error, Result};
use crate::plan::Agent;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    oci_version: &'static str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: &'a HookState<'a>,
}

/// Gives the agent the listener of a process with this pid, and what it is told beside.
///
/// # Errors
/// Nobody listens there; it has hung up.
pub(super) fn call(
    agent: &Agent,
    listener: &OwnedFd,
    pid: i32,
    state: &HookState<'_>,
) -> Result<()> {
    let path = &agent.path;
    let mut socket = UnixStream::connect(path)
        .map_err(|error| failed(format!("cannot connect to the seccomp agent {path:?}"), &error))?;
    let message = Message {
        oci_version: crate::compile::OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: agent.metadata.as_deref(),
        state,
    };
    let message = serde_json::to_string(&message)
        .map_err(|error| failed("cannot write the state for the agent".into(), &error.into()))?;
    let sending = || format!("cannot send to the seccomp agent {path:?}");
    let sent = super::socket::send(&socket, message.as_bytes(), Some(listener.as_fd()))
        .map_err(|errno| Error::sys(sending(), errno))?;
    // A state with many annotations may be more than the socket takes at once.
    let rest = message.as_bytes().get(sent..).unwrap_or_default();
    socket.write_all(rest).map_err(|error| failed(sending(), &error))
}

/// The standard library refuses a path that is too long for a socket without an errno.
fn failed(what: String, error: &std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(_) => Error::sys(what, error),
        None => Error::sys(format!("{what}: {error}"), error),
    }
}
