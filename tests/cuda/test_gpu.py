"""mossc --device cuda beside --device cpu, on the emulated GPU: text, logits, states that move between them, sampling, the end of a
text.

    MOSSC_CXX=c++ MOSSC_CUDA_DRIVER=… MOSSC_NVRTC=… python3 tests/cuda/test_gpu.py --mossc build/release/mossc [NAME…]
"""
import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from emulated import MODEL, distance, emulate, skip_without_compiler, tiny  # noqa: E402
from harness import run_tests  # noqa: E402

TOLERANCE = 1e-3  # of the root mean square: two sums of float32 in different orders, through eight blocks
CLOSE = 1e-3  # logits as close as this may be ordered otherwise
ROUNDED_CLOSE = 5e-2  # the same where inputs are rounded to 8 bits: a last bit may make another integer of one
GPU = ["--device", "cuda"]
PLAIN = """\
mossc: 1
name: plain
vocab_size: 256
d_model: 32
weights: {dtype: bf16}
defaults: {ssm: {d_state: 4}}
stack: [ssm, mlp: {d_ff: 48}]
"""
WIDE = """\
mossc: 1
name: wide
vocab_size: 256
d_model: 72
weights: {dtype: bf16}
stack: [mlp: {d_ff: 136, activation: swiglu}]
"""


def same_until_close(m, model, prompt, one, other, *options, close=CLOSE):
    """Greedy texts (bytes) agree until the CPU's two largest logits are close."""
    if one == other:
        return
    common = next(i for i, (a, b) in enumerate(zip(one, other)) if a != b)
    tokens = " ".join(str(byte) for byte in prompt.encode() + one[:common])
    m.run("logits", *model, "--tokens", "-", "-o", "close.npy", *options, stdin=tokens.encode())
    best, second = sorted(m.npy("close.npy")[0][-1], reverse=True)[:2]
    assert best - second < close, f"{one!r} and {other!r} part where the CPU's best two logits are {best} and {second}"


def test_greedy_text_is_that_of_the_cpu(m):
    emulate(m)
    for prompt, n in [("It was", 24), ("He said nothing, and the rain", 8)]:
        common = ["run", *MODEL, "--prompt", prompt, "-n", n, "--temp", 0, "--no-echo"]
        same_until_close(m, MODEL, prompt, m.run(*common).stdout, m.run(*common, *GPU).stdout)


def test_logits_by_warpgroups_are_near_those_of_the_cpu(m):
    emulate(m)
    spec = m.file("wide.yaml", WIDE)
    m.run("init", spec, "--seed", 5, "-o", "w.safetensors")
    m.file("t.txt", " ".join(str(i * 37 % 256) for i in range(80)))
    common = ["logits", spec, "-w", "w.safetensors", "--tokens", "t.txt"]
    m.run(*common, "-o", "cpu.npy")
    cpu, _ = m.npy("cpu.npy")
    for device in "cuda:sm_90a", "cuda:0:sm_90a":
        m.run(*common, "--device", device, "-o", "gpu.npy")
        assert distance(m.npy("gpu.npy")[0], cpu) < TOLERANCE, device
    text = m.out("asm", spec, "--target", "cuda:sm_90a")
    assert "WarpgroupTile<BF16, K" in text and "WarpgroupTile" not in m.out("asm", spec, "--target", "cuda:sm_90")


def test_greedy_text_in_8_and_4_bits_is_that_of_the_cpu(m):
    emulate(m)
    for options in [["--set", "weights.dtype=q8"], ["--set", "weights.dtype=q4"]]:
        common = ["run", *MODEL, "--prompt", "It was", "-n", 8, "--temp", 0, "--no-echo", *options]
        one, other = m.run(*common).stdout, m.run(*common, *GPU).stdout
        same_until_close(m, MODEL, "It was", one, other, *options, close=ROUNDED_CLOSE)


