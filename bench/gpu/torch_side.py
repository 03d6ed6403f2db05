"""What mossc is held against on a GPU, as a process of its own that waits between questions: products by cuBLAS through PyTorch, and
mamba_ssm's kernels. A question is a line of JSON on standard input, an answer one on standard output; the first line says what there is.
Times are the GPU's own, the median of some after a warm-up."""
import importlib.metadata
import json
import statistics
import sys

WARM, TIMES = 3, 9


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def milliseconds(torch, work):
    for _ in range(WARM):
        work()
    times = []
    for _ in range(TIMES):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def random(torch, *shape, dtype=None):
    return torch.randn(*shape, device="cuda", dtype=dtype or torch.bfloat16)


def peak(torch, size=8192):
    """TFLOP/s of a large product."""
    a, b = random(torch, size, size), random(torch, size, size)
    out = torch.empty_like(a)
    return {"tflop_s": 2 * size**3 / milliseconds(torch, lambda: torch.mm(a, b, out=out)) / 1e9}


def linear(torch, shapes):
    """Milliseconds of all products [experts] x (rows x K) x (K x O), each `count` times."""
    total = 0
    for shape in shapes:
        x = random(torch, shape["experts"], shape["rows"], shape["K"])
        w = random(torch, shape["experts"], shape["K"], shape["O"])
        if shape["experts"] == 1:
            x, w = x[0], w[0]
        total += shape["count"] * milliseconds(torch, lambda: torch.matmul(x, w))
    return {"ms": total}


def mamba(torch, d_model, n_layer, vocab_size, batch, length):
    """Tokens a second of mamba_ssm's model on prompts, with the logits of the last token."""
    from mamba_ssm.models.config_mamba import MambaConfig
    from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel

    config = MambaConfig(d_model=d_model, n_layer=n_layer, vocab_size=vocab_size)
    model = MambaLMHeadModel(config, device="cuda", dtype=torch.bfloat16)
    tokens = torch.randint(0, vocab_size, (batch, length), device="cuda")
    with torch.inference_mode():
        ms = milliseconds(torch, lambda: model(tokens, num_last_tokens=1))
    return {"tok_s": 1e3 * batch * length / ms}


def scan(torch, d_inner, d_state, batch, length, count):
    """Milliseconds of `count` scans from Δ to the gate, by mamba_ssm's kernel."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    f32 = torch.float32
    u, delta, z = (random(torch, batch, d_inner, length) for _ in range(3))
    b, c = (random(torch, batch, d_state, length) for _ in range(2))
    a, d, bias = -torch.rand(d_inner, d_state, device="cuda"), random(torch, d_inner, dtype=f32), random(torch, d_inner, dtype=f32)
    with torch.inference_mode():
        ms = milliseconds(torch, lambda: selective_scan_fn(u, delta, a, b, c, d, z=z, delta_bias=bias, delta_softplus=True))
    return {"ms": count * ms}


def main():
    facts = {"torch": version("torch"), "mamba_ssm": version("mamba-ssm"), "why": None}
    try:
        import torch

        facts["cuda"] = torch.version.cuda
        if not torch.cuda.is_available():
            facts["why"] = "PyTorch sees no GPU"
    except ImportError as error:
        facts["why"] = f"PyTorch cannot be imported ({error})"
    print(json.dumps(facts), flush=True)
    if facts["why"]:
        return
    torch.cuda.set_device(int(sys.argv[1]))
    parts = {"peak": peak, "linear": linear, "mamba": mamba, "scan": scan}
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = parts[question.pop("do")](torch, **question)
        except Exception as error:  # a peer that fails is said in the report, and is no reason to end
            answer = {"why": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        torch.cuda.empty_cache()  # the memory is mossc's next
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
