//! Builds what runs in containers: `probe.c` for the tests, and for the suite the payload (crate
//! `orlop-conformance-payload`).
//!
//! That is embedded so that the program is one file that runs anywhere, and static so that it needs nothing of a root
//! filesystem. Cargo cannot depend on a binary, so this runs cargo once more, in a target directory of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let sources = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("payload");
    println!("cargo::rerun-if-changed={}", sources.join("src").display());
    println!("cargo::rerun-if-changed={}", sources.join("Cargo.toml").display());
    let out = PathBuf::from(variable("OUT_DIR"));
    build_probe(&out.join("probe"));
    let program = build(&sources, &out.join("payload-target"));
    std::fs::copy(&program, out.join("payload"))
        .unwrap_or_else(|error| fail(&format!("cannot copy {}: {error}", program.display())));
}

/// Builds `probe.c`, static, as the tests' containers have no libraries.
fn build_probe(program: &Path) {
    println!("cargo::rerun-if-changed=probe.c");
    println!("cargo::rerun-if-env-changed=CC");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-O1", "-static", "-pthread", "-Wall", "-o"]).arg(program).arg("probe.c");
    let built = command.status().is_ok_and(|status| status.success());
    // Tests that need it say so themselves where it is missing.
    if !built {
        std::fs::write(program, "").unwrap_or_else(|error| fail(&format!("cannot write: {error}")));
        println!("cargo::warning=cannot build probe.c: some tests will be skipped");
    }
    println!("cargo::rustc-env=ORLOP_PROBE={}", program.display());
}

/// Runs cargo on the payload; gives the path of the program.
fn build(sources: &Path, target_directory: &Path) -> PathBuf {
    let target = variable("TARGET");
    let flags = "['-Ctarget-feature=+crt-static', '-Crelocation-model=static']";
    let status = Command::new(variable("CARGO"))
        .args(["build", "--quiet", "--release", "--offline", "--target", &target])
        .arg("--manifest-path")
        .arg(sources.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_directory)
        .args([
            "--config",
            "profile.release.lto=false",
            "--config",
            "profile.release.codegen-units=4",
        ])
        .args(["--config", &format!("target.{target}.rustflags={flags}")])
        // What the outer build was told is not for this program.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("building the payload failed: {status}")),
        Err(error) => fail(&format!("cannot run cargo: {error}")),
    }
    target_directory.join(target).join("release").join("payload")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("{name} is not set")))
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    std::process::exit(1);
}
