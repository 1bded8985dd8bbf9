//! What a process can say of itself.

use std::collections::BTreeMap;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{getegid, geteuid, getgid, getgroups, getpgrp, getpid, getppid, getsid, getuid};
use serde_json::{Map, Value, json};

use crate::sys;

const LIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
];

fn text(path: &str) -> Value {
    std::fs::read(path).map_or(Value::Null, |b| json!(String::from_utf8_lossy(&b).trim_end()))
}

fn link(path: impl AsRef<Path>) -> Value {
    std::fs::read_link(path).map_or(Value::Null, |p| json!(p.to_string_lossy()))
}

/// `Name: value` lines.
fn status() -> Value {
    let Ok(text) = std::fs::read_to_string("/proc/self/status") else { return Value::Null };
    let fields: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key, value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    json!(fields)
}

/// The namespaces, as the kernel names them.
fn namespaces() -> Value {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "time_for_children", "user", "uts"];
    kinds.iter().map(|kind| (*kind, link(format!("/proc/self/ns/{kind}")))).collect()
}

/// Open descriptors: found by trying, so that no procfs is needed.
fn descriptors() -> Value {
    (0..1024)
        .filter_map(|fd| Some((fd, sys::flags(fd).ok()?)))
        .map(|(fd, flags)| json!({"fd": fd, "target": link(format!("/proc/self/fd/{fd}")), "flags": flags}))
        .collect()
}

fn umask() -> u32 {
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(mask);
    mask.bits()
}

fn process() -> Map<String, Value> {
    let pairs = [
        ("pid", json!(getpid().as_raw())),
        ("ppid", json!(getppid().as_raw())),
        ("pgid", json!(getpgrp().as_raw())),
        ("sid", json!(getsid(None).map_or(-1, nix::unistd::Pid::as_raw))),
        ("uid", json!(getuid().as_raw())),
        ("euid", json!(geteuid().as_raw())),
        ("gid", json!(getgid().as_raw())),
        ("egid", json!(getegid().as_raw())),
        (
            "groups",
            json!(getgroups().unwrap_or_default().iter().map(|g| g.as_raw()).collect::<Vec<_>>()),
        ),
        ("umask", json!(umask())),
        ("no_new_privs", json!(sys::prctl(libc::PR_GET_NO_NEW_PRIVS, 0).unwrap_or(-1))),
        ("dumpable", json!(sys::prctl(libc::PR_GET_DUMPABLE, 0).unwrap_or(-1))),
        ("keep_caps", json!(sys::prctl(libc::PR_GET_KEEPCAPS, 0).unwrap_or(-1))),
        ("securebits", json!(sys::prctl(libc::PR_GET_SECUREBITS, 0).unwrap_or(-1))),
        ("death_signal", json!(sys::death_signal())),
        (
            "personality",
            json!(sys::call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]).unwrap_or(-1)),
        ),
        ("policy", json!(sys::call(libc::SYS_sched_getscheduler, [0; 6]).unwrap_or(-1))),
        ("nice", json!(20 - sys::call(libc::SYS_getpriority, [0; 6]).unwrap_or(0))),
        ("io_priority", json!(sys::call(libc::SYS_ioprio_get, [1, 0, 0, 0, 0, 0]).unwrap_or(-1))),
        ("affinity", json!(sys::affinity())),
        ("boottime", json!(sys::clock(libc::CLOCK_BOOTTIME))),
        ("monotonic", json!(sys::clock(libc::CLOCK_MONOTONIC))),
        ("session_keyring", json!(sys::call(libc::SYS_keyctl, [0, -3, 0, 0, 0, 0]).unwrap_or(-1))),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// All of it.
pub(crate) fn facts() -> Value {
    let args: Vec<_> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let env: Vec<_> = std::env::vars_os()
        .map(|(k, v)| format!("{}={}", k.to_string_lossy(), v.to_string_lossy()))
        .collect();
    let limits: BTreeMap<_, _> =
        LIMITS.iter().filter_map(|(name, which)| Some((*name, getrlimit(*which).ok()?))).collect();
    let tty: Vec<bool> = (0..3).map(|fd| sys::window(fd).is_ok()).collect();
    let uts = nix::sys::utsname::uname().ok();
    let uts = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        uts.as_ref().map(|u| part(u).to_string_lossy().into_owned())
    };
    let mut all = process();
    for (key, value) in [
        ("args", json!(args)),
        ("env", json!(env)),
        ("cwd", std::env::current_dir().map_or(Value::Null, |p| json!(p.to_string_lossy()))),
        ("exe", link("/proc/self/exe")),
        ("hostname", json!(uts(|u| u.nodename()))),
        ("domainname", json!(uts(|u| u.domainname()))),
        ("machine", json!(uts(|u| u.machine()))),
        ("status", status()),
        ("mountinfo", text("/proc/self/mountinfo")),
        ("ns", namespaces()),
        ("fds", descriptors()),
        ("limits", json!(limits)),
        ("tty", json!(tty)),
        ("window", json!(sys::window(0).ok())),
        ("oom_score_adj", text("/proc/self/oom_score_adj")),
        ("cgroup", text("/proc/self/cgroup")),
        ("uid_map", text("/proc/self/uid_map")),
        ("gid_map", text("/proc/self/gid_map")),
        ("setgroups", text("/proc/self/setgroups")),
        ("time_offsets", text("/proc/self/timens_offsets")),
        ("stat", text("/proc/self/stat")),
        ("comm", text("/proc/self/comm")),
    ] {
        all.insert(key.to_owned(), value);
    }
    Value::Object(all)
}
