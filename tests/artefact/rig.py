"""Building and running artefacts: for this machine, and for aarch64 with Debian's cross compiler and qemu where they are."""
import atexit
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests/cli"))
from harness import Skipped  # noqa: E402

MOSS_TINY = [ROOT / "specs/moss-tiny.yaml", "-w", ROOT / "models/moss-tiny.safetensors"]
ARM_ROOT = "/usr/aarch64-linux-gnu"


# A spec whose artefact has all of the runtime.
ARCHIVE = """\
mossc: 1
name: archive
vocab_size: 300
d_model: 16
tokenizer: {kind: bpe, file: gpt2.json}
stack: [ssm]
"""


class Machine:
    """Where artefacts run: the target's name for mossc, its tools, and what stands before a program's name."""

    def __init__(self, target, compiler, tools, runner):
        self.target, self.compiler, self.linker, self.archiver, self.runner = target, compiler, f"{tools}ld", f"{tools}ar", runner


def host():
    return Machine("host", "cc", "", [])


def arm(target="aarch64"):
    if not shutil.which("aarch64-linux-gnu-gcc") or not shutil.which("qemu-aarch64"):
        raise Skipped("needs gcc-aarch64-linux-gnu and qemu-user")
    return Machine(target, "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-", ["qemu-aarch64", "-cpu", "max", "-L", ARM_ROOT])


def command(directory, *arguments, status=0):
    """Runs a command in a directory and demands its exit status; its standard output."""
    done = subprocess.run([str(a) for a in arguments], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
    shown = f"{arguments}\nended with {done.returncode}; it printed\n{done.stdout[:2000]!r}\n{done.stderr.decode(errors='replace')}"
    assert done.returncode == status, shown
    return done.stdout


def compile_and_build(m, arguments, machine, name="out"):
    """Runs mossc compile and the lines that it prints, but the last, which runs the program. The directory."""
    lines = m.out("compile", *arguments, "--target", machine.target, "-o", name).splitlines()
    assert lines[0] == f"cd {name}" and lines[1].startswith(machine.compiler + " ") and len(lines) == 3, lines
    command(m.directory, "sh", "-ec", "\n".join(lines[:2]))
    return m.directory / name


def archive(m, machine):
    """The runtime as a library for a machine, tokenizer and all: built once and without optimising, it links in no time. And the directory of its headers."""
    place = pathlib.Path(tempfile.gettempdir()) / f"mossc-artefact-{os.getpid()}-{machine.compiler}"
    if not place.exists():
        place.mkdir()
        atexit.register(shutil.rmtree, place)
        m.file("archive.yaml", ARCHIVE)
        shutil.copy(ROOT / "tests/tokenizer/golden/gpt2.json", m.directory / "gpt2.json")
        m.run("init", "archive.yaml", "-o", "archive.safetensors")
        m.run("compile", "archive.yaml", "-w", "archive.safetensors", "-o", place / "all")
        for part in ("runtime", "support", "tokenizer"):  # names of files are unique in a directory only
            directory = place / "all/mossrt" / part
            command(directory, machine.compiler, "-c", "-O0", "-ffp-contract=off", "-D_GNU_SOURCE", "-I..", *sorted(directory.glob("*.c")))
        command(place, machine.archiver, "rc", "lib.a", *sorted(place.glob("all/mossrt/*/*.o")))
    return place / "lib.a", place / "all/mossrt"


def quick_build(m, arguments, machine, name, out="out"):
    """Like compile_and_build, with the library in place of its sources."""
    m.run("compile", *arguments, "--target", machine.target, "-o", out)
    library, headers = archive(m, machine)
    command(m.directory / out, machine.compiler, "-O2", "-D_GNU_SOURCE", "-I.", f"-I{headers}", "-o", name, "main.c", f"{name}.o", library, "-lm", "-pthread")
    return m.directory / out


def driver(m, machine):
    """The program of driver.c for a machine."""
    path = m.directory / f"driver-{machine.target}"
    library, headers = archive(m, machine)
    command(m.directory, machine.compiler, "-O2", "-D_GNU_SOURCE", f"-I{headers}", "-o", path, HERE / "driver.c", library, "-lm", "-ldl", "-pthread")
    return path


def shared_object(m, spec, machine, name):
    """NAME.so for a machine from the object alone, which is quicker than the whole directory."""
    m.run("compile", spec, "--target", machine.target, "--emit", "obj", "-o", f"{name}.o")
    command(m.directory, machine.linker, "-shared", "-o", f"{name}.so", f"{name}.o")
    return m.directory / f"{name}.so"


def drive(m, machine, program, library, symbol, weights, tokens, out, *options):
    """The logits' bytes."""
    command(m.directory, *machine.runner, program, library, symbol, weights, tokens, out, *options)
    return (m.directory / out).read_bytes()


def npy_values(m, name):
    """The numbers of a .npy file as driver.c writes them."""
    rows, data = m.npy(name)
    return data[len(data) - 4 * sum(map(len, rows)):]
