//! Cgroups by controller: config-linux.md; changes by `update`; figures by `events`.

use serde_json::{Value, json};

use super::section;
use crate::suite::host::Need;
use crate::suite::{Case, Section, payload};
use crate::{Bundle, Container, Test, proc};

/// A limit: the controller, its path in `linux.resources`, its value, the file that then holds what.
struct Limit(&'static str, &'static str, fn() -> Value, &'static str, &'static str);

const LIMITS: [Limit; 34] = [
    Limit("memory", "/memory", || json!({"limit": 67_108_864}), "memory.max", "67108864"),
    Limit("memory", "/memory", || json!({"limit": -1}), "memory.max", "max"),
    Limit("memory", "/memory", || json!({"reservation": 33_554_432}), "memory.low", "33554432"),
    Limit(
        "memory",
        "/memory",
        || json!({"limit": 67_108_864, "swap": 100_663_296}),
        "memory.swap.max",
        "33554432",
    ),
    Limit(
        "memory",
        "/memory",
        || json!({"limit": 67_108_864, "swap": 67_108_864}),
        "memory.swap.max",
        "0",
    ),
    Limit(
        "memory",
        "/memory",
        || json!({"limit": 67_108_864, "swap": -1}),
        "memory.swap.max",
        "max",
    ),
    Limit("cpu", "/cpu", || json!({"quota": 50_000, "period": 200_000}), "cpu.max", "50000 200000"),
    Limit("cpu", "/cpu", || json!({"quota": 50_000}), "cpu.max", "50000 100000"),
    Limit("cpu", "/cpu", || json!({"period": 50_000}), "cpu.max", "max 50000"),
    Limit("cpu", "/cpu", || json!({"quota": -1, "period": 50_000}), "cpu.max", "max 50000"),
    Limit("cpu", "/cpu", || json!({"shares": 2}), "cpu.weight", "1"),
    Limit("cpu", "/cpu", || json!({"shares": 1024}), "cpu.weight", "100"),
    Limit("cpu", "/cpu", || json!({"shares": 262_144}), "cpu.weight", "10000"),
    Limit(
        "cpu",
        "/cpu",
        || json!({"quota": 50_000, "period": 100_000, "burst": 10_000}),
        "cpu.max.burst",
        "10000",
    ),
    Limit("cpu", "/cpu", || json!({"idle": 1}), "cpu.idle", "1"),
    Limit("cpuset", "/cpu", || json!({"cpus": "0"}), "cpuset.cpus", "0"),
    Limit("cpuset", "/cpu", || json!({"mems": "0"}), "cpuset.mems", "0"),
    Limit("pids", "/pids", || json!({"limit": 7}), "pids.max", "7"),
    Limit("pids", "/pids", || json!({"limit": 4_000_000}), "pids.max", "4000000"),
    Limit("pids", "/pids", || json!({"limit": -1}), "pids.max", "max"),
    Limit("io", "/blockIO", || json!({"weight": 500}), "io.weight", "default 4950"),
    Limit("io", "/blockIO", || json!({"weight": 10}), "io.weight", "default 1"),
    Limit("io", "/blockIO", || json!({"weight": 1000}), "io.weight", "default 10000"),
    Limit(
        "hugetlb",
        "/hugepageLimits",
        || json!([{"pageSize": "2MB", "limit": 4_194_304}]),
        "hugetlb.2MB.max",
        "4194304",
    ),
    Limit(
        "hugetlb",
        "/hugepageLimits",
        || json!([{"pageSize": "2MB", "limit": 0}]),
        "hugetlb.2MB.max",
        "0",
    ),
    Limit("memory", "/unified", || json!({"memory.high": "50000000"}), "memory.high", "49999872"),
    Limit("memory", "/unified", || json!({"memory.oom.group": "1"}), "memory.oom.group", "1"),
    Limit("memory", "/unified", || json!({"memory.min": "4096"}), "memory.min", "4096"),
    Limit("memory", "/unified", || json!({"memory.swap.max": "0"}), "memory.swap.max", "0"),
    Limit("cpu", "/unified", || json!({"cpu.weight": "77"}), "cpu.weight", "77"),
    Limit("pids", "/unified", || json!({"pids.max": "99"}), "pids.max", "99"),
    Limit(
        "hugetlb",
        "/unified",
        || json!({"hugetlb.2MB.max": "2097152"}),
        "hugetlb.2MB.max",
        "2097152",
    ),
    Limit(
        "hugetlb",
        "/unified",
        || json!({"cgroup.max.descendants": "5"}),
        "cgroup.max.descendants",
        "5",
    ),
    Limit("hugetlb", "/unified", || json!({"cgroup.max.depth": "6"}), "cgroup.max.depth", "6"),
];

