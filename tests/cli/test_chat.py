#!/usr/bin/env python3
"""mossc chat: turns, commands, templates, interruption; and `run --chat`."""
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

from harness import TINY, run_tests

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
    spec, weights = tiny(m, text=TINY.replace("window: 8", "rope: none") + "max_positions: 80\n")
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
