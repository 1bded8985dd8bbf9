#!/bin/bash
# Runs CMD beside a Docker of its own, which has the runtime under test (ORLOP_RUNTIME) as `under-test`.
#
# Everything that the daemons touch is new and goes away with this script: mount, network and pid namespaces, a tmpfs
# for their data, sockets and state, the cgroup v2 view. A Docker of the machine's own is not touched.
# CMD finds DOCKER_HOST and an image named `busybox` that was imported from busybox-static.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${ORLOP_DOCKER_STAGE:-outside} in
outside)
    if [ "$(id -u)" != 0 ]; then
        echo "docker.sh: needs root" >&2
        exec "$@"
    fi
    export ORLOP_DOCKER_STAGE=inside
    # The pid namespace makes sure that no daemon or shim outlives this script.
    exec "$here/in-cgroup2.sh" "$here/peers.sh" enter unshare --net --mount --pid --fork --kill-child --mount-proc "$here/docker.sh" "$@"
    ;;
esac

ip link set lo up
# A /run of its own: the daemons and shims use paths below it whatever they are told.
mount -t tmpfs -o mode=755 tmpfs /run
work=/run/orlop-docker
mkdir -p "$work"/{data,exec,containerd-root,containerd-state,image/bin,image/etc,image/tmp}
chmod 700 "$work"
# The cgroup tree is the one thing that is shared with whatever else runs here.
cgroup=orlop-docker-$(date +%s%N)
unset ORLOP_DOCKER_STAGE

runtime=${ORLOP_RUNTIME:-$here/../target/x86_64-unknown-linux-gnu/release/orlop}
runtime=$(command -v "$runtime") || {
    echo "docker.sh: no runtime ${ORLOP_RUNTIME:-}" >&2
    exit 1
}
# "opt" would make /opt/containerd; "cri" is not used and complains about a missing network.
echo 'disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.grpc.v1.cri"]' >"$work/containerd.toml"
echo 'version = 2' >>"$work/containerd.toml"
containerd --config "$work/containerd.toml" --root "$work/containerd-root" --state "$work/containerd-state" --address "$work/containerd.sock" \
    --log-level warn >"$work/containerd.log" 2>&1 &
containerd=$!
for _ in $(seq 100); do
    [ -S "$work/containerd.sock" ] && break
    sleep 0.1
done
dockerd --containerd "$work/containerd.sock" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
    --host "unix://$work/docker.sock" --iptables=false --ip6tables=false --bridge=none --group root \
    --cgroup-parent "/$cgroup" --add-runtime "under-test=$runtime" --default-runtime under-test --exec-opt native.cgroupdriver=cgroupfs \
    --log-level warn >"$work/dockerd.log" 2>&1 &
dockerd=$!
export DOCKER_HOST=unix://$work/docker.sock
for _ in $(seq 300); do
    docker version >/dev/null 2>&1 && break
    kill -0 "$dockerd" 2>/dev/null || break
    sleep 0.1
done

image=$work/image
cp "$(command -v busybox)" "$image/bin/busybox"
for applet in $("$image/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$image/bin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n' >"$image/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\n' >"$image/etc/group"
printf 'x' >"$image/etc/not-executable"
if ! tar -C "$image" -c . | docker import - busybox >/dev/null; then
    tail -n 30 "$work"/*.log >&2
    exit 1
fi

export ORLOP_DOCKER_WORK=$work
status=0
"$@" || status=$?

# What may be left after all containers were removed: nothing.
left=$(
    docker ps --all --quiet
    find "$work/exec" -path '*runtime-*' -name state.json
    find "/sys/fs/cgroup/$cgroup" -mindepth 1 -type d 2>/dev/null || true
    grep -E "$work/.*(rootfs|merged)" /proc/self/mountinfo || true
    pgrep -af containerd-shim || true
)
kill "$dockerd" && wait "$dockerd" || true
kill "$containerd" && wait "$containerd" || true
find "/sys/fs/cgroup/$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
# In the form of a Rust test, for whoever counts.
echo
if [ -z "$left" ]; then
    echo "test docker_leaves_nothing_behind ... ok"
    echo "test result: ok. 1 passed; 0 failed"
else
    echo "test docker_leaves_nothing_behind ... FAILED"
    echo "$left"
    echo "test result: FAILED. 0 passed; 1 failed"
    [ $status != 0 ] || status=1
fi
[ $status = 0 ] || tail -n 15 "$work"/*.log >&2
exit $status
