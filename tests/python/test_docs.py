"""The Python examples of README.md and docs/ run. A block with the info string `python example` is a program, run at the root of the
repository; its lines that begin with `#> ` are all that it prints, if there are any."""
import re
import subprocess
import sys

from common import ROOT, run_tests

BLOCK = re.compile(r"^```python example\n(.*?)^```$", re.S | re.M)


def test_examples_print_what_they_say(m):
    count = 0
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        for match in BLOCK.finditer(text):
            code, count = match[1], count + 1
            place = f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}"
            done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, f"{place}:\n{done.stderr}"
            expected = [line[3:] for line in code.splitlines() if line.startswith("#> ")]
            assert not expected or done.stdout.splitlines() == expected, f"{place} prints\n{done.stdout}"
    assert count >= 5, count


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
