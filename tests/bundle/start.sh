#!/bin/sh
# Starts the program of this name: with this system's C library where it is new enough, else with the one that came along.
root=$(cd "$(dirname "$0")/.." && pwd)
program=$root/libexec/$(basename "$0")
libraries=$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
if LD_LIBRARY_PATH=$libraries "$root/libexec/mossc" --version >/dev/null 2>&1; then
    LD_LIBRARY_PATH=$libraries exec "$program" "$@"
fi
exec "$root"/lib/c/ld-linux-*.so.* --library-path "$root/lib/c:$libraries" "$program" "$@"
