//! The program's own commands: what `orlop-conformance bench` writes.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use orlop_conformance::Test;
use orlop_conformance::run::{Done, Run};

fn bench(t: &Test, runtime: &std::path::Path, args: &[&str]) -> Done {
    let run = Run::new(env!("CARGO_BIN_EXE_orlop-conformance"), t.dir()).args(["bench", "-n", "1"]);
    let running = run.arg("--runtime").arg(runtime).arg("--no-strace").args(args).spawn();
    let cgroup = format!("/sys/fs/cgroup/orlop-bench-{}", running.pid());
    let done = running.done();
    assert!(!std::path::Path::new(&cgroup).exists(), "its cgroup stayed: {done}");
    done
}

#[test]
fn bench_writes_tables_and_a_picture_of_each_stage_and_leaves_nothing() {
    let Some(t) = Test::begin() else { return };
    let (tables, picture) = (t.dir().join("tables.md"), t.dir().join("picture.svg"));
    let to = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let files = ["--output", &to(&tables), "--chart", &to(&picture)];
    let stages = ["--jobs", "1,2", "--host-mounts", "0,30"];
    let _ = bench(&t, t.runtime(), &[&stages[..], &files].concat()).ok();
    let text = std::fs::read_to_string(tables).unwrap();
    for row in ["| one at a time, warm |", "| 2 at a time, each |", "| 30 more host mounts |"] {
        // For run, for exec, and for create, start and delete.
        assert_eq!(text.matches(row).count(), 3, "{row} in\n{text}");
    }
    assert!(text.contains("| run |") && text.contains("| kernel floor |"), "{text}");
    assert!(std::fs::read_to_string(picture).unwrap().ends_with("</svg>\n"));
}

#[test]
fn bench_names_the_command_that_failed_and_leaves_nothing() {
    let Some(t) = Test::begin() else { return };
    let runtime = t.dir().join("runtime");
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' exec '*) echo broken >&2; exit 3;; esac\nexec {} \"$@\"\n",
        t.runtime().display()
    );
    std::fs::write(&runtime, text).unwrap();
    orlop_conformance::rootfs::mode(&runtime, 0o755);
    let done = bench(&t, &runtime, &["--jobs", "1"]);
    assert!(done.code() == 1 && done.stderr.contains("broken"), "{done}");
    assert!(done.stderr.contains("\"exec\""), "{done}");
}
