//! Builds the init (crate `orlop-init`) into the image that the library embeds.
//!
//! The init is a program of its own: freestanding, static, at a fixed address, without libc. Cargo
//! cannot yet depend on a binary, so this runs cargo once more, in a target directory of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let sources = PathBuf::from(variable("DEP_ORLOP_INIT_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed={}", sources.join("src").display());
    println!("cargo::rerun-if-changed={}", sources.join("Cargo.toml").display());
    let out = PathBuf::from(variable("OUT_DIR"));
    let image = build(&sources, &out.join("init"));
    std::fs::copy(&image, out.join("orlop-init"))
        .unwrap_or_else(|error| fail(&format!("cannot copy {}: {error}", image.display())));
}

/// Runs cargo on the init; gives the path of the program.
fn build(sources: &Path, target_directory: &Path) -> PathBuf {
    // The init makes raw system calls, so any Linux target of the architecture builds the same
    // image; this one's standard library parts (core) are always there.
    let target = variable("TARGET");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .args(["rustc", "--quiet", "--release", "--offline", "--bin", "orlop-init"])
        .args(["--features", "image", "--target", &target])
        .arg("--manifest-path")
        .arg(sources.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_directory)
        // The profile is set here, as a registry's copy of the crate has no workspace.
        .args(["--config", "profile.release.opt-level='s'"])
        .args(["--config", "profile.release.lto='fat'"])
        .args(["--config", "profile.release.codegen-units=1"])
        .args(["--config", "profile.release.panic='abort'"])
        .args(["--config", "profile.release.strip=true"])
        .arg("--")
        .args(["-Crelocation-model=static", "-Clink-arg=-no-pie", "-Clink-arg=-static"])
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib"])
        .args(["-Clink-arg=-Wl,--build-id=none,-z,noseparate-code"])
        // What the outer build was told (coverage, sanitizers, crt-static) is not for this program.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env("CARGO_BUILD_RUSTFLAGS", "");
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("building orlop-init failed: {status}")),
        Err(error) => fail(&format!("cannot run cargo: {error}")),
    }
    target_directory.join(target).join("release").join("orlop-init")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("{name} is not set")))
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    std::process::exit(1)
}
