//! What builds images: each `RUN` is a container. (Named to come after the containers: Docker then runs as needed.)

use orlop_conformance::Run;
use orlop_conformance::run::Done;
use orlop_conformance::tmp::TempDir;

use crate::{Driver, Runtime, check, daemons};

const FILE: &str = "FROM localhost/busybox\n\
    RUN echo built >/made && id -u >>/made\n\
    USER 1000:1000\nRUN id -u >/tmp/user && mkdir -m 700 /tmp/d\n\
    CMD [\"cat\", \"/made\", \"/tmp/user\"]\n";
const MADE: &str = "built\n0\n1000\n";

struct Build {
    dir: TempDir,
}

impl Build {
    fn of(file: &str) -> Self {
        let dir = TempDir::new("orlop-build");
        std::fs::write(dir.path().join("Dockerfile"), file).unwrap();
        Self { dir }
    }

    fn run(&self, program: &str) -> Run {
        Run::new(program, self.dir.path()).cwd(self.dir.path())
    }

    /// A build whose second step fails.
    #[track_caller]
    fn says_exit_code(done: &Done) {
        assert_ne!(done.code(), 0);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(said.contains("19"), "{done}");
    }
}

const FAILS: &str = "FROM localhost/busybox\nRUN exit 19\n";

fn docker(runtime: Runtime, buildkit: &str) {
    daemons::docker(Driver::Systemd, runtime);
    let build = Build::of(FILE);
    let run = build.run("docker").args([
        "build",
        "--no-cache",
        "--network=none",
        "-t",
        "localhost/made",
        ".",
    ]);
    let _ = run.env("DOCKER_BUILDKIT", buildkit).done().ok();
    let done =
        build.run("docker").args(["run", "--rm", "--net=none", "localhost/made"]).done().ok();
    assert_eq!(done.stdout, MADE);
    let run = Build::of(FAILS);
    let run = run.run("docker").args(["build", "--no-cache", "--network=none", "."]);
    Build::says_exit_code(&run.env("DOCKER_BUILDKIT", buildkit).done());
}

#[test]
fn docker_systemd_builds_with_buildkit() {
    check(|runtime| docker(runtime, "1"));
}

#[test]
fn docker_systemd_builds_with_the_classic_builder() {
    check(|runtime| docker(runtime, "0"));
}

#[test]
fn podman_buildah_builds() {
    check(|runtime| {
        daemons::podman();
        let runtime = runtime.path();
        let build = Build::of(FILE);
        let args = ["bud", "--isolation=oci", "--network=none", "-t", "localhost/made", "."];
        let _ = build.run("buildah").args(["--runtime", &runtime]).args(args).done().ok();
        let run = build.run("podman").args(["--runtime", &runtime, "run", "--rm", "--net=none"]);
        assert_eq!(run.arg("localhost/made").done().ok().stdout, MADE);
        let build = Build::of(FAILS);
        let args = ["bud", "--isolation=oci", "--network=none", "."];
        Build::says_exit_code(
            &build.run("buildah").args(["--runtime", &runtime]).args(args).done(),
        );
    });
}
