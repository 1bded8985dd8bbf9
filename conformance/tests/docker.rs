//! The runtime under a real Docker, which `conformance/docker.sh` starts around this test binary.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::time::Instant;

use orlop_conformance::console::{on_terminal, read_until};
use orlop_conformance::run::{Done, Running, wait_for};
use orlop_conformance::tmp::{TempDir, unique};
use orlop_conformance::{Run, proc};

/// A test's directory and the names of its containers.
struct Docker {
    dir: TempDir,
    name: String,
}

impl Docker {
    fn begin() -> Option<Self> {
        if std::env::var_os("ORLOP_DOCKER_WORK").is_none() {
            assert!(std::env::var_os("ORLOP_NO_SKIP").is_none(), "run with conformance/docker.sh");
            let text = b"SKIPPED a Docker test: run it with conformance/docker.sh\n";
            let _: std::io::Result<()> = std::io::stderr().write_all(text);
            return None;
        }
        Some(Self { dir: TempDir::new("orlop-docker"), name: unique("d") })
    }

    fn command(&self, args: &[&str]) -> Run {
        Run::new("docker", self.dir.path()).args(args)
    }

    #[track_caller]
    fn call(&self, args: &[&str]) -> Done {
        self.command(args).done()
    }

    /// `docker run --rm` of the busybox image.
    #[track_caller]
    fn run(&self, flags: &[&str], args: &[&str]) -> Done {
        self.run_command(flags, args).done()
    }

    fn run_command(&self, flags: &[&str], args: &[&str]) -> Run {
        let net = flags.iter().any(|f| f.starts_with("--net"));
        let run = self.command(&["run", "--rm"]).args(flags);
        let run = if net { run } else { run.args(["--net", "none"]) };
        run.arg("busybox").args(args)
    }

    #[track_caller]
    fn sh(&self, flags: &[&str], script: &str) -> Done {
        self.run(flags, &["sh", "-c", script])
    }

    /// `docker run -d` under the test's name; removed when the test ends.
    #[track_caller]
    fn start(&self, flags: &[&str], args: &[&str]) -> Up<'_> {
        let run = self.command(&["run", "-d", "--name", &self.name, "--net", "none"]).args(flags);
        let _ = run.arg("busybox").args(args).done().ok();
        Up { docker: self }
    }
}

struct Up<'d> {
    docker: &'d Docker,
}

impl Up<'_> {
    #[track_caller]
    fn call(&self, command: &str, flags: &[&str]) -> Done {
        let mut args = vec![command];
        args.extend(flags);
        args.push(&self.docker.name);
        self.docker.call(&args)
    }

    #[track_caller]
    fn inspect(&self, format: &str) -> String {
        self.call("inspect", &["-f", format]).ok().stdout.trim().to_owned()
    }

    /// `docker exec`.
    #[track_caller]
    fn exec(&self, flags: &[&str], args: &[&str]) -> Done {
        self.exec_command(flags, args).done()
    }

    fn exec_command(&self, flags: &[&str], args: &[&str]) -> Run {
        self.docker.command(&["exec"]).args(flags).arg(&self.docker.name).args(args)
    }

    fn wait_for_log(&self, text: &str) {
        wait_for(text, || self.call("logs", &[]).stdout.contains(text));
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let _: Done = self.call("rm", &["-f"]);
    }
}

#[test]
fn info_names_the_runtime_under_test() {
    let Some(d) = Docker::begin() else { return };
    let info = d.call(&["info", "-f", "{{json .}}"]).ok().json();
    assert_eq!(info["DefaultRuntime"], "under-test");
    assert!(info["Runtimes"]["under-test"]["path"].is_string());
    assert_eq!(info["CgroupVersion"], "2");
}

