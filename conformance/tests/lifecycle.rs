//! create, start, state, kill, delete: the state machine and what it says.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use orlop_conformance::Test;

#[test]
fn run_returns_the_exit_code_of_the_payload() {
    let Some(t) = Test::begin() else { return };
    let _ = t.bundle().sh("echo out; echo err >&2; exit 3").run().exits(3);
}
