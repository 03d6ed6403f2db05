"""What mossc says when a GPU cannot be used, or fails on the way: every reason has its own message, every call of the driver that fails
ends the command with its name, and nothing is left behind, on the GPU or in the directory.

    MOSSC_CXX=c++ MOSSC_CUDA_DRIVER=… MOSSC_NVRTC=… python3 tests/cuda/test_gpu_errors.py --mossc build/release/mossc [--calls N] [NAME…]

fails the first N (1) calls of each function, the middle one and the last; of those that make text the middle one alone, where N is 1.
"""
import re
import struct
import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from emulated import distance, emulate, skip_without_compiler, tiny  # noqa: E402
from harness import Skipped, read_safetensors, run_tests, write_safetensors  # noqa: E402

GPU = ["--device", "cuda"]
OPTIONS = {"calls": 1}
TOKENS = " ".join(str(i * 37 % 256) for i in range(90)).encode()  # more than one launch of few rows takes


def commands(model):
    """Each command that takes --device."""
    return [
        ["run", *model, "--prompt", "abc", "-n", 2],
        ["logits", *model, "--tokens", "t.txt", "-o", "x.npy"],
        ["eval", *model, "--text", "t.txt"],
        ["bench", *model, "--prefill", 4, "--decode", 2, "--repeat", 1],
    ]


def calls_of(text):
    """How often each function of the driver was called."""
    return {name: int(n) for name, n in re.findall(r"emulated GPU: calls: (\w+) (\d+)", text)}


# ------------------------------------------------------------------------------------------------ before anything runs


def test_there_is_no_silent_cpu(m):
    model = tiny(m)
    m.file("t.txt", "1 2 3")
    m.variables["MOSSC_CUDA_DRIVER"] = "/nonexistent"
    for command in commands(model):
        text = m.error(*command, *GPU)
        assert "MOSSC_CUDA_DRIVER: cannot load the library /nonexistent" in text, text
    assert m.left() == ["t.txt", "tiny.yaml", "w.safetensors"]


def test_where_there_is_no_driver_it_says_where_to_get_one(m):
    model = tiny(m)
    m.variables["MOSSC_CUDA_DRIVER"] = ""
    done = m.run("run", *model, "--prompt", "a", "-n", 0, *GPU, status=None)
    if done.returncode == 0:
        raise Skipped("there is a driver")
    assert "NVIDIA driver (libcuda.so.1) was not found" in done.stderr and "MOSSC_CUDA_DRIVER" in done.stderr, done.stderr


def test_what_is_no_fit_gpu_is_told(m):
    model = tiny(m)
    cases = [
        ({"driver": 11030}, "cuda", "NVIDIA driver is too old: expected CUDA 11.4 or newer, got 11.3"),
        ({"devices": 0}, "cuda", "NVIDIA driver found no GPU"),
        ({"devices": 2}, "cuda:7", "GPU 7 does not exist: the driver found 2, numbered from 0"),
        ({"architecture": 70, "name": "Old GPU"}, "cuda", "Old GPU is not supported: expected compute capability 7.5 (Turing) or newer, got 7.0"),
        ({"newest": 70}, "cuda", "does not support sm_90, only newer GPUs"),
        ({}, "cuda:x", "unknown device 'cuda:x'"),
        ({}, "cuda:0:x", "unknown device 'cuda:0:x'"),
        ({"architecture": 100, "name": "New GPU"}, "cuda:sm_90a", "code for sm_90a does not run on New GPU (sm_100)"),
        ({"newest": 89}, "cuda:0:sm_90a", "cannot generate machine code for sm_90a"),
        ({}, "gpu", "unknown device 'gpu'"),
    ]
    for settings, device, message in cases:
        emulate(m, **settings)
        text = m.error("run", *model, "--prompt", "a", "-n", 1, "--device", device, "--no-cache")
        assert message in text, (settings, text)


def test_options_for_cpus_do_not_go_with_a_gpu(m):
    model = tiny(m)
    common = ["run", *model, "--prompt", "a", "-n", 1]
    for options in ["--isa", "avx2"], ["--debug-info", "gdb"]:
        assert f"{options[0]} is for CPUs" in m.error(*common, *options, *GPU)
    assert "--fast needs sums of bfloat16 products" in m.error(*common, "--fast", "--isa", "avx2")


