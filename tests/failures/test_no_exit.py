#!/usr/bin/env python3
"""No library ends the process: none of their objects refers to a function that does. Nothing is allowed besides: assert() is refused too,
and so is what libc's fortified functions call, since those are inside libc."""
import subprocess
import sys

REFUSED = {"exit", "_exit", "_Exit", "quick_exit", "abort", "__assert_fail", "__assert_perror_fail", "err", "errx", "terminate"}


def main():
    found = []
    objects = 0
    for archive in sys.argv[1:]:
        member = "?"
        for line in subprocess.run(["nm", "-u", archive], capture_output=True, text=True, check=True).stdout.splitlines():
            if line.endswith(":"):
                member = line[:-1]
                objects += 1
            elif line.strip() and line.split()[-1].split("@")[0] in REFUSED:
                found.append(f"{archive}: {member} refers to {line.split()[-1]}")
    for line in found:
        print(line)
    if not objects:
        print("no objects found")
    return 1 if found or not objects else 0


if __name__ == "__main__":
    sys.exit(main())
