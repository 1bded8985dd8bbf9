//! The engines' daemons: their configuration, and starting them when they are first needed.

use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use orlop_conformance::Run;
use orlop_conformance::run::{Done, limit};
use orlop_conformance::tmp::TempDir;

use crate::{Driver, Runtime};

/// Busybox, and the same image as what holds a pod together.
const IMAGES: &str = "/opt/images.tar";

static DIR: LazyLock<TempDir> = LazyLock::new(|| TempDir::new("orlop-engines"));

/// Runs a command of the machine.
#[track_caller]
pub(crate) fn call(args: &[&str]) -> Done {
    Run::new(args[0], DIR.path()).args(&args[1..]).done()
}

/// What a script of the machine lists, without the names of directories and empty lines between.
pub(crate) fn listed(script: &str) -> String {
    let done = call(&["sh", "-c", &format!("{{ {script}; }} 2>/dev/null")]);
    let lines = done.lines().into_iter().filter(|line| !line.is_empty() && !line.ends_with(':'));
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn write(path: &str, text: &str) {
    std::fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Removes what a check has left that failed: the containers of `run --rm` are its client's, which was killed.
pub(crate) fn remove_containers() {
    let podman = "podman pod rm -f -a -t 0; podman rm -f -a -t 0";
    let script = format!(
        "{podman}; ! systemctl -q is-active user@1000 || runuser -u user -- env -C /home/user HOME=/home/user \
         XDG_RUNTIME_DIR=/run/user/1000 sh -c '{podman}'; \
         ! systemctl -q is-active docker || docker ps -aq | xargs -r docker rm -f -v"
    );
    let _: Done = Run::new("sh", DIR.path()).args(["-c", &script]).within(limit() * 3).done();
}

/// The name of containerd's CRI handler (and of Kubernetes' runtime class).
pub(crate) fn handler(runtime: Runtime, driver: Driver) -> String {
    format!("{runtime:?}-{driver:?}").to_lowercase()
}

/// Starts containerd, with the images for `ctr` and for the CRI plugin.
pub(crate) fn containerd() {
    static ONCE: LazyLock<()> = LazyLock::new(|| {
        let mut text = "version = 2\n\
                        [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"localhost/pause:latest\"\n\
                        [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"/etc/cni/machine\"\n"
            .to_owned();
        // They are for faster machines: two seconds for a task's state, then five for what cleans up behind a shim.
        text += "[timeouts]\n";
        for name in
            ["metrics.shimstats", "shim.cleanup", "shim.load", "shim.shutdown", "task.state"]
        {
            text += &format!("\"io.containerd.timeout.{name}\" = \"60s\"\n");
        }
        // A default must be among those that are named.
        text += &format!(
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"{}\"\n",
            handler(Runtime::Ours, Driver::Cgroupfs)
        );
        for runtime in [Runtime::Ours, Runtime::Control] {
            for driver in [Driver::Cgroupfs, Driver::Systemd] {
                let table = format!(
                    "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{}",
                    handler(runtime, driver)
                );
                text += &format!(
                    "[{table}]\nruntime_type = \"io.containerd.runc.v2\"\n[{table}.options]\n\
                     BinaryName = \"{}\"\nSystemdCgroup = {}\n",
                    runtime.path(),
                    driver == Driver::Systemd
                );
            }
        }
        write("/etc/containerd/config.toml", &text);
        write(
            "/etc/cni/machine/10-machine.conflist",
            r#"{"cniVersion": "1.0.0", "name": "machine", "plugins": [{"type": "bridge", "bridge": "cni0",
                "isGateway": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/16"}]]}}]}"#,
        );
        let _ = call(&["systemctl", "restart", "containerd"]).ok();
        for namespace in ["default", "k8s.io"] {
            let _ = call(&["ctr", "-n", namespace, "images", "import", IMAGES]).ok();
        }
    });
    LazyLock::force(&ONCE);
}

/// Starts Docker with a cgroup driver and a default runtime, or again where it runs with others.
pub(crate) fn docker(driver: Driver, default: Runtime) {
    static RUNS: Mutex<Option<(Driver, Runtime)>> = Mutex::new(None);
    containerd();
    let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    if *runs == Some((driver, default)) {
        return;
    }
    let driver_name = format!("{driver:?}").to_lowercase();
    let default_name = if default == Runtime::Ours { "orlop" } else { "runc" };
    write(
        "/etc/docker/daemon.json",
        &format!(
            r#"{{"runtimes": {{"orlop": {{"path": "{}"}}}}, "default-runtime": "{default_name}",
                "exec-opts": ["native.cgroupdriver={driver_name}"], "log-level": "warn"}}"#,
            Runtime::Ours.path()
        ),
    );
    // BuildKit takes no runtime from the configuration.
    write(
        "/etc/systemd/system/docker.service.d/machine.conf",
        &format!("[Service]\nEnvironment=DOCKER_BUILDKIT_RUNC_COMMAND={}\n", default.path()),
    );
    let _ = call(&["systemctl", "daemon-reload"]).ok();
    let _: Done = call(&["systemctl", "reset-failed", "docker"]);
    let _ = call(&["systemctl", "restart", "docker"]).ok();
    if runs.is_none() {
        let _ = call(&["docker", "load", "-q", "-i", IMAGES]).ok();
    }
    *runs = Some((driver, default));
}

/// Loads the images into Podman's store, and makes the runtime known by name.
pub(crate) fn podman() {
    static ONCE: LazyLock<()> = LazyLock::new(|| {
        write(
            "/etc/containers/containers.conf",
            &format!(
                "[engine]\nruntime_supports_json = [\"crun\", \"runc\", \"orlop\"]\n\
                 [engine.runtimes]\norlop = [\"{}\"]\n",
                Runtime::Ours.path()
            ),
        );
        let _ = call(&["podman", "load", "-q", "-i", IMAGES]).ok();
    });
    LazyLock::force(&ONCE);
}
