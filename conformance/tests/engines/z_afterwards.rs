//! What is there when all containers were removed. The names of tests are run in their order, so this one is the last.

use std::sync::atomic::Ordering;

use crate::{NOT_OURS, daemons, on_the_machine, wait_for_none};

/// An engine that does not run fails each of its checks with the control too.
#[test]
fn few_checks_failed_with_the_control_too() {
    let number = NOT_OURS.load(Ordering::Relaxed);
    assert!(number <= 3, "{number}: the engines themselves do not work");
}

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
    // Shims and monitors end when the engine has been told.
    wait_for_none(|| daemons::listed(script));
}