#[test]
fn exit_codes_are_the_payloads_or_dockers_own() {
    let Some(d) = Docker::begin() else { return };
    let _ = d.run(&[], &["true"]).exits(0);
    let _ = d.sh(&[], "exit 3").exits(3);
    let _ = d.sh(&[], "kill -9 $$; exit 4").exits(4);
    let _ = d.run(&[], &["/etc/not-executable"]).exits(126);
    let _ = d.run(&[], &["/etc"]).exits(126);
    let _ = d.run(&[], &["/no/such/program"]).exits(127);
    let _ = d.run(&[], &["nosuchprogram"]).exits(127);
}

#[test]
fn output_comes_through_and_errors_apart() {
    let Some(d) = Docker::begin() else { return };
    let done = d.sh(&[], "echo out; echo err >&2").ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn user_is_the_one_that_was_asked_for() {
    let Some(d) = Docker::begin() else { return };
    let done = d.sh(&["--user", "1000:1000"], "id -u; id -g; grep CapEff /proc/self/status").ok();
    assert_eq!(done.lines(), ["1000", "1000", "CapEff:\t0000000000000000"]);
    let done = d.sh(&["--user", "1000", "--group-add", "77"], "id -G").ok();
    assert_eq!(done.stdout.trim(), "1000 77");
}

#[test]
fn volumes_are_writable_or_read_only() {
    let Some(d) = Docker::begin() else { return };
    let volume = d.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("in"), "hello\n").unwrap();
    let spec = format!("{}:/v", volume.display());
    let _ = d.sh(&["-v", &spec], "cat /v/in && echo back >/v/out").ok();
    assert_eq!(std::fs::read_to_string(volume.join("out")).unwrap(), "back\n");
    let done = d.sh(&["-v", &format!("{spec}:ro")], "cat /v/in; echo x >/v/new").exits(1);
    assert_eq!(done.stdout, "hello\n");
    assert!(done.stderr.contains("Read-only file system"), "{done}");
}

#[test]
fn read_only_root_with_a_tmpfs() {
    let Some(d) = Docker::begin() else { return };
    let flags = ["--read-only", "--tmpfs", "/scratch:size=1m,mode=1777"];
    let done = d.sh(&flags, "echo x >/scratch/f && cat /scratch/f; echo y >/y").exits(1);
    assert_eq!(done.stdout, "x\n");
    assert!(done.stderr.contains("Read-only file system"), "{done}");
}

#[test]
fn capabilities_are_dropped_and_added() {
    let Some(d) = Docker::begin() else { return };
    let script = "grep -E 'Cap(Eff|Bnd|Inh)' /proc/self/status";
    let done = d.sh(&["--cap-drop", "ALL", "--cap-add", "CHOWN"], script).ok();
    let want =
        ["CapInh:\t0000000000000000", "CapEff:\t0000000000000001", "CapBnd:\t0000000000000001"];
    assert_eq!(done.lines(), want);
    let done = d.sh(&[], script).ok();
    assert!(done.stdout.contains("CapEff:\t00000000a80425fb"), "Docker's default set: {done}");
}

#[test]
fn privileged_containers_can_mount_and_see_devices() {
    let Some(d) = Docker::begin() else { return };
    let script = "mount -t tmpfs tmpfs /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs tmpfs /mnt && \
                  ls /dev | wc -l; grep Seccomp: /proc/self/status; cat /proc/kmsg >/dev/null & \
                  touch /sys/fs/cgroup/cgroup.procs && echo writable";
    let done = d.sh(&["--privileged"], script).ok();
    let lines = done.lines();
    assert!(lines[0].parse::<u32>().unwrap() > 15, "{done}");
    assert_eq!(lines[1], "Seccomp:\t0");
    assert!(lines.contains(&"writable"), "{done}");
}

#[test]
fn default_containers_are_confined() {
    let Some(d) = Docker::begin() else { return };
    let script = "grep Seccomp: /proc/self/status; mount -t tmpfs tmpfs /tmp 2>/dev/null || echo no mount; \
                  unshare -U true 2>/dev/null || echo no userns; cat /proc/keys | wc -c; \
                  echo 1 2>/dev/null >/proc/sys/kernel/shmmax || echo no sysctl";
    let done = d.sh(&[], script).ok();
    assert_eq!(done.lines(), ["Seccomp:\t2", "no mount", "no userns", "0", "no sysctl"]);
}

