"""mossc tune: its report, what later commands do with it, --no-tune, damage, and a search that goes on where it was killed.
Standard library only.

    python3 tests/cli/test_tune.py --mossc build/release/mossc [NAME…]
"""
import pathlib
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import ONE_MLP, TINY, Skipped, run_tests  # noqa: E402

TOKENS = " ".join(str(40 + i * 37 % 200) for i in range(40))


def tune(m, spec, *options):
    return m.json("tune", spec, "--seconds", 0, "--json", *options)


def entries(m):
    return sorted(m.kernels.glob("*.schedule"))


def lines(explained):
    """(kernel, schedule, tuned) of every linear layer."""
    found = [line for step in ("token", "prompt") for part in explained[step]["parts"] for line in part["lines"]]
    return [(line["kernel"], line["schedule"], line["tuned"]) for line in found if "schedule" in line]


def logits(m, spec, *options):
    done = m.run("logits", spec, "-w", "w.safetensors", "--tokens", "-", "-o", "out.npy", *options, stdin=TOKENS.encode())
    return m.npy("out.npy")[1], done.stderr


def make(m, text=ONE_MLP):
    spec = m.file("spec.yaml", text)
    m.run("init", spec, "--seed", 7, "-o", "w.safetensors")
    return spec


def test_report_and_what_later_commands_run(m):
    spec = make(m, TINY)
    plain = logits(m, spec)[0]
    said = tune(m, spec)
    kernels = said["kernels"]
    assert said["name"] == "tiny" and said["cpu"] and said["measured"] > 0 and said["left"] > 0, said
    assert len(entries(m)) == len(kernels) == len({kernel["kernel"] for kernel in kernels}) > 4
    assert {kernel["step"] for kernel in kernels} == {"token", "prompt"}
    for kernel in kernels:
        assert 1 <= kernel["measured"] <= kernel["schedules"], kernel
        assert (kernel["ratio"] < 1) == kernel["tuned"] and kernel["schedule"]["panels"] > 0, kernel
    explained, words = lines(m.json("explain", spec, "--json")), {kernel["kernel"]: kernel for kernel in kernels}
    assert explained
    for name, schedule, is_tuned in explained:
        if name in words:
            assert (schedule, is_tuned) == (words[name]["words"], words[name]["tuned"]), (name, schedule, words[name])
    for option in ("--no-tune", "--no-cache"):
        assert not any(is_tuned for _, _, is_tuned in lines(m.json("explain", spec, "--json", option)))
    assert plain == logits(m, spec)[0] == logits(m, spec, "--no-tune")[0]
    text = m.out("explain", spec)
    assert "panels, " in text and max(len(line) for line in text.splitlines()) <= 120
    text = m.out("tune", spec, "--seconds", 0)
    assert "schedules measured" in text and "run it again to go on" in text, text


def test_a_search_goes_on_where_it_ended(m):
    spec = make(m)
    first = tune(m, spec)
    second = tune(m, spec)
    assert second["left"] >= first["left"] - second["measured"] and second["measured"] > 0, (first, second)  # more: to be measured again
    assert max(kernel["measured"] for kernel in second["kernels"]) == 3, second  # the default, one before, one now
    again = tune(m, spec, "--again")
    assert max(kernel["measured"] for kernel in again["kernels"]) == 2, again


def test_what_was_measured_outlives_a_kill(m):
    spec = make(m)
    command = [m.program, "tune", spec, "--seconds", "1000"]
    with subprocess.Popen(command, cwd=m.directory, env=m.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + 60
        while len(entries(m)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)  # the first is stored before the search; all kernels of a schedule are stored one behind the other
        running.send_signal(signal.SIGKILL)
    assert entries(m)
    said = tune(m, spec)
    token = [kernel for kernel in said["kernels"] if kernel["step"] == "token"]
    assert max(kernel["measured"] for kernel in token) >= 3, token  # the default, one before, one now


def test_damage_is_told_of_and_ignored(m):
    spec = make(m)
    plain = logits(m, spec)[0]
    first = tune(m, spec)
    entries(m)[0].write_bytes(b"mosscK\r\n" + bytes(100))
    got, said = logits(m, spec)
    assert got == plain and "1 stored schedule is damaged" in said and "mossc tune" in said, said
    assert "damaged" not in logits(m, spec, "--no-tune")[1]
    tune(m, spec)
    assert "damaged" not in logits(m, spec)[1] and len(entries(m)) == len(first["kernels"])


def test_cache_knows_schedules(m):
    spec = make(m)
    count = len(tune(m, spec)["kernels"])
    assert m.json("cache", "--json")["schedules"] == count
    assert f"schedules of {count}, " in m.out("cache")
    cleared = m.json("cache", "--clear", "--json")
    assert cleared["schedules"] == 0 and cleared["removed_schedules"] == count and not entries(m), cleared
    tune(m, spec)
    assert f" kernels and {count} schedules\n" in m.out("cache", "--clear")


def test_amx_is_refused_where_there_is_none(m):
    spec = m.file("spec.yaml", TINY)
    if "amx_tile" in pathlib.Path("/proc/cpuinfo").read_text():
        raise Skipped("this machine has AMX, which runs on request alone")
    assert "this processor has no AMX" in m.error("tune", spec, "--amx", "--seconds", 0)


def test_wrong_usage(m):
    spec = m.file("spec.yaml", ONE_MLP)
    assert "--device takes cpu or host" in m.error("tune", spec, "--device", "cuda", status=2)
    assert "--no-tune" in m.error("tune", spec, "--no-tune", status=2)
    assert "expected a number" in m.error("tune", spec, "--seconds", "-1", status=2)
    assert "nowhere.yaml" in m.error("tune", "nowhere.yaml")
    m.json("tune", spec, "--device", "host", "--seconds", 0, "--json")
    m.kernels.parent.joinpath("file").write_text("")
    m.variables = {"MOSSC_CACHE_DIR": str(m.kernels.parent / "file" / "below")}
    assert "schedules cannot be kept" in m.error("tune", spec, "--seconds", 10000)  # at once


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
