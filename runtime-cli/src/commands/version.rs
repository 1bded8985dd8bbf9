//! `--version`.

use super::SPEC_VERSION;
use crate::failure::Outcome;
use crate::output;

/// Prints it. Docker takes each line that holds the word "version" for the program's, hence one only.
pub(crate) fn run(program: &str) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    output::text(&format!("{program} version {version}\nspec: {SPEC_VERSION}\n"))
}
