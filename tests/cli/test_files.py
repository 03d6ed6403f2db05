"""Files that mossc leaves for later runs: packed weights, states, prompt caches. What they hold, and what is said of wrong or
damaged ones; tests/durability kills the commands that write them. Standard library only.

    python3 tests/cli/test_files.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import pathlib
import random
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import TINY, run_tests  # noqa: E402


def tiny(m):
    """A spec and weights for it."""
    spec = m.file("tiny.yaml", TINY)
    m.run("init", spec, "--seed", 7, "-o", "w.safetensors")
    return spec, "w.safetensors"


def flip(m, name, at):
    data = bytearray((m.directory / name).read_bytes())
    data[at] ^= 1 << random.randrange(8)
    (m.directory / name).write_bytes(data)


# ------------------------------------------------------------------------------------------------ packed weights


def test_packed_weights_give_the_same_bits(m):
    spec, weights = tiny(m)
    m.file("t.txt", " ".join(str(i * 37 % 256) for i in range(40)))
    for dtype in ("f32", "bf16", "f16"):
        options = ["--set", f"weights.dtype={dtype}"]
        m.run("pack", spec, "-w", weights, "-o", "w.weights", "--verify", *options)
        for name in (weights, "w.weights"):
            m.run("logits", spec, "-w", name, "--tokens", "t.txt", "-o", f"{name}.npy", *options)
        assert m.npy(f"{weights}.npy")[1] == m.npy("w.weights.npy")[1], dtype
    text = m.run("run", spec, "-w", weights, "--prompt", "Hello", "-n", 5, *options).stdout
    assert m.run("run", spec, "-w", "w.weights", "--verify", "--prompt", "Hello", "-n", 5, *options).stdout == text
    first = (m.directory / "w.weights").read_bytes()
    m.run("pack", spec, "-w", weights, "-o", "w.weights", "--threads", 1, *options)
    assert (m.directory / "w.weights").read_bytes() == first, "the file does not depend on the number of threads"


def test_wrong_packed_weights_are_refused_with_the_reason(m):
    spec, weights = tiny(m)
    m.run("pack", spec, "-w", weights, "-o", "w.weights")
    common = ["--prompt", "a", "-n", 1]
    assert "packed for another spec: 'tiny'" in m.error("run", spec, "-w", "w.weights", "--set", "d_model=64", *common)
    assert "packed for another spec" in m.error("run", spec, "-w", "w.weights", "--set", "weights.dtype=f16", *common)
    assert "cannot be combined with other files" in m.error("run", spec, "-w", "w.weights", "-w", weights, *common)
    m.file("t.txt", "1 2 3")
    text = m.error("logits", spec, "-w", "w.weights", "--tokens", "t.txt", "-o", "x.npy", "--reference", "32")
    assert "used with --reference" in text, text
    assert "packed again" in m.error("pack", spec, "-w", "w.weights", "-o", "v.weights")
    good = (m.directory / "w.weights").read_bytes()
    for at in (9, 50, 100, 150, 1000, 4000):
        flip(m, "w.weights", at)
        assert "w.weights: error: " in m.error("run", spec, "-w", "w.weights", *common), at
        m.file("w.weights", good)
    flip(m, "w.weights", 4096 + 100)
    text = m.error("run", spec, "-w", "w.weights", "--verify", *common)
    assert "file is corrupt: the digest of tensor 'embed.weight' does not match" in text and "mossc pack" in text, text
    assert "file is corrupt" in m.error("pack", spec, "-w", "w.weights", "--verify")
    for size in (0, 7, 100, 3000, 5000, len(good) - 1):
        m.file("w.weights", good[:size])
        assert "w.weights: error: " in m.error("run", spec, "-w", "w.weights", *common), size
    assert m.left() == ["t.txt", "tiny.yaml", "w.safetensors", "w.weights"]


def test_pack_needs_somewhere_to_write(m):
    spec, weights = tiny(m)
    assert "--verify is needed" in m.error("pack", spec, "-w", weights, status=2)
    assert "cannot create" in m.error("pack", spec, "-w", weights, "-o", "nowhere/w.weights")
    assert "path is a directory, not a regular file" in m.error("pack", spec, "-w", weights, "-o", ".")
    m.file("old.weights", "old")
    assert "cannot write" in m.error("pack", spec, "-w", weights, "-o", "old.weights", largest_file=20000)
    assert (m.directory / "old.weights").read_bytes() == b"old"
    assert m.left() == ["old.weights", "tiny.yaml", "w.safetensors"]


# ------------------------------------------------------------------------------------------------ states


def logits(m, spec, weights, tokens, *options):
    """Rows of logits, as bytes, for a list of tokens."""
    m.file("t.txt", " ".join(map(str, tokens)))
    m.run("logits", spec, "-w", weights, "--tokens", "t.txt", "-o", "x.npy", *options)
    return m.npy("x.npy")[0]


def test_a_state_continues_with_the_same_bits(m):
    spec, weights = tiny(m)
    m.run("pack", spec, "-w", weights, "-o", "w.weights")
    tokens = [i * 37 % 256 for i in range(60)]
    wanted = logits(m, spec, weights, tokens)
    for at, first, then in ((1, [], []), (25, ["--mode", "decode"], ["--threads", 2]), (59, ["--isa", "avx2"], ["--mode", "decode"])):
        assert logits(m, spec, weights, tokens[:at], "--state-out", "s.state", *first) == wanted[:at]
        for name in (weights, "w.weights"):  # a state of the checkpoint is one of the packed file
            assert logits(m, spec, name, tokens[at:], "--state-in", "s.state", *then) == wanted[at:], (at, name)


def test_text_goes_on_from_a_state(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--temp", 0, "--no-echo"]
    whole = m.run(*common, "--prompt", "Hello", "-n", 24).stdout
    first = m.run(*common, "--prompt", "Hello", "-n", 10, "--state-out", "s.state").stdout
    second = m.run(*common, "-n", 14, "--state-in", "s.state", "--state-out", "s.state").stdout
    assert first + second == whole
    m.file("longer.txt", b"Hello" + whole + b", then")
    longer = m.run(*common, "--prompt-file", "longer.txt", "-n", 5).stdout
    assert m.run(*common, "--prompt", ", then", "-n", 5, "--state-in", "s.state").stdout == longer
    m.run(*common, "--prompt", "Hello", "-n", 0, "--state-out", "p.state")
    assert m.run(*common, "-n", 24, "--state-in", "p.state").stdout == whole
    bos = ["--set", "tokenizer={bos: 0}"]
    whole = m.run(*common, *bos, "--prompt", "Hello world", "-n", 5).stdout
    m.run(*common, *bos, "--prompt", "Hello", "-n", 0, "--state-out", "b.state")
    assert m.run(*common, *bos, "--prompt", " world", "-n", 5, "--state-in", "b.state").stdout == whole, "bos stands at the start only"


def test_a_text_that_is_cut_is_the_same_text(m):
    spec, weights = tiny(m)
    prompt = ["--prompt", "Hello"]
    for seed, options in ((0, ["--temp", 1]), (7, ["--temp", 2, "--top-k", 0]), (2**64 - 1, ["--temp", 0.7, "--top-p", 0.9]), (3, ["--temp", 0])):
        common = ["run", spec, "-w", weights, "--no-echo", *options]
        given = ["--seed", seed]
        whole = m.run(*common, *given, *prompt, "-n", 60).stdout
        for at in (0, 1, 30, 59):
            first = m.run(*common, *given, *prompt, "-n", at, "--state-out", "s.state").stdout
            for again in ([], given):  # the seed need not be said again
                assert first + m.run(*common, *again, "-n", 60 - at, "--state-in", "s.state").stdout == whole, (seed, at, again)
        first = m.run(*common, *given, *prompt, "-n", 20, "--state-out", "s.state").stdout
        second = m.run(*common, "-n", 20, "--state-in", "s.state", "--state-out", "s.state").stdout
        assert first + second + m.run(*common, "-n", 20, "--state-in", "s.state").stdout == whole, "cut twice"
    common = ["run", spec, "-w", weights, "--no-echo", "--temp", 2]
    m.run(*common, "--seed", 7, *prompt, "-n", 0, "--state-out", "p.state")
    other = m.run(*common, "--seed", 8, *prompt, "-n", 30).stdout
    assert m.run(*common, "--seed", 8, "-n", 30, "--state-in", "p.state").stdout == other, "another seed begins anew"


def test_states_of_the_format_before_are_refused_clearly(m):
    spec, weights = tiny(m)
    m.run("run", spec, "-w", weights, "-n", 1, "--prompt", "a", "--state-out", "s.state")
    data = bytearray((m.directory / "s.state").read_bytes())
    data[8:12] = (1).to_bytes(4, "little")
    m.file("old.state", bytes(data))
    text = m.error("run", spec, "-w", weights, "-n", 1, "--state-in", "old.state")
    assert "unsupported format: expected version 2, got 1" in text and "feed the text again" in text, text


def test_wrong_states_are_refused_with_the_reason(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-n", 1, "--prompt", "a"]
    m.run(*common, "-w", weights, "--state-out", "s.state")
    m.run("init", spec, "--seed", 8, "-o", "other.safetensors")
    m.file("t.txt", "1")
    assert "file is a state of this spec with other weights" in m.error(*common, "-w", "other.safetensors", "--state-in", "s.state")
    text = m.error(*common, "-w", weights, "--set", "weights.dtype=bf16", "--state-in", "s.state")
    assert "is a state of another spec: 'tiny'" in text, text
    assert "cannot open" in m.error(*common, "-w", weights, "--state-in", "missing.state")
    assert "file is not a complete state file" in m.error(*common, "-w", weights, "--state-in", "t.txt")
    load = ["logits", spec, "-w", weights, "--tokens", "t.txt", "-o", "x.npy", "--state-in", "s.state"]
    assert "--state-in" in m.error(*load, "--reference", "32", status=2)
    assert "--prompt-cache" in m.error(*common, "-w", weights, "--state-in", "s.state", "--prompt-cache", "c", status=2)
    good = (m.directory / "s.state").read_bytes()
    for at in random.sample(range(len(good)), 6):
        flip(m, "s.state", at)
        assert "s.state: " in m.error(*load), at
        m.file("s.state", good[:at])
        assert "s.state: " in m.error(*load), at
        m.file("s.state", good)
    assert "x.npy" not in m.left()


def test_states_need_somewhere_to_write(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "-n", 1, "--prompt", "a", "--state-out"]
    assert "cannot create" in m.run(*common, "nowhere/s.state", status=1).stderr
    m.file("s.state", "old")
    assert "write" in m.run(*common, "s.state", status=1, largest_file=1000).stderr
    assert (m.directory / "s.state").read_bytes() == b"old" and m.left() == ["s.state", "tiny.yaml", "w.safetensors"]


# ------------------------------------------------------------------------------------------------ prompt caches

PROMPT = "It was a dark evening in November, and the rain fell. " * 6


def test_a_cached_prompt_gives_the_same_text(m):
    spec, weights = tiny(m)
    for temperature in (0, 1):
        common = ["run", spec, "-w", weights, "-n", 12, "--temp", temperature, "--prompt"]
        cached = ["--prompt-cache", f"cache{temperature}", "--cache-every", 64]
        wanted = m.run(*common, PROMPT).stdout
        miss = m.run(*common, PROMPT, *cached)
        assert miss.stdout == wanted and f"0 of {len(PROMPT)} tokens reused (miss), 6 states stored" in miss.stderr, miss.stderr
        hit = m.run(*common, PROMPT, *cached)
        assert hit.stdout == wanted and f"{len(PROMPT)} of {len(PROMPT)} tokens reused (hit), 0 states stored" in hit.stderr, hit.stderr
        for prompt, reused in ((PROMPT + "And", len(PROMPT)), (PROMPT[:200], 192), (PROMPT[:150] + "?", 128), ("Then", 0)):
            report = m.json(*common, prompt, *cached, "--json")
            assert report["reused_tokens"] == reused, (prompt, report)
            assert report["text"] == m.json(*common, prompt, "--json")["text"], prompt


def test_damaged_entries_of_a_cache_are_dropped(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "-n", 5, "--temp", 0, "--prompt", PROMPT, "--prompt-cache", "cache"]
    wanted = m.run(*common).stdout
    for path in (m.directory / "cache").iterdir():
        data = bytearray(path.read_bytes())
        data[random.randrange(len(data))] ^= 1
        path.write_bytes(data)
    done = m.run(*common)
    assert done.stdout == wanted and "(miss), 2 states stored, 0 evicted, 2 damaged" in done.stderr, done.stderr
    assert "(hit)" in m.run(*common).stderr
    assert "path is not a directory" in m.run(*common[:-1], weights, status=1).stderr


def test_a_cache_stays_within_its_size(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "-n", 1, "--prompt-cache", "cache", "--cache-every", 1, "--cache-size", 1, "--prompt"]
    assert " 0 evicted" not in m.run(*common, PROMPT).stderr
    assert 1 << 19 < sum(path.stat().st_size for path in (m.directory / "cache").iterdir()) <= 1 << 20
    assert f"{len(PROMPT)} of" in m.run(*common, PROMPT).stderr, "the newest is still there"


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
