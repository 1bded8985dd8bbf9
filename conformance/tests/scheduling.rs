//! How programs are scheduled: policies, priorities, processors, memory nodes.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use orlop_conformance::{Bundle, Container, Peer, Run, Test};
use serde_json::{Value, json};

/// What the kernel says of a process in `/proc/PID/stat`: policy, realtime priority, nice.
fn scheduling(stat: &str) -> [i64; 3] {
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<i64> = fields.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    // By the numbers of proc(5), the first of these is field 3.
    [fields[41 - 3], fields[40 - 3], fields[19 - 3]]
}

fn scheduled(bundle: Bundle<'_>, scheduler: Value) -> [i64; 3] {
    let bundle = bundle.set("/process/scheduler", scheduler);
    scheduling(&bundle.args(&["/bin/cat", "/proc/self/stat"]).run().ok().stdout)
}

#[test]
fn scheduler_policies_are_the_programs() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 does not know it") {
        return;
    }
    for (scheduler, want) in [
        (json!({"policy": "SCHED_OTHER", "nice": 7}), [0, 0, 7]),
        (json!({"policy": "SCHED_OTHER", "nice": -3}), [0, 0, -3]),
        (json!({"policy": "SCHED_BATCH", "nice": 19}), [3, 0, 19]),
        (json!({"policy": "SCHED_IDLE"}), [5, 0, 0]),
        (json!({"policy": "SCHED_FIFO", "priority": 3}), [1, 3, 0]),
        (json!({"policy": "SCHED_RR", "priority": 99}), [2, 99, 0]),
    ] {
        assert_eq!(scheduled(t.bundle(), scheduler.clone()), want, "{scheduler}");
    }
}

#[test]
fn deadline_policy_is_the_programs() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 does not know it") {
        return;
    }
    let deadline = json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 100_000_000,
        "period": 100_000_000});
    assert_eq!(scheduled(t.bundle(), deadline.clone())[0], 6);
    // In a pid namespace of another container, and a hook that forks before.
    let first = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let path = format!("/proc/{}/ns/pid", first.pid);
    let bundle = t.bundle().without_namespace("pid");
    let bundle = bundle.push("/linux/namespaces", json!({"type": "pid", "path": path}));
    let bundle = bundle.set("/hooks", json!({"createContainer": [{"path": "/bin/true"}]}));
    assert_eq!(scheduled(bundle, deadline)[0], 6);
}

#[test]
fn policy_that_is_reset_on_fork_is_the_programs_and_not_its_childrens() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 does not know it") {
        return;
    }
    let scheduler = json!({"policy": "SCHED_FIFO", "priority": 2,
        "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    let script = "read a </proc/self/stat; echo \"$a\"; cat /proc/self/stat; sleep 100";
    let c = t.bundle().set("/process/scheduler", scheduler).sh(script).run_detached();
    c.wait_for_output("(cat)");
    let written = c.written();
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(scheduling(lines[0]), [1, 2, 0]);
    assert_eq!(scheduling(lines[1]), [0, 0, 0]);
    // A process that joins is born by another of the runtime's.
    let done = c.call("exec", &[], &["/bin/cat", "/proc/self/stat"]).ok();
    assert_eq!(scheduling(&done.stdout), [1, 2, 0]);
}

#[test]
fn io_priority_is_the_programs() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc], "1.1 keeps the caller's") {
        return;
    }
    for (class, level, want) in [
        ("IOPRIO_CLASS_RT", 2, "realtime: prio 2"),
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ] {
        let bundle =
            t.bundle().set("/process/ioPriority", json!({"class": class, "priority": level}));
        let out = bundle.args(&["/bin/ionice"]).run().ok().stdout;
        assert!(out.starts_with(want), "{class} {level}: {out}");
    }
}

/// `process.json` of an exec that runs `args`, with `more` fields.
fn exec_process(c: &Container<'_>, args: &[&str], more: Value) -> Run {
    let mut process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": args,
        "env": ["PATH=/bin"]});
    process.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let file = c.bundle.dir.join(orlop_conformance::tmp::unique("process"));
    std::fs::write(&file, process.to_string()).unwrap();
    c.bundle.test.command(["exec", "--process"]).arg(file).arg(&c.bundle.id)
}

#[test]
fn exec_inherits_what_its_process_leaves_open() {
    let Some(t) = Test::begin() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "inherit nothing") {
        return;
    }
    let bundle = t
        .bundle()
        .set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}))
        .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 5}));
    let c = bundle.args(&["/bin/sleep", "100"]).run_detached();
    let run = |args: &[&str], more: Value| exec_process(&c, args, more).done().ok().stdout;
    let stat: &[&str] = &["cat", "/proc/self/stat"];
    assert_eq!(scheduling(&run(stat, json!({}))), [3, 0, 5]);
    assert!(run(&["ionice"], json!({})).contains("prio 5"));
    let own = json!({"scheduler": {"policy": "SCHED_OTHER", "nice": 1},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1}});
    assert_eq!(scheduling(&run(stat, own.clone())), [0, 0, 1]);
    assert!(run(&["ionice"], own).contains("prio 1"));
}

