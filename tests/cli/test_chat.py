#!/usr/bin/env python3
"""mossc chat: turns, commands, templates, interruption; and `run --chat`."""
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import time

from harness import TINY, read_safetensors, run_tests, write_safetensors

BOUNDED = TINY.replace("window: 8", "rope: none")

CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def tiny(m, spec="tiny.yaml", text=TINY):
    m.file(spec, text)
    m.run("init", spec, "-o", "w.safetensors", "--seed", "7")
    return spec, "w.safetensors"


def chat(m, lines, *options, status=0):
    done = m.run("chat", *options, stdin="".join(line + "\n" for line in lines).encode(), status=status)
    return done.stdout.decode("latin-1"), done.stderr  # tokens are bytes


def out(m, *arguments):
    return m.run(*arguments).stdout.decode("latin-1")


def common(m, *more):
    spec, weights = tiny(m)
    return [spec, "-w", weights, "--template", "chatml", "--temp", "0", "-n", "6", "--logit-bias", "10-inf", *more]


def test_an_answer_is_what_run_makes_of_the_template_s_text(m):
    options = common(m)
    text, _ = chat(m, ["Hello"], *options)
    plain = [option for option in options if option not in ("--template", "chatml")]
    run = out(m, "run", *plain, "--prompt", CHATML.format("Hello"), "--no-echo")
    assert text == run + "\n" and len(run) > 0, (text, run)
    assert out(m, "run", *options, "--chat", "--prompt", "Hello") == run
    with_system = out(m, "run", *options, "--chat", "--prompt", "Hello", "--system", "S")
    assert with_system == out(m, "run", *plain, "--prompt", "<|im_start|>system\nS<|im_end|>\n" + CHATML.format("Hello"), "--no-echo")


def test_a_turn_costs_its_own_tokens(m):
    _, said = chat(m, ["Hello", "And?", "So"], *common(m), "--stats")
    read = [int(count) for count in re.findall(r"read (\d+) tokens", said)]
    between = len("<|im_end|>\n")
    assert read == [len(CHATML.format(text)) + more for text, more in (("Hello", 0), ("And?", between), ("So", between))], said


def test_the_second_turn_is_that_of_the_whole_text(m):
    options = common(m)
    first, second = chat(m, ["Hello", "And?"], *options)[0].split("\n")[:2]
    plain = [option for option in options if option not in ("--template", "chatml")]
    whole = CHATML.format("Hello") + first + "<|im_end|>\n" + CHATML.format("And?")
    (m.directory / "whole.txt").write_bytes(whole.encode("latin-1"))
    assert out(m, "run", *plain, "--prompt-file", "whole.txt", "--no-echo") == second


def test_undo_takes_messages_back(m):
    options = common(m, "--temp", "2", "--seed", "3")
    wanted = chat(m, ["Hello", "And?"], *options)[0]
    first = wanted.split("\n")[0]
    text, said = chat(m, ["Hello", "x", "/undo", "And?", "/undo", "/undo", "/undo", "Hello", "And?"], *options)
    answers = text.split("\n")
    assert [answers[0], answers[2]] == wanted.split("\n")[:2] == answers[3:5] and answers[0] == first, (text, wanted)
    assert "no message to take back" in said, said


def test_clear_and_system_begin_anew(m):
    options = common(m)
    hello = chat(m, ["Hello"], *options)[0]
    assert chat(m, ["x", "/clear", "Hello"], *options)[0].split("\n")[1] == hello.split("\n")[0]
    with_system = chat(m, ["Hello"], *options, "--system", "S")[0]
    assert chat(m, ["x", "/system S", "Hello"], *options)[0].split("\n")[1] == with_system.split("\n")[0]


def test_a_conversation_is_saved_and_loaded(m):
    options = common(m)
    wanted = chat(m, ["Hello", "And?"], *options)[0].split("\n")[1]
    chat(m, ["Hello", "/save c.state"], *options)
    assert chat(m, ["x", "/load c.state", "And?"], *options)[0].split("\n")[1] == wanted
    assert chat(m, ["And?"], *options, "--state-in", "c.state")[0].split("\n")[0] == wanted
    chat(m, ["Hello"], *options, "--state-out", "d.state")
    text, said = chat(m, ["And?", "/undo", "And?", "/undo", "/undo"], *options, "--state-in", "d.state")
    assert text.split("\n")[:2] == [wanted, wanted] and "no message to take back" in said, (text, said)
    _, said = chat(m, ["/load none.state", "/save", "Hello"], *options)
    assert "none.state" in said and "name a file" in said, said


def test_the_template_is_that_of_the_model(m):
    spec, weights = tiny(m)
    options = [spec, "-w", weights, "--temp", "0", "-n", "4"]
    assert "there is no generation.yaml" in chat(m, ["Hello"], *options, status=1)[1]
    m.file("generation.yaml", "chat_template: \"{{ '<|im_start|>' + message['role'] }}\"\n")
    assert chat(m, ["Hello"], *options)[0] == chat(m, ["Hello"], *options, "--template", "chatml")[0]
    m.file("generation.yaml", "chat_template: \"{{ 'USER: ' + message }}\"\n")
    said = chat(m, ["Hello"], *options, status=1)[1]
    assert "name one with --template: smollm2" in said, said
    assert "unknown chat template 'x'" in chat(m, ["Hello"], *options, "--template", "x", status=1)[1]


