#!/bin/bash
# Boots a whole Debian (trixie: systemd, AppArmor, pure cgroup v2, the engines and the peers) and runs a job in it.
#
#   machine.sh make            makes the machine's disk if it is not there; prints where it is
#   machine.sh run JOB [OUT]   boots it, copies the directory JOB to /job, runs /job/run there as root and prints what
#                              it prints; its exit code is this script's. What it leaves in /job/out is copied to OUT
#   machine.sh tests TEST... [-- ARG...]
#                              runs tests of this crate by name in it, as "limits cgroup", with arguments for each, as
#                              "--nocapture"; MACHINE_OUT is a directory for the machine's journal
#
# Every run starts from the same disk; nothing is kept. No network. One emulated processor, about fifteen times slower than
# the real one: ORLOP_VM_KVM=1 takes hardware virtualisation instead. MACHINE_SECONDS (900) is the longest that a job
# may take, MACHINE_LOG a file for all that the console says, MACHINE_APPEND more of the kernel's command line.
# The disk is a cache outside the sources, made anew when machine/image.sh changes. One machine at a time runs here.
# Needs qemu-system-x86_64; to make the disk also root, mmdebstrap and e2fsprogs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orlop
recipe=$(sha256sum "$here/machine/image.sh" | cut -c 1-12)
machine=$cache/machine-$recipe

make_machine() {
    mkdir -p "$cache"
    exec 8>"$cache/machine.lock"
    flock 8
    if [ ! -e "$machine/disk" ]; then
        rm -rf "$machine.new" "$machine"
        mkdir "$machine.new"
        "$here/machine/image.sh" "$machine.new"
        mv "$machine.new" "$machine"
    fi
    exec 8>&-
}

run_job() {
    local job=$1 out=${2:-}
    [ -x "$job/run" ] || { echo "machine.sh: $job/run is not an executable file" >&2; return 2; }
    exec 9>"$cache/vm.lock"
    flock 9
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    tar -C "$job" -cf "$work/job" .
    truncate -s 512M "$work/out"
    # Without cmpxchg16b: QEMU 7.2 interrupts it with its flags undone, from which Debian's kernel dies after a minute.
    local accel=(-accel tcg -cpu max,-cx16,-la57)
    [ "${ORLOP_VM_KVM:-0}" = 0 ] || accel=(-accel kvm -cpu host)
    TMPDIR=$work timeout "${MACHINE_SECONDS:-900}" qemu-system-x86_64 "${accel[@]}" -smp 1 -m 3072 -nographic -no-reboot -net none \
        -kernel "$machine/vmlinuz" -initrd "$machine/initrd" \
        -drive "file=$machine/disk,format=raw,if=none,id=root,snapshot=on,cache=unsafe" -device virtio-blk-pci,drive=root \
        -drive "file=$work/job,format=raw,if=none,id=job,readonly=on" -device virtio-blk-pci,drive=job,serial=job \
        -drive "file=$work/out,format=raw,if=none,id=out,cache=unsafe" -device virtio-blk-pci,drive=out,serial=out \
        -append "root=/dev/vda rw console=ttyS0 loglevel=3 panic=-1 mitigations=off tsc=reliable nowatchdog apparmor=1 security=apparmor systemd.show_status=0 ${MACHINE_APPEND:-}" \
        </dev/null 2>&1 9>&- | sed -u 's|\r||g' | tee "$work/console" "${MACHINE_LOG:-/dev/null}" | sed -u -n '/MACHINE-BEGIN/,$ { s/.*MACHINE-BEGIN/MACHINE-BEGIN/; p }' || true
    local status
    status=$(sed -n 's/^MACHINE-STATUS \([0-9]*\).*/\1/p' "$work/console")
    if [ -z "$status" ]; then
        echo "machine.sh: the job did not end; the console's last lines:" >&2
        tail -n 30 "$work/console" >&2
        return 125
    fi
    if [ -n "$out" ]; then
        mkdir -p "$out"
        tar -C "$out" -xf "$work/out"
    fi
    return "$status"
}

run_tests() {
    local job tests=()
    job=$(mktemp -d)
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        tests+=("$1")
        shift
    done
    [ $# = 0 ] || shift
    "$here/static.sh" "$job" "${tests[@]}"
    echo "$*" >"$job/arguments"
    echo "${ORLOP_CONTROL:+export ORLOP_CONTROL=1}" >"$job/environment"
    cat >"$job/run" <<'RUN'
#!/bin/bash
# As a login would have it, and what the tests look for.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export ORLOP_RUNTIME=/job/orlop ORLOP_MACHINE=1 ORLOP_NO_SKIP=1 ORLOP_HAS=AppArmor ORLOP_TEST_SECONDS=180 RUST_BACKTRACE=0
. ./environment
status=0
for test in tests/*; do
    echo "== $(uname -r) ${test##*/}"
    $test --test-threads 1 $(cat arguments) || status=1
done
journalctl --no-pager >out/journal
[ $status = 0 ] || journalctl --no-pager -q -p warning -u docker -u containerd | tail -n 30
exit $status
RUN
    chmod +x "$job/run"
    local status=0
    run_job "$job" "${MACHINE_OUT:-}" || status=$?
    rm -rf "$job"
    return $status
}

case ${1:-} in
make)
    make_machine
    echo "$machine"
    ;;
run)
    [ $# -ge 2 ] || { "$0"; exit 2; }
    make_machine
    run_job "$2" "${3:-}"
    ;;
tests)
    shift
    make_machine
    run_tests "$@"
    ;;
*)
    echo "usage: $0 make | run JOB [OUT] | tests TEST... [-- ARG...]" >&2
    exit 2
    ;;
esac
