#!/bin/bash
# Runs CMD under a systemd of its own: process 1 of new namespaces, with a D-Bus system bus, and with the systemd and the
# bus of a user 1000.
#
# Nothing of the host changes: systemd sees a cgroup of its own as the root of all, /proc/sys and /sys read-only, and
# /dev and /run that are new. It starts what it is told here and nothing else: no service of a distribution runs.
# Controllers are those that the host has in cgroup v2.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${ORLOP_SYSTEMD_STAGE:-outside} in
outside)
    if [ "$(id -u)" != 0 ]; then
        echo "systemd.sh: needs root" >&2
        exec "$@"
    fi
    export ORLOP_SYSTEMD_STAGE=inside
    exec "$here/in-cgroup2.sh" "$here/peers.sh" enter "$here/systemd.sh" "$@"
    ;;
boot)
    # Process 1 of the new namespaces.
    unset ORLOP_SYSTEMD_STAGE
    mount -t proc proc /proc
    for path in sys irq bus; do
        mount --bind "/proc/$path" "/proc/$path"
        mount -o remount,bind,ro "/proc/$path"
    done
    mount -t sysfs -o ro sysfs /sys
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    ip link set lo up
    exec env -i PATH="$PATH" container=orlop-test /usr/lib/systemd/systemd --unit=stage.target --log-target=console \
        --log-level="${ORLOP_SYSTEMD_LOG:-warning}" --show-status=no
    ;;
esac

nodes=(null zero full random urandom tty)
mkdir -p /mnt/dev
mount -t tmpfs -o mode=755 dev /mnt/dev
for node in "${nodes[@]}"; do
    touch "/mnt/dev/$node"
    mount --bind "/dev/$node" "/mnt/dev/$node"
done
mkdir /mnt/dev/pts /mnt/dev/shm /mnt/dev/mqueue
mount -t devpts -o newinstance,ptmxmode=666 devpts /mnt/dev/pts
mount -t tmpfs shm /mnt/dev/shm
ln -s pts/ptmx /mnt/dev/ptmx
ln -s /proc/self/fd /mnt/dev/fd
mount --move /mnt/dev /dev
mount -t tmpfs -o mode=755 run /run

# These take the place of the packages' units, which belong behind the start of a whole system.
units=/run/systemd/system
mkdir -p "$units" /run/user/1000
chown 1000:1000 /run/user/1000
chmod 700 /run/user/1000
cat >"$units/stage.target" <<UNIT
[Unit]
DefaultDependencies=no
Wants=dbus.service user.service
UNIT
cat >"$units/dbus.socket" <<UNIT
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
UNIT
cat >"$units/dbus.service" <<UNIT
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
User=messagebus
UNIT
cat >"$units/user.service" <<UNIT
[Unit]
DefaultDependencies=no
[Service]
Type=notify
User=1000
Slice=user-1000.slice
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/1000
ExecStart=/usr/lib/systemd/systemd --user --unit=dbus.socket --log-target=console --log-level=${ORLOP_SYSTEMD_LOG:-warning}
KillMode=mixed
UNIT

cgroup=/sys/fs/cgroup/orlop-systemd-$(date +%s%N)
mkdir "$cgroup"
# Into the cgroup first: a cgroup namespace is rooted where the process is that makes it.
(
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    ORLOP_SYSTEMD_STAGE=boot exec unshare --cgroup --pid --mount --net --uts --ipc --fork --kill-child "$here/systemd.sh"
) &
unshare=$!
unset ORLOP_SYSTEMD_STAGE
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
end() {
    kill -KILL "$unshare" 2>/dev/null || true
    wait "$unshare" 2>/dev/null || true
    echo 1 >"$cgroup/cgroup.kill" || true
    for _ in $(seq 100); do
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.05
    done
}
trap end EXIT
enter() {
    nsenter --target "$systemd" --mount --pid --cgroup --net --uts --ipc --wdns="$PWD" "$@"
}
for _ in $(seq 200); do
    systemd=$(pgrep -P "$unshare") || true
    [ -n "$systemd" ] && enter test -S /run/user/1000/bus 2>/dev/null && enter test -S /run/dbus/system_bus_socket && break
    kill -0 "$unshare"
    sleep 0.05
done
# Only what has no processes of its own can hand controllers down.
echo "$unshare" >"$own/cgroup.procs"
status=0
# In a scope, as a session would be.
enter systemd-run --quiet --scope --collect -- "$@" || status=$?
exit $status