def test_a_directory_is_a_model(m):
    spec, weights = tiny(m)
    (m.directory / "model").mkdir()
    (m.directory / spec).rename(m.directory / "model" / "spec.yaml")
    (m.directory / weights).rename(m.directory / "model" / "model.safetensors")
    options = ["--temp", "0", "-n", "4"]
    assert chat(m, ["Hello"], "model", "--template", "chatml", *options)[0] == out(m, "run", "model", "--template", "chatml", "--chat", "--prompt", "Hello", *options) + "\n"
    (m.directory / "model" / "model.safetensors").unlink()
    assert "model.safetensors" in chat(m, [], "model", status=2)[1]


def test_a_message_goes_on_behind_a_backslash(m):
    options = common(m)
    text = chat(m, ["Hello\\", "there"], *options)[0]
    assert text == out(m, "run", *options, "--chat", "--prompt", "Hello\nthere") + "\n"


def test_a_full_conversation_goes_on_after_clear(m):
    spec, weights = tiny(m, text=BOUNDED + "max_positions: 80\n")
    text, said = chat(m, ["Hello", "x" * 60, "/clear", "Hello"], spec, "-w", weights, "--template", "chatml", "--temp", "0", "-n", "4")
    assert "the conversation has room for" in said, said
    assert text.split("\n")[0] == text.split("\n")[1] != "", text


def start(m, options, **streams):
    command = [m.program, "chat", *options]
    return subprocess.Popen(command, cwd=m.directory, env=m.environment(), **streams)


def test_an_interrupt_ends_the_answer_alone(m):
    options = [option if option != "6" else "1000000" for option in common(m)]
    process = start(m, options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"Hello\n")
    process.stdin.flush()
    first = os.read(process.stdout.fileno(), 1)
    process.send_signal(signal.SIGINT)
    answer = first
    while not answer.endswith(b"\n"):
        answer += os.read(process.stdout.fileno(), 65536)
    process.stdin.write(b"And?\n")
    process.stdin.flush()
    assert os.read(process.stdout.fileno(), 1)
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=60)
    assert process.returncode == 0 and rest.endswith(b"\n"), (process.returncode, said)


