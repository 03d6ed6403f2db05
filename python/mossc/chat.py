"""Conversations by a model's chat template: any Jinja, run in jinja2's sandbox (the extra `chat`)."""
from __future__ import annotations

import datetime
import json
import typing

from mossc._c import tokens_array
from mossc.generate import Generation, Piece

if typing.TYPE_CHECKING:
    from mossc.model import Model

Message = typing.Mapping[str, typing.Any]
# How a template's bos and eos are marked in its text: no message can spell them, since NUL is taken out of messages.
BOS, EOS = "\0b", "\0e"


def _environment() -> typing.Any:
    try:
        import jinja2.sandbox
    except ImportError as error:
        raise ImportError("for chat templates, install jinja2: pip install 'mossc[chat]'") from error

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals.update(raise_exception=refuse, strftime_now=lambda form: datetime.datetime.now().strftime(form))
    return environment


def _without_marks(value: typing.Any) -> typing.Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, typing.Mapping):
        return {key: _without_marks(item) for key, item in value.items()}
    return [_without_marks(item) for item in value] if isinstance(value, (list, tuple)) else value


class Template:
    """A chat template."""

    def __init__(self, jinja: str) -> None:
        self._template = _environment().from_string(jinja)

    def render(self, messages: typing.Sequence[Message], **more: typing.Any) -> str:
        """The conversation as a text that ends where an answer begins; bos and eos are marks in it. more: other variables of the template,
        such as tools."""
        return self._template.render(messages=_without_marks(list(messages)), add_generation_prompt=True, bos_token=BOS, eos_token=EOS,
                                     **_without_marks(more))


class Chat:
    """A conversation. `send` gives the answer as it comes; a turn feeds only what is new, as long as the template leaves the text before it
    as it was. `messages` are dicts of role and content; whoever changes them is understood at the next turn."""

    def __init__(self, model: Model, system: str | None, template: str | None, variables: typing.Mapping[str, typing.Any]) -> None:
        jinja = template or model.defaults.chat_template
        if jinja is None:
            raise ValueError("the model has no chat template (generation.yaml): give one")
        self.model, self.template, self.variables = model, Template(jinja), dict(variables)
        self.messages: list[dict[str, typing.Any]] = [] if system is None else [{"role": "system", "content": system}]
        self.state = model.state()
        self._text = ""  # that the state has seen

    def _ids(self, text: str) -> list[int]:
        """Of a text with marks, which follows self._text."""
        tokenizer, ids = self.model.tokenizer, []
        for i, part in enumerate(text.split("\0")):
            if i:
                mark = tokenizer.bos if part[0] == BOS[1] else tokenizer.eos
                ids += [] if mark is None else [mark]
                part = part[1:]
            if part:
                ids += tokenizer.encode(part, part=True, behind=bool(self._text or ids))
        return ids

    def send(self, content: typing.Any, *, role: str = "user", **options: typing.Any) -> typing.Iterator[Piece]:
        """A message; the answer's pieces, as Model.generate gives them with these options. The answer becomes a message once it is over, or the
        iterator is closed."""
        self.messages.append({"role": role, "content": content})
        return self.answer(**options)

    def answer(self, **options: typing.Any) -> typing.Iterator[Piece]:
        """The answer to the messages as they are."""
        text = self.template.render(self.messages, **self.variables)
        if not text.startswith(self._text):
            self.state.reset()
            self._text = ""
        ids = self._ids(text[len(self._text):])
        try:
            generation = self.model.generate(tokens_array(ids), state=self.state, whole=True, **options)
        except BaseException:
            self._text = "\0" # whatever comes is read anew
            raise
        self._text = text
        return self._told(generation)

    def _told(self, generation: Generation) -> typing.Iterator[Piece]:
        answer = []
        try:
            for piece in generation:
                answer.append(piece.text)
                yield piece
        finally:
            generation.close()
            said = "".join(answer)
            self.messages.append({"role": "assistant", "content": said})
            # A stop string was fed and is not in the answer; held text and a character that broke off are in neither.
            self._text = self._text + said if generation.stop in ("eos", "count") else "\0"

    def ask(self, content: typing.Any, **options: typing.Any) -> str:
        """`send`, and the whole answer."""
        return "".join(piece.text for piece in self.send(content, **options))
