# Text tests: a file with RUN: lines is a test. %mossc is the program, %s the file, %t a scratch path, %python the interpreter,
# %specs the shipped specs; FileCheck, not and count come from LLVM. Run by ctest ("lit"), or by hand:
#   /usr/lib/llvm-22/bin/lit -v -D mossc=build/release/mossc -D tools=/usr/lib/llvm-22/bin -D out=build/lit tests
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
from lit_run_lines import RunLines  # noqa: E402  (lit's workers must be able to import it)

config.name = "mossc"
config.test_format = RunLines(execute_external=True)
config.suffixes = [".yaml", ".mir", ".test"]
config.excludes = ["reference", "fuzz"]
config.test_source_root = here
config.test_exec_root = os.path.abspath(lit_config.params["out"])
config.environment["PATH"] = os.pathsep.join([lit_config.params["tools"], os.environ.get("PATH", "")])
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "MOSSC_CACHE_DIR"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
config.substitutions += [
    ("%mossc", os.path.abspath(lit_config.params["mossc"])),
    ("%python", sys.executable),
    ("%specs", os.path.join(os.path.dirname(here), "specs")),
]
