//! How long compiling a real profile takes. The promise is 300 us for Docker's.

// A benchmark that cannot start has failed.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use oci_spec::runtime::LinuxSeccomp;

fn profiles(criterion: &mut Criterion) {
    for (name, json) in [
        ("docker", include_str!("../tests/data/seccomp-docker.json")),
        ("podman", include_str!("../tests/data/seccomp-podman.json")),
    ] {
        let profile: LinuxSeccomp = serde_json::from_str(json).expect("the profile is valid");
        criterion.bench_function(&format!("compile {name}'s default profile"), |bencher| {
            bencher.iter(|| orlop::seccomp::compile(&profile, "linux.seccomp"));
        });
    }
}

criterion_group!(benches, profiles);
criterion_main!(benches);