def test_the_second_gpu_can_be_chosen(m):
    model = tiny(m, devices=2)
    common = ["run", *model, "--prompt", "a", "-n", 3, "--temp", 0]
    assert m.run(*common, "--device", "cuda:1").stdout == m.run(*common, *GPU).stdout


def test_without_nvrtc_it_says_where_to_get_it(m):
    model = tiny(m)
    m.variables["MOSSC_NVRTC"] = "/nonexistent"
    text = m.error("run", *model, "--prompt", "a", "-n", 1, *GPU, "--no-cache")
    assert "MOSSC_NVRTC: cannot load the library /nonexistent" in text and "pip install" in text, text


def test_every_call_of_nvrtc_may_fail(m):
    model = tiny(m)
    command = ["run", *model, "--prompt", "a", "-n", 1, *GPU, "--no-cache"]
    text = m.run(*command).stdout
    for name in "CreateProgram", "CompileProgram", "GetCUBINSize", "GetCUBIN":
        emulate(m, fail=f"nvrtc{name}:1:6")
        shown = m.error(*command)
        assert "NVRTC" in shown and "NVRTC_ERROR_COMPILATION" in shown, (name, shown)
    for name in "GetSupportedArchs", "GetProgramLog":  # compiling says whether it can be done; what it says besides is no need
        emulate(m, fail=f"nvrtc{name}:1:6")
        assert m.run(*command).stdout == text, name


def test_a_driver_may_be_too_old_for_nvrtcs_code(m):
    model = tiny(m)
    for code in 222, 200:  # as PTX, as machine code
        emulate(m, driver=12040, fail=f"cuModuleLoadDataEx:1:{code}")
        text = m.error("run", *model, "--prompt", "a", "-n", 1, *GPU)
        assert "the driver supports CUDA 12.4" in text and "set MOSSC_NVRTC to an older NVRTC" in text, text


def test_a_newer_gpu_runs_ptx(m):
    model = tiny(m)
    common = ["logits", *model, "--tokens", "-", *GPU]
    m.run(*common, "-o", "known.npy", stdin=TOKENS)
    emulate(m, architecture=130)
    m.run(*common, "-o", "newer.npy", stdin=TOKENS)
    assert m.npy("newer.npy")[1] == m.npy("known.npy")[1]


def test_a_barrier_without_end_ends_the_launch(m):
    model = tiny(m)
    m.file("t.txt", "1 2 3 4 5")
    emulate(m, multiprocessors=3, absent=1, leaks=0)  # a context that is dead gives nothing back
    for options in [["--mode", "decode"], ["--chunk", 5]]:  # one row; a small batch
        text = m.error("logits", *model, "--tokens", "t.txt", "-o", "x.npy", *options, *GPU)
        said = re.search(r"block \d+ of (\d+) timed out at barrier (\d+), before ([\w.]+): (\d+) blocks had arrived", text)
        assert said and int(said[1]) - 1 == int(said[4]) and int(said[2]) == 1, text
        assert said[3].startswith("blocks.0."), text  # the first barrier comes behind the embedding
    assert m.left() == ["t.txt", "tiny.yaml", "w.safetensors"], m.left()


def test_a_launch_without_room_for_all_blocks_is_tried_with_fewer(m):
    """Code that a sanitizer has changed takes more registers than the driver's count of blocks knows of."""
    model = tiny(m)
    counts = {}
    for options in ["--mode", "decode"], ["--chunk", "5"]:  # one row; a small batch
        command = ["logits", *model, "--tokens", "-", *options, *GPU]
        for places in 0, 4, 1:
            emulate(m, multiprocessors=3, blocks=2, places=places, calls=1)
            said = m.run(*command, "-o", f"{places}.npy", stdin=TOKENS[:50]).stderr
            counts[places] = calls_of(said)["cuLaunchCooperativeKernel"]
            assert m.npy(f"{places}.npy")[1] == m.npy("0.npy")[1], (options, places)
        assert counts[0] < counts[1] <= counts[0] + 2, (options, counts)  # 6 blocks, 3, 1; then no more than 1
    emulate(m, multiprocessors=1, fail="cuLaunchCooperativeKernel:1:720")
    text = m.error(*command, "-o", "x.npy", stdin=TOKENS)
    assert "cuLaunchCooperativeKernel: CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE (720" in text, text


# ------------------------------------------------------------------------------------------------ numbers

F16 = """\
mossc: 1
name: f16
vocab_size: 256
d_model: 32
weights: {dtype: f16}
stack:
  - mlp: {d_ff: 32}
"""


