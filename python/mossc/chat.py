"""Conversations by a model's chat template: any Jinja, run in jinja2's sandbox (the extra `chat`)."""
from __future__ import annotations

import datetime
import json
import re
import typing

from mossc._c import tokens_array
from mossc.generate import Generation, Piece

if typing.TYPE_CHECKING:
    from mossc.model import Model
    from mossc.tokenizer import Tokenizer

Message = typing.Mapping[str, typing.Any]
# How a template's bos and eos are marked in its text: no message can spell them, since NUL is taken out of messages.
BOS, EOS = "\0b", "\0e"


def _environment() -> typing.Any:
    """That in which transformers runs chat templates."""
    try:
        import jinja2.ext
        import jinja2.sandbox
    except ImportError as error:
        raise ImportError("for chat templates, install jinja2: pip install 'mossc[chat]'") from error

    class GenerationBlock(jinja2.ext.Extension):
        """{% generation %}: marks an answer for training in transformers. Its content is the text; what it sets ends with it, as there."""

        tags = {"generation"}

        def parse(self, parser: typing.Any) -> typing.Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

        def _content(self, caller: typing.Callable[[], str]) -> str:
            return caller()

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                               extensions=[GenerationBlock, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=refuse, strftime_now=lambda format: datetime.datetime.now().strftime(format))
    return environment


def _tojson(x: typing.Any, ensure_ascii: bool = False, indent: int | None = None, separators: tuple[str, str] | None = None,
            sort_keys: bool = False) -> str:
    """The filter of transformers, with its names of arguments in their order; jinja2's own escapes HTML."""
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _without_marks(value: typing.Any) -> typing.Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, typing.Mapping):
        return {key: _without_marks(item) for key, item in value.items()}
    return [_without_marks(item) for item in value] if isinstance(value, (list, tuple)) else value


def ids_of(tokenizer: Tokenizer, text: str, *, behind: bool = False) -> list[int]:
    """The ids of a text with marks, with no other bos than these. behind: it follows other text."""
    ids: list[int] = []
    for part in re.split(f"({BOS}|{EOS})", text):
        if part in (BOS, EOS):
            mark = tokenizer.bos if part == BOS else tokenizer.eos
            ids += [] if mark is None else [mark]
        elif part:
            ids += tokenizer.encode(part, part=True, behind=behind or bool(ids))
    return ids


class Template:
    """A chat template."""

    def __init__(self, jinja: str) -> None:
        self._template = _environment().from_string(jinja)

    def render(self, messages: typing.Sequence[Message], **more: typing.Any) -> str:
        """The conversation as a text that ends where an answer begins; bos and eos are marks in it. more: other variables of the template,
        such as tools."""
        return self._render(messages, True, more)

    def render_begun(self, messages: typing.Sequence[Message], **more: typing.Any) -> str:
        """The conversation as a text that ends with the last message, which goes on: without what the template puts behind it."""
        text, last = self._render(messages, False, more), _without_marks(messages[-1]["content"])
        for content in (last, last.lstrip(), last.strip()):  # templates may strip messages
            if (at := text.rfind(content)) >= 0:
                return text[: at + len(content)]
        raise ValueError("the chat template does not show the last message as it is, so that it cannot go on")

    def _render(self, messages: typing.Sequence[Message], prompt: bool, more: typing.Mapping[str, typing.Any]) -> str:
        known = {"tools": None, "documents": None, **more}  # a template may ask `is none` without `is defined`
        return self._template.render(messages=_without_marks(list(messages)), add_generation_prompt=prompt, bos_token=BOS, eos_token=EOS,
                                     **_without_marks(known))


class Chat:
    """A conversation. `send` gives the answer as it comes; a turn feeds only what is new, as long as the template leaves the text before it
    as it was. `messages` are dicts of role and content; whoever changes them is understood at the next turn."""

    def __init__(self, model: Model, system: str | None, template: str | None, variables: typing.Mapping[str, typing.Any]) -> None:
        if template is not None and "{{" not in template and "{%" not in template:
            raise ValueError(f"template: expected Jinja, with {{{{ … }}}} or {{% … %}}, not {template!r} (names are for `mossc chat --template`)")
        jinja = template or model.defaults.chat_template
        if jinja is None:
            raise ValueError("the model has no chat template (generation.yaml): give one")
        self.model, self.template, self.variables = model, Template(jinja), dict(variables)
        self.messages: list[dict[str, typing.Any]] = [] if system is None else [{"role": "system", "content": system}]
        self.state = model.state()
        self._ids: list[int] = []  # that the state was fed, for penalties
        self._text: str | None = ""  # that the state has seen; None: something else, so that it begins anew

    def send(self, content: typing.Any, *, role: str = "user", variables: typing.Mapping[str, typing.Any] | None = None,
             **options: typing.Any) -> typing.Iterator[Piece]:
        """A message; the answer's pieces, as Model.generate gives them with these options. The answer becomes a message once it is over, or the
        iterator is closed. variables: of the template, for this answer alone, before those of the conversation. After an exception the
        messages are as they were."""
        message = {"role": role, "content": content}
        generation = self._begin([*self.messages, message], variables, options)
        self.messages.append(message)
        return self._told(generation)

    def answer(self, *, variables: typing.Mapping[str, typing.Any] | None = None, **options: typing.Any) -> typing.Iterator[Piece]:
        """The answer to the messages as they are."""
        return self._told(self._begin(self.messages, variables, options))

    def _begin(self, messages: typing.Sequence[Message], variables: typing.Mapping[str, typing.Any] | None,
               options: typing.Mapping[str, typing.Any]) -> Generation:
        """Feeds what the state has not seen of these messages."""
        text = self.template.render(messages, **{**self.variables, **(variables or {})})
        if self._text is None or not text.startswith(self._text):
            self.state.reset()
            self._text, self._ids = "", []
        ids = ids_of(self.model.tokenizer, text[len(self._text):], behind=bool(self._text))
        self._text = None  # until all is fed
        generation = self.model.generate(tokens_array(ids), state=self.state, seen=self._ids, whole=True, **options)
        self._text = text
        self._ids += ids
        return generation

    def _told(self, generation: Generation) -> typing.Iterator[Piece]:
        answer = []
        try:
            for piece in generation:
                answer.append(piece.text)
                if piece.token is not None:
                    self._ids.append(piece.token)
                yield piece
        finally:
            generation.close()
            said = "".join(answer)
            self.messages.append({"role": "assistant", "content": said})
            # A stop string was fed and is not in the answer; held text is in neither; bytes that are no character stand there as another one.
            known = self._text is not None and generation.stop in ("eos", "count") and "\ufffd" not in said
            self._text = self._text + said if known else None

    def ask(self, content: typing.Any, **options: typing.Any) -> str:
        """`send`, and the whole answer."""
        return "".join(piece.text for piece in self.send(content, **options))