#[test]
fn ulimits_and_sysctls_are_set() {
    let Some(d) = Docker::begin() else { return };
    let flags = ["--ulimit", "nofile=123:456", "--sysctl", "net.ipv4.ip_forward=1"];
    let script = "ulimit -Sn; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward";
    assert_eq!(d.sh(&flags, script).ok().lines(), ["123", "456", "1"]);
}

#[test]
fn interactive_input_is_piped() {
    let Some(d) = Docker::begin() else { return };
    let (read, mut write) = std::io::pipe().unwrap();
    let running: Running =
        d.run_command(&["-i"], &["sh", "-c", "cat; echo end"]).stdin(read).spawn();
    write.write_all(b"one\ntwo\n").unwrap();
    drop(write);
    assert_eq!(running.done().ok().stdout, "one\ntwo\nend\n");
}

#[test]
fn interactive_terminal_works_both_ways() {
    let Some(d) = Docker::begin() else { return };
    let script = "until stty size 2>/dev/null | grep -v '^0 0'; do sleep 0.1; done; tty; read line; \
                  echo \"got $line\"; exit 6";
    let run = ["docker", "run", "--rm", "-it", "--net", "none", "busybox", "sh", "-c", script];
    let (mut master, running) = on_terminal((31, 91), d.dir.path(), run);
    let text = read_until(&mut master, "/dev/");
    assert!(text.contains("31 91"), "{text}");
    master.write_all(b"hello\r").unwrap();
    let _ = read_until(&mut master, "got hello");
    let _ = running.done().exits(6);
}

#[test]
fn host_namespaces_are_shared() {
    let Some(d) = Docker::begin() else { return };
    let flags = ["--pid=host", "--net=host", "--ipc=host", "--uts=host", "--cgroupns=host"];
    let script = "for n in pid net ipc uts cgroup mnt; do readlink /proc/self/ns/$n; done";
    let done = d.sh(&flags, script).ok();
    let lines = done.lines();
    let own = i32::try_from(std::process::id()).unwrap();
    for (i, kind) in ["pid", "net", "ipc", "uts", "cgroup"].iter().enumerate() {
        assert_eq!(lines[i], proc::namespace(own, kind).unwrap(), "{kind}");
    }
    assert_ne!(lines[5], proc::namespace(own, "mnt").unwrap());
}

#[test]
fn containers_can_join_each_others_namespaces() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&["--ipc", "shareable"], &["sleep", "100"]);
    let other = format!("container:{}", d.name);
    let flags = ["--net", &other, "--pid", &other, "--ipc", &other];
    let script = "readlink /proc/1/ns/net /proc/self/ns/net /proc/1/ns/ipc /proc/self/ns/ipc; tr '\\0' ' ' </proc/1/cmdline";
    let done = d.sh(&flags, script).ok();
    let lines = done.lines();
    assert_eq!(lines.last().unwrap().trim(), "sleep 100", "{done}");
    drop(up);
}

#[test]
fn no_network_means_loopback_alone() {
    let Some(d) = Docker::begin() else { return };
    let done = d.sh(&["--net", "none"], "ls /sys/class/net; ifconfig lo | grep -c UP").ok();
    assert_eq!(done.lines(), ["lo", "1"]);
}

#[test]
fn hostname_directory_and_environment_are_set() {
    let Some(d) = Docker::begin() else { return };
    let flags = ["--hostname", "boat", "-w", "/a/b", "-e", "KEY=a value"];
    let done = d.sh(&flags, "hostname; pwd; echo $KEY; echo $HOME").ok();
    assert_eq!(done.lines(), ["boat", "/a/b", "a value", "/root"]);
}

