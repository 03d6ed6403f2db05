#!/usr/bin/env bash
# pc_root.sh DIRECTORY: fills DIRECTORY with what pc.py boots an emulated PC with.
set -euo pipefail
kernel=linux-image-virtual # Ubuntu's
if apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1; then kernel=linux-image-cloud-amd64; fi
exec "$(dirname "$0")/../../cmake/unpack.sh" "$1" amd64 xorriso isolinux syslinux-common "$kernel"
