#!/bin/bash
# Runs things in a small virtual machine, in which every controller belongs to cgroup v2 and the kernel is Debian's (of
# the host's release), with AppArmor: what the host cannot show.
#
#   vm.sh TEST...         end-to-end tests of this crate by name, as "limits cgroup"
#   vm.sh run JOB [OUT]   copies the directory JOB to /job, runs the shell script /job/run there as root with that
#                         directory as its own and prints what it prints; its exit code is this script's. What it leaves
#                         in /job/out is copied to OUT
#
# The machine has no disk and no network: a kernel, and an initramfs with busybox, the job, whose programs have to be
# static, and the parser of AppArmor's profiles. It boots in seconds even without hardware virtualisation, which it
# does not use: one emulated processor. (One without cmpxchg16b: see machine.sh.) VM_SECONDS (900) is the longest that a
# job may take, VM_LOG a file for all that the console says, VM_ONLY a part of the names of those tests that are to run.
# VM_WITH is what the machine has beside that:
#
#   VM_WITH=selinux       SELinux in AppArmor's place, enforcing the policy in selinux.cil
#   VM_WITH=rdma          an RDMA device, rxe0: software, by the kernel that Debian has for any machine
#
# What is downloaded is kept outside the sources. Needs qemu-system-x86_64, busybox-static and apt-get; libsepol2 for
# SELinux, iproute2 for RDMA.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orlop

