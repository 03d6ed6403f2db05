#!/bin/sh
# sh judge.sh SPEC: trains the spec on TOKENS bytes (default 200000) of $NOVELS/train.txt and prints the bits per byte of the
# beginning of $NOVELS/valid.txt, by the compiled model. What `quality` of novels.yaml runs.
set -eu
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
"${PYTHON:-python3}" -m mossc.train "$1" -o "$run" --data "$NOVELS/train.txt" --tokens "${TOKENS:-200000}" --batch 8 --window 128 \
    --threads 1 --seed 1 --save-minutes 1000 >&2
head -c 65536 "$NOVELS/valid.txt" >"$run/text"
"${MOSSC_PROGRAM:-mossc}" eval "$run/spec.yaml" -w "$run/model.safetensors" --text "$run/text" --threads 1 --json |
    sed -n 's/.*"bits_per_byte":[[:space:]]*\([0-9.]*\).*/\1/p'
