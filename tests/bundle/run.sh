#!/usr/bin/env bash
# mossc on a machine with an NVIDIA GPU: what `./dev bundle` made. Needs a driver, bash and, for most checks, Python 3;
# nothing is installed and nothing outside this directory is written but temporary files.
#
#   ./run.sh test-gpu [--quick] [--seconds N] [--count N] [--cycles N]   is it right?
#   ./run.sh bench gpu [--quick] [ARGUMENTS of bench/gpu/gpu.py]         is it fast?
#   ./run.sh mossc ARGUMENTS…                                            the program itself
#   ./run.sh --quick                                                     test-gpu --quick, then bench gpu --quick
set -euo pipefail
root=$(cd "$(dirname "$0")" && pwd)
export MOSSC_BUNDLE=$root

# NVRTC: what MOSSC_NVRTC names, else what the loader finds, else pip's package, else a toolkit.
find_nvrtc() {
    local directory file
    if [ -n "${MOSSC_NVRTC:-}" ]; then return; fi
    if ldconfig -p 2>/dev/null | grep -q 'libnvrtc\.so\.1[23]'; then return; fi
    for directory in $(python3 - 2>/dev/null <<'PYTHON'
import glob
import site
import sys
for base in dict.fromkeys([*sys.path, *site.getsitepackages(), site.getusersitepackages()]):
    for directory in sorted(glob.glob(base + "/nvidia/*/lib"), reverse=True):
        print(directory.replace(" ", "\\ "))
PYTHON
    ) /usr/local/cuda/lib64 $(ls -d /usr/local/cuda-*/lib64 2>/dev/null | sort -rV); do
        file=$(ls "$directory"/libnvrtc.so.1[23] 2>/dev/null | sort -V | tail -n 1 || true)
        if [ -n "$file" ]; then
            export MOSSC_NVRTC=$file LD_LIBRARY_PATH=$directory${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} # its builtins lie beside it
            return
        fi
    done
    echo "run.sh: found no NVRTC: only kernels of the cache that came along can run (pip install nvidia-cuda-nvrtc)" >&2
}

# The cache that came along is copied where it can be written: what is compiled here is kept for the next run.
if [ -z "${MOSSC_CACHE_DIR:-}" ]; then
    export MOSSC_CACHE_DIR=$root/kernels
    if [ ! -w "$MOSSC_CACHE_DIR" ]; then
        MOSSC_CACHE_DIR=$(mktemp -d)
        cp "$root"/kernels/* "$MOSSC_CACHE_DIR"/ 2>/dev/null || true
    fi
fi
chmod -R go-w "$MOSSC_CACHE_DIR" # an entry that others may write is not taken: it is code
export MOSSC_CACHE_SIZE=${MOSSC_CACHE_SIZE:-512}

test_gpu() {
    find_nvrtc
    "$root"/tests/cuda/on_gpu.sh --mossc "$root/bin/mossc" --test-device "$root/bin/test_device" --logits "$root/logits" "$@"
}

bench_gpu() {
    find_nvrtc
    command -v python3 >/dev/null || { echo "run.sh: bench gpu needs python3" >&2; exit 1; }
    python3 "$root/bench/gpu/gpu.py" --mossc "$root/bin/mossc" "$@"
}

case ${1:-} in
test-gpu) shift; test_gpu "$@" ;;
bench) [ "${2:-}" = gpu ] || { echo "run.sh: expected 'bench gpu'" >&2; exit 2; }; shift 2; bench_gpu "$@" ;;
mossc) shift; find_nvrtc; exec "$root/bin/mossc" "$@" ;;
--quick) status=0; test_gpu --quick || status=1; bench_gpu --quick || status=1; exit "$status" ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0"; [ "${1:-}" = --help ] || exit 2 ;;
esac
