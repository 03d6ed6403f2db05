#!/bin/sh
# wheel.sh PYTHON WHEEL DIRECTORY TEST…: installs the wheel into a fresh environment in DIRECTORY, where no compiler is to be found, and runs
# the scripts there.
set -eu
python=$1 wheel=$2 directory=$3
shift 3
"$python" -m venv "$directory"
tools=$directory/tools
mkdir -p "$tools"
for name in sh env uname ls cat; do ln -sf "$(command -v $name)" "$tools/$name"; done
PATH=$tools "$directory/bin/python" -m pip install --disable-pip-version-check -q "$wheel"
extension=$(ls "$directory"/lib/python3*/site-packages/mossc/_native.abi3.so)
[ "$(nm -D --defined-only "$extension" | cut -d ' ' -f 3)" = PyInit__native ]
if readelf -d "$extension" "$directory"/lib/python3*/site-packages/mossc/bin/mossc | grep -E 'NEEDED.*(LLVM|stdc|yaml|pcre|xml|z3)'; then exit 1; fi
"$directory/bin/mossc" --version
for test in "$@"; do
    MOSSC_CACHE_DIR=$directory/kernels "$directory/bin/python" "$test" --mossc "$directory/bin/mossc"
done
