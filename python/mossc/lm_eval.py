"""Models of mossc in lm-evaluation-harness, as the model `mossc`.

    python -m mossc.lm_eval run --model mossc --model_args spec=model.yaml,weights=model.safetensors --tasks lambada_openai

It is `lm_eval` with this model registered; a harness that reads the entry points of `lm_eval.models` finds it by itself (0.4.13 does not).

A request's context is fed once. What several contexts have in common at their beginning (few-shot examples, the question of a choice) is fed
once for all of them, and each goes on from a clone of that state: with the same bits as if it were fed alone.

    --model_args spec=    a spec, or a directory that `mossc import` made         weights=  checkpoint; several with + between (default:
                                                                                            model.safetensors beside spec.yaml)
                 device=  cpu (default), cuda, cuda:N; threads=N; isa=; fast=true  max_length=  tokens of a context (default: the model's)
                 max_gen_toks=  tokens that are generated at most, unless the task says it (256)
"""
from __future__ import annotations

import argparse
import functools
import hashlib
import logging
import sys
import typing

import numpy as np

import mossc
from mossc.chat import BOS, Message, Template, ids_of
from mossc.errors import MosscError, said, without
from mossc.logprobs import log_probabilities
from mossc.spec import find

try:
    import jinja2
    from lm_eval import utils
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from tqdm import tqdm
except ImportError as missing:
    if __name__ == "__main__":
        sys.exit(without("mossc.lm_eval", "lm-eval", missing))
    raise ImportError(without("mossc.lm_eval", "lm-eval", missing)) from missing

PIECE = 256  # tokens whose logits are held at once
LEAST_SHARED = 8  # tokens that contexts must have in common beyond what is kept already, for a state of its own
NEVER = 1 << 30  # tokens of a context, of a model without a bound


def log_likelihood(logits: np.ndarray, targets: typing.Sequence[int]) -> tuple[float, bool]:
    """logits float32 [n, vocab_size], one row before each of targets [n]: the sum of natural logarithms of their probabilities, in float64,
    and whether each is the most probable."""
    ids = np.asarray(targets)
    return float(log_probabilities(logits, ids).sum()), bool((logits.argmax(axis=1) == ids).all())


