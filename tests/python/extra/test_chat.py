"""Chats, grammars and the hub: what needs jinja2, llguidance and huggingface_hub, on a model whose tokens are bytes."""
import importlib.util
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import SPEC, TINY, WEIGHTS, Skipped, need, raises, run_tests  # noqa: E402

need("numpy", "jinja2", "llguidance")
import numpy as np  # noqa: E402

import mossc  # noqa: E402
from mossc.grammar import mask_of  # noqa: E402

TEMPLATE = """\
{{ bos_token }}{% for message in messages %}
<{{ message['role'] }}>{{ message['content'] }}</>
{% endfor %}
{% if add_generation_prompt %}<assistant>{% endif %}"""


def moss_tiny():
    return mossc.Model(mossc.Spec(SPEC, set={"tokenizer.eos": 10}), WEIGHTS)


def test_a_turn_feeds_only_what_is_new(m):
    model = moss_tiny()
    chat = model.chat("Be kind.", template=TEMPLATE)
    first = chat.ask("Hello", max_tokens=20, temperature=0)
    position = chat.state.position
    assert [message["role"] for message in chat.messages] == ["system", "user", "assistant"] and chat.messages[2]["content"] == first
    before = "<system>Be kind.</>\n<user>Hello</>\n<assistant>"
    assert position == len(before) + len(first.encode())
    assert first == model.generate(before, max_tokens=20, temperature=0).text()
    second = chat.ask("And now?", max_tokens=20, temperature=0)
    whole = before + first + "</>\n<user>And now?</>\n<assistant>"
    assert chat.state.position == len((whole + second).encode())
    assert second == model.generate(whole, max_tokens=20, temperature=0).text()
    chat.messages[1]["content"] = "Good evening" # what came before has changed: it is read anew
    assert chat.ask("Well?", max_tokens=5, temperature=0) == model.generate(
        whole.replace("Hello", "Good evening") + second + "</>\n<user>Well?</>\n<assistant>", max_tokens=5, temperature=0).text()


def test_penalties_count_earlier_turns(m):
    model = moss_tiny()
    options = {"max_tokens": 30, "temperature": 0, "repeat_penalty": 1.5, "frequency_penalty": 0.5, "penalty_window": -1}
    chat = model.chat(template=TEMPLATE)
    first = chat.ask("It was a dark evening, and", **options)
    whole = turn(chat.messages[:1]) + first + "</>\n" + turn([{"role": "user", "content": "And"}])
    second = chat.ask("And", **options)
    assert second == model.generate(whole, **options).text()
    state = model.state()
    model.feed(state, whole)
    assert second != model.generate(state=state, **options).text(), "the penalties change nothing here"


def turn(messages):
    """What TEMPLATE makes of them, before an answer; the model has no bos."""
    return "".join(f"<{one['role']}>{one['content']}</>\n" for one in messages) + "<assistant>"


def goes_on_as_a_fresh_one(chat, content="On"):
    """The next answer, and the state after it, are those of a model that has seen nothing but these messages."""
    prompt = turn([*chat.messages, {"role": "user", "content": content}])
    got = chat.ask(content, max_tokens=12, temperature=0)
    fresh = chat.model.generate(prompt, max_tokens=12, temperature=0, whole=True)
    assert got == fresh.text(), (prompt, got)
    assert chat.state.position == fresh.state.position, (chat.state.position, fresh.state.position)
    assert np.array_equal(chat.state.logits, fresh.state.logits)


def test_an_answer_that_is_broken_off_is_a_message(m):
    chat = moss_tiny().chat(template=TEMPLATE)
    answer = chat.send("Hello", max_tokens=50, temperature=0)
    said = next(answer).text + next(answer).text
    answer.close()
    assert chat.messages[-1] == {"role": "assistant", "content": said}
    goes_on_as_a_fresh_one(chat)


