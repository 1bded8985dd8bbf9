//! What is there when all containers were removed. The names of tests are run in their order, so this one is the last.

use crate::{daemons, on_the_machine};

#[test]
fn nothing_is_left_of_any_container() {
    // Not the control's business: it would find the same.
    if on_the_machine() {
        nothing_is_left();
    }
}

fn nothing_is_left() {
    // The slices above pods are the caller's, as the kubelet's are.
    let script = "ls -A /run/orlop /run/docker/runtime-*/* /run/containerd/runc/* /run/runc; \
                  find /sys/fs/cgroup -type d | \
                  grep -E 'docker[-/].|libpod-|/ctr[-/].|cri-containerd|kubepods/besteffort/.'; \
                  grep -E 'overlay|/merged|/rootfs' /proc/self/mountinfo | grep -v ' / / '; \
                  pgrep -a 'containerd-shim|conmon'; \
                  systemctl list-units --no-legend --state=failed";
    let left = daemons::call(&["sh", "-c", &format!("{{ {script}; }} 2>/dev/null")]).stdout;
    let left =
        left.lines().filter(|line| !line.is_empty() && !line.ends_with(':')).collect::<Vec<_>>();
    assert!(left.is_empty(), "{}", left.join("\n"));
}
