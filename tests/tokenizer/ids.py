"""Texts to ids and back through the test program `ids`."""
import json
import subprocess


def encode(program, tokenizer, texts, vocab=1 << 24, bos=None):
    """For every text {"ids": [...], "said": "..."} or {"error": "..."}; RuntimeError if the tokenizer is refused."""
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    command = [program, str(tokenizer), str(vocab), *([bos] if bos else [])]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, timeout=900)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]
