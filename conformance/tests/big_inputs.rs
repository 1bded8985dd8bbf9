//! Configurations and hosts that are far larger than usual: right, or clearly refused, and in a time that grows no
//! faster than they do.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use orlop_conformance::{Bundle, Peer, Run, Test};
use serde_json::{Value, json};

/// Times are compared: no two of these tests may run at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn begin() -> Option<(Test, std::sync::MutexGuard<'static, ()>)> {
    let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Test::begin().map(|t| (t, alone))
}

/// The shortest of some runs: what else the machine does only ever adds.
fn time(mut run: impl FnMut()) -> Duration {
    let measure = |()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    [(); 3].map(measure).into_iter().min().unwrap()
}

/// Fails where ten times the size takes far more than ten times the time that the size adds.
#[track_caller]
fn assert_linear(what: &str, empty: Duration, small: Duration, large: Duration) {
    // A loaded machine measures nothing finer.
    let added = small.saturating_sub(empty).max(Duration::from_millis(20));
    let limit = empty * 2 + added * 40;
    assert!(large < limit, "{what}: nothing {empty:?}, a tenth {small:?}, all {large:?}");
}

fn variables(count: usize) -> Value {
    let mut all = vec!["PATH=/bin".to_owned()];
    all.extend((0..count).map(|i| format!("VARIABLE_{i}=the value of variable {i}")));
    json!(all)
}

#[test]
fn five_thousand_variables_are_the_programs() {
    let Some((t, _alone)) = begin() else { return };
    let with =
        |count: usize, script: &str| t.bundle().set("/process/env", variables(count)).sh(script);
    let out = with(5000, "env | grep -c ^VARIABLE_; echo $VARIABLE_4999").run().ok().stdout;
    assert_eq!(out, "5000\nthe value of variable 4999\n");
    let [empty, small, large] = [0, 500, 5000].map(|count| {
        let bundle = with(count, ":");
        time(|| drop(bundle.run().ok()))
    });
    assert_linear("variables", empty, small, large);
}

#[test]
fn a_mebibyte_of_arguments_is_the_programs() {
    let Some((t, _alone)) = begin() else { return };
    let argument = "x".repeat(128 * 1024 - 1);
    let mut args = vec!["/bin/sh", "-c", "echo $# ${#1} ${#8}", "sh"];
    args.extend([argument.as_str(); 8]);
    assert_eq!(t.bundle().args(&args).run().ok().stdout, "8 131071 131071\n");
    let longer = format!("{argument}x");
    let done = t.bundle().args(&["/bin/true", &longer]).run().exits(1);
    if t.peer() == Peer::Orlop {
        assert!(done.stderr.contains("process.args[1]: is longer than an argument"), "{done}");
    }
    // More than the kernel takes in all.
    let mut args = vec!["/bin/true"];
    args.extend([argument.as_str(); 60]);
    let done = t.bundle().args(&args).run();
    assert!(done.code() != 0 && done.stderr.contains("rgument list too long"), "{done}");
}

#[test]
fn paths_that_are_longer_than_paths_may_be_are_refused() {
    let Some((t, _alone)) = begin() else { return };
    for length in [4096, 65_535, 65_536, 70_000] {
        let path = format!("/{}", "x".repeat(length - 1));
        let namespace = json!({"type": "network", "path": path});
        let bundle = t.bundle().without_namespace("network").remove("/linux/maskedPaths");
        let done = bundle.push("/linux/namespaces", namespace).run().exits(1);
        if t.peer() == Peer::Orlop {
            assert!(done.stderr.contains("].path: is longer than a path may be"), "{done}");
        }
        for (pointer, value) in [
            ("/root/path", json!(path)),
            ("/process/cwd", json!(path)),
            ("/linux/maskedPaths", json!([path])),
            ("/linux/readonlyPaths", json!([path])),
        ] {
            if t.peer() == Peer::Orlop {
                let _ = t.bundle().set(pointer, value).run().fails("is longer than a path may be");
            }
        }
    }
}

