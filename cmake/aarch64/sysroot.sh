#!/usr/bin/env bash
# sysroot.sh DIRECTORY LLVM: fills DIRECTORY with what a 64-bit ARM Debian or Ubuntu has that mossc is built of and runs on: the C library,
# LLVM (its major version is given) and the other libraries.
set -euo pipefail
exec "$(dirname "$0")/../unpack.sh" "$1" arm64 "libllvm$2" libyaml-dev libcjson-dev libpcre2-dev libutf8proc-dev libcmocka-dev
