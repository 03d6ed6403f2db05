"""Makes the Python environment that holds llama.cpp and the writer of its files, once."""
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
# -O3 and this machine's own instructions: what someone who builds llama.cpp for speed gets. Without the multimodal library, to save time.
CMAKE_ARGS = "-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"
# Words in pip's log, and what they come from.
CAUSES = [
    (("Failed to establish a new connection", "Name or service not known", "Temporary failure in name resolution", "Read timed out",
      "Could not find a version that satisfies"), "PyPI, the Python package index, could not be reached or lacks this version"),
    (("No space left on device",), "the disk is full"),
    (("is not able to compile a simple test program", "No CMAKE_C"), "no C and C++ compiler that works was found (Debian: apt install g++)"),
]


def fail(what, log):
    text = log.read_text(errors="replace") if log.exists() else ""
    cause = next((cause for words, cause in CAUSES if any(word in text for word in words)), "the log says why")
    print("\n".join(text.splitlines()[-12:]), file=sys.stderr)
    sys.exit(f"peers: {what} failed: {cause}.\npeers: the comparison needs the internet once, and a compiler. The whole log: {log}")


def environment(directory):
    """Returns the environment's Python. The first time takes as long as compiling llama.cpp does."""
    venv, log, stamp = directory / "venv", directory / "install.log", directory / "installed.txt"
    python = venv / "bin" / "python"
    wanted = REQUIREMENTS.read_text() + CMAKE_ARGS
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    if not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        sys.exit("peers: llama.cpp is compiled here and needs a C++ compiler (Debian: apt install g++)")
    directory.mkdir(parents=True, exist_ok=True)
    print(f"peers: compiling llama.cpp takes 5 to 20 minutes, once; see {log}", file=sys.stderr)
    with log.open("w") as out:
        if subprocess.run([sys.executable, "-m", "venv", "--clear", venv], stdout=out, stderr=out).returncode != 0:
            fail("python -m venv (Debian: apt install python3-venv)", log)
        # Not from pip's cache: that may hold a build with other settings, or one that was made on another machine.
        pip = [python, "-m", "pip", "install", "--verbose", "--no-cache-dir", "--requirement", REQUIREMENTS]
        if subprocess.run(pip, stdout=out, stderr=out, env={**os.environ, "CMAKE_ARGS": CMAKE_ARGS}).returncode != 0:
            fail("pip install", log)
    stamp.write_text(wanted)
    return python
