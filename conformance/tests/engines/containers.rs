//! What Docker and Podman do with containers.

mod rootless;

use std::io::Write;

use orlop_conformance::run::Done;

use crate::cli::{Cli, GREEDY, Kind};
use crate::{Driver, check, daemons, is_heard, wait_for};

/// Makes a test of each check for an engine and a cgroup driver.
macro_rules! checks {
    ($module:ident, $kind:ident, $driver:ident, $($check:ident)+) => {
        mod $module {
            $(#[test]
            fn $check() {
                super::check(|runtime| {
                    super::$check(&super::Cli::begin(super::Kind::$kind, super::Driver::$driver, runtime));
                });
            })+
        }
    };
}

// Everything with the driver that is each engine's choice here, and with the other what has to do with cgroups.
checks! { docker_systemd, Docker, Systemd,
exit_codes_and_output exec_runs_beside_but_not_while_paused attached_input_and_output terminals_have_their_size
limits_are_seen_and_changed out_of_memory_is_said health_is_checked
signals_and_stopping restart_policy looks_as_with_the_control profile_of_apparmor networks_and_namespaces }
checks! { docker_cgroupfs, Docker, Cgroupfs,
exec_runs_beside_but_not_while_paused limits_are_seen_and_changed out_of_memory_is_said }
checks! { podman_systemd, Podman, Systemd,
exit_codes_and_output exec_runs_beside_but_not_while_paused attached_input_and_output terminals_have_their_size
limits_are_seen_and_changed out_of_memory_is_said health_is_checked
signals_and_stopping restart_policy looks_as_with_the_control profile_of_apparmor networks_and_namespaces
pods_share_namespaces }
checks! { podman_cgroupfs, Podman, Cgroupfs,
exec_runs_beside_but_not_while_paused limits_are_seen_and_changed out_of_memory_is_said
pods_share_namespaces }

fn exit_codes_and_output(e: &Cli) {
    let done = e.sh(&[], "echo out; echo err >&2; exit 3").exits(3);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    let _ = e.run(&[], &["/etc/not-executable"]).exits(126);
    let _ = e.run(&[], &["/no/such/program"]).exits(127);
}

fn exec_runs_beside_but_not_while_paused(e: &Cli) {
    let up = e.start(&["--hostname", "boat", "-e", "OWN=1"], &["sleep", "1000"]);
    let script = "id -u; pwd; echo $OWN $MORE; hostname; tr '\\0' ' ' </proc/1/cmdline; echo err >&2; exit 42";
    let flags = ["-u", "1000:1000", "-w", "/etc", "-e", "MORE=a b"];
    let done = up.exec(&flags, &["sh", "-c", script]).exits(42);
    assert_eq!(done.stdout, "1000\n/etc\n1 a b\nboat\nsleep 1000 ");
    assert_eq!(done.stderr, "err\n");
    let _ = up.exec(&[], &["/etc/not-executable"]).exits(126);
    // Docker 26 makes 126 of every failure of exec.
    let code = up.exec(&[], &["/no/such/program"]).code();
    assert!([126, 127].contains(&code), "{code}");
    let _ = up.exec(&["-d"], &["sleep", "1001"]).ok();
    wait_for("both in top", || {
        let top = up.call("top", &[]).ok().stdout;
        top.contains("sleep 1000") && top.contains("sleep 1001")
    });
    let cgroup = up.cgroup();
    let procs = cgroup.read("cgroup.procs");
    assert_eq!(procs.lines().count(), 2, "exec's cgroup is the container's");

    let _ = up.call("pause", &[]).ok();
    assert_eq!(up.inspect("{{.State.Status}}"), "paused");
    assert!(cgroup.read("cgroup.events").contains("frozen 1"));
    assert_ne!(up.exec(&[], &["true"]).code(), 0);
    let _ = up.call("unpause", &[]).ok();
    assert_eq!(up.inspect("{{.State.Status}}"), "running");
    assert!(cgroup.read("cgroup.events").contains("frozen 0"));
    let _ = up.exec(&[], &["true"]).ok();
}

