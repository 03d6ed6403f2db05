"""The machine code of kernels with large tiles, against what was reached (docs/cuda.md). No register may spill.

    MOSSC_NVDISASM=… python3 tests/cuda/test_sass.py build/release/tests/simt/test_nvrtc [SPEC]

SPEC: the name of one in specs/, in bf16 and f16 for sm_80, sm_90 and sm_90a, with and without --fast, and in q8 and q4 for sm_80 and
sm_90. Without it: mamba-130m in bf16 for sm_90 and sm_90a, and in q8 for sm_90; moss-tiny in bf16 for sm_75.
"""
import argparse
import itertools
import pathlib
import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
import sass  # noqa: E402

SPECS = pathlib.Path(__file__).resolve().parents[2] / "specs"
BLOCKS = ("q8", "q4")
WITHOUT_TENSOR_CORES = ("sm_75",)  # as mossc multiplies there
LARGE = 32  # products in a turn of a kernel with large tiles
# The most instructions and register moves for a product. x comes as words.
INSTRUCTIONS, MOVES = 4.0, 0.1
OF_TILE = 480  # the most instructions of a tile whose K is one turn, as that of adapters: no loop within it multiplies
LARGE_OF_WARPGROUPS = 8  # each of them 64 x ROWS x 16, not 16 x 8 x 16
INSTRUCTIONS_OF_WARPGROUPS, MOVES_OF_WARPGROUPS = 24.0, 1.0  # a product takes the tensor cores 32 cycles of 64 rows


def large_tiles(found, warpgroups):
    kernels = [(f.name, f.count()) for f in found if f.name.startswith("block_k")]
    if warpgroups:
        return [(name, c) for name, c in kernels if c["warpgroups"] >= LARGE_OF_WARPGROUPS]
    return [(name, c) for name, c in kernels if c["products"] >= LARGE and not c["warpgroups"]]


def generic(found):
    """No load, store or atomic may have to look at its address to know its space."""
    for f in found:
        if f.count()["generic"]:
            yield f"{f.name}: {f.count()['generic']} loads, stores or atomics whose space is not known"


def counted(found, warpgroups):
    """What is beyond the limits of kernels with large tiles."""
    instructions, moves = (INSTRUCTIONS_OF_WARPGROUPS, MOVES_OF_WARPGROUPS) if warpgroups else (INSTRUCTIONS, MOVES)
    for name, c in large_tiles(found, warpgroups):
        if c["rounds"] and not warpgroups:
            yield f"{name}: rounds x where it multiplies"
        if c["stores"] and not warpgroups:
            if c["loop"] > OF_TILE:
                yield f"{name}: {c['loop']} instructions of a tile"
        elif c["loop"] > instructions * c["products"] or c["moves"] > moves * c["products"]:
            yield f"{name}: {c['loop']} instructions and {c['moves']} moves for {c['products']} products"


def worst(found, warpgroups):
    """Of all large tiles: the most instructions and moves for a product."""
    tiles = [c for _, c in large_tiles(found, warpgroups)]
    turns = [c for c in tiles if warpgroups or not c["stores"]]
    most = [max((c[key] / c["products"] for c in turns), default=0) for key in ("loop", "moves")]
    text = f"{len(turns)} kernels, at most {most[0]:.2f} instructions and {most[1]:.2f} moves for a product"
    whole = [c["loop"] for c in tiles if c not in turns]
    return text + (f"; {len(whole)} of one turn, at most {max(whole)} instructions a tile" if whole else "")


def cases(spec):
    """Specs, targets, dtypes and whether --fast. Weights in blocks are multiplied as on sm_90 by sm_90a, and the same with --fast."""
    wide, specs = spec is not None, (spec or "mamba-130m",)
    halves = itertools.product(specs, ("sm_80", "sm_90", "sm_90a") if wide else ("sm_90", "sm_90a"), ("bf16", "f16") if wide else ("bf16",), (False, True))
    blocks = itertools.product(specs, ("sm_80", "sm_90") if wide else ("sm_90",), BLOCKS if wide else BLOCKS[:1], (False,))
    return [*halves, *blocks, *([] if wide else [("moss-tiny", "sm_75", "bf16", False)])]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("test_nvrtc")
    parser.add_argument("spec", nargs="?")
    options = parser.parse_args()
    nvdisasm, bad, judged = sass.find_nvdisasm(), 0, 0
    for spec, target, dtype, fast in cases(options.spec):
        products, warpgroups = dtype not in BLOCKS and target not in WITHOUT_TENSOR_CORES, target.endswith("a")
        arguments = [*["-f"][:fast], str(SPECS / f"{spec}.yaml"), f"weights.dtype={dtype}", f"cuda:{target}"]
        made = sass.disassembled(nvdisasm, options.test_nvrtc, *arguments) if nvdisasm else None
        if made is None:
            print("skipped: there is no NVRTC or no nvdisasm here")
            return sass.SKIPPED
        found, said = made
        wrong = [*([said] if said else []), *generic(found), *(counted(found, warpgroups) if products else [])]
        shown = worst(found, warpgroups) if products else f"{len(found)} functions"
        print(spec, dtype, "fast" if fast else "", target, shown, *(f"\n  FAILED: {w}" for w in wrong), flush=True)
        bad += len(wrong)
        judged += products and len(large_tiles(found, warpgroups))
    if judged == 0:  # a small model may have none with --fast
        print("FAILED: no kernel has a loop with many products")
    return bad > 0 or judged == 0


if __name__ == "__main__":
    sys.exit(main())
