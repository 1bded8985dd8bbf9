//! Podman as an ordinary user, with both cgroup managers: that user's systemd, and Podman itself in what that systemd
//! has delegated to it.

use std::path::Path;
use std::sync::LazyLock;

use super::{
    attached_input_and_output, exec_runs_beside_but_not_while_paused, exit_codes_and_output,
    out_of_memory_is_said, pods_share_namespaces, signals_and_stopping, terminals_have_their_size,
};
use crate::cli::{Cli, Kind};
use crate::{Driver, Runtime, check, daemons, on_the_machine, wait_for_none};

/// As a session of the user's has it. Its subordinate ids begin at 100000.
const USER: [&str; 9] = [
    "runuser",
    "-u",
    "user",
    "--",
    "env",
    "-C",
    "/home/user",
    "HOME=/home/user",
    "XDG_RUNTIME_DIR=/run/user/1000",
];

/// Runs a command as the user.
#[track_caller]
fn call(args: &[&str]) -> orlop_conformance::run::Done {
    daemons::call(&[&USER, args].concat())
}

/// The user's Podman, with the images in its own store.
fn podman(driver: Driver, runtime: Runtime) -> Cli {
    static ONCE: LazyLock<()> = LazyLock::new(|| {
        let _ = daemons::call(&["systemctl", "start", "user@1000"]).ok();
        // Whoever unpacked the job may have kept it for root.
        let _ = daemons::call(&["chmod", "a+rx", "/job", &Runtime::Ours.path()]).ok();
        let _ = call(&["podman", "load", "-q", "-i", "/opt/images.tar"]).ok();
    });
    let cli = Cli { user: &USER, ..Cli::begin(Kind::Podman, driver, runtime) };
    LazyLock::force(&ONCE);
    cli
}

macro_rules! checks {
    ($module:ident, $driver:ident, $($check:ident)+) => {
        mod $module {
            $(#[test]
            fn $check() {
                super::check(|runtime| {
                    super::$check(&super::podman(super::Driver::$driver, runtime));
                });
            })+
        }
    };
}

checks! { systemd, Systemd,
exit_codes_and_output exec_runs_beside_but_not_while_paused attached_input_and_output terminals_have_their_size
limits_are_seen_and_changed out_of_memory_is_said signals_and_stopping pods_share_namespaces
ids_are_mapped_as_asked_for volumes_have_their_owners images_are_built networks_are_the_users }
checks! { cgroupfs, Cgroupfs,
exec_runs_beside_but_not_while_paused limits_are_seen_and_changed pods_share_namespaces }