#[test]
fn stop_sends_term_and_keeps_the_exit_code() {
    let Some(d) = Docker::begin() else { return };
    let script = "trap 'echo stopping; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let up = d.start(&[], &["sh", "-c", script]);
    up.wait_for_log("ready");
    let begin = Instant::now();
    let _ = up.call("stop", &["-t", "20"]).ok();
    assert!(begin.elapsed().as_secs() < 15, "the signal arrived");
    assert_eq!(up.inspect("{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    assert_eq!(up.call("logs", &[]).ok().stdout, "ready\nstopping\n");
}

#[test]
fn stop_kills_who_does_not_listen() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&[], &["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
    up.wait_for_log("ready");
    let _ = up.call("stop", &["-t", "1"]).ok();
    assert_eq!(up.inspect("{{.State.ExitCode}}"), "137");
}

#[test]
fn kill_ends_the_container_and_nothing_was_out_of_memory() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&[], &["sleep", "100"]);
    assert_eq!(up.inspect("{{.State.Running}}"), "true");
    let _ = up.call("kill", &[]).ok();
    assert_eq!(d.call(&["wait", &d.name]).ok().stdout, "137\n");
    assert_eq!(up.inspect("{{.State.Status}} {{.State.OOMKilled}}"), "exited false");
}

#[test]
fn kill_with_a_signal_of_ones_own() {
    let Some(d) = Docker::begin() else { return };
    let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done";
    let up = d.start(&[], &["sh", "-c", script]);
    up.wait_for_log("ready");
    let _ = up.call("kill", &["-s", "USR1"]).ok();
    up.wait_for_log("usr1");
}

#[test]
fn restart_runs_it_again() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&[], &["sh", "-c", "echo run; exec sleep 100"]);
    up.wait_for_log("run");
    let first = up.inspect("{{.State.Pid}}");
    let _ = up.call("restart", &["-t", "0"]).ok();
    wait_for("the second run", || up.call("logs", &[]).stdout == "run\nrun\n");
    assert_eq!(up.inspect("{{.State.Running}}"), "true");
    assert_ne!(up.inspect("{{.State.Pid}}"), first);
}

#[test]
fn forced_removal_of_a_running_container() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&[], &["sleep", "100"]);
    let pid: i32 = up.inspect("{{.State.Pid}}").parse().unwrap();
    let _ = up.call("rm", &["-f"]).ok();
    wait_for("the end of the init", || proc::is_gone(pid));
    let _ = up.call("inspect", &[]).exits(1);
}

#[test]
fn created_container_starts_later() {
    let Some(d) = Docker::begin() else { return };
    let args =
        ["create", "--name", &d.name, "--net", "none", "busybox", "sh", "-c", "echo late; exit 5"];
    let _ = d.call(&args).ok();
    let up = Up { docker: &d };
    let done = up.call("start", &["-a"]).exits(5);
    assert_eq!(done.stdout, "late\n");
}

#[test]
fn init_process_reaps_and_forwards() {
    let Some(d) = Docker::begin() else { return };
    let done = d.sh(&["--init"], "tr '\\0' ' ' </proc/1/cmdline; echo; exit 9").exits(9);
    assert!(done.stdout.contains("docker-init"), "{done}");
}

#[test]
fn ten_at_once_keep_their_output_and_exit_codes_apart() {
    let Some(d) = Docker::begin() else { return };
    let running: Vec<_> = (0..10)
        .map(|i| d.run_command(&[], &["sh", "-c", &format!("echo {i}; exit {i}")]).spawn())
        .collect();
    for (i, running) in running.into_iter().enumerate() {
        let done = running.done().exits(i32::try_from(i).unwrap());
        assert_eq!(done.stdout, format!("{i}\n"));
    }
}

