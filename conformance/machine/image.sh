#!/bin/bash
# Makes the disk of the machine (../machine.sh): Debian trixie with systemd, the engines and the peers.
#
#   image.sh DIR      writes DIR/{disk,vmlinuz,initrd}
#
# This file is the recipe: where it changes, a new disk is made. Needs root, mmdebstrap and e2fsprogs.
set -euo pipefail

SUITE=trixie
MIRROR=${ORLOP_DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages=(
    systemd-sysv dbus dbus-user-session libpam-systemd linux-image-cloud-amd64 initramfs-tools apparmor
    crun runc containerd docker.io docker-cli docker-buildx podman buildah conmon criu
    netavark containernetworking-plugins iptables nftables catatonit tini ca-certificates
    uidmap passt slirp4netns fuse-overlayfs
    busybox-static jq curl protobuf-compiler strace procps iproute2 util-linux util-linux-extra socat
)
# crictl is not in Debian; with the interface's description, protoc and curl speak to the CRI plugin.
cri_api=golang-github-kubernetes-cri-api-dev

dir=$1
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root

# The initramfs only has to find the disk: with all modules it takes long to unpack without acceleration.
mkdir -p "$work/early/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=gzip\n' >"$work/early/etc/initramfs-tools/conf.d/machine"
printf 'virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n' >"$work/early/etc/initramfs-tools/modules"

include=$(IFS=,; echo "${packages[*]}")
mmdebstrap --quiet --mode=root --variant=essential --include="$include" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/icons/*' \
    --essential-hook="copy-in '$work/early/etc/initramfs-tools' /etc" \
    --customize-hook="APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG; export APT_CONFIG; cd '$work' && apt-get download -q $cri_api >&2" \
    "$SUITE" "$root" "$MIRROR" >&2

dpkg-deb --fsys-tarfile "$work/$cri_api"_*.deb | tar -x -C "$work" --wildcards '*/pkg/apis/runtime/v1/api.proto'
# Without what makes Go of it.
find "$work/usr" -name api.proto -exec sed '/gogoproto/d' {} \; >"$root/opt/cri.proto"

# What would only cost time at boot: a job starts what it needs. Docker loads its AppArmor profile itself.
for unit in docker.service docker.socket containerd.service podman.service podman.socket podman-restart.service \
    netavark-dhcp-proxy.service netavark-dhcp-proxy.socket podman-auto-update.timer podman-clean-transient.service buildkit.service; do
    rm -f "$root"/etc/systemd/system/*.wants/$unit
done
for unit in modprobe@.service apparmor.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    e2scrub_reap.service man-db.timer systemd-tmpfiles-clean.timer systemd-firstboot.service getty@tty1.service \
    serial-getty@ttyS0.service systemd-networkd.service systemd-timesyncd.service getty-static.service \
    sys-kernel-debug.mount systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-udev-load-credentials.service sys-kernel-tracing.mount systemd-pcrmachine.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' >"$root/etc/systemd/journald.conf.d/machine.conf"
echo machine >"$root/etc/hostname"
printf '127.0.0.1 localhost machine\n' >"$root/etc/hosts"
rm -f "$root/etc/resolv.conf"
printf 'nameserver 127.0.0.1\n' >"$root/etc/resolv.conf"
systemd-machine-id-setup --root="$root" >/dev/null 2>&1 || echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
: >"$root/etc/fstab"
# For what runs without root.
chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash user
printf 'user:100000:65536\n' | tee "$root/etc/subuid" >"$root/etc/subgid"

# The job: a tar archive on a disk of its own. What it leaves in /job/out goes to another disk the same way.
cat >"$root/usr/local/sbin/job" <<'JOB'
#!/bin/sh
mkdir -p /job && cd /job && tar -xf /dev/disk/by-id/virtio-job
mkdir -p out
echo "MACHINE-BEGIN $(uname -r) $(cut -d' ' -f1 /proc/uptime) s"
./run
status=$?
tar -cf /dev/disk/by-id/virtio-out -C out .
sync
echo "MACHINE-STATUS $status $(cut -d' ' -f1 /proc/uptime) s"
sleep 1
exec systemctl poweroff --force --force
JOB
chmod +x "$root/usr/local/sbin/job"
cat >"$root/etc/systemd/system/job.service" <<'UNIT'
[Unit]
After=multi-user.target dbus.socket
[Service]
Type=idle
Environment=HOME=/root LANG=C.UTF-8 TERM=dumb SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat
Delegate=yes
TasksMax=infinity
ExecStart=/usr/local/sbin/job
StandardInput=null
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS0
UNIT
ln -s ../job.service "$root/etc/systemd/system/multi-user.target.wants/job.service"

# Images for all engines, as "docker save" writes them, without a network to pull from: busybox, and the same as what
# holds a pod together.
image=$work/image
mkdir -p "$image"/{bin,etc,tmp,root,proc,sys,dev} "$work/archive/layer"
chmod 1777 "$image/tmp"
cp "$root/bin/busybox" "$image/bin/busybox"
for applet in $(chroot "$root" busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$image/bin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n' >"$image/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\n' >"$image/etc/group"
printf 'x' >"$image/etc/not-executable"
tar --numeric-owner --owner=0 --group=0 -C "$image" -cf "$work/archive/layer/layer.tar" .
diff=$(sha256sum "$work/archive/layer/layer.tar" | cut -d' ' -f1)
for name in busybox pause; do
    command='"sh"'
    [ $name = busybox ] || command='"sleep","1000000"'
    cat >"$work/archive/$name.json" <<CONFIG
{"architecture":"amd64","os":"linux","created":"2025-01-01T00:00:00Z",
 "config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":[$command]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$diff"]},"history":[{"created":"2025-01-01T00:00:00Z","created_by":"machine"}]}
CONFIG
done
cat >"$work/archive/manifest.json" <<MANIFEST
[{"Config":"busybox.json","RepoTags":["localhost/busybox:latest"],"Layers":["layer/layer.tar"]},
 {"Config":"pause.json","RepoTags":["localhost/pause:latest"],"Layers":["layer/layer.tar"]}]
MANIFEST
tar --numeric-owner --owner=0 --group=0 -C "$work/archive" -cf "$root/opt/images.tar" manifest.json busybox.json pause.json layer

# Nothing is to be brought up to date at boot.
touch "$root/usr"
touch "$root/etc/.updated" "$root/var/.updated"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log
cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
cp "$root"/boot/initrd.img-* "$dir/initrd"
rm -f "$root"/boot/*
truncate -s 6G "$dir/disk"
# No journal: nothing on this disk is to survive a crash.
mkfs.ext4 -q -F -O ^has_journal -m 0 -d "$root" "$dir/disk"
