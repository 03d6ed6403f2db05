"""Commands and functions whose extra is not here say which one it is."""
import subprocess
import sys

from common import run_tests

# None in sys.modules: an import fails as if there were no such package.
WITHOUT = """\
import runpy, sys
sys.modules.update(dict.fromkeys(("torch", "optuna", "lm_eval", "huggingface_hub", "jinja2", "llguidance")))
sys.argv = [{module!r}, *{arguments}]
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def test_commands_name_the_extra_that_they_lack(m):
    recover = ["recover", "x", "--text", "x", "-o", "out"]
    for module, arguments, extra in (("mossc.train", ["--help"], "torch"), ("mossc.explore", ["status", "--storage", "sqlite:///x", "--study", "x"], "explore"),
                                     ("mossc.lm_eval", ["--help"], "lm-eval"), ("mossc.flexi", recover, "torch")):
        done = subprocess.run([sys.executable, "-c", WITHOUT.format(module=module, arguments=arguments)], cwd=m.directory, capture_output=True, text=True)
        assert done.returncode == 1 and f"pip install 'mossc[{extra}]'" in done.stderr and "Traceback" not in done.stderr, (module, done)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
