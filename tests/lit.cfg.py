# Text tests: a file with RUN: lines is a test. %mossc is the program, %s the file, %t a scratch path, %python the interpreter;
# FileCheck, not and count come from LLVM. Run by ctest ("lit"), or by hand:
#   lit -v -D mossc=build/release/mossc -D tools=$(llvm-config-22 --bindir) -D out=build/lit tests
import os
import sys

import lit.formats


class RunLines(lit.formats.ShTest):
    """Shell tests, but only files that hold a RUN: line: folders also hold specs and sources that are no tests."""

    def getTestsInDirectory(self, suite, path_in_suite, lit_config, local_config):
        for test in super().getTestsInDirectory(suite, path_in_suite, lit_config, local_config):
            with open(test.getSourcePath(), encoding="utf-8", errors="replace") as file:
                if any("RUN:" in line for line in file):
                    yield test


config.name = "mossc"
config.test_format = RunLines(execute_external=True)
config.suffixes = [".yaml", ".mir", ".test"]
config.excludes = ["reference", "fuzz"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.abspath(lit_config.params["out"])
tools = lit_config.params["tools"]
config.environment["PATH"] = os.pathsep.join([tools, os.environ.get("PATH", "")])
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
config.substitutions += [
    ("%mossc", os.path.abspath(lit_config.params["mossc"])),
    ("%python", sys.executable),
    ("%specs", os.path.join(os.path.dirname(config.test_source_root), "specs")),
]