fn attached_input_and_output(e: &Cli) {
    let up = e.start(&["-i"], &["sh", "-c", "read x; echo got $x; echo err >&2; exit 7"]);
    let (read, mut write) = std::io::pipe().unwrap();
    let running = e.command(&["attach", &up.name]).stdin(read).spawn();
    write.write_all(b"hello\n").unwrap();
    let done = running.done();
    // Podman's attach ends with a line of its own, and may not see the code.
    assert_eq!((done.stdout.trim_end(), done.stderr.as_str()), ("got hello", "err\n"));
    assert!(done.code() == 7 || e.kind == Kind::Podman, "{done}");
    assert_eq!(up.wait(), "7");
    drop(write);
}

fn terminals_have_their_size(e: &Cli) {
    let script = "until stty size | grep -q '31 91'; do sleep 0.2; done; tty; \
                  until stty size | grep -q '40 100'; do sleep 0.2; done; echo larger; \
                  read line; echo \"got $line\"; exit 6";
    let mut terminal = e.run_on_terminal(&["sh", "-c", script]);
    let _ = terminal.read_until("/dev/");
    terminal.resize_until(40, 100, "larger");
    terminal.write("hello\r");
    let _ = terminal.read_until("got hello");
    let _ = terminal.running.done().exits(6);

    let up = e.start(&[], &["sleep", "1000"]);
    let script = "until stty size | grep -q '31 91'; do sleep 0.2; done; tty; exit 8";
    let mut terminal = e.on_terminal(&["exec", "-it", &up.name, "sh", "-c", script]);
    let _ = terminal.read_until("/dev/");
    let _ = terminal.running.done().exits(8);
}

fn limits_are_seen_and_changed(e: &Cli) {
    let flags =
        ["--memory", "64m", "--memory-reservation", "32m", "--memory-swap", "64m", "--cpus", "0.5"];
    let more = ["--cpu-shares", "512", "--pids-limit", "50", "--cpuset-cpus", "0"];
    let up = e.start(&[&flags[..], &more].concat(), &["sleep", "1000"]);
    let files =
        ["memory.max", "memory.low", "memory.swap.max", "cpu.max", "pids.max", "cpuset.cpus"];
    let want = ["67108864", "33554432", "0", "50000 100000", "50", "0"];
    let cgroup = up.cgroup();
    assert_eq!(files.map(|file| cgroup.read(file)), want);
    let weight: u64 = cgroup.read("cpu.weight").parse().unwrap();
    assert!((1..100).contains(&weight), "half of the default: {weight}");
    let script = format!("cd /sys/fs/cgroup; cat {}; cat /proc/self/cgroup", files.join(" "));
    let inside = up.exec(&[], &["sh", "-c", &script]).ok();
    assert_eq!(inside.lines()[..files.len()], want, "the same from inside");

    let flags = ["--memory", "96m", "--memory-swap", "96m", "--cpus", "0.8", "--pids-limit", "60"];
    let _ = up.call("update", &flags).ok();
    if e.driver == Driver::Systemd {
        // systemd writes the limits that it knows again.
        let _ = daemons::call(&["systemctl", "daemon-reload"]).ok();
        let show = ["systemctl", "show", "-p", "MemoryMax", "-p", "TasksMax", cgroup.scope()];
        let mut shown = daemons::call(&show).ok().lines().join(" ");
        if shown.starts_with("Tasks") {
            shown = shown.split(' ').rev().collect::<Vec<_>>().join(" ");
        }
        assert_eq!(shown, "MemoryMax=100663296 TasksMax=60");
    }
    let want = ["100663296", "33554432", "0", "80000 100000", "60", "0"];
    assert_eq!(files.map(|file| cgroup.read(file)), want);
    let stats =
        up.call("stats", &["--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}"]).ok().stdout;
    let limit = if e.kind == Kind::Docker { "/ 96MiB 1" } else { "/ 100.7MB 1" };
    assert!(stats.trim().ends_with(limit), "{stats}");
}

fn out_of_memory_is_said(e: &Cli) {
    let flags = ["--memory", "24m", "--memory-swap", "24m"];
    assert!(is_heard(|| {
        let up = e.start(&flags, &["sh", "-c", GREEDY]);
        // It may end with the container.
        let touch = up.exec(&[], &["touch", "/go"]);
        assert_eq!(up.wait(), "137", "{touch}");
        let state = up.inspect("{{.State.ExitCode}} {{.State.OOMKilled}}");
        assert!(state.starts_with("137 "), "{state}");
        state.ends_with(" true")
    }));
}