#[test]
fn fifty_run_at_the_same_time() {
    let Some(d) = Docker::begin() else { return };
    let names = (0..50).map(|i| format!("{}-{i}", d.name)).collect::<Vec<_>>();
    let all = |command: &[&str]| {
        d.call(&[command, &names.iter().map(String::as_str).collect::<Vec<_>>()].concat())
    };
    let run = |name: &str| {
        let args = ["run", "-d", "--name", name, "--net", "none", "busybox", "sleep", "1000"];
        let _ = d.call(&args).ok();
    };
    std::thread::scope(|scope| {
        for name in &names {
            let _ = scope.spawn(|| run(name));
        }
    });
    let states = all(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}"]).ok();
    let pids = states.lines().into_iter().map(|line| line.strip_prefix("running ").unwrap());
    let cgroups = pids.map(|pid| proc::cgroup(pid.parse().unwrap()).unwrap());
    assert_eq!(cgroups.collect::<std::collections::BTreeSet<_>>().len(), 50);
    let _ = all(&["kill"]).ok();
    let _ = all(&["wait"]).ok();
    let codes = all(&["inspect", "-f", "{{.State.ExitCode}}"]).ok();
    assert_eq!(codes.stdout, "137\n".repeat(50));
    let _ = all(&["rm", "-f"]).ok();
}

#[test]
fn devices_are_given_and_refused() {
    let Some(d) = Docker::begin() else { return };
    let done = d.sh(&["--device", "/dev/zero:/dev/mine"], "head -c 3 /dev/mine | wc -c").ok();
    assert_eq!(done.stdout, "3\n");
    let done = d.sh(&[], "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem").exits(1);
    assert!(done.stderr.contains("Operation not permitted"), "{done}");
}

#[test]
fn no_new_privileges_and_shared_memory_are_set() {
    let Some(d) = Docker::begin() else { return };
    let flags = ["--security-opt", "no-new-privileges", "--shm-size", "8m"];
    let done = d.sh(&flags, "grep NoNewPrivs /proc/self/status; df -k /dev/shm | tail -n1").ok();
    let lines = done.lines();
    assert_eq!(lines[0], "NoNewPrivs:\t1");
    assert_eq!(lines[1].split_whitespace().nth(1), Some("8192"));
}

#[test]
fn seccomp_profile_of_ones_own() {
    let Some(d) = Docker::begin() else { return };
    let profile = d.dir.path().join("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&profile, text).unwrap();
    let flag = format!("seccomp={}", profile.display());
    let done = d.run(&["--security-opt", &flag], &["mkdir", "/x"]).exits(1);
    assert!(done.stderr.contains("Operation not permitted"), "{done}");
}

#[test]
fn exec_runs_in_the_container_and_keeps_exit_codes() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&["--hostname", "boat"], &["sleep", "1000"]);
    let done =
        up.exec(&[], &["sh", "-c", "hostname; tr '\\0' ' ' </proc/1/cmdline; echo err >&2"]).ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("boat\nsleep 1000 ", "err\n"));
    for code in [1, 42, 255] {
        let _ = up.exec(&[], &["sh", "-c", &format!("exit {code}")]).exits(code);
    }
    let _ = up.exec(&[], &["sh", "-c", "kill -9 $$"]).exits(137);
    // Docker 26 makes 126 of every failure of exec; newer ones 127 of programs that are not there.
    for program in ["/etc/not-executable", "/etc"] {
        let _ = up.exec(&[], &[program]).exits(126);
    }
    for program in ["/no/such/program", "nosuchprogram"] {
        let done = up.exec(&[], &[program]);
        assert!([126, 127].contains(&done.code()), "{done}");
        // Docker 26 says it on standard output.
        let said = format!("{}{}", done.stdout, done.stderr);
        let texts = ["no such file or directory", "executable file not found in $PATH"];
        assert!(texts.iter().any(|text| said.contains(text)), "{done}");
    }
}

