#!/usr/bin/env python3
"""Runs test_mambalite on trained one-block Mamba-1 models: their arrays (.npz) become one file of doubles each.

  mambalite.py --test TEST --data DIRECTORY      exits with 77, skipped, where DIRECTORY holds no models
"""
import argparse
import ast
import glob
import os
import subprocess
import sys
import tempfile
import zipfile

import array


def doubles(blob):
    """Elements of a .npy file of floats, row-major, and its shape (NEP 1)."""
    wide = blob[6] > 1
    size = int.from_bytes(blob[8:12 if wide else 10], "little")
    start = (12 if wide else 10) + size
    header = ast.literal_eval(blob[start - size:start].decode("latin1"))
    if header["fortran_order"] or header["descr"] not in ("<f4", "<f8"):
        sys.exit(f"cannot read {header}")
    elements = array.array("f" if header["descr"] == "<f4" else "d", blob[start:])
    if sys.byteorder == "big":
        elements.byteswap()
    return array.array("d", elements), header["shape"]


def run(test, path):
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as directory:
        for name in archive.namelist():
            elements, shape = doubles(archive.read(name))
            with open(os.path.join(directory, name.replace(".npy", ".f64")), "wb") as out:
                elements.tofile(out)
            if name == "input.npy":
                tokens, features = shape
        print(os.path.basename(path), flush=True)
        return subprocess.run([test, directory, str(tokens), str(features)]).returncode


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--test", required=True)
    parser.add_argument("--data", required=True)
    args = parser.parse_args()
    models = sorted(glob.glob(os.path.join(args.data, "*.npz")))
    if not models:
        print(f"skipped: no models in {args.data}")
        return 77
    return max(run(args.test, model) for model in models)


sys.exit(main())
