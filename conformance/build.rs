//! Builds what runs in containers: `probe.c` for the tests, and for the suite the payload (crate
//! `orlop-conformance-payload`); and `floor.c`, which containers are measured against.
//!
//! The last two are embedded so that the program is one file that runs anywhere, and static so that they need nothing of a root
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
    build_floor(&out.join("floor"));
    let program = build(&sources, &out.join("payload-target"));
    std::fs::copy(&program, out.join("payload"))
        .unwrap_or_else(|error| fail(&format!("cannot copy {}: {error}", program.display())));
}

/// Compiles a program in C, static, as containers have no libraries; says whether that went well.
fn compiled(source: &str, options: &[&str], program: &Path) -> bool {
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-env-changed=CC");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(options).args(["-static", "-Wall", "-o"]).arg(program).arg(source);
    command.status().is_ok_and(|status| status.success())
}

/// Builds `floor.c`; an empty file stands for one that could not be built.
fn build_floor(program: &Path) {
    if !compiled("floor.c", &["-O2"], program) {
        println!("cargo::warning=cannot build floor.c: bench will not know the kernel's share");
        std::fs::write(program, "").unwrap_or_else(|error| fail(&error.to_string()));
    }
}

/// Builds `probe.c`.
fn build_probe(program: &Path) {
    let built = compiled("probe.c", &["-O1", "-pthread"], program);
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
