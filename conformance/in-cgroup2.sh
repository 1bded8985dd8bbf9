#!/bin/sh
# Runs CMD where /sys/fs/cgroup is a pure cgroup v2 tree.
#
# Where the host has that already, CMD just runs. Where the host has the hybrid layout (v1 controllers with v2 beside
# them), CMD gets a mount namespace in which v2 alone is mounted; the host's own /sys/fs/cgroup is not touched.
# Controllers that v1 holds are missing there; freezing, killing and the device program work.
set -eu
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    exec "$@"
fi
if [ "$(id -u)" != 0 ]; then
    echo "in-cgroup2.sh: not root and no cgroup v2 at /sys/fs/cgroup" >&2
    exec "$@"
fi
# shellcheck disable=SC2016
exec unshare -m -- sh -c 'umount -R -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; exec "$@"' sh "$@"
