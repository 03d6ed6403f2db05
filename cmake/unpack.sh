#!/usr/bin/env bash
# unpack.sh DIRECTORY ARCHITECTURE PACKAGE…: fills DIRECTORY with these packages of Debian or Ubuntu and all that they depend on. They are
# fetched with a state of apt that lies in DIRECTORY and unpacked, not installed: the system stays as it is, and nobody needs to be root.
# Nothing is done for a directory that is complete.
set -euo pipefail
directory=$(realpath -m "$1") architecture=$2
packages=("${@:3}")

complete=$directory/packages
[ "$(cat "$complete" 2>/dev/null)" = "${packages[*]}" ] && exit 0
rm -rf "$directory"

apt=$directory/apt
mkdir -p "$apt"/{lists,archives}/partial
: >"$apt/status"
get() {
    apt-get -q -y -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o APT::Install-Recommends=false \
        -o APT::Sandbox::User="$(id -un)" -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::State::Lists="$apt/lists" \
        -o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives" -o Debug::NoLocking=true "$@"
}
get update
get --download-only install "${packages[@]}"
for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$directory"; done
rm -rf "$apt"

# Links to /lib/… mean this directory's.
find "$directory" -type l -lname '/*' | while read -r link; do ln -sfn "$directory$(readlink "$link")" "$link"; done
echo "${packages[*]}" >"$complete"