# Unpacks a Debian package in the current directory.
unpack() {
    apt-get download -q "$1" >&2 || { apt-get update -q >&2 && apt-get download -q "$1" >&2; }
    dpkg-deb -x ./*.deb .
}

image=linux-image-cloud-amd64
security=
has=AppArmor
modules=() # In the order in which they need each other.
case ${VM_WITH:-} in
"") ;;
selinux)
    security=security=selinux
    has=SELinux
    ;;
rdma)
    image=linux-image-amd64
    has="AppArmor rdma"
    modules=(crc32_generic ib_core ib_uverbs udp_tunnel ip6_udp_tunnel rdma_rxe)
    ;;
*)
    echo "vm.sh: VM_WITH is neither selinux nor rdma" >&2
    exit 2
    ;;
esac

kernel_package() {
    apt-cache depends "$image" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

kernel() {
    local package
    package=$(kernel_package)
    if [ -z "$package" ]; then
        apt-get update -q >&2
        package=$(kernel_package)
    fi
    [ -n "$package" ] || { echo "vm.sh: no package $image" >&2; return 1; }
    if [ ! -e "$cache/$package" ]; then
        mkdir -p "$cache"
        local dir
        dir=$(mktemp -d "$cache/kernel.XXXXXX")
        (
            cd "$dir" && unpack "$package" && mkdir modules
            for module in "${modules[@]}"; do find lib -name "$module.ko*" -exec mv {} modules \;; done
            find modules -name '*.xz' -exec unxz {} +
            mv -T modules "$cache/$package.modules" && mv boot/vmlinuz-* "$cache/$package"
        )
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

# Makes the kernel's form of the policy.
policy() {
    if [ ! -e "$cache/secilc" ]; then
        mkdir -p "$cache"
        local dir
        dir=$(mktemp -d "$cache/secilc.XXXXXX")
        (cd "$dir" && unpack secilc && mv usr/bin/secilc "$cache/secilc")
        rm -rf "$dir"
    fi
    "$cache/secilc" -f /dev/null -o "$1" "$here/selinux.cil"
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

# Makes what the kernel starts from: busybox, the parser and the job.
make_initramfs() {
    local root=$1 job=$2 kernel=$3 parser
    mkdir -p "$root/bin" "$root/new" "$root/job" "$root/lib/modules"
    cp /bin/busybox "$root/bin/"
    parser=$(apparmor_parser)
    install_dynamic "$root" "$parser"
    # What busybox has less of, and what maps ids for users, where it is installed.
    local program path
    for program in setpriv unshare nsenter newuidmap newgidmap "$(readlink -f /bin/sh)"; do
        path=$(command -v "$program") && install_dynamic "$root" "$path"
    done
    case ${VM_WITH:-} in
    selinux) policy "$root/lib/selinux" ;;
    rdma)
        install_dynamic "$root" "$(command -v rdma)"
        cp "$kernel.modules"/* "$root/lib/modules/"
        echo "${modules[@]}" >"$root/lib/modules/order"
        ;;
    esac
    # One that takes any name for its own.
    ln -s "$(basename "$(readlink -f /bin/sh)")" "$root/bin/sh"
    chmod u+s "$root"/bin/new[ug]idmap || true
    cp -a "$job/." "$root/job/"
    cat >"$root/init" <<'INIT'
#!/bin/busybox sh
# The first root cannot be pivoted away from: everything moves to a tmpfs.
/bin/busybox mount -t tmpfs tmpfs /new
/bin/busybox cp -a /bin /lib* /job /new/
/bin/busybox cp /start.sh /new/
/bin/busybox rm -rf /job
exec /bin/busybox switch_root /new /bin/busybox sh /start.sh
INIT
    cat >"$root/start.sh" <<'START'
export PATH=/bin HOME=/ RUST_BACKTRACE=0
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /run /tmp /usr /etc/apparmor /root; chmod 1777 /tmp; ln -s /bin /usr/bin; touch /etc/apparmor/parser.conf
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm
mount -t cgroup2 none /sys/fs/cgroup; mount -t securityfs none /sys/kernel/security
echo "root:x:0:0:root:/root:/bin/sh" >/etc/passwd; echo "root:x:0:" >/etc/group
ip link set lo up
if [ -e /lib/modules/order ]; then
    for module in $(cat /lib/modules/order); do insmod "/lib/modules/$module.ko"; done
    rdma link add rxe0 type rxe netdev lo
fi
if [ -e /lib/selinux ]; then
    mount -t selinuxfs none /sys/fs/selinux
    dd if=/lib/selinux of=/sys/fs/selinux/load bs=1M 2>/dev/null # in one call
    echo 1 >/sys/fs/selinux/enforce
fi
cd /job; chmod 755 .
mkdir -p out
echo VM-BEGIN
sh ./run
status=$?
# By the second serial port, which nothing else writes to.
stty -F /dev/ttyS1 raw 115200
tar -cz -C out . >/dev/ttyS1
stty -F /dev/ttyS1 115200 # waits until all is out
echo "VM-STATUS $status"
poweroff -f
START
    chmod +x "$root/init"
}

run_job() {
    local job=$1 out=${2:-} kernel status
    [ -e "$job/run" ] || { echo "vm.sh: there is no $job/run" >&2; return 2; }
    kernel=$(kernel)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    make_initramfs "$work/root" "$job" "$kernel"
    (cd "$work/root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 >"$work/initramfs")
    timeout "${VM_SECONDS:-900}" qemu-system-x86_64 -accel tcg -cpu max,-cx16 -smp 1 -m 1024 -nographic -no-reboot -net none \
        -serial mon:stdio -serial "file:$work/out" \
        -kernel "$kernel" -initrd "$work/initramfs" -append "console=ttyS0 quiet panic=-1 $security" </dev/null 2>&1 |
        sed -u 's|\r||g' | tee "$work/console" "${VM_LOG:-/dev/null}" | sed -u -n '/VM-BEGIN/,$ { /VM-BEGIN/d; /^VM-STATUS/,$d; p }' || true
    status=$(sed -n 's/^VM-STATUS \([0-9]*\).*/\1/p' "$work/console")
    if [ -z "$status" ]; then
        echo "vm.sh: the job did not end; the console's last lines:" >&2
        tail -n 30 "$work/console" >&2
        return 125
    fi
    if [ -n "$out" ]; then
        mkdir -p "$out"
        tar -C "$out" -xzf "$work/out"
    fi
    return "$status"
}

run_tests() {
    local job status=0
    job=$(mktemp -d)
    "$here/static.sh" "$job" "$@"
    echo "export ORLOP_HAS='$has' VM_ONLY='${VM_ONLY:-}'" >"$job/run"
    cat >>"$job/run" <<'RUN'
export ORLOP_RUNTIME=/job/orlop ORLOP_NO_SKIP=1
status=0
for test in tests/*; do
    echo "== $(uname -r) ${test##*/}"
    $test --test-threads 1 $VM_ONLY || status=1
done
exit $status
RUN
    run_job "$job" || status=$?
    rm -rf "$job"
    return "$status"
}

case ${1:-} in
"")
    echo "usage: $0 TEST... | run JOB [OUT]" >&2
    exit 2
    ;;
run)
    [ $# -ge 2 ] || { "$0"; exit 2; }
    run_job "$2" "${3:-}"
    ;;
*) run_tests "$@" ;;
esac
