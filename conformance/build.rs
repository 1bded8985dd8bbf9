//! Builds `probe.c`, which runs in the tests' containers: static, as these have no libraries.
#![allow(clippy::unwrap_used, reason = "a build script's panic is its error message")]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=probe.c");
    println!("cargo::rerun-if-env-changed=CC");
    let program = Path::new(&std::env::var_os("OUT_DIR").unwrap()).join("probe");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-O1", "-static", "-Wall", "-o"]).arg(&program).arg("probe.c");
    let built = command.status().is_ok_and(|status| status.success());
    // Tests that need it say so themselves where it is missing.
    if !built {
        println!("cargo::warning=cannot build probe.c: some tests will be skipped");
    }
    println!("cargo::rustc-env=ORLOP_PROBE={}", program.display());
}