def test_logits_are_near_those_of_the_cpu(m):
    model = tiny(m)
    m.file("t.txt", " ".join(str(i * 37 % 256) for i in range(90)))
    common = ["logits", *model, "--tokens", "t.txt"]
    m.run(*common, "-o", "cpu.npy")
    cpu, _ = m.npy("cpu.npy")
    for options in [[], ["--mode", "decode"], ["--chunk", 7], ["--chunk", 70]]:
        m.run(*common, *GPU, *options, "-o", "gpu.npy")
        far = distance(m.npy("gpu.npy")[0], cpu)
        assert far < TOLERANCE, (options, far)


def test_the_same_steps_have_the_same_bits(m):
    model = tiny(m)
    m.file("t.txt", " ".join(str(i * 37 % 256) for i in range(100)))
    bits = set()
    for settings in [{}, {"multiprocessors": 5}, {"order": 1}, {"order": 9, "multiprocessors": 3}]:
        emulate(m, **settings)
        m.run("logits", *model, "--tokens", "t.txt", *GPU, "-o", "gpu.npy")
        bits.add(m.npy("gpu.npy")[1])
    assert len(bits) == 1, "the number of blocks, or the order of threads, shows in the bits"


def test_fast_products_are_near_too(m):
    emulate(m)
    m.file("plain.yaml", PLAIN)  # without experts, of which rounding might choose others
    m.file("t.txt", " ".join(str(i * 37 % 256) for i in range(90)))
    m.run("init", "plain.yaml", "--seed", 7, "-o", "w.safetensors")
    common = ["logits", "plain.yaml", "-w", "w.safetensors", "--tokens", "t.txt"]
    m.run(*common, "-o", "cpu.npy")
    far = []
    for options in [[], ["--fast"]]:
        m.run(*common, *GPU, *options, "-o", "gpu.npy")
        far.append(distance(m.npy("gpu.npy")[0], m.npy("cpu.npy")[0]))
    assert far[0] < TOLERANCE < far[1] < 5e-2, far


def test_states_move_between_cpu_and_gpu(m):
    model = tiny(m)
    tokens = [i * 37 % 256 for i in range(40)]
    first, second = (" ".join(map(str, part)).encode() for part in (tokens[:21], tokens[21:]))
    m.run("logits", *model, "--tokens", "-", "-o", "whole.npy", stdin=first + b" " + second)
    whole = m.npy("whole.npy")[0]
    for there, back in [(GPU, []), ([], GPU), (GPU, GPU)]:
        m.run("logits", *model, *there, "--tokens", "-", "-o", "a.npy", "--state-out", "s.state", stdin=first)
        m.run("logits", *model, *back, "--tokens", "-", "-o", "b.npy", "--state-in", "s.state", stdin=second)
        far = distance(m.npy("a.npy")[0] + m.npy("b.npy")[0], whole)
        assert far < TOLERANCE, (there, back, far)


def test_a_text_goes_on_from_the_state_of_the_other(m):
    emulate(m)
    common = ["run", *MODEL, "--temp", 0, "--no-echo"]
    whole = m.run(*common, "--prompt", "The sea", "-n", 14).stdout
    for there, back in [(GPU, []), ([], GPU)]:
        text = m.run(*common, *there, "--prompt", "The sea", "-n", 6, "--state-out", "s.state").stdout
        text += m.run(*common, *back, "-n", 8, "--state-in", "s.state").stdout
        same_until_close(m, MODEL, "The sea", whole, text)


def test_sampled_text_is_that_of_the_cpu(m):
    emulate(m)
    for options in [["--seed", 1], ["--seed", 2, "--top-k", 5], ["--seed", 3, "--top-k", 0, "--top-p", 0.8, "--temp", 1.2]]:
        common = ["run", *MODEL, "--prompt", "A ship", "-n", 8, *options]
        assert m.out(*common) == m.out(*common, *GPU), options