/// What `update` changes: the controller, its options, the file that then holds what.
const UPDATES: [(&str, &[&str], &str, &str); 12] = [
    ("memory", &["--memory", "50331648"], "memory.max", "50331648"),
    ("memory", &["--memory", "48M"], "memory.max", "50331648"),
    ("memory", &["--memory-reservation", "16777216"], "memory.low", "16777216"),
    ("cpu", &["--cpu-quota", "30000", "--cpu-period", "60000"], "cpu.max", "30000 60000"),
    ("cpu", &["--cpu-share", "2"], "cpu.weight", "1"),
    ("cpu", &["--cpu-idle", "1"], "cpu.idle", "1"),
    ("cpuset", &["--cpuset-cpus", "0"], "cpuset.cpus", "0"),
    ("cpuset", &["--cpuset-mems", "0"], "cpuset.mems", "0"),
    ("pids", &["--pids-limit", "55"], "pids.max", "55"),
    ("pids", &["--pids-limit", "-1"], "pids.max", "max"),
    ("io", &["--blkio-weight", "10"], "io.weight", "default 1"),
    ("pids", &["--pids-limit=56"], "pids.max", "56"),
];

fn limited<'t>(t: &'t Test, path: &str, value: Value) -> Bundle<'t> {
    t.bundle().set(&format!("/linux/resources{path}"), value)
}

fn file(c: &Container<'_>, name: &str) -> String {
    let path = c.bundle.cgroup().join(name);
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

pub(super) fn add(list: &mut Vec<Case>) {
    let mut s = section(list, "cgroups", "config-linux.md#control-groups");
    paths(&mut s);
    for limit in LIMITS {
        let Limit(controller, path, value, name, want) = limit;
        let value = value();
        s.case(format!("{}: {value} is {want:?} in {name}", &path[1..]), move |t| {
            let c = limited(t, path, value.clone()).sleeping().create();
            assert_eq!(file(&c, name), want);
        })
        .needs(Need::Controller(controller));
    }
    throttles(&mut s);
    felt(&mut s);
    refused(&mut s);
    let mut s = section(list, "update", "runc update");
    update(&mut s);
    let mut s = section(list, "events", "runc events");
    events(&mut s);
}

/// A container whose cgroupsPath does not begin with a slash.
fn at_relative(t: &Test) -> Bundle<'_> {
    let b = t.bundle();
    let path = format!("orlop-conformance/{}", b.id);
    b.set("/linux/cgroupsPath", json!(path))
}

fn relative(s: &mut Section<'_>) {
    s.case("relative cgroupsPath is a cgroup of its own, and goes with the container", |t| {
        let c = at_relative(t).sleeping().create();
        let path = proc::cgroup(c.pid).unwrap();
        assert!(path.ends_with(&format!("/orlop-conformance/{}", c.bundle.id)), "{path}");
        let _ = c.call("delete", &["--force"], &[]).ok();
        assert!(!std::path::Path::new(&format!("{}{path}", super::CGROUPS)).exists(), "{path}");
    });
    s.case("relative cgroupsPath leads to the same place each time", |t| {
        let b = at_relative(t);
        let path = b.config["linux"]["cgroupsPath"].clone();
        let place = |b: Bundle<'_>| {
            let c = b.set("/linux/cgroupsPath", path.clone()).sleeping().create();
            let place = proc::cgroup(c.pid);
            let _ = c.call("delete", &["--force"], &[]).ok();
            place
        };
        let first = place(b);
        assert_eq!(place(t.bundle()), first);
    });
    s.case("limit counts with a relative cgroupsPath", |t| {
        let c =
            at_relative(t).set("/linux/resources/pids", json!({"limit": 7})).sleeping().create();
        let place = format!("{}{}/pids.max", super::CGROUPS, proc::cgroup(c.pid).unwrap());
        assert_eq!(std::fs::read_to_string(place).unwrap(), "7\n");
    })
    .needs(Need::Controller("pids"));
    s.case("device rules count with a relative cgroupsPath", |t| {
        let b = at_relative(t)
            .set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]));
        let b = b.capabilities(&["CAP_MKNOD"]);
        let replies = b.acts(&["mknod /tmp/kmsg c 1 11", "open /tmp/kmsg"]);
        replies[0].fails(&[0, libc::EPERM]);
        assert_ne!(replies[1].errno, 0, "it can be opened");
    });
}

