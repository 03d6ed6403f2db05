"""mossc, torch with its compiler, triton and llvmlite live in one process, whichever comes first: each brings an LLVM or a compiler.
Of every two each comes before the other, and each is the first and the last; torch's compiler, which takes seconds, runs where triton
comes last, since it imports that."""
import concurrent.futures
import importlib.util
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import TINY, Skipped, run_tests  # noqa: E402

# What each does so that its compiler has run.
WORK = {
    "mossc": f"import mossc; assert mossc.Model({TINY!r}, cache=False).logits([1, 2, 3]).shape == (3, 256)",
    "torch": "import torch; assert (torch.ones(8, 8) @ torch.ones(8, 8)).sum().item() == 512",
    "triton": "import triton; assert triton.backends",
    "llvmlite": "from llvmlite import binding as b; b.initialize_native_target(); b.initialize_native_asmprinter(); "
                "m = b.parse_assembly('define i32 @f() { ret i32 7 }'); "
                "e = b.create_mcjit_compiler(m, b.Target.from_default_triple().create_target_machine()); e.finalize_object(); "
                "import ctypes; assert ctypes.CFUNCTYPE(ctypes.c_int)(e.get_function_address('f'))() == 7",
}
COMPILED = "assert torch.compile(lambda x: (x.sin() * 2).sum())(torch.ones(64)).item() > 100"


def runs(m, order):
    code = "\n".join(WORK[name] + ("; " + COMPILED if name == "torch" and order[-1] == "triton" else "") for name in order)
    done = subprocess.run([sys.executable, "-c", code], cwd=m.directory, env=m.environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, (order, done.returncode, done.stderr[-2000:])


def orders_of(names):
    """Two orders that begin and end differently, and each backwards."""
    first, second = names, [*names[1::-1], *names[:1:-1]]
    return list(dict.fromkeys(tuple(order) for order in (second, first, second[::-1], first[::-1])))


def test_imports_work_in_every_order_of_two(m):
    here = [name for name in WORK if importlib.util.find_spec(name)]
    if len(here) < 2:
        raise Skipped("none of torch, triton and llvmlite is here")
    orders = orders_of(here)
    assert all(any(o.index(a) < o.index(b) for o in orders) for a in here for b in here if a != b), orders
    m.variables["TORCHINDUCTOR_CACHE_DIR"] = str(m.directory / "inductor")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda order: runs(m, order), orders))
    print(f"{len(orders)} orders of {', '.join(here)}")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
