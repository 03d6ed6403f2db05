"""Static libraries: mossc is configured once more with BUILD_SHARED_LIBS=OFF and installed, and the programs outside the tree are built
against that and say what mossc says."""
import functools
import re
import shutil
import sys

sys.dont_write_bytecode = True
import test_library as library  # noqa: E402
from harness import Skipped, run_tests  # noqa: E402

KEPT = ("CMAKE_GENERATOR", "CMAKE_C_COMPILER", "CMAKE_C_COMPILER_LAUNCHER", "LLVM_DIR", "MOSSC_LLVM")  # of the build that is tested
shared_build = library.build_directory


@functools.cache
def static_build(build):
    """Beside the programs of that build, where the next run finds it made."""
    if not shutil.which("cmake"):
        raise Skipped("no cmake")
    where = build / "static"
    cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.M))
    options = [f"-D{name}={cache[name]}" for name in KEPT[1:] if cache.get(name)]
    library.command("cmake", "-G", cache[KEPT[0]], "-S", library.ROOT, "-B", where, "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF",
                    "-DMOSSC_TESTS=OFF", *options)
    library.command("cmake", "--build", where, "--parallel")
    return where


library.build_directory = lambda m: static_build(shared_build(m))


def test_only_archives_are_installed(m):
    names = sorted(path.name for path in library.installed_in(m).iterdir() if path.is_file())
    assert names == ["libmoss.a", "libmossc.a"] and library.is_static(m), names


def test_pkg_config_tells_what_a_program_links(m):
    library.test_a_program_compiles_and_runs_a_spec(m)
    library.test_a_program_runs_an_artefact_with_the_runtime_alone(m)


def test_the_cmake_package_tells_what_a_program_links(m):
    library.test_the_cmake_package_gives_both_libraries(m)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