#[test]
fn exec_takes_user_directory_and_environment() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&["-e", "OWN=1"], &["sleep", "1000"]);
    let flags = ["-u", "1000:1000", "-w", "/etc", "-e", "MORE=a b"];
    let script = "id -u; id -g; pwd; echo $OWN $MORE; grep -E 'Cap(Inh|Eff|Amb)' /proc/self/status";
    let done = up.exec(&flags, &["sh", "-c", script]).ok();
    assert_eq!(done.lines()[..4], ["1000", "1000", "/etc", "1 a b"]);
    assert!(done.lines()[4..].iter().all(|line| line.ends_with("0000000000000000")), "{done}");
    let done = up.exec(&[], &["grep", "CapEff", "/proc/self/status"]).ok();
    assert!(done.stdout.ends_with("00000000a80425fb\n"), "as the container's: {done}");
    let done = up.exec(&["--privileged"], &["grep", "CapEff", "/proc/self/status"]).ok();
    assert!(!done.stdout.ends_with("a80425fb\n"), "{done}");
    let done = up.exec(&[], &["grep", "Seccomp:", "/proc/self/status"]).ok();
    assert_eq!(done.stdout, "Seccomp:\t2\n");
    assert_ne!(up.exec(&["-w", "/no/such"], &["true"]).code(), 0);
}

#[test]
fn exec_pipes_input_and_its_end() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&[], &["sleep", "1000"]);
    let (read, mut write) = std::io::pipe().unwrap();
    let running = up.exec_command(&["-i"], &["sh", "-c", "cat; echo end"]).stdin(read).spawn();
    write.write_all(b"one\ntwo\n").unwrap();
    drop(write);
    assert_eq!(running.done().ok().stdout, "one\ntwo\nend\n");
}

#[test]
fn exec_gives_a_terminal_that_works_both_ways() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&[], &["sleep", "1000"]);
    let script = "until stty size 2>/dev/null | grep -v '^0 0'; do sleep 0.1; done; tty; read line; \
                  echo \"got $line\"; exit 6";
    let exec = ["docker", "exec", "-it", &d.name, "sh", "-c", script];
    let (mut master, running) = on_terminal((31, 91), d.dir.path(), exec);
    let text = read_until(&mut master, "/dev/");
    assert!(text.contains("31 91"), "{text}");
    master.write_all(b"hello\r").unwrap();
    let _ = read_until(&mut master, "got hello");
    let _ = running.done().exits(6);
    drop(up);
}

#[test]
fn exec_in_the_background_and_many_at_once() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&[], &["sleep", "1000"]);
    let _ = up.exec(&["-d"], &["sh", "-c", "echo done >/background"]).ok();
    wait_for("the background", || up.exec(&[], &["cat", "/background"]).stdout == "done\n");
    let running: Vec<_> = (0..10)
        .map(|i| up.exec_command(&[], &["sh", "-c", &format!("echo {i}; exit {i}")]).spawn())
        .collect();
    for (i, running) in running.into_iter().enumerate() {
        let done = running.done().exits(i32::try_from(i).unwrap());
        assert_eq!(done.stdout, format!("{i}\n"));
    }
}

#[test]
fn exec_is_refused_where_nothing_runs() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&[], &["true"]);
    let _ = d.call(&["wait", &d.name]).ok();
    let done = up.exec(&[], &["true"]).exits(1);
    assert!(done.stderr.contains("is not running"), "{done}");
}

#[test]
fn container_that_ends_takes_its_exec_with_it() {
    let Some(d) = Docker::begin() else { return };
    let up = d.start(&[], &["sleep", "1000"]);
    let running = up.exec_command(&[], &["sh", "-c", "echo ready; sleep 1000"]).spawn();
    wait_for("the exec", || running.stdout_so_far() == "ready\n");
    let _ = up.call("kill", &[]).ok();
    assert_eq!(running.done().code(), 137);
}

#[test]
fn health_checks_run_by_exec() {
    let Some(d) = Docker::begin() else { return };
    let flags =
        ["--health-cmd", "test -e /healthy", "--health-interval", "1s", "--health-retries", "1"];
    let up = d.start(&flags, &["sleep", "1000"]);
    wait_for("the first check", || up.inspect("{{.State.Health.Status}}") == "unhealthy");
    let _ = up.exec(&[], &["touch", "/healthy"]).ok();
    wait_for("the next check", || up.inspect("{{.State.Health.Status}}") == "healthy");
}
