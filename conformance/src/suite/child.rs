//! The process of one case.

use std::any::Any;
use std::path::{Path, PathBuf};

use super::{Case, Outcome, Skipped, sweep};
use crate::Test;

/// Where a case's process leaves its outcome.
#[must_use]
pub fn outcome_file(dir: &Path) -> PathBuf {
    dir.join("outcome.json")
}

fn text_of(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
}

fn leave(dir: &Path, outcome: &Outcome) {
    let path = outcome_file(dir);
    // The first word counts: what fails while a failure is cleaned up is no news.
    if !path.exists() {
        let text = serde_json::to_string(outcome).unwrap_or_default();
        let _: std::io::Result<()> = std::fs::write(path, text);
    }
}

/// Runs a case on a runtime in `dir` and leaves the outcome there.
pub fn run(case: &Case, runtime: &Path, dir: &Path) {
    let hook_dir = dir.to_owned();
    std::panic::set_hook(Box::new(move |info| {
        let outcome = match info.payload().downcast_ref::<Skipped>() {
            Some(Skipped(reason)) => Outcome::Skip(reason.clone()),
            None => {
                let at = info.location().map(|l| format!("{}:{}: ", short(l.file()), l.line()));
                Outcome::Fail(format!("{}{}", at.unwrap_or_default(), text_of(info.payload())))
            }
        };
        leave(&hook_dir, &outcome);
        // In a program that aborts there is no unwinding, so what would be dropped is taken away from outside.
        if cfg!(panic = "abort") {
            std::process::exit(0);
        }
    }));
    let test = Test::given(runtime, dir);
    case.run(&test);
    // Orphans come to this process, so after a case that cleaned up there are none.
    let left = sweep::living_children();
    assert!(left.is_empty(), "processes stayed: {}", left.join(", "));
    leave(dir, &Outcome::Pass);
}

fn short(file: &str) -> &str {
    file.rsplit_once("src/").map_or(file, |(_, name)| name)
}