def set_tensor(m, name, value_of):
    """Every element of a tensor of w.safetensors: value_of(what it was)."""
    header, data = read_safetensors(m.directory / "w.safetensors")
    begin, end = header[name]["data_offsets"]
    values = struct.unpack_from(f"<{(end - begin) // 4}f", data, begin)
    changed = struct.pack(f"<{len(values)}f", *map(value_of, values))
    write_safetensors(m.directory / "w.safetensors", header, data[:begin] + changed + data[end:])


def test_inputs_beyond_f16_are_an_error(m):
    """Tensor cores multiply numbers of the weights' type: f16 has none beyond 65504, two of them none beyond 131008. One token alone is
    multiplied in float."""
    emulate(m)
    model = m.file("f16.yaml", F16), "-w", "w.safetensors"
    m.run("init", model[0], "--seed", 7, "-o", "w.safetensors")
    set_tensor(m, "embed.weight", lambda v: 1 if v > 0 else -1)  # normed it is the same, and the norm's weight is the size of inputs
    for name in "gate_proj", "up_proj":
        set_tensor(m, f"blocks.0.{name}.weight", lambda v: 1e-4 * v)
    common = ["logits", *model, "--tokens", "-"]
    for size, fails, fails_fast in (60000, False, False), (100000, False, True), (200000, True, True):
        set_tensor(m, "blocks.0.norm.weight", lambda _: size)
        m.run(*common, "-o", "cpu.npy", stdin=TOKENS)
        for options, fail in ([], fails), (["--chunk", 5], fails), (["--fast"], fails_fast), (["--mode", "decode"], False):
            command = [*common, "-o", "gpu.npy", *options, *GPU]
            if fail:
                text = m.error(*command, stdin=TOKENS)
                assert "logits are non-finite, and finite where tokens are fed one by one" in text, (size, options, text)
                assert "no inputs of f16 weights beyond 131008" in text, (size, options, text)
                continue
            m.run(*command, stdin=TOKENS)
            assert distance(m.npy("gpu.npy")[0], m.npy("cpu.npy")[0]) < 0.01, (size, options)


# ------------------------------------------------------------------------------------------------ memory


def needed(text):
    """MiB that a message about memory names: needed, free, there."""
    found = re.search(r"need ([\d.]+) MiB on cuda:0, but only ([\d.]+) of ([\d.]+) MiB are free", text)
    assert found, text
    return [float(number) for number in found.groups()]


def test_too_little_memory_is_told_before_any_is_taken(m):
    model = tiny(m, memory=100 << 10, calls=1)
    text = m.error("run", *model, "--prompt", "a", "-n", 1, *GPU)
    wanted, free, whole = needed(text)
    assert "'tiny': weights" in text and "state of a sequence" in text, text
    assert wanted > 0.1 and whole == free == 0.1, text
    assert calls_of(text)["cuMemAlloc_v2"] == 0, text


def test_memory_that_is_the_hosts_is_tried_for(m):
    """What the host would give up counts as taken there, so what is free says little; more than there is is still refused."""
    model = tiny(m, integrated=1)
    m.run("run", *model, "--prompt", "a", "-n", 1, *GPU)
    emulate(m, integrated=1, memory=100 << 10)
    assert "'tiny': weights" in m.error("run", *model, "--prompt", "a", "-n", 1, *GPU)
    emulate(m, integrated=1, fail="cuMemAlloc_v2:1:2")
    assert "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY" in m.error("run", *model, "--prompt", "a", "-n", 1, *GPU)


def test_a_step_that_is_too_large_says_what_helps(m):
    model = tiny(m)
    m.run("run", *model, "--prompt", "a", "-n", 1, *GPU)  # to have the kernels
    memory = 512 << 10
    tokens = b" ".join([TOKENS] * 20)
    common = ["logits", *model, "--tokens", "-", "-o", "x.npy", *GPU]
    while True:  # as little as the model alone takes
        emulate(m, memory=memory)
        done = m.run(*common, stdin=tokens, status=None)
        if "'tiny': weights" not in done.stderr:
            break
        memory += 64 << 10
    assert done.returncode == 1 and "feed fewer at once with --chunk" in done.stderr, done.stderr
    needed(done.stderr)
    assert "x.npy" not in m.left()
    m.run(*common, "--chunk", 1, stdin=TOKENS)


# ------------------------------------------------------------------------------------------------ calls that fail