/// The processors that this process may use, as the kernel lists them.
fn allowed(status: &str) -> String {
    orlop_conformance::proc::status(status)["Cpus_allowed_list"].clone()
}

/// Two of the processors that this process may use; says so where there is one only.
fn two_processors() -> Option<(String, [String; 2])> {
    let all = allowed(&std::fs::read_to_string("/proc/self/status").unwrap());
    let mut each = all.split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<u32>().unwrap()..=last.parse().unwrap()
    });
    let (Some(a), Some(b)) = (each.next(), each.next()) else {
        eprintln!("SKIPPED: one processor only");
        return None;
    };
    Some((all, [a.to_string(), b.to_string()]))
}

/// The same command, by a caller that is pinned to a processor.
fn pinned(c: &Bundle<'_>, cpu: &str, command: &[&str]) -> Run {
    let run = Run::new("taskset", c.test.dir()).args(["-c", cpu]).arg(c.test.runtime());
    run.arg("--root").arg(c.test.root()).args(command)
}

#[test]
fn container_of_a_pinned_caller_has_all_processors() {
    let Some(t) = Test::begin() else { return };
    let Some((all, [first, _])) = two_processors() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "keep the caller's") {
        return;
    }
    let bundle = t.bundle().args(&["/bin/cat", "/proc/self/status"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    let done = pinned(&bundle, &first, &["run", "--bundle", dir, &bundle.id]).done().ok();
    assert_eq!(allowed(&done.stdout), all);

    let c = t.bundle().args(&["/bin/sleep", "100"]).run_detached();
    let exec = ["exec", &c.bundle.id, "/bin/cat", "/proc/self/status"];
    assert_eq!(allowed(&pinned(&c.bundle, &first, &exec).done().ok().stdout), all);
}

#[test]
fn exec_runs_on_the_processors_of_its_affinity() {
    let Some(t) = Test::begin() else { return };
    let Some((all, [first, second])) = two_processors() else { return };
    if t.differs(&[Peer::Runc, Peer::Crun], "do not know it") {
        return;
    }
    let bundle = t.bundle().set("/process/execCPUAffinity", json!({"initial": first}));
    let c = bundle.args(&["/bin/cat", "/proc/self/status"]);
    // It is for later processes, not for the container's own.
    assert_eq!(allowed(&c.run().ok().stdout), all);
    let bundle =
        t.bundle().set("/process/execCPUAffinity", json!({"initial": first, "final": second}));
    let c = bundle.args(&["/bin/sleep", "100"]).run_detached();
    let run = |more: Value| {
        let status = exec_process(&c, &["cat", "/proc/self/status"], more).done().ok().stdout;
        allowed(&status)
    };
    assert_eq!(run(json!({})), second);
    assert_eq!(run(json!({"execCPUAffinity": {"initial": first}})), first);
    assert_eq!(run(json!({"execCPUAffinity": {"initial": second, "final": first}})), first);
    // Processors that are not there: tolerable at first, not in the end.
    assert_eq!(run(json!({"execCPUAffinity": {"initial": "8000"}})), all);
    let process = json!({"execCPUAffinity": {"final": "8000"}});
    let done = exec_process(&c, &["true"], process).done().exits(255);
    assert!(done.stderr.contains("process.execCPUAffinity.final"), "{done}");
}

#[test]
fn memory_policy_is_the_programs_and_that_of_further_processes() {
    let Some(t) = Test::begin() else { return };
    if !Path::new("/proc/self/numa_maps").exists() {
        eprintln!("SKIPPED: a kernel without NUMA");
        return;
    }
    if t.differs(&[Peer::Runc, Peer::Crun], "do not know it") {
        return;
    }
    for (policy, want) in [
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}), "interleave:0"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
        (
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
            "bind=static:0",
        ),
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
    ] {
        let c = t.bundle().set("/linux/memoryPolicy", policy).args(&["/bin/sleep", "100"]);
        let c = c.run_detached();
        let maps = std::fs::read_to_string(format!("/proc/{}/numa_maps", c.pid)).unwrap();
        assert_eq!(maps.split_whitespace().nth(1), Some(want));
        let maps = c.call("exec", &[], &["/bin/cat", "/proc/self/numa_maps"]).ok().stdout;
        assert_eq!(maps.split_whitespace().nth(1), Some(want));
    }
    let nowhere = json!({"mode": "MPOL_BIND", "nodes": "1000"});
    let _ = t.bundle().set("/linux/memoryPolicy", nowhere).run().fails("linux.memoryPolicy: ");
}
