#!/usr/bin/env python3
"""The house: who may include whom.

A directory includes only what stands before it in ROOMS. The script plants a violation first and looks for it."""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# In this order: a room knows only those before it. What it may not know of those stands behind it.
ROOMS = {
    "include": (),
    "support": (),
    "ir": (),
    "frontend": (),
    "passes": ("frontend",),
    "schedule": ("frontend",),
    "codegen": ("frontend", "passes", "schedule"),
    "runtime": ("frontend", "passes", "schedule", "codegen"),
    "tokenizer": ("frontend", "passes", "schedule", "codegen"),
    "driver": (),
    "measure": (),
    "import": (),
    "explore": (),
    "cli": (),
    "python": (),
}
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.M)


def sources(root):
    for room in ROOMS:
        for directory, _, names in os.walk(os.path.join(root, room)):
            for name in names:
                if name.endswith((".c", ".h", ".inc", ".def", ".cuh")):
                    yield room, os.path.join(directory, name)


def may_include(room, other):
    order = list(ROOMS)
    return order.index(other) < order.index(room) and other not in ROOMS[room]


def upward(root):
    """Includes that a room may not have: 'passes/match.c includes frontend/spec.h'."""
    found = []
    for room, path in sources(root):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for name in INCLUDE.findall(text):
            other = name.split("/")[0] if "/" in name else room
            if other == "mossc":
                other = "include"
            if other in ROOMS and other != room and not may_include(room, other):
                found.append(f"{os.path.relpath(path, root)} includes {name}")
    return found


def unknown_rooms(root):
    """Directories with C sources that the list of rooms does not have."""
    names = subprocess.run(["git", "-C", root, "ls-files", "*.c", "*.h"], capture_output=True, text=True, check=True).stdout.split()
    known = set(ROOMS) | {"tests", "bench", "examples"}
    return sorted({name.split("/")[0] for name in names} - known)


def finds_what_is_planted():
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(os.path.join(root, "passes"))
        with open(os.path.join(root, "passes", "planted.c"), "w", encoding="utf-8") as file:
            file.write('#include "ir/graph.h"\n#include "frontend/spec.h"\n')
        assert upward(root) == ["passes/planted.c includes frontend/spec.h"], upward(root)


def main():
    finds_what_is_planted()
    problems = upward(ROOT)
    if os.path.isdir(os.path.join(ROOT, ".git")) or os.path.isfile(os.path.join(ROOT, ".git")):
        problems += [f"{room}/ is no room of tests/structure/test_structure.py" for room in unknown_rooms(ROOT)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


sys.exit(main())