# Functions whose failure leaves nothing to do, for the last of their calls at least: the result is there already.
GIVING_BACK = {"cuMemFree_v2", "cuMemFreeHost", "cuStreamDestroy_v2", "cuEventDestroy_v2", "cuModuleUnload", "cuGraphDestroy",
               "cuGraphExecDestroy", "cuDevicePrimaryCtxRelease_v2", "cuCtxSetCurrent", "cuStreamSynchronize"}  # fmt: skip
ONLY_AFTER_ERRORS = {"cuGetErrorName", "cuGetErrorString"}


def some(count):
    """Of the calls 1 to `count`: the first ones, the middle and the last."""
    return sorted({n for n in (*range(1, OPTIONS["calls"] + 1), (count + 1) // 2, count) if 0 < n <= count})


def middle(count):
    return [(count + 1) // 2] if count else []


def expect_failure(m, command, name, number, code, written, good):
    """The call fails: the command says so, or has done its work."""
    emulate(m, fail=f"{name}:{number}:{code}")
    (m.directory / written).unlink(missing_ok=True)
    before = m.left()
    done = m.run(*command, stdin=TOKENS, status=None)
    about = f"{name}, call {number}, code {code}: status {done.returncode}\n{done.stderr}"
    if done.returncode == 0:
        assert name in GIVING_BACK and (m.directory / written).read_bytes() == good, about
        return
    assert done.returncode == 1 and name in done.stderr and f"({code}:" in done.stderr, about
    assert m.left() == before, f"{about}{m.left()}"


def every_call_fails(m, command, written, code, some=some):
    emulate(m, calls=1)
    done = m.run(*command, stdin=TOKENS)
    good = (m.directory / written).read_bytes()
    tried = set()
    for name, count in calls_of(done.stderr).items():
        for number in some(count):
            expect_failure(m, command, name, number, code, written, good)
            tried.add(name)
    return tried


def test_every_call_of_the_driver_may_fail(m):
    model = tiny(m)
    m.run("logits", *model, "--tokens", "-", "-o", "first.npy", "--state-out", "first.state", *GPU, stdin=b"1 2 3")
    command = ["logits", *model, "--tokens", "-", "-o", "x.npy", "--state-in", "first.state", *GPU]
    tried = every_call_fails(m, command, "x.npy", 999)
    assert {"cuInit", "cuMemAlloc_v2", "cuModuleLoadDataEx", "cuGraphLaunch", "cuStreamEndCapture", "cuLaunchKernel"} <= tried, tried


def test_every_call_of_the_driver_may_fail_while_text_is_made(m):
    model = tiny(m)
    command = ["run", *model, "--prompt", "ab", "-n", 3, "--temp", 0, "--state-out", "x.state", *GPU]
    tried = every_call_fails(m, command, "x.state", 2, some if OPTIONS["calls"] > 1 else middle)
    assert {"cuLaunchCooperativeKernel", "cuMemcpyDtoHAsync_v2", "cuMemsetD8Async"} <= tried, tried


def test_every_call_that_measures_may_fail(m):
    command = ["limits", *GPU, "--repeat", 1]
    emulate(m, calls=1)
    counts = calls_of(m.run(*command).stderr)
    for name in "cuEventCreate", "cuEventRecord", "cuEventSynchronize", "cuEventElapsedTime", "cuMemcpyDtoDAsync_v2", "cuLaunchKernel":
        for number in {1, counts[name] // 2}:
            emulate(m, fail=f"{name}:{number}:999")
            assert f"{name}: CUDA_ERROR_UNKNOWN (999" in m.error(*command), (name, number)


def test_a_gpu_that_died_is_told(m):
    model = tiny(m)
    m.run("run", *model, "--prompt", "a", "-n", 1, *GPU)
    emulate(m, fail="cuStreamSynchronize:4:700")
    text = m.error("logits", *model, "--tokens", "-", "-o", "x.npy", *GPU, stdin=TOKENS)
    assert "cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS (700" in text and "x.npy" not in m.left(), text


def test_an_error_that_nobody_names_has_its_number(m):
    model = tiny(m, fail="cuCtxSetCurrent:1:12345")
    text = m.error("run", *model, "--prompt", "a", "-n", 1, *GPU)
    assert "cuCtxSetCurrent: an unknown error (12345: no description)" in text, text


if __name__ == "__main__":
    skip_without_compiler()
    sys.exit(run_tests(globals(), OPTIONS))