def test_what_the_state_saw_besides_is_forgotten(m):
    model = moss_tiny()
    whole = model.generate(turn([{"role": "user", "content": "Hello"}]), max_tokens=40, temperature=0).text()
    chat = model.chat(template=TEMPLATE)
    stop = whole[8:11]
    assert chat.ask("Hello", max_tokens=40, temperature=0, stop=stop) == whole[:whole.index(stop)]
    goes_on_as_a_fresh_one(chat) # the stop string was fed
    chat = model.chat(template=TEMPLATE)
    bytes_alone = {token: 1000 for token in (0xC3, 0xFF)}
    assert "\ufffd" in chat.ask("Hello", max_tokens=4, temperature=0, logit_bias=bytes_alone)
    goes_on_as_a_fresh_one(chat) # they were no characters

    class Broken:
        def allow(self, bits, limit):
            bits[:] = 0xFFFFFFFF
            return True

        def commit(self, token):
            raise RuntimeError("a bug of a mask")

        def rollback(self, count):
            raise AssertionError

    chat = model.chat(template=TEMPLATE)
    chat.ask("Hello", max_tokens=5, temperature=0)
    raises(RuntimeError, chat.ask, "More", mask=Broken())
    assert chat.messages[-1] == {"role": "assistant", "content": ""}
    goes_on_as_a_fresh_one(chat) # a token was fed that no answer has


def test_a_full_context_is_read_anew(m):
    model = mossc.Model(mossc.Spec(TINY.replace(", window: 8", ""), set={"max_positions": 64}), seed=1)
    chat = model.chat(template=TEMPLATE)
    said = list(chat.send("Hello", max_tokens=200, temperature=0))
    assert chat.state.position == 64 and chat.messages[-1]["content"] == "".join(piece.text for piece in said)
    chat.messages[1:] = [] # it does not fit, else
    chat.messages[0]["content"] = "Hi"
    goes_on_as_a_fresh_one(chat)


def test_a_message_that_was_not_sent_is_none(m):
    chat = moss_tiny().chat(template=TEMPLATE)
    chat.ask("Hello", max_tokens=5, temperature=0)
    before = list(chat.messages)
    raises(TypeError, chat.send, "x", no_such_option=1)
    raises(mossc.MosscError, chat.send, "x", stop=[""])
    assert chat.messages == before
    goes_on_as_a_fresh_one(chat)


def test_templates_have_variables_of_a_conversation_and_of_an_answer(m):
    chat = moss_tiny().chat(template="{{ messages | length }}{{ tools | tojson }}{{ mood }}", mood="kind")
    chat.ask("x", variables={"tools": [{"name": "a\0b"}]}, max_tokens=1)
    assert chat.state.position == len('1[{"name": "ab"}]kind') + 1
    chat.ask("x", variables={"tools": [], "mood": "brisk"}, max_tokens=1)
    assert chat.state.position == len("3[]brisk") + 1 and chat.variables == {"mood": "kind"}


def test_templates_run_in_a_sandbox(m):
    import jinja2
    model = moss_tiny()
    raises(jinja2.exceptions.SecurityError, model.chat(template="{{ messages.__class__.__mro__[1].__subclasses__() }}").ask, "x")
    error = raises(jinja2.TemplateError, model.chat(template="{{ raise_exception('no system') }}").ask, "x")
    assert "no system" in str(error)
    chat = model.chat(template="{{ messages | tojson }}{{ strftime_now('%Y') }}{% for x in [1, 2] %}{% if x == 2 %}{% break %}{% endif %}{% endfor %}")
    chat.ask("a\0b", max_tokens=1)
    assert chat.state.position == len('[{"role": "user", "content": "ab"}]2026') + 1
    assert "chat template" in str(raises(ValueError, model.chat))


PARTS = [
    "{{ messages | tojson }}{{ messages | tojson(ensure_ascii=True) }}{{ messages | tojson(false) }}",
    "{{ tools | tojson(separators=(',', ':')) }}{{ tools | tojson(sort_keys=True) }}{{ tools | tojson(indent=4) }}{{ tools | tojson(True, 2) }}",
    "{% for m in messages %}{% generation %}{{ m.content }}\n{% endgeneration %}{% endfor %}",
    "{%- for m in messages -%}{%- generation -%}  {{ m.role }}  {%- endgeneration -%}{%- endfor -%}",
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "{{ strftime_now('%Y %B') }}{{ strftime_now(format='%d') }}",
    "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{% if not m.content %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
    "{% if documents is not none %}{{ documents | length }}{% endif %}{% if tools is not none %}{{ tools | length }}{% endif %}{{ unknown }}",
    "{% set n = namespace(seen=0) %}{% for m in messages %}\n  {% set n.seen = n.seen + 1 %}\n{% endfor %}{{ n.seen }}{{ bos_token }}{{ eos_token }}",
    "{% if add_generation_prompt %}{{ raise_exception('no answer to ' + messages[0].content) }}{% endif %}{{ mood }}",
    "{% generation %}{{ messages[0].content }}",
]