def test_sigterm_ends_the_conversation_with_its_state(m):
    options = [option if option != "6" else "1000000" for option in common(m)]
    process = start(m, [*options, "--state-out", "c.state"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"Hello\nAnd?\n")
    process.stdin.flush()
    assert os.read(process.stdout.fileno(), 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0, process.stderr.read()
    assert process.stdout.read().count(b"\n") == 1 and (m.directory / "c.state").stat().st_size > 0
    process.communicate()


def processor_seconds(process):
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_interrupt_takes_a_message_back_that_is_not_read(m):
    options = common(m)
    first, second = chat(m, ["Hello", "And?"], *options)[0].split("\n")[:2]
    process = start(m, options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"Hello\n")
    process.stdin.flush()
    shown = b""
    while not shown.endswith(b"\n"):
        shown += os.read(process.stdout.fileno(), 4096)
    begin, end = processor_seconds(process), time.monotonic() + 60
    process.stdin.write(b"x" * (20 << 20) + b"\n")
    process.stdin.flush()
    while processor_seconds(process) < begin + 2 and time.monotonic() < end:  # enough to have begun, and too little to read it
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(b"And?\n", timeout=100)
    assert process.returncode == 0 and b"was not read to its end" in said, (process.returncode, said)
    assert (shown + rest).decode("latin-1") == f"{first}\n\n{second}\n", (shown, rest)


# ------------------------------------------------------------------------------------------------ stops


def reads(said):
    return [int(count) for count in re.findall(r"read (\d+) tokens", said)]


def test_a_user_s_stop_is_not_the_template_s_end(m):
    options = common(m, "--stats")
    answer = chat(m, ["Hello"], *options)[0]
    at = next(i for i, c in enumerate(answer) if c != "\0")
    stop = os.fsdecode(answer[at].encode("latin-1"))
    text, said = chat(m, ["Hello", "And?"], *options, "--stop", stop)
    assert text.split("\n")[0] == answer[:at] and reads(said)[1] == len("<|im_end|>\n" + CHATML.format("And?")), (text, said)


def test_the_template_s_end_in_several_tokens_ends_an_answer(m):
    """Of the bytes of <SPECIAL_12> each follows from the one before: an answer of one letter, then that."""
    spec, weights = tiny(m, text="mossc: 1\nname: tiny\nvocab_size: 256\nd_model: 256\ntie_embeddings: false\nstack:\n  - mlp: {d_ff: 8}\n")
    header, data = read_safetensors(m.directory / weights)
    data = bytearray(data)

    def fill(name, value):
        begin, end = header[name]["data_offsets"]
        rows, columns = header[name]["shape"]
        data[begin:end] = struct.pack(f"<{rows * columns}f", *(value(i // columns, i % columns) for i in range(rows * columns)))

    follows = dict(zip(b"\nB<SPECIAL_12", b"B<SPECIAL_12>"))
    for name in header:
        if name != "__metadata__" and len(header[name]["shape"]) == 2:
            vocabulary = header[name]["shape"] == [256, 256]
            head = vocabulary and "head" in name
            fill(name, lambda row, column, v=vocabulary, h=head: float(v and (follows.get(column) == row if h else row == column)))
    write_safetensors(m.directory / "told", header, bytes(data))
    options = [spec, "-w", "told", "--template", "nemotron", "--temp", "0", "-n", "40"]
    assert out(m, "run", *options, "--chat", "--prompt", "Hello") == "B"
    text, said = chat(m, ["Hello", "And?"], *options, "--stats")
    assert text == "B\nB\n" and reads(said)[1] == len("\n<SPECIAL_11>User\nAnd?\n<SPECIAL_11>Assistant\n"), (text, said)


def test_a_message_is_what_is_typed(m):
    options = common(m, "--stats")
    _, said = chat(m, ["a{bos}{eos}", "//exit", "/nothing", "/exit", "b"], *options)
    assert reads(said) == [len(CHATML.format("a{bos}{eos}")), len("<|im_end|>\n" + CHATML.format("/exit"))], said
    assert "unknown command '/nothing'" in said and "is written with //" in said, said


def test_a_system_beside_a_state_is_warned_of(m):
    options = common(m)
    chat(m, ["Hello"], *options, "--state-out", "c.state")
    words = "--system has no effect"
    assert words in chat(m, ["And?"], *options, "--state-in", "c.state", "--system", "S")[1]
    assert words in m.run("run", *options, "--chat", "--prompt", "And?", "--state-in", "c.state", "--system", "S").stderr
    assert words not in chat(m, ["And?"], *options, "--system", "S")[1]


# ------------------------------------------------------------------------------------------------ what is taken back


def test_undo_after_the_last_position(m):
    """Answers of 20 and of 11 tokens, the last without a position, each another one of 30 while there are such: one that were forgotten
    would come again."""
    spec, weights = tiny(m, text=BOUNDED + "max_positions: 143\n")
    options = [spec, "-w", weights, "--template", "chatml", "--temp", "0", "-n", "20", "--presence-penalty", "1000", "--repeat-last-n", "-1"]
    for token in range(128, 158):
        options += ["--logit-bias", f"{token}=500"]
    text, said = chat(m, ["a", "b", "/undo", "b"], *options)
    assert said.count("has reached the model's max_positions") == 2, said
    whole = chat(m, ["a", "b"], *options)[0]
    assert text.startswith(whole) and text[len(whole):] == whole[len(chat(m, ["a"], *options)[0]):], (text, whole)


def test_a_message_that_gives_no_numbers_is_taken_back(m):
    """The token Z overflows, of which the model makes NaN: a router refuses it; without one the logits are looked at."""
    plain = "mossc: 1\nname: tiny\nvocab_size: 256\nd_model: 32\nstack:\n  - ssm: {d_state: 4}\n  - mlp: {d_ff: 48}\n"
    for text, words in ((TINY, "gave a non-finite value"), (plain, "logits are non-finite")):
        spec, weights = tiny(m, text=text.replace("stack:", "tie_embeddings: false\nembedding_scale: 10.0\nstack:"))
        header, data = read_safetensors(m.directory / weights)
        name = next(name for name in header if "embed" in name)
        row = header[name]["data_offsets"][0] + 4 * 32 * ord("Z")
        write_safetensors(m.directory / "bad", header, data[:row] + struct.pack("<f", 3e38) * 32 + data[row + 4 * 32:])
        options = [spec, "-w", "bad", "--template", "chatml", "--temp", "0", "-n", "6", "--repeat-penalty", "1.5"]
        options += ["--logit-bias", "10-inf", "--logit-bias", f"{ord('Z')}-inf"]
        wanted = chat(m, ["Hello", "And?"], *options)[0]
        got, said = chat(m, ["Hello", "xZ", "And?"], *options)
        assert got == wanted and words in said, (got, wanted, said)


def test_lines_are_read_from_a_terminal(m):
    options = common(m)
    wanted = chat(m, ["Hello"], *options)[0].strip()
    master, slave = pty.openpty()
    process = start(m, options, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""

    def read_until(done):
        nonlocal shown
        end = time.monotonic() + 60
        while not done() and time.monotonic() < end:
            if select.select([master], [], [], 0.2)[0]:
                try:
                    shown += os.read(master, 4096)
                except OSError:
                    return

    read_until(lambda: b"> " in shown)
    os.write(master, b"Hello\r")
    read_until(lambda: shown.count(b"> ") >= 2 and wanted.encode("latin-1") in shown)
    os.write(master, b"/exit\r")
    read_until(lambda: process.poll() is not None)
    assert process.wait(timeout=60) == 0 and b"/help lists the commands" in shown, shown
    if all(32 <= ord(c) < 127 for c in wanted):
        assert wanted.encode() in shown, (wanted, shown)
    os.close(master)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