def common(a: typing.Sequence[int], b: typing.Sequence[int]) -> int:
    """How many ids both begin with."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


def places_to_keep(shared: typing.Sequence[int], at: int, length: int) -> list[int]:
    """Where contexts that come later part from context `at`, beyond `length`, rising. shared: tokens that each has in common with the next."""
    places, least = [], NEVER
    for common_with_next in shared[at:]:
        if common_with_next < least:
            least = common_with_next
            if least < length + LEAST_SHARED:
                break
            places.append(least)
    places.reverse()
    return [place for i, place in enumerate(places) if i == 0 or place >= places[i - 1] + LEAST_SHARED]


def states_after(model: mossc.Model, contexts: typing.Sequence[tuple[int, ...]]) -> typing.Iterator[tuple[int, mossc.State]]:
    """For each of contexts (ids, at least one each) its number and a state that was fed it, which has logits and lasts until the next one
    is asked for. In the order of the ids, so that beginnings are shared; states at places where contexts part are kept meanwhile."""
    order = sorted(range(len(contexts)), key=lambda i: contexts[i])
    shared = [common(contexts[a], contexts[b]) for a, b in zip(order, order[1:])] + [0]  # with the next one
    kept: list[tuple[int, mossc.State]] = []  # (length, state), rising
    for at, number in enumerate(order):
        context = contexts[number]
        while kept and kept[-1][0] > shared[at - 1]:
            kept.pop()[1].close()
        length, state = (kept[-1][0], kept[-1][1].clone()) if kept else (0, model.state())
        for place in places_to_keep(shared, at, length):
            model.feed(state, context[length:place])
            length = place
            kept.append((length, state.clone()))
        if length < len(context):
            model.feed(state, context[length:])
        yield number, state
        state.close()
    for _, state in kept:
        state.close()


class Scorer:
    """Log-likelihoods by a model. Bits do not depend on what is shared."""

    def __init__(self, model: mossc.Model) -> None:
        self.model = model

    def go_on(self, state: mossc.State, logits: np.ndarray, targets: typing.Sequence[int]) -> tuple[float, bool]:
        """Of targets [n] after a state with these logits [vocab_size]; feeds all but the last of them to it."""
        total, greedy = log_likelihood(logits[None], targets[:1])
        for first in range(0, len(targets) - 1, PIECE):
            rows = self.model.logits(targets[first : min(first + PIECE, len(targets) - 1)], state=state)
            piece, best = log_likelihood(rows, targets[first + 1 : first + 1 + len(rows)])
            total, greedy = total + piece, greedy and best
        return total, greedy

    def pairs(self, pairs: typing.Sequence[tuple[tuple[int, ...], tuple[int, ...]]], progress: tqdm) -> list[tuple[float, bool]]:
        """Of each (context, continuation), ids, at least one of a context. A continuation without any is certain."""
        out: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
        contexts = sorted({context for context, continuation in pairs if continuation})
        asked: dict[tuple[int, ...], list[int]] = {context: [] for context in contexts}
        for number, (context, continuation) in enumerate(pairs):
            if continuation:
                asked[context].append(number)
            else:
                progress.update()
        for at, state in states_after(self.model, contexts):
            logits = state.logits
            for number in asked[contexts[at]]:
                with state.clone() as own:
                    out[number] = self.go_on(own, logits, pairs[number][1])
                progress.update()
        return out


@register_model("mossc")
class MosscLM(TemplateLM):
    """The harness's model."""

    def __init__(self, spec: str, weights: str | None = None, device: str | None = None, threads: int = 0, isa: str | None = None,
                 fast: bool = False, max_length: int | None = None, max_gen_toks: int = 256, batch_size: typing.Any = 1,
                 max_batch_size: typing.Any = None) -> None:
        """batch_size, max_batch_size: of the harness; a step's rows are the model's."""
        super().__init__()
        found, files = find(spec, weights.split("+") if weights else [])
        self.model = mossc.Model(found, files, device=device or "cpu", threads=int(threads), isa=isa, fast=bool(fast))
        self._tokens = self.model.tokenizer
        self.max_length = min(int(max_length or NEVER), self.model.max_positions or NEVER)
        self.max_gen_toks = int(max_gen_toks)
        self.scorer = Scorer(self.model)
        self._chats = self.model.defaults.chat_template is not None  # texts may have its marks

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict | None = None) -> MosscLM:
        return cls.create_from_arg_obj(utils.simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict, additional_config: dict | None = None) -> MosscLM:
        """arg_dict: --model_args, which win over options of the same names."""
        options = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls(**{**options, **arg_dict})

    # ---- text

    @property
    def eot_token_id(self) -> int:
        token = self._tokens.eos if self._tokens.eos is not None else self._tokens.bos
        return 0 if token is None else token

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context."""
        return self._tokens.bos if self._tokens.bos is not None else self.eot_token_id

    @property
    def tokenizer_name(self) -> str:
        """For the harness's cache of requests, which are texts by the chat template."""
        template = hashlib.sha256((self.model.defaults.chat_template or "").encode()).hexdigest()
        return f"mossc-{self.model.spec.hash}-{template[:16]}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: typing.Any) -> list[int]:
        """With the tokenizer's bos in front, unless that is there by the chat template."""
        bos = self._tokens.bos
        front = [] if bos is None or add_special_tokens is False or (self._chats and string.startswith(BOS)) else [bos]
        if self._chats:
            return front + ids_of(self._tokens, string)
        return front + self._tokens.encode(string, part=True)

    # ---- conversations

    @functools.cached_property
    def _template(self) -> Template:
        if self.model.defaults.chat_template is None:
            raise ValueError("--apply_chat_template: the model has no chat template (generation.yaml)")
        return Template(self.model.defaults.chat_template)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The Jinja, for the harness's log."""
        if isinstance(chat_template, str):
            raise ValueError(f"--apply_chat_template {chat_template}: a model of mossc has one chat template, which has no name")
        return self.model.defaults.chat_template if chat_template else None

    def apply_chat_template(self, chat_history: list[Message], add_generation_prompt: bool = True) -> str:
        """The conversation as a text: where an answer begins, or with add_generation_prompt=False, where the last message goes on. bos and
        eos are marks in it (mossc.chat), which `tok_encode` knows."""
        render = self._template.render if add_generation_prompt else self._template.render_begun
        try:
            return render(chat_history)
        except jinja2.TemplateError as error:  # the harness's own models do the same
            others = [message for message in chat_history if message["role"] != "system"]
            if len(others) == len(chat_history):
                raise
            logging.getLogger(__name__).warning("the chat template refuses messages of the system, which are left out: %s", error)
            return render(others)

    # ---- what is asked

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Nothing after something is certain. The harness looks at a continuation's first token, so it gets those that have one."""
        asked = iter(super().loglikelihood([request for request in requests if request.args[1]], disable_tqdm))
        return [next(asked) if request.args[1] else (0.0, True) for request in requests]

    def _loglikelihood_tokens(self, requests: typing.Sequence[tuple[typing.Any, list[int], list[int]]], disable_tqdm: bool = False,
                              **_: typing.Any) -> list[tuple[float, bool]]:
        pairs = []
        for _, context, continuation in requests:
            together = (context + continuation)[-(self.max_length + 1) :]  # the last one is not fed
            split = len(together) - len(continuation)
            if split < 1:
                raise ValueError(f"a continuation of {len(continuation)} tokens is longer than the model's {self.max_length} positions")
            pairs.append((tuple(together[:split]), tuple(together[split:])))
        with tqdm(total=len(pairs), disable=disable_tqdm, desc="Running loglikelihood requests") as progress:
            return self.scorer.pairs(pairs, progress)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Each text once, in windows of max_length where the model has a bound; the harness's windows."""
        out = []
        for text, in tqdm([request.args for request in requests], disable=disable_tqdm, desc="Running loglikelihood_rolling requests"):
            ids = self.tok_encode(text, add_special_tokens=False)
            windows = utils.get_rolling_token_windows(ids, self.prefix_token_id, min(self.max_length, max(1, len(ids))), 1)
            total = 0.0
            for context, continuation in map(utils.make_disjoint_window, windows):
                with self.model.state() as state:
                    self.model.feed(state, context)
                    total += self.scorer.go_on(state, state.logits, continuation)[0]
            out.append(total)
        return out

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        asked = [request.args for request in requests]
        ends = [self.max_length - self._most(options) for _, options in asked]
        contexts = [tuple(self.tok_encode(text)[-max(1, end) :]) or (self.prefix_token_id,) for (text, _), end in zip(asked, ends)]
        out = [""] * len(asked)
        with tqdm(total=len(asked), disable=disable_tqdm, desc="Running generate_until requests") as progress:
            for number, state in states_after(self.model, contexts):
                out[number] = self._generate(state, contexts[number], asked[number][1])
                progress.update()
        return out

    def _most(self, options: dict) -> int:
        return int(options.get("max_gen_toks", options.get("max_tokens", self.max_gen_toks)))

    def _generate(self, state: mossc.State, context: typing.Sequence[int], options: dict) -> str:
        """What follows a state that was fed `context`, until a text of `until`, an end of text, or as many tokens as there may be: the most
        probable one each time, unless the task wants to sample. The penalty counts the whole text, as that of transformers does."""
        until = options.get("until") or []
        stops = [text for text in ([until] if isinstance(until, str) else until) if text]
        sampled = bool(options.get("do_sample")) and float(options.get("temperature", 1)) > 0
        pieces = self.model.generate(state=state, seen=context, penalty_window=-1, max_tokens=self._most(options), stop=stops,
                                     temperature=float(options.get("temperature", 1)) if sampled else 0,
                                     top_k=int(options.get("top_k", 0)), top_p=float(options.get("top_p", 1)), min_p=float(options.get("min_p", 0)),
                                     repeat_penalty=float(options.get("repetition_penalty", 1)), seed=int(options.get("seed", 0)))
        return pieces.text()


def _settle_device(options: argparse.Namespace) -> None:
    """Of `run` with a model of mossc: the CPU, unless --device or the file of --config says another. The harness's own default is a GPU."""
    from lm_eval.config.evaluate_config import EvaluatorConfig

    if options.command != "run":
        return
    given = EvaluatorConfig.load_yaml_config(options.config) if options.config else {}
    if (options.model or given.get("model")) == "mossc" and "device" not in given and not options.device:
        options.device = "cpu"


def main() -> int:
    """The harness's command line. Gives the exit status."""
    from lm_eval._cli import HarnessCLI

    utils.setup_logging()
    command = HarnessCLI()
    options = command.parse_args()
    try:
        _settle_device(options)
        command.execute(options)
    except MosscError as error:
        print(f"error: {said(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