/// The number of a block device of this host, as `8:0`.
fn block_device() -> Option<(u64, u64)> {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let texts = disks.filter_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok());
    let numbers = texts.filter_map(|text| {
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    // Partitions and memory are no place for limits; any disk is.
    numbers.into_iter().find(|(major, _)| *major != 1)
}

/// Limits on what is read from and written to a disk.
fn throttles(s: &mut Section<'_>) {
    for (field, key) in [
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ] {
        s.case(format!("blockIO: {field} is {key} of the device in io.max"), move |t| {
            let Some((major, minor)) = block_device() else {
                crate::suite::skip("no block device");
            };
            let rule = json!({field: [{"major": major, "minor": minor, "rate": 204_800}]});
            let c = limited(t, "/blockIO", rule).sleeping().create();
            let text = file(&c, "io.max");
            let line = text.lines().find(|l| l.starts_with(&format!("{major}:{minor} ")));
            let set =
                line.is_some_and(|l| l.split(' ').any(|word| word == format!("{key}=204800")));
            assert!(set, "{text:?}");
        })
        .needs(Need::Controller("io"));
    }
}

fn paths(s: &mut Section<'_>) {
    s.section_at("config-linux.md#cgroups-path");
    s.case("absolute cgroupsPath is below the hierarchy's root", |t| {
        let c = t.bundle().sleeping().create();
        let path = format!("/orlop-conformance/{}", c.bundle.id);
        assert_eq!(proc::cgroup(c.pid), Some(path));
    });
    relative(s);
    s.case("container without a cgroupsPath has a cgroup of its own", |t| {
        let c = t.bundle().remove("/linux/cgroupsPath").sleeping().create();
        let own = proc::cgroup(i32::try_from(std::process::id()).unwrap());
        assert_ne!(proc::cgroup(c.pid), own);
    });
    s.case("one cgroupsPath of two containers is refused while the first lives", |t| {
        let first = t.bundle().sleeping().create();
        let path = format!("/orlop-conformance/{}", first.bundle.id);
        let done = t.bundle().set("/linux/cgroupsPath", json!(path)).try_create();
        assert!(!done.status.success(), "{done}");
        assert_eq!(first.status(), "created");
    })
    .at("runc create");
    s.case("children of the process are in its cgroup", |t| {
        let c = t.bundle().payload(&["leave", "forever"]).run_detached();
        let _ = c.wait_replies(1);
        assert_eq!(file(&c, "cgroup.procs").lines().count(), 2);
    });
    s.case("container cannot leave its cgroup", |t| {
        t.bundle().act("write /sys/fs/cgroup/../cgroup.procs 1").fails(&[
            libc::ENOENT,
            libc::EROFS,
            libc::EACCES,
        ]);
    });
    s.case("cgroup filesystem of the container is read-only as the config says", |t| {
        t.bundle().act("mkdir /sys/fs/cgroup/x").fails(&[libc::EROFS]);
    });
    s.section_at("config-linux.md#control-groups");
}

fn felt(s: &mut Section<'_>) {
    s.case("process that needs more memory than its limit is killed", |t| {
        let b = limited(t, "/memory", json!({"limit": 33_554_432, "swap": 33_554_432}));
        let done = b.payload(&["child", "touch 100000000"]).run().ok();
        assert_eq!(payload::replies(&done.stdout)[0].ok()["signal"], 9);
    })
    .needs(Need::Controller("memory"));
    s.case("no more processes than the limit can be made", |t| {
        let made = limited(t, "/pids", json!({"limit": 5})).act("forks 100");
        assert_eq!(*made.ok(), json!({"made": 4, "errno": libc::EAGAIN}));
    })
    .needs(Need::Controller("pids"));
    s.case("limit of one process is enough to start", |t| {
        let _ = limited(t, "/pids", json!({"limit": 1})).facts();
    })
    .needs(Need::Controller("pids"));
    s.case("process may use the processors of its set alone", |t| {
        let found = limited(t, "/cpu", json!({"cpus": "0"})).facts();
        assert_eq!(found["affinity"], json!([0]));
    })
    .needs(Need::Controller("cpuset"));
    s.case("limits are there before the program starts", |t| {
        let b = limited(t, "/pids", json!({"limit": 9}));
        assert_eq!(b.act("read /sys/fs/cgroup/pids.max").text(), "9\n");
    })
    .needs(Need::Controller("pids"));
}

fn refused(s: &mut Section<'_>) {
    for (what, path, value) in [
        ("unified file that does not exist", "/unified", json!({"nosuch.file": "1"})),
        ("unified name that is a path", "/unified", json!({"../cgroup.procs": "1"})),
        (
            "unified value that the kernel does not take",
            "/unified",
            json!({"cgroup.max.depth": "deep"}),
        ),
        ("cpus that are no list", "/cpu", json!({"cpus": "first"})),
        (
            "page size that does not exist",
            "/hugepageLimits",
            json!([{"pageSize": "3MB", "limit": 0}]),
        ),
    ] {
        s.case(format!("{what} is refused"), move |t| {
            let done = limited(t, path, value.clone()).try_create();
            assert!(!done.status.success(), "{done}");
        });
    }
}

fn update(s: &mut Section<'_>) {
    for (controller, options, name, want) in UPDATES {
        s.case(format!("{} makes {name} {want:?}", options.join(" ")), move |t| {
            let c = limited(t, "/memory", json!({"limit": 67_108_864})).sleeping().run_detached();
            let _ = c.call("update", options, &[]).ok();
            assert_eq!(file(&c, name), want);
        })
        .needs(Need::Controller(controller))
        .needs(Need::Controller("memory"));
    }
    s.case("resources of a file are written", |t| {
        let c = t.bundle().sleeping().run_detached();
        let path = c.bundle.dir.join("resources.json");
        std::fs::write(&path, r#"{"pids": {"limit": 44}}"#).unwrap();
        let _ = c.call("update", &["--resources", path.to_str().unwrap()], &[]).ok();
        assert_eq!(file(&c, "pids.max"), "44");
    })
    .needs(Need::Controller("pids"));
    s.case("resources of standard input are taken", |t| {
        let c = t.bundle().sleeping().run_detached();
        let path = c.bundle.dir.join("resources.json");
        std::fs::write(&path, r#"{"unified": {"cgroup.max.depth": "4"}}"#).unwrap();
        let input = std::fs::File::open(path).unwrap();
        let _ = t.command(["update", "--resources", "-", &c.bundle.id]).stdin(input).done().ok();
        assert_eq!(file(&c, "cgroup.max.depth"), "4");
    });
    s.case("update without anything to change succeeds", |t| {
        let c = t.bundle().sleeping().run_detached();
        let _ = c.call("update", &[], &[]).ok();
    });
    s.case("update of a stopped container fails", |t| {
        let c = t.bundle().create();
        let _ = c.start().ok();
        let _ = c.reap();
        assert!(!c.call("update", &["--pids-limit", "5"], &[]).status.success());
    });
    s.case("update of a container that is not there fails", |t| {
        assert!(!t.call(&["update", "--pids-limit", "5", "nobody"]).status.success());
    });
    s.case("update keeps the rules for devices", |t| {
        let c = t.bundle().capabilities(&["CAP_MKNOD", "CAP_SYSLOG"]).sleeping().run_detached();
        let _ = c.call("update", &[], &[]).ok();
        let replies =
            c.exec(&["--cap", "CAP_MKNOD"], &["mknod /tmp/kmsg c 1 11", "open /tmp/kmsg"]);
        assert_ne!(replies[1].errno, 0);
    });
}

fn events(s: &mut Section<'_>) {
    s.case("--stats prints one object of the container's figures", |t| {
        let c = t.bundle().sleeping().run_detached();
        let stats = c.call("events", &["--stats"], &[]).ok().json();
        assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!(c.bundle.id)));
        assert!(stats["data"].is_object(), "{stats}");
    });
    s.case("figures of memory are there", |t| {
        let c = t.bundle().sleeping().run_detached();
        let stats = c.call("events", &["--stats"], &[]).ok().json();
        assert!(stats["data"]["memory"]["usage"]["usage"].as_u64() > Some(0), "{stats}");
    })
    .needs(Need::Controller("memory"));
    s.case("figures of processes are there", |t| {
        let c = limited(t, "/pids", json!({"limit": 12})).sleeping().run_detached();
        let stats = c.call("events", &["--stats"], &[]).ok().json();
        assert_eq!(stats["data"]["pids"], json!({"current": 1, "limit": 12}));
    })
    .needs(Need::Controller("pids"));
    s.case("figures of processor time are there", |t| {
        let c = t.bundle().sleeping().run_detached();
        let stats = c.call("events", &["--stats"], &[]).ok().json();
        assert!(stats["data"]["cpu"]["usage"]["total"].as_u64() > Some(0), "{stats}");
    })
    .needs(Need::Controller("cpu"));
    s.case("stream of events ends with the container", |t| {
        let c = t.bundle().sleeping().run_detached();
        let run = t.command(["events", "--interval", "1s", &c.bundle.id]).spawn();
        crate::run::wait_for("figures", || run.stdout_so_far().contains("\"stats\""));
        let _ = c.kill("KILL").ok();
        let _ = c.reap();
        let _ = run.done().ok();
    })
    .needs(Need::Controller("memory"));
    s.case("figures of a stopped container are refused", |t| {
        let c = t.bundle().create();
        let _ = c.start().ok();
        let _ = c.reap();
        assert!(!c.call("events", &["--stats"], &[]).status.success());
    });
}
