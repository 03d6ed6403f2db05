"""What NVIDIA's compiler makes of a spec's kernels, counted in its machine code. Needs NVRTC and nvdisasm, no GPU.

    python3 tests/cuda/sass.py [--nvdisasm FILE] build/release/tests/simt/test_nvrtc [-f] SPEC [PATH=VALUE…] TARGET

prints, of each entry and function: all instructions; of the loop with most tensor-core products, instructions and register moves
for each product; loads, stores and atomics whose space is not known (generic); bytes of local memory that registers are spilt to.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
INSTRUCTION = re.compile(r"/\*([0-9a-f]+)\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)([^;]*);")
PRODUCTS = ("HMMA", "IMMA", "HGMMA")
MOVES = ("MOV", "IMAD.MOV")
ROUNDING = "F2FP"  # of pairs of floats to 16 bits
STORE = "STG"  # to global memory: the loop is that of tiles
GENERIC = ("LD", "ST", "ATOM")  # LDG, STS and so on say where


def find_nvdisasm():
    """Its path, or None. A toolkit is often installed and not in the path."""
    named = os.environ.get("MOSSC_NVDISASM")
    return named or shutil.which("nvdisasm", path=os.environ.get("PATH", "") + ":/usr/local/cuda/bin:/opt/cuda/bin")


class Instruction:
    def __init__(self, address, name, operands):
        self.address, self.name, self.operands = address, name, operands
        self.kind = name.split(".")[0]
        self.product = self.kind in PRODUCTS
        self.move = name.startswith(MOVES)
        self.generic = self.kind in GENERIC


class Function:
    """Instructions in order, and where labels stand among them."""

    def __init__(self, name):
        self.name, self.code, self.labels = name, [], {}

    def loops(self):
        """(first, last) of each backward branch, as indices into code."""
        for at, i in enumerate(self.code):
            target = re.search(r"`\((\S+)\)", i.operands) if i.kind == "BRA" else None
            begin = self.labels.get(target.group(1)) if target else None
            if begin is not None and begin <= at:
                yield begin, at

    def main_loop(self):
        """The code of the innermost loop with most products; [] where there is none."""
        found = []
        for begin, end in self.loops():
            code = self.code[begin : end + 1]
            products, best = sum(i.product for i in code), sum(i.product for i in found)
            if products > best or (products == best > 0 and len(code) < len(found)):
                found = code
        return found

    def count(self):
        loop = self.main_loop()
        last = max((at for at, i in enumerate(loop) if i.product), default=0)
        return {
            "instructions": len(self.code),
            "products": sum(i.product for i in loop),
            "loop": len(loop),
            "warpgroups": sum(i.kind == "HGMMA" for i in loop),
            "moves": sum(i.move for i in loop),
            "rounds": any(i.kind == ROUNDING for i in loop[:last]),
            "stores": any(i.kind == STORE for i in loop),
            "generic": sum(i.generic for i in self.code),
            "local": sum(i.kind in ("LDL", "STL") for i in self.code),
        }


def short(symbol):
    """"rows_step: k7_few" of "$rows_step$_ZN41_INTERNAL_00000000_10_program_cu_block_k76k7_fewEPK4Step…"."""
    parts = symbol.split("$")
    nested = re.match(r"_ZN(\d+)", parts[-1])
    if not nested:
        return f"{parts[1]}: {parts[-1]}"
    rest = parts[-1][nested.end() + int(nested.group(1)) :]
    named = re.match(r"(\d+)", rest)
    return f"{parts[1]}: {rest[named.end() : named.end() + int(named.group(1))]}"


def functions(listing):
    """Of nvdisasm's listing: entries, and what they call."""
    current, found = None, []
    for line in listing.splitlines():
        section = re.match(r"\.text\.(\S+):", line)
        symbol = re.match(r"\s+\.type\s+(\S+),@function", line) or re.match(r"([\w$]+):$", line)
        label = re.match(r"(\.L\S+):", line)
        instruction = INSTRUCTION.search(line)
        if section:
            current = Function(section.group(1))
            found.append(current)
        elif symbol and current and symbol.group(1).startswith("$") and current.name != short(symbol.group(1)):
            current = Function(short(symbol.group(1)))
            found.append(current)
        elif label and current:
            current.labels[label.group(1)] = len(current.code)
        elif instruction and current:
            current.code.append(Instruction(int(instruction.group(1), 16), instruction.group(2), instruction.group(3)))
    return found


def disassembled(nvdisasm, test_nvrtc, *arguments):
    """Functions of a spec's program, and what test_nvrtc finds wrong with it (registers that spill, …; "": nothing). None: there is no NVRTC."""
    with tempfile.TemporaryDirectory() as directory:
        cubin = f"{directory}/cubin"
        made = subprocess.run([test_nvrtc, "-o", cubin, *arguments], capture_output=True, text=True)
        if made.returncode == SKIPPED:
            return None
        assert os.path.exists(cubin), made.stdout
        listing = subprocess.run([nvdisasm, "-c", cubin], check=True, capture_output=True, text=True).stdout
        return functions(listing), made.stdout if made.returncode else ""


def show(found):
    print(f"{'function':44} {'all':>6} {'products':>8} {'loop':>5} {'each':>6} {'moves':>6} {'generic':>7} {'local':>6}")
    for f in found:
        c = f.count()
        each, moves = (f"{c[key] / c['products']:.2f}" if c["products"] else "" for key in ("loop", "moves"))
        print(f"{f.name[:44]:44} {c['instructions']:6} {c['products']:8} {c['loop']:5} {each:>6} {moves:>6} {c['generic']:7} {c['local']:6}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvdisasm", default=find_nvdisasm())
    options, arguments = parser.parse_known_args()
    if not options.nvdisasm:
        print("skipped: there is no nvdisasm here (MOSSC_NVDISASM)")
        return SKIPPED
    made = disassembled(options.nvdisasm, *arguments)
    if made is None:
        print("skipped: there is no NVRTC here (MOSSC_NVRTC)")
        return SKIPPED
    show(made[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
