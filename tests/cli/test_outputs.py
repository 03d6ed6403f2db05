"""Where commands write: files of others' modes and owners, links, mounts, long names, standard output, devices, closed streams; and
that what cannot be written is found before the work. Standard library only.

    python3 tests/cli/test_outputs.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import os
import pathlib
import stat
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import ONE_MLP, TINY, Skipped, run_tests  # noqa: E402

WARNS = TINY.replace("{d_ff: 48, experts: {count: 4}}", "{d_ff: 48, experts: {count: 4}, router: {top_k: 1}}")


def tiny(m, text=TINY):
    """A spec and weights for it, and a file of tokens."""
    spec = m.file("tiny.yaml", text)
    m.run("init", spec, "--seed", 7, "-o", "w")
    m.file("t.txt", "1 2 3 4")
    return spec


def writers(m):
    """Every command that writes one file, up to its name."""
    spec = tiny(m)
    text = ["--prompt", "It", "-n", 3, "--temp", 0]
    return [
        ["init", spec, "--seed", 7, "-o"],
        ["pack", spec, "-w", "w", "-o"],
        ["logits", spec, "-w", "w", "--tokens", "t.txt", "-o"],
        ["logits", spec, "-w", "w", "--tokens", "t.txt", "-o", "x.npy", "--state-out"],
        ["logits", spec, "-w", "w", "--tokens", "t.txt", "--reference", "32", "-o"],
        ["run", spec, "-w", "w", *text, "--state-out"],
        ["compile", m.file("one.yaml", ONE_MLP), "--emit", "obj", "-o"],
    ]


def data(m, name):
    return (m.directory / name).read_bytes()


# ------------------------------------------------------------------------------------------------ standard streams


def run_closed(m, *arguments, closed):
    """The exit status with these standard streams closed."""

    def close():
        for fd in closed:
            os.close(fd)

    return subprocess.run([m.program, *map(str, arguments)], cwd=m.directory, env=m.environment(), preexec_fn=close, timeout=300).returncode


def test_a_closed_stream_never_leads_into_an_output(m):
    spec = tiny(m, WARNS)
    assert "warning" in m.run("logits", spec, "-w", "w", "--tokens", "t.txt", "-o", "good.npy").stderr
    for closed in ((2,), (1, 2), (0, 1, 2), (0,)):
        assert run_closed(m, "logits", spec, "-w", "w", "--tokens", "t.txt", "-o", "x.npy", closed=closed) == 0
        assert data(m, "x.npy") == data(m, "good.npy"), closed
        assert run_closed(m, "init", spec, "--seed", 7, "--progress", "-o", "w2", closed=closed) == 0
        assert data(m, "w2") == data(m, "w"), closed
        assert run_closed(m, "pack", spec, "-w", "w", "--progress", "-o", "p", closed=closed) == 0
    assert run_closed(m, "check", spec, closed=(1,)) == 1, "what was to be printed is lost"
    assert run_closed(m, "check", "-", closed=(0,)) == 1


def test_diagnostics_come_before_an_output_opens(m):
    spec = tiny(m, WARNS)
    m.run("logits", spec, "-w", "w", "--tokens", "t.txt", "-o", "good.npy")
    with open(m.directory / "both", "wb") as both:
        command = [m.program, "logits", spec, "-w", "w", "--tokens", "t.txt", "-o", "-"]
        assert subprocess.run(command, cwd=m.directory, env=m.environment(), stdout=both, stderr=both).returncode == 0
    text, rows = data(m, "both").split(b"\x93NUMPY")
    assert b"warning" in text and b"\x93NUMPY" + rows == data(m, "good.npy")


# ------------------------------------------------------------------------------------------------ what is replaced


def test_a_replaced_file_keeps_its_mode(m):
    for command in writers(m):
        for mode in (0o600, 0o640, 0o666):
            m.file("old", "old")
            (m.directory / "old").chmod(mode)
            m.run(*command, "old")
            assert stat.S_IMODE((m.directory / "old").stat().st_mode) == mode and data(m, "old") != b"old", (command, oct(mode))


def test_a_replaced_file_keeps_its_owner(m):
    if os.geteuid() != 0:
        raise Skipped("only root may give files to others")
    spec = tiny(m)
    m.file("old", "old")
    os.chown(m.directory / "old", 1234, 2345)
    m.run("init", spec, "--seed", 7, "-o", "old")
    st = (m.directory / "old").stat()
    assert (st.st_uid, st.st_gid) == (1234, 2345) and data(m, "old") == data(m, "w")


def test_a_link_is_followed_to_its_target(m):
    for command in writers(m):
        (m.directory / "place").mkdir()
        for link, target in (("to-old", "place/old"), ("to-nothing", "place/new"), ("twice", "to-old")):
            (m.directory / link).symlink_to(target)
        m.file("place/old", "old")
        for link, target in (("to-old", "place/old"), ("to-nothing", "place/new"), ("twice", "place/old")):
            m.run(*command, link)
            assert (m.directory / link).is_symlink(), command
            written = data(m, target)
            assert written not in (b"", b"old"), command
        assert sorted(os.listdir(m.directory / "place")) == ["new", "old"]
        for name in ("place/old", "place/new", "to-old", "to-nothing", "twice"):
            (m.directory / name).unlink()
        (m.directory / "place").rmdir()
    (m.directory / "round").symlink_to("round")
    assert "cannot create" in m.error("init", "tiny.yaml", "-o", "round")


def test_a_mounted_file_is_written_in_place(m):
    spec = tiny(m)
    m.file("inside", "old" * 100000)
    m.file("outside", "")
    mount = ["mount", "--bind", str(m.directory / "inside"), str(m.directory / "outside")]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        raise Skipped("files cannot be mounted here")
    try:
        assert "is written in place because it cannot be replaced" in m.run("init", spec, "--seed", 7, "-o", "outside").stderr
        assert data(m, "inside") == data(m, "w")
        m.run("pack", spec, "-w", "w", "-o", "p")
        assert "is written in place" in m.run("pack", spec, "-w", "w", "-o", "outside", "--verify").stderr
        assert data(m, "inside") == data(m, "p")
        done = m.run("run", spec, "-w", "w", "--prompt", "It", "-n", 2, "--state-out", "outside")
        assert "is written in place" in done.stderr
        m.run("run", spec, "-w", "w", "-n", 2, "--state-in", "inside")
    finally:
        subprocess.run(["umount", str(m.directory / "outside")], check=True)
    assert not [name for name in m.left() if "mossc-tmp" in name]


def as_somebody(m):
    """Options of subprocess.run to be a user whom modes of files stop."""
    if os.geteuid() != 0:
        return {}
    os.chmod(m.directory.parent, 0o755)
    m.variables["MOSSC_CACHE_DIR"] = "/nonexistent"
    options = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        subprocess.run([m.program, "--version"], check=True, capture_output=True, **options)
    except (OSError, subprocess.SubprocessError) as error:
        raise Skipped("the program cannot be run by another user") from error
    return options


def test_a_file_in_a_directory_without_rights_is_written_in_place(m):
    spec = tiny(m)
    options = as_somebody(m)
    place = m.directory / "place"
    place.mkdir()
    m.file("place/old", "old" * 100000)
    (place / "old").chmod(0o666)
    place.chmod(0o555)

    def run(*arguments):
        return subprocess.run([m.program, *map(str, arguments)], cwd=m.directory, env=m.environment(), capture_output=True, text=True, **options)

    try:
        done = run("init", spec, "--seed", 7, "-o", "place/old")
        assert done.returncode == 0 and "is written in place because it cannot be replaced" in done.stderr, done.stderr
        assert data(m, "place/old") == data(m, "w")
        wrong = m.file("wrong.txt", "999")
        done = run("logits", spec, "-w", "w", "--tokens", wrong, "-o", "place/old")
        assert done.returncode == 1 and data(m, "place/old") == data(m, "w"), "nothing was written yet"
        done = run("init", spec, "--seed", 7, "-o", "place/new")
        assert done.returncode == 1 and "place/new: error: cannot create: Permission denied" in done.stderr, done.stderr
    finally:
        place.chmod(0o755)


# ------------------------------------------------------------------------------------------------ before the work


def test_outputs_are_checked_before_the_work(m):
    """The weights are missing: what is said is what was looked at first."""
    spec = tiny(m)
    (m.directory / "w").unlink()
    common = [spec, "-w", "w"]
    for command in (
        ["run", *common, "--prompt", "It", "--state-out", "nowhere/x"],
        ["logits", *common, "--tokens", "t.txt", "-o", "nowhere/x"],
        ["logits", *common, "--tokens", "t.txt", "-o", "x", "--state-out", "nowhere/x"],
        ["pack", *common, "-o", "nowhere/x"],
    ):
        text = m.error(*command)
        assert "nowhere/x: error: cannot create: No such file or directory" in text and "w:" not in text.replace("nowhere", ""), text
    assert "cannot create directory" in m.error("run", *common, "--prompt", "It", "--prompt-cache", "nowhere/x")
    assert "is a directory" in m.error("run", *common, "--prompt", "It", "--state-out", ".")
    assert m.left() == ["t.txt", "tiny.yaml"]


def test_names_may_be_as_long_as_the_system_has_them(m):
    for command in writers(m):
        for size in (238, 239, 255):
            name = "n" * size
            m.run(*command, name)
            assert (m.directory / name).stat().st_size
            (m.directory / name).unlink()
        assert "File name too long" in m.run(*command, "n" * 256, status=1).stderr


# ------------------------------------------------------------------------------------------------ standard output and devices


def test_a_dash_is_standard_output(m):
    for command in writers(m):
        if command[0] in ("pack", "run"):
            continue
        m.run(*command, "file")
        assert m.run(*command, "-").stdout == data(m, "file"), command
        assert "-" not in m.left()
    common = ["tiny.yaml", "-w", "w"]
    assert "packed weights need seekable output: expected a file, got a pipe" in m.error("pack", *common, "-o", "-")
    assert "--state-out needs a file" in m.error("run", *common, "--prompt", "It", "--state-out", "-", status=2)
    assert "--json prints on standard output" in m.error("logits", *common, "--tokens", "t.txt", "-o", "-", "--json", status=2)
    assert "cannot both be" in m.error("logits", *common, "--tokens", "t.txt", "-o", "-", "--state-out", "-", status=2)
    assert "standard output cannot be a directory" in m.error("compile", *common, "-o", "-", status=2)


def test_devices_and_pipes_are_written_as_they_come(m):
    for command in writers(m):
        m.run(*command, "/dev/null")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        assert "/dev/full: " in m.run(*command, "/dev/full", status=1).stderr, command
    os.mkfifo(m.directory / "pipe")
    with open(m.directory / "copy", "wb") as copy, subprocess.Popen(["cat", "pipe"], cwd=m.directory, stdout=copy) as cat:
        m.run("init", "tiny.yaml", "--seed", 7, "-o", "pipe")
        assert cat.wait(60) == 0
    assert data(m, "copy") == data(m, "w")


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
