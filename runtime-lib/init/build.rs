//! Tells the build script of `orlop` where the sources of the init are (`DEP_ORLOP_INIT_MANIFEST_DIR`).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::metadata=manifest_dir={}", env!("CARGO_MANIFEST_DIR"));
}