fn mounts(bundle: Bundle<'_>, count: usize) -> Bundle<'_> {
    let source = bundle.dir.join("source");
    std::fs::create_dir(&source).unwrap();
    let source = source.to_str().unwrap().to_owned();
    (0..count).fold(bundle, |bundle, i| {
        bundle.mount(&format!("/mnt/{i}"), "bind", &source, &["rbind", "ro"])
    })
}

#[test]
fn two_thousand_mounts_are_the_containers() {
    let Some((t, _alone)) = begin() else { return };
    let count = "grep -c ' /mnt/' /proc/self/mountinfo; touch /mnt/1999/x || true";
    let done = mounts(t.bundle(), 2000).sh(count).run().ok();
    assert_eq!(done.stdout, "2000\n");
    assert!(done.stderr.contains("Read-only file system"), "{done}");
    let [empty, small, large] = [0, 200, 2000].map(|count| {
        let bundle = mounts(t.bundle(), count).args(&["/bin/true"]);
        time(|| drop(bundle.run().ok()))
    });
    assert_linear("mounts", empty, small, large);
}

/// Each stays open until all are in place.
#[test]
fn many_mounts_that_turn_read_only_late_do_or_are_named() {
    let Some((t, _alone)) = begin() else { return };
    let with = |count: usize| {
        (0..count).fold(t.bundle(), |bundle, i| {
            bundle.mount(&format!("/mnt/{i}"), "tmpfs", "tmpfs", &["ro", "size=4k"])
        })
    };
    let done = with(500).sh("grep ' /mnt/' /proc/self/mountinfo | grep -c ' ro,'").run().ok();
    assert_eq!(done.stdout, "500\n");
    let done = with(2000).sh("grep ' /mnt/' /proc/self/mountinfo | grep -c ' ro,'").run();
    if done.code() == 0 {
        assert_eq!(done.stdout, "2000\n");
    } else {
        assert!(
            done.stderr.contains("mounts[") && done.stderr.contains("too many open files"),
            "{done}"
        );
    }
}

#[test]
fn two_hundred_masked_directories_are_empty() {
    let Some((t, _alone)) = begin() else { return };
    let with = |count: usize| {
        let bundle = t.bundle();
        let mut list: Vec<String> = Vec::new();
        for i in 0..count {
            let dir = format!("/secret/{i}");
            std::fs::create_dir_all(bundle.rootfs().join(&dir[1..])).unwrap();
            std::fs::write(bundle.rootfs().join(&dir[1..]).join("key"), "").unwrap();
            list.push(dir);
        }
        bundle.set("/linux/maskedPaths", json!(list))
    };
    let out = with(200).sh("ls -d /secret/* | wc -l; ls /secret/*/* 2>/dev/null | wc -l").run();
    assert_eq!(out.ok().stdout, "200\n0\n");
    let [empty, small, large] = [0, 20, 200].map(|count| {
        let bundle = with(count).args(&["/bin/true"]);
        time(|| drop(bundle.run().ok()))
    });
    assert_linear("masked directories", empty, small, large);
}

/// A list of id ranges, in the form of config.json.
fn ranges(count: u32) -> Value {
    (0..count).map(|i| json!({"containerID": i, "hostID": 1000 + 2 * i, "size": 1})).collect()
}

#[test]
fn as_many_id_ranges_as_the_kernel_takes_and_no_more() {
    let Some((t, _alone)) = begin() else { return };
    if t.peer() != Peer::Orlop {
        return;
    }
    let with = |count: u32| {
        let mount = json!({"destination": "/m", "type": "bind", "source": "/proc", "options": ["bind"],
            "uidMappings": ranges(count), "gidMappings": ranges(count)});
        t.bundle().push("/mounts", mount).run()
    };
    // procfs cannot map ids: but the ranges were taken.
    let _ = with(340).fails("cannot map ids: the filesystem");
    let _ = with(341).fails("341 ranges; the kernel takes 340");
    // It takes one page of text, too.
    let long = |i: u32| json!({"containerID": 100_000 + i, "hostID": 2_000_000_000 + i, "size": 1});
    let long: Value = (0..300).map(long).collect();
    let mount = json!({"destination": "/m", "type": "bind", "source": "/proc", "options": ["bind"],
        "uidMappings": long, "gidMappings": long});
    let _ = t.bundle().push("/mounts", mount).run().fails("more than the kernel takes");
}

/// What a mount namespace of its own costs there, and what a container does.
fn on_host_with(t: &Test, mounts: usize) -> (Duration, Duration) {
    let bundle = t.bundle().args(&["/bin/true"]);
    bundle.write();
    let dir = t.dir().join("host");
    std::fs::create_dir_all(&dir).unwrap();
    // Each step doubles what is mounted there.
    let script = format!(
        "mount -t tmpfs host {0} && cd {0} && i=0
         while [ $(wc -l </proc/self/mountinfo) -lt {mounts} ]; do
             i=$((i + 1)); mkdir $i && mount --rbind . $i || exit 9
         done
         cd /; now() {{ cut -d' ' -f1 /proc/uptime; }}
         for n in 1 2 3 4 5; do
             now; unshare -m true; now; \"$1\" --root \"$2\" run --bundle \"$3\" \"$4\"; now
         done",
        dir.display()
    );
    let run = Run::new("unshare", t.dir()).args(["-m", "sh", "-c", &script, "sh"]);
    let run = run.arg(t.runtime()).arg(t.root()).arg(&bundle.dir).arg(&bundle.id);
    let done = run.done().ok();
    let times: Vec<f64> = done.lines().iter().map(|line| line.parse().unwrap()).collect();
    let least = |from: usize| {
        let each = times.chunks(3).map(|chunk| chunk[from + 1] - chunk[from]);
        Duration::from_secs_f64(each.fold(f64::MAX, f64::min).max(0.0))
    };
    (least(0), least(1))
}

#[test]
fn mounts_of_the_host_cost_what_the_kernel_takes_to_copy_them() {
    let Some((t, _alone)) = begin() else { return };
    let (_, quiet) = on_host_with(&t, 0);
    let (copy, busy) = on_host_with(&t, 10_000);
    // The kernel's clock here has hundredths of a second.
    let limit = quiet + copy * 6 + Duration::from_millis(60);
    assert!(busy < limit, "quiet {quiet:?}, a copy of the mounts {copy:?}, busy {busy:?}");
}