def test_a_text_ends_at_eos(m):
    model = tiny(m)
    common = ["run", *model, "--prompt", "abc", "-n", 12, "--temp", 0, "--json", *GPU]
    tokens = m.json(*common)["tokens"]
    report = m.json(*common, "--set", f"tokenizer={{eos: {tokens[3]}}}")
    assert report["stopped_by"] == "eos" and report["tokens"] == tokens[: tokens.index(tokens[3])], (report, tokens)
    ends = sorted({(tokens[3] + 1) % 256, tokens[4], tokens[3]})
    several = m.json(*common, "--set", f"tokenizer={{eos: {ends}}}")
    first = min(i for i, token in enumerate(tokens) if token in ends)
    assert several["stopped_by"] == "eos" and several["tokens"] == tokens[:first], (several, tokens)
    ignoring = m.json(*common, "--set", f"tokenizer={{eos: {ends}}}", "--ignore-eos")
    assert len(ignoring["tokens"]) == 12 and not set(ends) & set(ignoring["tokens"]), ignoring


def test_what_a_gpu_does_not_pick_by_is_picked_by_here(m):
    emulate(m)
    for options in [["--min-p", 0.2], ["--repeat-penalty", 1.3, "--frequency-penalty", 0.2], ["--logit-bias", "101-inf"], ["--stop", "e"]]:
        common = ["run", *MODEL, "--prompt", "A ship", "-n", 6, *options]
        assert m.out(*common) == m.out(*common, *GPU), options


def test_a_text_ends_at_max_positions(m):
    model = tiny(m)
    bounded = [*GPU, "--set", "stack[2].attention.window=none", "--set", "max_positions=8"]
    report = m.json("run", *model, "--prompt", "abc", "-n", 12, "--temp", 0, "--json", *bounded)
    assert report["stopped_by"] == "positions" and len(report["tokens"]) == 6, report
    text = m.error("logits", *model, "--tokens", "-", "-o", "x.npy", *bounded, stdin=b"1 2 3 4 5 6 7 8 9")
    assert "max_positions" in text and m.left() == ["tiny.yaml", "w.safetensors"], text


def test_eval_scores_as_the_cpu_does(m):
    model = tiny(m)
    m.file("text.txt", "A text that is no longer than a line, and has more bytes than one step of few rows takes together.")
    cpu, gpu = (m.json("eval", *model, "--text", "text.txt", "--json", *options) for options in ([], GPU))
    assert cpu.keys() == gpu.keys() and cpu["tokens"] == gpu["tokens"]
    for key in cpu:
        if isinstance(cpu[key], float) and "second" not in key:
            assert abs(gpu[key] - cpu[key]) <= 1e-4 * abs(cpu[key]), (key, cpu[key], gpu[key])


def test_prompt_caches_serve_both(m):
    model = tiny(m)
    common = ["run", *model, "-n", 4, "--temp", 0, "--no-echo"]
    cache = ["--prompt-cache", "cache", "--cache-every", 8]
    first, second = ["--prompt", "Once upon a time"], ["--prompt", "Once upon a time there"]
    text = m.run(*common, *first, *cache).stdout
    assert m.run(*common, *first, *cache, *GPU).stdout == text
    text = m.run(*common, *second, *GPU).stdout
    done = m.run(*common, *second, *cache, *GPU)
    assert done.stdout == text and "16 of 22 tokens" in done.stderr, done.stderr


def test_bench_measures_steps_of_all_sizes(m):
    model = tiny(m)
    report = m.json("bench", *model, *GPU, "--prefill", 70, "--decode", 3, "--batch", 2, "--repeat", 1, "--json")
    assert report["prefill_tok_s"]["median"] > 0 and report["decode_tok_s"]["median"] > 0, report


def test_kernels_are_compiled_once(m):
    model = tiny(m)
    common = ["run", *model, "--prompt", "a", "-n", 1, *GPU]
    m.run(*common)
    m.variables["MOSSC_NVRTC"] = "/nonexistent"  # what is in the cache needs no compiler
    m.run(*common)
    text = m.error(*common, "--no-cache")
    assert "MOSSC_NVRTC: cannot load the library /nonexistent" in text, text


if __name__ == "__main__":
    skip_without_compiler()
    sys.exit(run_tests(globals()))
