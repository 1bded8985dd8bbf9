#!/bin/bash
# Runs end-to-end tests in a small virtual machine, in which every controller belongs to cgroup v2 and the kernel is
# Debian's (of the host's release), with AppArmor: what the host cannot show.
#
#   vm.sh TEST...     tests of this crate by name, as "limits cgroup"
#
# The machine has no disk and no network: a kernel, and an initramfs with busybox, the runtime and the test programs,
# all static, and the parser of AppArmor's profiles. It boots in seconds even without hardware virtualisation, which it
# does not use: one emulated processor. (One without cmpxchg16b: see machine.sh.)
# What is downloaded is kept outside the sources. Needs qemu-system-x86_64, busybox-static and apt-get.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orlop
seconds=900

# Unpacks a Debian package in the current directory.
unpack() {
    apt-get download -q "$1" >&2 || { apt-get update -q >&2 && apt-get download -q "$1" >&2; }
    dpkg-deb -x ./*.deb .
}

kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

kernel() {
    local package
    package=$(kernel_package)
    if [ -z "$package" ]; then
        apt-get update -q >&2
        package=$(kernel_package)
    fi
    [ -n "$package" ] || { echo "vm.sh: no package linux-image-cloud-amd64" >&2; return 1; }
    if [ ! -e "$cache/$package" ]; then
        mkdir -p "$cache"
        local dir
        dir=$(mktemp -d "$cache/kernel.XXXXXX")
        (cd "$dir" && unpack "$package" && mv boot/vmlinuz-* "$cache/$package")
        rm -rf "$dir"
    fi
    echo "$cache/$package"
}

apparmor_parser() {
    if [ ! -e "$cache/apparmor_parser" ]; then
        mkdir -p "$cache"
        local dir
        dir=$(mktemp -d "$cache/apparmor.XXXXXX")
        (cd "$dir" && unpack apparmor && mv sbin/apparmor_parser "$cache/apparmor_parser")
        rm -rf "$dir"
    fi
    echo "$cache/apparmor_parser"
}

# Copies a program that is not static into the machine's /bin, and its libraries to their places.
install_dynamic() {
    local root=$1 program=$2 library
    cp "$program" "$root/bin/"
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
}

kernel=$(kernel)
apparmor_parser=$(apparmor_parser)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/bin" "$work/root/new"
"$here/static.sh" "$work/root" "$@"
mv "$work/root/orlop" "$work/root/bin/"
cp /bin/busybox "$work/root/bin/"
install_dynamic "$work/root" "$apparmor_parser"
# What busybox has less of, and what maps ids for users, where it is installed.
for program in setpriv unshare nsenter newuidmap newgidmap "$(readlink -f /bin/sh)"; do
    path=$(command -v "$program") && install_dynamic "$work/root" "$path"
done
# One that takes any name for its own.
ln -s "$(basename "$(readlink -f /bin/sh)")" "$work/root/bin/sh"
chmod u+s "$work"/root/bin/new[ug]idmap || true
cat >"$work/root/init" <<'INIT'
#!/bin/busybox sh
# The first root cannot be pivoted away from: everything moves to a tmpfs.
/bin/busybox mount -t tmpfs tmpfs /new
/bin/busybox cp -a /bin /lib* /tests /new/
/bin/busybox cp /run.sh /new/
exec /bin/busybox switch_root /new /bin/busybox sh /run.sh
INIT
cat >"$work/root/run.sh" <<'RUN'
export PATH=/bin HOME=/ ORLOP_RUNTIME=/bin/orlop ORLOP_NO_SKIP=1 ORLOP_HAS=AppArmor RUST_BACKTRACE=0
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /run /tmp /usr /etc/apparmor /root; chmod 1777 /tmp; ln -s /bin /usr/bin; touch /etc/apparmor/parser.conf
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm
mount -t cgroup2 none /sys/fs/cgroup; mount -t securityfs none /sys/kernel/security
echo "root:x:0:0:root:/root:/bin/sh" >/etc/passwd; echo "root:x:0:" >/etc/group
ip link set lo up
status=0
for test in /tests/*; do
    echo "== $(uname -r) ${test##*/}"
    $test --test-threads 1 || status=1
done
echo "VM-STATUS $status"
poweroff -f
RUN
chmod +x "$work/root/init"
(cd "$work/root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 >"$work/initramfs")
timeout "$seconds" qemu-system-x86_64 -accel tcg -cpu max,-cx16 -smp 1 -m 1024 -nographic -no-reboot -net none \
    -kernel "$kernel" -initrd "$work/initramfs" -append "console=ttyS0 quiet panic=-1" </dev/null 2>&1 |
    tr -d "\r" | tee "$work/console" "${VM_LOG:-/dev/null}" | sed -n "/== /,\$p"
grep -q "^VM-STATUS 0" "$work/console"
