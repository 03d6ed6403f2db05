"""What the command line tests share: running mossc in a scratch directory, the specs they use, .npy files without NumPy, and the
loop over tests. Standard library only."""
import argparse
import json
import os
import pathlib
import resource
import signal
import struct
import subprocess
import tempfile
import traceback

# Every kind of block, small enough that a compilation takes no time.
TINY = """\
mossc: 1
name: tiny
vocab_size: 256
d_model: 32
defaults: {ssm: {d_state: 4}, router: {top_k: 2}}
stack:
  - ssm: {experts: {count: 4, per_expert: [x_proj, dt_proj, A, D]}}
  - mlp: {d_ff: 48, experts: {count: 4}}
  - attention: {n_heads: 2, window: 8}
"""
ONE_MLP = """\
mossc: 1
name: one
vocab_size: 256
d_model: 32
stack: [mlp: {d_ff: 48}]
"""  # compiled in no time; for what shows in the code of linear layers
WRONG = TINY.replace("d_ff", "dff")
TOKENS = "72, 101 108\n108,111 32 119 111 114 108 100 33\n"
PASSES = ["route-fusion", "scan-fusion", "elementwise-fusion", "weights", "plan", "schedule"]


SKIPPED = 77  # the exit status that CTest counts as skipped


class Skipped(Exception):
    """This test cannot run here; says why."""


class Mossc:
    """The program in a scratch directory, with a kernel cache of its own or that in the directory `kernels`. A test fails by an assertion that
    shows the command and what it printed."""

    def __init__(self, program, directory, kernels=None):
        self.program, self.directory = str(pathlib.Path(program).resolve()), pathlib.Path(directory) / "work"
        self.directory.mkdir()
        self.kernels = pathlib.Path(kernels or pathlib.Path(directory) / "kernels")
        self.variables = {}  # of the environment, besides

    def environment(self):
        return {**os.environ, "MOSSC_CACHE_DIR": str(self.kernels), **self.variables}

    def file(self, name, content):
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    def run(self, *arguments, status=0, stdin=b"", stdout=subprocess.PIPE, largest_file=None):
        """Runs `mossc ARGUMENTS` and demands its exit status (None: any). largest_file: bytes after which writing fails, as on a full disk."""

        def limit():
            if largest_file is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        command = [self.program, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.directory, env=self.environment(), input=stdin, stdout=stdout, stderr=subprocess.PIPE, preexec_fn=limit,
                              restore_signals=largest_file is None, timeout=300)
        done.stderr = done.stderr.decode(errors="replace")
        shown = f"mossc {' '.join(command[1:])}\nended with {done.returncode}, not {status}; it printed\n{(done.stdout or b'')[:2000]!r}\n{done.stderr}"
        assert status in (None, done.returncode), shown
        return done

    def out(self, *arguments, **options):
        return self.run(*arguments, **options).stdout.decode()

    def json(self, *arguments, **options):
        return json.loads(self.out(*arguments, **options))

    def error(self, *arguments, status=1, **options):
        """Standard error of a command that must fail, printing nothing on standard output."""
        done = self.run(*arguments, status=status, **options)
        assert not done.stdout, f"{arguments} failed, yet printed {done.stdout[:200]!r}"
        return done.stderr

    def npy(self, name):
        """Rows of a float32 .npy file, and its bytes."""
        data = (self.directory / name).read_bytes()
        assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
        (size,) = struct.unpack_from("<H", data, 8)
        header = data[10 : 10 + size].decode()
        assert (10 + size) % 64 == 0 and header.endswith("\n"), header
        entries = eval(header, {"__builtins__": {}})  # a literal of NumPy's format, written by the program under test
        assert entries["descr"] == "<f4" and entries["fortran_order"] is False, entries
        rows, columns = entries["shape"]
        assert len(data) == 10 + size + 4 * rows * columns, (len(data), entries)
        values = struct.unpack_from(f"<{rows * columns}f", data, 10 + size)
        return [values[i * columns : (i + 1) * columns] for i in range(rows)], data

    def left(self):
        """Names in the scratch directory: what a failed command left behind shows here."""
        return sorted(path.name for path in self.directory.iterdir())


def read_safetensors(path):
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def processor_seconds():
    """Of this process and all that it has waited for."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def tiny(m):
    """A spec and weights for it."""
    spec = m.file("tiny.yaml", TINY)
    m.run("init", spec, "--seed", 7, "-o", "w.safetensors")
    return spec, "w.safetensors"


def run_tests(names, defaults=None, share_kernels=False):
    """Runs every function test_NAME of a script, or those named on its command line, but for those of --without, each with a Mossc in a directory of its own.
    `defaults`: integers that options of the same names may change. share_kernels: kernels that one test has compiled are there for the
    next ones, and in ctest for other scripts (environment.cmake.in), which saves most of the time of a script that is not about the cache. The exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="not those whose names contain it; may be given several times")
    parser.add_argument("names", nargs="*")
    for name, value in (defaults or {}).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = vars(parser.parse_args())
    for name in defaults or {}:
        defaults[name] = options[name]
    wanted, unwanted = options["names"], options["without"]
    tests = [(name[5:], test) for name, test in names.items() if name.startswith("test_")]
    tests = [(name, test) for name, test in tests if not wanted or any(part in name for part in wanted)]
    tests = [(name, test) for name, test in tests if not any(part in name for part in unwanted)]
    failed = skipped = 0
    cache = tempfile.TemporaryDirectory()
    for name, test in tests:
        begin = processor_seconds()
        with tempfile.TemporaryDirectory() as directory:
            try:
                test(Mossc(options["mossc"], directory, os.environ.get("MOSSC_CACHE_DIR", cache.name) if share_kernels else None))
                print(f"ok      {name} ({processor_seconds() - begin:.1f} s of processor time)", flush=True)
            except Skipped as reason:
                skipped += 1
                print(f"skipped {name}: {reason}", flush=True)
            except Exception:  # a test that crashes has failed; the others still run
                failed += 1
                print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
    cache.cleanup()
    print(f"{len(tests)} tests, {failed} failed, {skipped} skipped")
    return 1 if failed or not tests else SKIPPED if skipped == len(tests) else 0
