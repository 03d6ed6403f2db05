"""Counts of tests/cuda/sass.py in kernels of shipped specs, held against what was reached.

    MOSSC_NVDISASM=… python3 tests/cuda/test_sass.py build/release/tests/simt/test_nvrtc [--all]
"""
import argparse
import pathlib
import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
import sass  # noqa: E402

SPECS = pathlib.Path(__file__).resolve().parents[2] / "specs"
BF16, F16 = "weights.dtype=bf16", "weights.dtype=f16"
LARGE = 32  # products in a turn of a kernel with large tiles
# Spec, setting and whether rounded once; of its kernels with large tiles the most instructions and register moves for a product.
DEFAULT = [("mamba-130m", BF16, False, ["sm_90"])]
ALL = DEFAULT + [
    (spec, dtype, fast, ["sm_80", "sm_90"])
    for spec, dtype in (("mamba-370m", BF16), ("mossnet-8x200m-outputs", BF16), ("mamba-370m", F16))
    for fast in (False, True)
]
INSTRUCTIONS, MOVES = 4.0, 0.15


def faults(found):
    """What is beyond the limits. No load may have to look at its address to know its space."""
    for f in found:
        if f.count()["generic"]:
            yield f"{f.name}: {f.count()['generic']} loads, stores or atomics whose space is not known"
    tiles = [f for f in found if f.name.startswith("block_k") and f.count()["products"] >= LARGE]
    if not tiles:
        yield f"no kernel has a loop with {LARGE} products"
    for f in tiles:
        c = f.count()
        if c["loop"] > INSTRUCTIONS * c["products"] or c["moves"] > MOVES * c["products"]:
            yield f"{f.name}: {c['loop']} instructions and {c['moves']} moves for {c['products']} products"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("test_nvrtc")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    nvdisasm, bad = sass.find_nvdisasm(), 0
    for spec, setting, fast, targets in ALL if options.all else DEFAULT:
        for target in targets:
            arguments = [*["-f"][:fast], str(SPECS / f"{spec}.yaml"), setting, f"cuda:{target}"]
            found = sass.disassembled(nvdisasm, options.test_nvrtc, *arguments) if nvdisasm else None
            if found is None:
                print("skipped: there is no NVRTC or no nvdisasm here")
                return sass.SKIPPED
            wrong = list(faults(found))
            print(spec, setting, "fast" if fast else "", target, *wrong, sep="\n  FAILED: " if wrong else " ")
            bad += len(wrong)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
