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
LARGE_OF_WARPGROUPS = 8  # each of them 64 x ROWS x 16, not 16 x 8 x 16
# Spec, setting and whether rounded once; of its kernels with large tiles the most instructions and register moves for a product.
DEFAULT = [("mamba-130m", BF16, False, ["sm_90", "sm_90a"])]
ALL = DEFAULT + [
    (spec, dtype, fast, ["sm_80", "sm_90", "sm_90a"])
    for spec, dtype in (("mamba-370m", BF16), ("mossnet-8x200m-outputs", BF16), ("mamba-370m", F16))
    for fast in (False, True)
]
INSTRUCTIONS, MOVES = 4.0, 0.15
INSTRUCTIONS_OF_WARPGROUPS, MOVES_OF_WARPGROUPS = 24.0, 1.0  # a product takes the tensor cores 32 cycles of 64 rows


def faults(found, warpgroups):
    """What is beyond the limits. No load may have to look at its address to know its space."""
    for f in found:
        if f.count()["generic"]:
            yield f"{f.name}: {f.count()['generic']} loads, stores or atomics whose space is not known"
    kernels = [f for f in found if f.name.startswith("block_k")]
    if warpgroups:
        tiles = [f for f in kernels if f.count()["warpgroups"] >= LARGE_OF_WARPGROUPS]
        large, instructions, moves = LARGE_OF_WARPGROUPS, INSTRUCTIONS_OF_WARPGROUPS, MOVES_OF_WARPGROUPS
    else:
        tiles = [f for f in kernels if f.count()["products"] >= LARGE and not f.count()["warpgroups"]]
        large, instructions, moves = LARGE, INSTRUCTIONS, MOVES
    if not tiles:
        yield f"no kernel has a loop with {large} products"
    for f in tiles:
        c = f.count()
        if c["loop"] > instructions * c["products"] or c["moves"] > moves * c["products"]:
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
            wrong = list(faults(found, target.endswith("a")))
            print(spec, setting, "fast" if fast else "", target, *wrong, sep="\n  FAILED: " if wrong else " ")
            bad += len(wrong)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
