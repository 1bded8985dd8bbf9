#!/bin/bash
# Builds what runs in a virtual machine, all of it static.
#
#   static.sh DIR [TEST...]     the runtime as DIR/orlop, and tests of this crate by name in DIR/tests/
#   static.sh DIR --suite       the runtime as DIR/orlop, and DIR/orlop-conformance
set -euo pipefail
top=$(dirname "$(cd "$(dirname "$0")" && pwd)")
target=${CARGO_TARGET_DIR:-$top/target}
triple=x86_64-unknown-linux-gnu
static="target.$triple.rustflags=['-Ctarget-feature=+crt-static','-Crelocation-model=static']"
dir=$(realpath "$1")
shift

cd "$top"
cargo static --quiet
mkdir -p "$dir/tests"
cp "$target/$triple/release/orlop" "$dir/orlop"
if [ "${1:-}" = --suite ]; then
    # As the tests are built, so that it is there with them; the program in containers is a release build all the same.
    cargo build --quiet -p orlop-conformance --target "$triple" --config "$static"
    cp "$target/$triple/debug/orlop-conformance" "$dir/"
    exit 0
fi
[ $# -gt 0 ] || exit 0
arguments=()
for test in "$@"; do arguments+=(--test "$test"); done
cargo test --quiet --no-run -p orlop-conformance --target "$triple" --config "$static" "${arguments[@]}"
programs=$(cargo test --no-run -p orlop-conformance --target "$triple" --config "$static" "${arguments[@]}" 2>&1 |
    sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
for program in $programs; do cp "$program" "$dir/tests/"; done
