#!/bin/bash
# Makes a small Debian trixie tree that holds the peers (crun, runc), Docker and systemd, and runs commands with it as
# their root. ORLOP_PEERS_SUITE names another release, with the peers alone: sid for the newest ones, bookworm for those
# that known attacks succeed on.
#
#   peers.sh make           makes the tree if it is not there; prints its path
#   peers.sh path           prints where the tree is, made or not
#   peers.sh enter CMD...   runs CMD with the tree as root directory
#
# The tree is a cache outside the sources, because it is large and the same for every checkout. It is entered with
# pivot_root and not with chroot: a chrooted process may not make user namespaces, and pivot_root into a chroot fails.
# All the host's own directories that the tree does not have (/tmp, /root, /work, ...) stay visible under their names.
# Nothing of the host changes: the mounts live in a mount namespace of their own.
set -euo pipefail

SUITE=${ORLOP_PEERS_SUITE:-trixie}
MIRROR=${ORLOP_DEBIAN_MIRROR:-http://deb.debian.org/debian}
PACKAGES=base-files,dash,bash,coreutils,util-linux,mount,libc-bin,procps,iproute2,busybox-static,strace,crun,runc,sed,grep,findutils,tar
# VERSION is part of the tree's name: a change of the list makes a new tree.
case $SUITE in
trixie)
    PACKAGES=$PACKAGES,containerd,docker.io,docker-cli,systemd,dbus,dbus-user-session
    VERSION=2
    ;;
# crun of sid wants it, and mmdebstrap does not take it by itself.
sid) PACKAGES=$PACKAGES,libyajl2 VERSION=1 ;;
*) VERSION=1 ;;
esac
TREE=${ORLOP_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/orlop/peers-$SUITE-$VERSION}

make_tree() {
    if [ -e "$TREE/.complete" ]; then return; fi
    mkdir -p "$(dirname "$TREE")"
    exec 9>"$TREE.lock"
    flock 9
    if [ -e "$TREE/.complete" ]; then return; fi
    rm -rf "$TREE.new" "$TREE"
    # "extract" runs no package's scripts: nothing is configured, and no daemon of a package can start.
    # The mirror may be a snapshot, whose signature has run out.
    mmdebstrap --quiet --aptopt='Acquire::Check-Valid-Until "false"' --mode=root --variant=extract --include="$PACKAGES" "$SUITE" "$TREE.new" "$MIRROR" >&2
    printf 'root:x:0:0:root:/root:/bin/sh\nmessagebus:x:901:901::/:/bin/false\nuser:x:1000:1000::/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$TREE.new/etc/passwd"
    printf 'root:x:0:\ntty:x:5:\ndocker:x:900:\nmessagebus:x:901:\nuser:x:1000:\nnogroup:x:65534:\n' >"$TREE.new/etc/group"
    # mmdebstrap makes device nodes as files of the tree; the host's /dev is mounted over them.
    touch "$TREE.new/.complete"
    mv "$TREE.new" "$TREE"
    exec 9>&-
}

# Runs in a mount namespace of its own.
enter_tree() {
    local cwd=$PWD dir name
    mount --bind "$TREE" "$TREE"
    cd "$TREE"
    mkdir -p .host
    pivot_root . .host
    cd /
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    hash -r
    for dir in /.host/*/; do
        name=${dir#/.host/}
        name=${name%/}
        case $name in
        bin | sbin | lib | lib32 | lib64 | libx32 | usr | etc | var | boot | 'lost+found') continue ;;
        esac
        mkdir -p "/$name"
        mount --rbind "/.host/$name" "/$name"
    done
    umount -l /.host
    cd "$cwd"
    exec "$@"
}

case ${1:-} in
make)
    make_tree
    echo "$TREE"
    ;;
path) echo "$TREE" ;;
enter)
    shift
    make_tree
    export TREE
    exec unshare -m -- "$0" enter-here "$@"
    ;;
enter-here)
    shift
    enter_tree "$@"
    ;;
*)
    echo "usage: $0 make | path | enter CMD..." >&2
    exit 2
    ;;
esac
