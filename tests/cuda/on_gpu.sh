#!/usr/bin/env bash
# What only a GPU shows, as one list of checks: ./dev test-gpu runs it here, run.sh of ./dev bundle where nothing is installed.
#
#   tests/cuda/on_gpu.sh --mossc PROGRAM --test-device PROGRAM [--logits DIR] [--seconds N] [--count SPECS] [--cycles N] [--quick]
#
# Every check has a limit of time of its own. The last line counts them; a line before it names what was not tested.
set -uo pipefail
mossc='' test_device='' logits='' seconds=600 count=300 cycles=10000
here=$(cd "$(dirname "$0")" && pwd)
usage() { echo "usage: on_gpu.sh --mossc PROGRAM --test-device PROGRAM [--logits DIR] [--seconds N] [--count N] [--cycles N] [--quick]" >&2; exit 2; }
number() { [[ $2 =~ ^[0-9]+$ ]] || { echo "on_gpu.sh: $1 must be a number, got '$2'" >&2; exit 2; }; }
while [ $# -gt 0 ]; do
    case $1 in
    --mossc | --test-device | --logits | --seconds | --count | --cycles) [ $# -ge 2 ] || usage ;;
    esac
    case $1 in
    --mossc) mossc=$2; shift ;;
    --test-device) test_device=$2; shift ;;
    --logits) logits=$2; shift ;;
    --seconds) number "$1" "$2"; seconds=$2; shift ;;
    --count) number "$1" "$2"; count=$2; shift ;;
    --cycles) number "$1" "$2"; cycles=$2; shift ;;
    --quick) seconds=120 count=20 cycles=200 ;;
    *) usage ;;
    esac
    shift
done
if [ -z "$mossc" ] || [ -z "$test_device" ]; then usage; fi
python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v python3 || true)

passed=0 failed=0 broken=() untested=()

# check NAME SECONDS COMMAND…: one check, which may last so long.
check() {
    local name=$1 limit=$2 status=0
    shift 2
    printf '== GPU: %s\n' "$name" >&2
    timeout -k 10 "$limit" "$@" || status=$?
    case $status in
    0) passed=$((passed + 1)) ;;
    77) untested+=("$name") ;;
    124 | 137) failed=$((failed + 1)) broken+=("$name (longer than $limit s)") ;;
    *) failed=$((failed + 1)) broken+=("$name") ;;
    esac
}

few=$((count < 10 ? count : 10))
check "$count random specs against eval64" $((seconds / 2 + 60)) \
    "$test_device" --count "$count" --processes "$(nproc)" --seconds $((seconds / 2))
check "states are saved, loaded and cloned $cycles times" $((seconds / 10 + 60)) \
    "$test_device" --count 0 --cycles "$cycles" --seconds $((seconds / 10))
if [ -n "$python" ]; then
    check "the command line and moss-tiny's text beside the CPU" $((seconds / 5 + 60)) \
        "$python" "$here/test_gpu.py" --mossc "$mossc" ${MOSSC_GPU_TESTS:-}
    if [ -n "$logits" ]; then
        check "logits beside those that a CPU made" $((seconds / 2 + 60)) \
            "$python" "$here/carried_logits.py" compare --mossc "$mossc" --seconds $((seconds / 2)) "$logits"
    fi
else
    untested+=("the command line (no python3)")
fi
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1 || true)
for tool in memcheck racecheck; do
    if [ -z "$sanitizer" ]; then
        untested+=("$tool (no compute-sanitizer)")
        continue
    fi
    check "$tool on $few specs" $((seconds / 10 + 60)) "$sanitizer" --tool "$tool" --error-exitcode 9 \
        --target-processes all "$test_device" --count "$few" --processes "$few" --seconds $((seconds / 10))
done
[ ${#broken[@]} -eq 0 ] || printf '== failed: %s\n' "${broken[@]}" >&2
if [ ${#untested[@]} -gt 0 ]; then
    printf -v list ', %s' "${untested[@]}"
    printf 'not tested here: %s\n' "${list:2}"
fi
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "${#untested[@]}"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
