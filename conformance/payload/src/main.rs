//! What runs inside the conformance suite's containers: it says what it sees and tries what it is told to.
//!
//! Each argument is one action, its fields separated by spaces (the last field of an action that writes text may
//! contain spaces). Each action answers with one line of JSON on standard output:
//!
//! ```json
//! {"errno": 0, "value": ...}
//! ```
//!
//! Without an argument it does nothing and succeeds. It is one static program and needs nothing of its root
//! filesystem; where there is no procfs it leaves out what only procfs knows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod acts;
mod facts;
mod sys;
mod watch;

use std::io::Write;

use serde_json::{Value, json};

/// What an action did: a value, or the errno.
type Reply = Result<Value, nix::Error>;

fn say(reply: &Reply) {
    let line = match reply {
        Ok(value) => json!({"errno": 0, "value": value}),
        Err(errno) => json!({"errno": *errno as i32, "value": null}),
    };
    let mut out = std::io::stdout().lock();
    // Whoever reads may be gone; that is not this program's failure.
    let _: std::io::Result<()> = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn main() {
    let actions: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    run(&actions);
}

/// Does the actions in order.
fn run(actions: &[String]) {
    for (index, action) in actions.iter().enumerate() {
        let (name, rest) = action.split_once(' ').unwrap_or((action, ""));
        match name {
            // The rest runs in a child; its end is this action's answer.
            "child" => return say(&sys::in_child(|| run(&actions[index + 1..]))),
            _ => say(&acts::act(name, rest)),
        }
    }
}
