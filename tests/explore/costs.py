"""The metrics of a point as the other commands give them, under the names of points.csv."""


def costs(m, spec, position, device, threads, *words):
    """m: a Mossc of tests/cli/harness.py; words: more options of both commands (--set)."""
    check = m.json("check", spec, "--json", "--position", position, *words)
    explain = m.json("explain", spec, "--json", "--position", position, "--device", device, "--threads", threads, *words)
    times = {f"{name}_ms": round(1e3 * explain[step]["total"]["modelled_seconds"], 6) for name, step in (("decode", "token"), ("prefill", "prompt"))}
    sizes = {name: check[name] for name in ("parameters", "active_parameters", "weight_bytes", "state_bytes", "peak_bytes")}
    return {**sizes, **times, "flops": check["flops_per_token"], "active_weight_bytes": explain["token"]["total"]["weight_bytes"]}