fn limits_are_seen_and_changed(e: &Cli) {
    let flags = ["--memory", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    let up = e.start(&flags, &["sleep", "1000"]);
    let files = ["memory.max", "memory.swap.max", "cpu.max", "pids.max"];
    let want = ["67108864", "0", "50000 100000", "50"];
    let cgroup = up.cgroup();
    assert!(cgroup.path.contains("/user@1000.service/"), "{}", cgroup.path);
    assert_eq!(files.map(|file| cgroup.read(file)), want);
    let script = format!("cd /sys/fs/cgroup; cat {}", files.join(" "));
    let inside = up.exec(&[], &["sh", "-c", &script]).ok();
    assert_eq!(inside.lines(), want, "the same from inside");
    let flags = ["--memory", "96m", "--memory-swap", "96m", "--cpus", "0.8", "--pids-limit", "60"];
    let _ = up.call("update", &flags).ok();
    if e.driver == Driver::Systemd {
        let show = ["systemctl", "--user", "show", "-p", "TasksMax", cgroup.scope()];
        assert_eq!(call(&show).ok().stdout, "TasksMax=60\n");
    }
    assert_eq!(files.map(|file| cgroup.read(file)), ["100663296", "0", "80000 100000", "60"]);
    let done =
        up.exec(&[], &["sh", "-c", "i=0; while [ $i -lt 80 ]; do sleep 9 & i=$((i + 1)); done"]);
    assert!(done.stderr.contains("can't fork"), "{done}");
}

fn ids_are_mapped_as_asked_for(e: &Cli) {
    let script = "id -u; id -g; cat /proc/self/uid_map; touch /tmp/made && stat -c %u /tmp/made";
    let seen = |flags: &[&str]| {
        let done = e.sh(flags, script).ok();
        done.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(seen(&[]), "0 0 0 1000 1 1 100000 65536 0");
    let keep = "1000 1000 0 1 1000 1000 0 1 1001 1001 64536 1000";
    assert_eq!(seen(&["--userns=keep-id", "--tmpfs", "/x"]), keep);
    assert_eq!(seen(&["--userns=keep-id:uid=7,gid=8", "-u", "0"]), "0 0 0 1 7 7 0 1 8 8 65529 0");
    assert_eq!(seen(&["--userns=nomap"]), "0 0 0 1 65536 0");
}

fn volumes_have_their_owners(e: &Cli) {
    let dir = "/home/user/volume";
    let _ = call(&["sh", "-c", &format!("rm -rf {dir} && mkdir {dir} && echo x >{dir}/mine")]).ok();
    let volume = format!("{dir}:/v");
    let script = "stat -c %u /v/mine; touch /v/new; stat -c %u /v/new; chown 5 /v/new";
    let done = e.sh(&["-v", &volume], script).ok();
    assert_eq!(done.stdout, "0\n0\n");
    assert_eq!(owner(&format!("{dir}/new")), 100_004, "the fifth of the user's");
    let done = e.sh(&["--userns=keep-id", "-v", &volume], "stat -c %u /v/mine; touch /v/kept").ok();
    assert_eq!(done.stdout, "1000\n");
    assert_eq!(owner(&format!("{dir}/kept")), 1000);
    // One that is changed to belong to the container's user.
    let flags = ["-v", "named:/w:U", "-u", "33"];
    assert_eq!(e.sh(&flags, "touch /w/new && stat -c %u /w /w/new").ok().stdout, "33\n33\n");
    let done = e.sh(&["-v", &format!("{volume}:ro")], "touch /v/no");
    assert!(done.stderr.contains("Read-only file system"), "{done}");
    let _ = daemons::call(&["rm", "-r", dir]).ok();
    let _ = e.call(&["volume", "rm", "named"]).ok();
}

fn owner(path: &str) -> u32 {
    use std::os::unix::fs::MetadataExt;
    Path::new(path).metadata().unwrap().uid()
}

fn networks_are_the_users(e: &Cli) {
    // pasta takes over the network of the interface that leads out, where there is one; routes of bridges without
    // containers, which Docker's is then, it cannot.
    let out = "ip link show out || { ip link add out type dummy && ip addr add 192.0.2.2/24 dev out && \
               ip link set out up && ip route add default via 192.0.2.1; }";
    let _ = daemons::call(&["sh", "-c", out]).ok();
    let done = e.sh(&["--net", "pasta"], "ls /sys/class/net; cat /sys/class/net/lo/operstate").ok();
    assert_eq!(done.lines().len(), 3, "lo and one more: {done}");
    let _ = daemons::call(&["ip", "link", "del", "out"]).ok();
    let script = "readlink /proc/self/ns/net";
    let own = call(&["podman", "unshare", "readlink", "/proc/self/ns/net"]).ok().stdout;
    assert_eq!(e.sh(&["--net", "host"], script).ok().stdout, own);
}

fn images_are_built(e: &Cli) {
    let dir = "/home/user/build";
    let file = "FROM localhost/busybox\nRUN echo built >/made && id -u >>/made\n\
                USER 1000:1000\nRUN id -u >/tmp/user\nCMD [\"cat\", \"/made\", \"/tmp/user\"]\n";
    let write = format!("rm -rf {dir} && mkdir {dir} && printf %s \"$1\" >{dir}/Dockerfile");
    let _ = call(&["sh", "-c", &write, "sh", file]).ok();
    let build = |extra: &[&str]| {
        let args =
            ["build", "--no-cache", "--network=none", "--isolation=oci", "-t", "localhost/made"];
        e.call(&[&args, extra, &[dir]].concat())
    };
    let _ = build(&[]).ok();
    let done = e.call(&["run", "--rm", "--net=none", "localhost/made"]).ok();
    assert_eq!(done.stdout, "built\n0\n1000\n");
    let _ = call(&["sh", "-c", &format!("echo RUN exit 19 >>{dir}/Dockerfile")]).ok();
    let done = build(&[]);
    assert!(done.code() != 0 && done.stderr.contains("19"), "{done}");
    let _ = daemons::call(&["rm", "-r", dir]).ok();
}

#[test]
fn z_nothing_is_left_of_the_users_containers() {
    // Not the control's business: it would find the same.
    if on_the_machine() {
        let script = "ls -A /run/user/1000/orlop /run/user/1000/runc; \
                      find /sys/fs/cgroup/user.slice -name 'libpod-*' -o -name 'orlop-*'; \
                      pgrep -u user -a conmon";
        wait_for_none(|| daemons::listed(script));
    }
}
