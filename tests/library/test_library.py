"""The installed library: programs outside the tree are built against it, by pkg-config and by the CMake package, and say what mossc
says; headers compile alone; nothing but the public functions can be seen."""
import atexit
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests/cli"))
from harness import TINY, WRONG, Skipped, run_tests  # noqa: E402

SPEC, WEIGHTS = ROOT / "specs/moss-tiny.yaml", ROOT / "models/moss-tiny.safetensors"
PROMPT = "It was a dark evening"
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


def command(*arguments, **more):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, **more)
    assert done.returncode == 0, (arguments, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def build_directory(m):
    """Where this mossc was built."""
    return pathlib.Path(m.program).resolve().parent


@functools.cache
def installed(build):
    """The tree that is installed, once for all tests."""
    where = tempfile.TemporaryDirectory()
    atexit.register(where.cleanup)
    command("cmake", "--install", build, "--prefix", where.name)
    return pathlib.Path(where.name)


def prefix(m):
    return installed(build_directory(m))


def installed_in(m):
    return next(prefix(m).glob("lib*/**/pkgconfig")).parent


def pkg_config(m, *arguments):
    return command("pkg-config", *arguments, env=dict(os.environ, PKG_CONFIG_PATH=str(installed_in(m) / "pkgconfig"))).decode().split()


def is_static(m):
    return not list(installed_in(m).glob("libmoss.so*"))


def build(m, package, output, *sources):
    """Builds a program with what pkg-config says, and the way to its library."""
    static = ["--static"] if is_static(m) else []
    flags = pkg_config(m, "--cflags", "--libs", *static, package)
    command("cc", "-std=c17", *STRICT, "-o", m.directory / output, *sources, *flags, f"-Wl,-rpath,{installed_in(m)}", cwd=m.directory)
    return m.directory / output


def artefact(m):
    """A small model's directory of `mossc compile`, and its weights."""
    m.file("tiny.yaml", TINY)
    m.run("init", "tiny.yaml", "-o", "w", "--seed", "3")
    m.run("compile", "tiny.yaml", "-w", "w", "-o", "tiny")
    return m.directory / "tiny"


def said_by_mossc(m, spec, weights, count):
    return m.run("run", spec, "-w", weights, "--prompt", PROMPT, "-n", str(count)).stdout


def library_environment(m):
    return dict(os.environ, MOSSC_CACHE_DIR=str(m.directory / "kernels"))


def check_whole(m, program):
    text = command(program, SPEC, WEIGHTS, PROMPT, 41, m.directory / "state", env=library_environment(m))
    assert text == said_by_mossc(m, SPEC, WEIGHTS, 41), text


def check_embedded(m, program):
    text = command(program, "tiny", PROMPT, 30, cwd=m.directory)
    assert text == said_by_mossc(m, "tiny.yaml", "w", 30), text


def test_a_program_compiles_and_runs_a_spec(m):
    check_whole(m, build(m, "mossc", "whole", HERE / "outside/whole.c"))


def test_the_program_of_the_documentation_runs(m):
    [code] = re.findall(r"^```c example\n(.*?)^```$", (ROOT / "docs/library.md").read_text(), re.S | re.M)
    program = build(m, "mossc", "documented", m.file("documented.c", code))
    text = command(program, SPEC, WEIGHTS, PROMPT, env=library_environment(m))
    assert text == said_by_mossc(m, SPEC, WEIGHTS, 40), text


def test_a_program_runs_an_artefact_with_the_runtime_alone(m):
    directory = artefact(m)
    flags = [HERE / "outside/embedded.c", directory / "tiny.o", f"-I{directory}"]
    program = build(m, "moss", "embedded", *flags)
    check_embedded(m, program)
    assert b"LLVM" not in command("ldd", program)


def test_the_cmake_package_gives_both_libraries(m):
    if not shutil.which("cmake"):
        raise Skipped("no cmake")
    directory = artefact(m)
    command("cmake", "-S", HERE / "outside", "-B", m.directory / "b", f"-DCMAKE_PREFIX_PATH={prefix(m)}", f"-DARTEFACT={directory}")
    command("cmake", "--build", m.directory / "b")
    check_embedded(m, m.directory / "b/embedded")
    check_whole(m, m.directory / "b/whole")


def test_a_program_is_told_what_check_tells(m):
    whole = build(m, "mossc", "whole", HERE / "outside/whole.c")
    told = json.loads(command(whole, "--about", SPEC))
    checked = json.loads(m.run("check", SPEC, "--json").stdout)
    for key in ("name", "vocab_size", "d_model", "n_blocks", "parameters", "active_parameters", "weight_bytes", "state_bytes",
                "flops_per_token", "bytes_per_token"):
        assert told[key] == checked[key], (key, told[key], checked[key])
    assert told["kind"] == checked["blocks"][0]["kind"] and told["experts"] == checked["blocks"][0].get("experts", 0)
    assert told["spec"]["vocab_size"] == checked["vocab_size"] and told["spec"]["mossc"] == 1
    assert re.fullmatch("[0-9a-f]{32}", told["hash"])


def test_mistakes_are_values_with_their_place(m):
    whole = build(m, "mossc", "whole", HERE / "outside/whole.c")
    path = m.file("wrong.yaml", WRONG)
    done = subprocess.run([whole, "--about", "wrong.yaml"], cwd=m.directory, capture_output=True, text=True)
    message = json.loads(m.run("check", "wrong.yaml", "--json", status=1).stdout)["messages"][0]
    first, *_, last = done.stderr.splitlines()
    assert done.returncode == 1 and done.stdout == "", (path, done)
    assert first.startswith(f"0 {message['code']} wrong.yaml {message['line']} {message['column']} "), first
    assert f"[{message['message']}]" in first and f"[{message.get('hint', '')}]" in first, first
    place = f"wrong.yaml:{message['line']}:{message['column']}: {message['message']}"
    assert place in done.stderr.split("whole: ")[1], last


def test_fresh_weights_are_those_of_init(m):
    whole = build(m, "mossc", "whole", HERE / "outside/whole.c")
    m.file("tiny.yaml", TINY)
    command(whole, "--fresh", "tiny.yaml", "fresh", cwd=m.directory, env=library_environment(m))
    m.run("init", "tiny.yaml", "-o", "of_init", "--seed", "7")
    assert (m.directory / "fresh").read_bytes() == (m.directory / "of_init").read_bytes()


def test_headers_compile_alone(m):
    include = prefix(m) / "include"
    headers = sorted(p.name for p in (include / "mossc").iterdir())
    assert headers == ["moss.h", "mossc.h"], headers
    for header in headers:
        text = f"#include <mossc/{header}>\n".encode()
        command("cc", "-std=c17", *STRICT, "-Wstrict-prototypes", f"-I{include}", "-fsyntax-only", "-xc", "-", input=text)
        if not shutil.which("c++"):
            raise Skipped("no C++ compiler")
        command("c++", "-std=c++17", *STRICT, f"-I{include}", "-fsyntax-only", "-xc++", "-", input=text)
        assert b"ir/" not in re.sub(rb"/\*.*?\*/", b"", (include / "mossc" / header).read_bytes(), flags=re.S)


def declared(m, *headers):
    text = "".join((prefix(m) / "include/mossc" / h).read_text() for h in headers)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return set(re.findall(r"MOSSC?_API\b[^;(]*?\b(mossc?_\w+)\(", text))


def test_only_public_functions_are_seen(m):
    if is_static(m):
        raise Skipped("static libraries show everything")
    for name, headers in (("moss", ["moss.h"]), ("mossc", ["moss.h", "mossc.h"])):
        path = installed_in(m) / f"lib{name}.so"
        shown = {line.split()[-1].split("@")[0] for line in command("nm", "-D", "--defined-only", path).decode().splitlines()}
        assert shown == declared(m, *headers), shown ^ declared(m, *headers)


def test_the_runtime_library_needs_no_llvm(m):
    if is_static(m):
        raise Skipped("a static library names nothing that it needs")
    needed = command("readelf", "-d", installed_in(m) / "libmoss.so").decode()
    assert "LLVM" not in needed and "yaml" not in needed and "pcre" not in needed, needed


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