fn health_is_checked(e: &Cli) {
    let test = ["--health-cmd", "test -e /healthy", "--health-retries", "1"];
    // Podman's timer is a unit of systemd, each check of it a new Podman.
    let interval = if e.kind == Kind::Docker { "1s" } else { "10s" };
    let up = e.start(&[&test[..], &["--health-interval", interval]].concat(), &["sleep", "1000"]);
    let health = |want: &str| {
        wait_for(want, || up.inspect("{{.State.Health.Status}}") == want);
        if e.kind == Kind::Podman {
            let done = e.call(&["healthcheck", "run", &up.name]);
            assert_eq!(done.code() == 0, want == "healthy", "{done}");
        }
    };
    health("unhealthy");
    let _ = up.exec(&[], &["touch", "/healthy"]).ok();
    health("healthy");
}

fn signals_and_stopping(e: &Cli) {
    let script = "trap 'echo term; exit 3' TERM; trap 'echo usr1' USR1; echo ready; \
                  while :; do sleep 1000 & wait $!; done";
    let up = e.start(&[], &["sh", "-c", script]);
    up.wait_for_log("ready");
    let _ = up.call("kill", &["-s", "USR1"]).ok();
    up.wait_for_log("usr1");
    let _ = up.call("stop", &["-t", "60"]).ok();
    assert_eq!(up.inspect("{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
    up.wait_for_log("term");
    assert_eq!(up.call("logs", &[]).ok().stdout, "ready\nusr1\nterm\n");

    let up = e.start(&["--stop-signal", "USR1"], &["sh", "-c", "trap '' TERM USR1; sleep 1000"]);
    let _ = up.call("stop", &["-t", "1"]).ok();
    assert_eq!(up.inspect("{{.State.ExitCode}} {{.State.OOMKilled}}"), "137 false");
    let _ = up.call("start", &[]).ok();
    let first = up.inspect("{{.State.Pid}}");
    let _ = up.call("restart", &["-t", "0"]).ok();
    let second = up.inspect("{{.State.Running}} {{.State.Pid}}");
    assert!(second.starts_with("true ") && !second.ends_with(&format!(" {first}")), "{second}");
}

fn restart_policy(e: &Cli) {
    let up = e.start(&["--restart", "on-failure:2"], &["sh", "-c", "echo run; exit 1"]);
    let state = "{{.RestartCount}} {{.State.Running}} {{.State.ExitCode}}";
    wait_for("two more runs", || up.inspect(state) == "2 false 1");
    // Docker says that a container has ended when it has waited for its output for two seconds.
    wait_for("three lines", || up.call("logs", &[]).ok().stdout == "run\nrun\nrun\n");
}

/// What a program can see of how it was started.
const LOOK: &str = r#"
id; umask; env | sort; pwd; hostname; tty
grep -E '^(Cap|Seccomp|NoNewPrivs|Groups|Sig[BI])' /proc/self/status; ulimit -a
awk '{ for (i = 7; $i != "-"; i++) {}; masked = $5 ~ "^/(proc|sys)/" && $(i+1) ~ "tmpfs"
    print $5, masked ? "masked" : $6 " " $(i+1) }' /proc/self/mountinfo | sort
cd /dev; for f in *; do [ -d $f ] || stat -c '%n %F %a %t %T %N' $f; done
cat /proc/self/oom_score_adj /proc/self/cgroup /proc/self/attr/current /proc/self/loginuid /proc/1/cmdline | tr '\0' ' '
cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start
cd /sys/fs/cgroup; ls; for f in memory.max memory.low pids.max cpu.max cpu.weight cpuset.cpus; do cat $f; done
ls -d /proc/self/fd/*; stat -c '%n %a %u %g' / /dev /dev/shm /proc /sys /tmp; df -k /dev/shm | tail -n 1
"#;

fn looks_as_with_the_control(e: &Cli) {
    let control = e.control();
    let rich = [
        "--read-only",
        "--tmpfs",
        "/scratch:size=1m",
        "--user",
        "1000:1000",
        "--group-add",
        "77",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "CHOWN",
        "--ulimit",
        "nofile=100:200",
        "--init",
        "-v",
        "/opt:/v:ro",
        "--device",
        "/dev/fuse",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--shm-size",
        "8m",
        "-w",
        "/tmp",
        "--memory",
        "50m",
        "--security-opt",
        "no-new-privileges",
        "--oom-score-adj",
        "77",
        "--cpus",
        "0.3",
    ];
    for flags in [&[][..], &["--privileged"], &rich] {
        let flags = [&["--hostname", "boat"], flags].concat();
        let ours = e.sh(&flags, LOOK).ok();
        let theirs = control.sh(&flags, LOOK).ok();
        let lines = |done: &Done| done.lines().into_iter().map(own_signals).collect::<Vec<_>>();
        let (ours, theirs) = (lines(&ours), lines(&theirs));
        let only = |these: &[String], others: &[String], mark: &str| {
            let these = these.iter().filter(|line| !others.contains(line));
            these.map(|line| format!("{mark} {line}\n")).collect::<String>()
        };
        let differences = only(&theirs, &ours, "-") + &only(&ours, &theirs, "+");
        assert!(differences.is_empty(), "{flags:?}:\n{differences}");
    }
}

/// What a line of `LOOK` says without the two signals that glibc keeps for itself: conmon's posix_spawn(3) leaves them
/// ignored now and then, which runc hands on to the container.
fn own_signals(line: &str) -> String {
    let Some(mask) = line.strip_prefix("SigIgn:\t") else { return line.to_owned() };
    let mask = u64::from_str_radix(mask, 16).unwrap();
    format!("SigIgn:\t{:016x}", mask & !(0b11 << 31))
}

fn profile_of_apparmor(e: &Cli) {
    let up = e.start(&[], &["sleep", "1000"]);
    let confined = up.exec(&[], &["cat", "/proc/1/attr/current", "/proc/self/attr/current"]).ok();
    let profile =
        if e.kind == Kind::Docker { "docker-default (enforce)" } else { "containers-default" };
    assert!(confined.lines().iter().all(|line| line.starts_with(profile)), "{confined}");
    assert_eq!(confined.lines().len(), 2);
}

fn networks_and_namespaces(e: &Cli) {
    let flag = if e.kind == Kind::Docker { "--network=bridge" } else { "--network=podman" };
    let up = e.start(&[flag, "--ipc", "shareable", "--cap-add", "NET_RAW"], &["sleep", "1000"]);
    // The engine's own bridge answers.
    let script = "gateway=$(ip route | awk '/default/ { print $3 }'); \
                  { ping -c 1 $gateway || ping -c 5 $gateway; } && ls /sys/class/net";
    let done = up.exec(&[], &["sh", "-c", script]).ok();
    assert!(done.stdout.contains("eth0"), "{done}");
    let other = format!("container:{}", up.name);
    let script = "for n in net ipc pid; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done; \
                  tr '\\0' ' ' </proc/1/cmdline";
    let flags = ["--net", &other, "--pid", &other, "--ipc", &other, "--cap-add", "NET_RAW"];
    let done = e.sh(&flags, script).ok();
    let lines = done.lines();
    assert_eq!((lines.len(), lines[6]), (7, "sleep 1000 "), "{done}");
    assert!(lines[..6].chunks(2).all(|pair| pair[0] == pair[1]), "{done}");
}

fn pods_share_namespaces(e: &Cli) {
    let pod = e.call(&[
        "pod",
        "create",
        "--network=none",
        "--share",
        "net,ipc,uts,pid",
        "--infra-image",
        "localhost/pause",
    ]);
    let pod = pod.ok().stdout.trim().to_owned();
    let up = e.start(&["--pod", &pod], &["sleep", "1000"]);
    let script = "for n in net ipc uts pid; do readlink /proc/1/ns/$n; done; cat /proc/1/comm";
    let first = up.exec(&[], &["sh", "-c", script]).ok();
    assert_eq!(first.lines()[4], "sleep", "the infra container is process 1");
    let _ = e.call(&["pod", "pause", &pod]).ok();
    let _ = e.call(&["pod", "unpause", &pod]).ok();
    // Removed with the pod.
    up.forget();
    let _ = e.call(&["pod", "rm", "-f", "-t", "0", &pod]).ok();
}