def test_templates_are_rendered_as_transformers_does(m):
    if not importlib.util.find_spec("transformers"):
        raise Skipped("there is no transformers here")
    import jinja2
    from transformers.utils.chat_template_utils import render_jinja_template

    from mossc.chat import BOS, EOS, Template

    messages = [{"role": "user", "content": "größer <b> & 'so'"}, {"role": "assistant", "content": "  yes\n"}]
    tools = [{"type": "function", "function": {"name": "ask", "description": "Größe", "parameters": {"b": [1, 2.5, None], "a": {}}}}]

    def result(render):
        try:
            return render()
        except jinja2.TemplateError as error:
            return type(error), str(error)

    for template in PARTS:
        for more in ({}, {"tools": tools, "mood": "kind"}):
            wanted = result(lambda: render_jinja_template([messages], chat_template=template, add_generation_prompt=True, bos_token=BOS, eos_token=EOS,
                                                          **more)[0][0])
            assert result(lambda: Template(template).render(messages, **more)) == wanted, (template, wanted)


def test_texts_follow_a_schema(m):
    model = moss_tiny()
    schema = {"type": "object", "properties": {"name": {"enum": ["Anna", "Otto"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
              "required": ["name", "age"], "additionalProperties": False, "x-guidance": {"whitespace_flexible": False}}
    for seed in range(5):
        generation = model.generate("A person: ", json_schema=schema, seed=seed, max_tokens=200)
        person = json.loads(generation.text())
        assert person["name"] in ("Anna", "Otto") and 0 <= person["age"] <= 99 and len(person) == 2 and generation.stop == "eos"


def test_texts_follow_a_regex_and_a_grammar(m):
    for model in (moss_tiny(), mossc.Model(SPEC, WEIGHTS)): # the second has no token that ends a text
        generation = model.generate("Call ", regex=r"[0-9]{3}-[0-9]{4}", seed=2)
        assert re.fullmatch(r"\d{3}-\d{4}", generation.text()) and generation.stop == "eos"
        text = model.generate("He said ", grammar='start: ("yes" | "no") (", " ("yes" | "no")){2}', seed=1).text()
        assert re.fullmatch(r"(yes|no)(, (yes|no)){2}", text), text
    raises(ValueError, model.generate, "x", regex="[", max_tokens=3)
    raises(ValueError, model.generate, "x", regex="a", grammar="start: x")
    raises(ValueError, model.generate, "x", regex="a", mask=mask_of(model, regex="b"))


def test_a_mask_goes_back_with_the_state(m):
    model = moss_tiny()
    mask = mask_of(model, regex="abcd")
    bits = np.zeros(8, np.uint32)
    for letter in b"abc":
        bits[:] = 0
        assert mask.allow(bits, 256) and [i for i in range(256) if bits[i // 32] >> i % 32 & 1] == [letter]
        mask.commit(letter)
    mask.rollback(2)
    bits[:] = 0
    assert mask.allow(bits, 256) and bits[ord("b") // 32] >> ord("b") % 32 & 1


def test_pull_imports_what_the_hub_gives(m):
    need("huggingface_hub")
    import huggingface_hub
    folder = make_folder(m)
    asked = []

    def snapshot_download(repo_id, revision=None, allow_patterns=None):
        asked.append((repo_id, revision, sorted(allow_patterns)))
        return str(folder)

    original, huggingface_hub.snapshot_download = huggingface_hub.snapshot_download, snapshot_download
    try:
        made = mossc.pull("org/name", m.directory / "out", revision="main")
    finally:
        huggingface_hub.snapshot_download = original
    assert asked == [("org/name", "main", ["*.jinja", "*.json", "*.safetensors"])]
    assert made == m.directory / "out" and (made / "spec.yaml").exists()
    assert mossc.Model(made).logits([1, 2, 3]).tolist() == mossc.Model(folder).logits([1, 2, 3]).tolist()


def make_folder(m):
    """A Hugging Face folder, by mossc export."""
    m.file("llama.yaml", "mossc: 1\nname: tiny\nvocab_size: 64\nd_model: 32\nstack:\n  - attention: {n_heads: 2, rope: {theta: 10000}}\n  - mlp: {d_ff: 64}\n")
    m.run("init", "llama.yaml", "-o", "w", "--seed", "3")
    m.run("export", "llama.yaml", "-w", "w", "-o", "folder")
    return m.directory / "folder"


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
