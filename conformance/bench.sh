#!/bin/bash
# Measures orlop side by side with Debian's crun and runc and with the bare kernel work.
#
#   bench.sh [-n ROUNDS] [--bundle DIR] [--no-strace]     more options as `orlop-conformance bench` has them
#   ORLOP_RUNTIME=PATH bench.sh ...                       measures another binary
#
# All of them run in the same mount namespace, whose root is the peers' tree (peers.sh): the dynamic peers find their
# own libraries without a wrapper whose cost would count as theirs, and the mount table is equally long for all.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
target=${CARGO_TARGET_DIR:-$top/target}

cd "$top"
if [ -z "${ORLOP_RUNTIME:-}" ]; then
    cargo static --quiet
    ORLOP_RUNTIME=$target/x86_64-unknown-linux-gnu/release/orlop
fi
cargo build --quiet --release -p orlop-conformance
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
floor=()
if command -v gcc >/dev/null && gcc -O2 -static -o "$work/floor" "$here/floor.c"; then
    floor=(--floor "$work/floor")
fi
"$here/in-cgroup2.sh" "$here/peers.sh" enter "$target/release/orlop-conformance" bench \
    --runtime "$ORLOP_RUNTIME" --compare crun=/usr/bin/crun --compare runc=/usr/sbin/runc "${floor[@]}" "$@"
