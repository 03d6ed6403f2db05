"""What kernels a spec's program has, by which tests choose what they compile: LLVM takes most of their time."""
import re
import subprocess


class NewKinds:
    """Says of specs, one after the other, whether their program has a kind of kernel that none before them has: operation, one row or a block of
    rows, and dtype (`linear row bf16`); of so many at most."""

    def __init__(self, mossc, every=False, most=1000):
        self.mossc, self.every, self.left, self.seen = mossc, every, most, set()

    def has(self, spec):
        if self.every:
            return True
        done = subprocess.run([self.mossc, "ir", str(spec), "--stage", "program"], capture_output=True, text=True)
        kinds = {" ".join(words.split()[:3]) for words in re.findall(r"(?m)^kernel k\d+ (.+)$", done.stdout)}
        assert kinds, f"no kernels in\n{done.stdout[:500]}{done.stderr}"
        is_new = self.left > 0 and not kinds <= self.seen
        self.seen |= kinds
        self.left -= is_new
        return is_new
