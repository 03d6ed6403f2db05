"""llama.cpp as a process that answers questions: loaded once, asleep between them. Runs in the environment that peers.py makes.

    llama.py MODEL.gguf --threads N [--mmap] [--exact]

Reads a JSON object a line and answers with one a line, the first of which says that the model is loaded:

    {"do": "time", "prefill": P, "decode": D}     → {"prefill_s": …, "decode_s": …}   after one round that is not counted
    {"do": "logits", "tokens": […], "output": F}  → {}   F.npy holds float32 [tokens, vocab_size]: the tokens fed at once
    {"do": "logits", …, "one_by_one": true}       → {}   the same, token by token
    {"do": "greedy", "text": T, "count": N}       → {"prompt": […], "tokens": […], "gaps": […], "end": E}   T's ids, special tokens
          among them, and the most probable tokens behind it, each with the distance of its logit from the next; up to the model's end

The low-level API is used, so that between reading the clock there is nothing but llama_decode, as in llama.cpp's own llama-bench.
"""
import argparse
import ctypes
import json
import os
import sys
import time

import llama_cpp
import numpy as np

BATCH = 512  # tokens of a prompt fed in one step: n_batch and n_ubatch
GGML_TYPE_F32 = 0
LOG_LEVEL_ERROR = 4  # of ggml_log_level, which the Python package does not name


@llama_cpp.llama_log_callback
def quiet(level, text, _):
    if level == LOG_LEVEL_ERROR:
        sys.stderr.write(text.decode(errors="replace"))


class Session:
    def __init__(self, path, threads, mmap, exact):
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP if mmap else llama_cpp.LLAMA_LOAD_MODE_NONE
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = 4096
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        if exact:
            params.type_k = params.type_v = GGML_TYPE_F32
            params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = self.model and llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit(f"llama.cpp cannot load {path}")
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def reset(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def decode(self, batch):
        if llama_cpp.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")

    def feed(self, tokens, step):
        """Feeds `tokens`, `step` at a time, asking for the logits of the last one of each step. Returns seconds."""
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)
        start = time.perf_counter()
        for at in range(0, len(tokens), step):
            here = ctypes.cast(ctypes.byref(ids, at * ctypes.sizeof(llama_cpp.llama_token)), ctypes.POINTER(llama_cpp.llama_token))
            self.decode(llama_cpp.llama_batch_get_one(here, min(step, len(tokens) - at)))
        llama_cpp.llama_synchronize(self.context)
        return time.perf_counter() - start

    def round(self, prefill, decode):
        rng = np.random.default_rng(1)
        tokens = rng.integers(0, self.vocab_size, prefill + decode).tolist()
        self.reset()
        return self.feed(tokens[:prefill], BATCH), self.feed(tokens[prefill:], 1)

    def time(self, prefill, decode):
        self.round(prefill, decode)
        prefill_s, decode_s = self.round(prefill, decode)
        return {"prefill_s": prefill_s, "decode_s": decode_s}

    def row(self, i):
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, i), (self.vocab_size,)).copy()

    def logits(self, tokens, output, one_by_one=False):
        self.reset()
        rows = []
        step = 1 if one_by_one else len(tokens)
        batch = llama_cpp.llama_batch_init(step, 0, 1)
        for at in range(0, len(tokens), step):
            batch.n_tokens = step
            for i in range(step):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = tokens[at + i], at + i, 1, 0, 1
            self.decode(batch)
            rows += [self.row(i) for i in range(step)]
        llama_cpp.llama_batch_free(batch)
        np.save(output, np.stack(rows))
        return {}


    def ids(self, text):
        vocab, data = llama_cpp.llama_model_get_vocab(self.model), text.encode()
        room = len(data) + 8
        out = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(vocab, data, len(data), out, room, llama_cpp.llama_vocab_get_add_bos(vocab), True)
        if count < 0:
            sys.exit("llama_tokenize failed")
        return list(out[:count])

    def greedy(self, text, count):
        vocab = llama_cpp.llama_model_get_vocab(self.model)
        prompt, tokens, gaps, fed = self.ids(text), [], [], None
        self.reset()
        for _ in range(count):
            self.feed(prompt if fed is None else [fed], BATCH)
            row = self.row(-1)
            second, fed = np.argsort(row)[-2:].tolist()
            if llama_cpp.llama_vocab_is_eog(vocab, fed):
                return {"prompt": prompt, "tokens": tokens, "gaps": gaps, "end": fed}
            tokens.append(fed)
            gaps.append(float(row[fed] - row[second]))
        return {"prompt": prompt, "tokens": tokens, "gaps": gaps, "end": None}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--mmap", action="store_true", help="map the file in place of reading it into memory")
    parser.add_argument("--exact", action="store_true", help="attention in float32: by default keys and values are rounded to float16, and it is done in one step that rounds too")
    options = parser.parse_args()
    session = Session(options.model, options.threads, options.mmap, options.exact)

    # llama.cpp may write to standard output; answers go to a copy of it that only this program has.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answer = {"version": llama_cpp.__version__, "system": llama_cpp.llama_print_system_info().decode()}
    print(json.dumps(answer), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        answer = {"time": session.time, "logits": session.logits, "greedy": session.greedy}[question.pop("do")](**question)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
