"""A turn in a process of its own: its messages, its exit code, and its end when the scheduler is interrupted."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from ray_jobs.scheduling import turn_process
from ray_jobs.scheduling.turn_process import KEPT_CHARACTERS, KEPT_LINES, command_line, run_turn


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_messages_are_shown_and_the_last_ones_kept():
    code = (
        f"import sys\nfor i in range({KEPT_LINES} + 5): print('line', i, file=sys.stderr)\nprint('result')\nsys.exit(1)"
    )
    shown: list[str] = []
    end = run_turn(python(code), shown.append)
    assert (end.exit_code, end.interrupted) == (1, False)
    assert shown == [f"line {i}" for i in range(KEPT_LINES + 5)]
    assert list(end.last_lines) == shown[5:]


def test_a_broken_terminal_blocks_no_turn():
    def show(line: str) -> None:
        raise BrokenPipeError(line)

    watchdog = "import signal; signal.alarm(20)\n"
    lines = "import sys\nfor i in range(9999): print('a line of a turn', i, file=sys.stderr)"
    end = run_turn(python(watchdog + lines), show)
    assert (end.exit_code, end.last_lines[-1]) == (0, "a line of a turn 9998")


def test_messages_are_without_secrets_and_control_characters():
    code = (
        "import sys; print('s3://user:hunter2@host/x \\x1b[31m', file=sys.stderr); print('y' * 9999, file=sys.stderr)"
    )
    end = run_turn(python(code), lambda _: None)
    assert "hunter2" not in end.last_lines[0]
    assert "\x1b" not in end.last_lines[0]
    assert len(end.last_lines[1]) == KEPT_CHARACTERS


def test_a_turn_that_is_killed_has_its_signal_as_exit_code():
    end = run_turn(python("import os; os.kill(os.getpid(), 9)"), lambda _: None)
    assert (end.exit_code, end.interrupted) == (-9, False)


def test_a_process_that_a_turn_left_behind_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(turn_process, "_REST_S", 0.1)
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(5)'])"
    started = time.monotonic()
    assert run_turn(python(code), lambda _: None).exit_code == 0
    assert time.monotonic() - started < 4


SLOW = """
import signal, sys, time
def end(number, frame):
    print("ended by", number, file=sys.stderr)
    sys.exit(130)
signal.signal({number}, end)
print("ready", file=sys.stderr, flush=True)
time.sleep(30)
"""


def interrupted(code: str) -> turn_process.TurnEnd:
    """The end of a turn during which this process was interrupted."""

    def show(line: str) -> None:
        if line == "ready":
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    return run_turn(python(code), show)


@pytest.fixture(autouse=True)
def _default_interrupt(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(turn_process, "acknowledge", lambda: None)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_turn_as_ctrl_c_does():
    end = interrupted(SLOW.format(number=2))
    assert (end.exit_code, end.interrupted) == (130, True)
    assert end.last_lines == ("ready", "ended by 2")


def test_a_turn_that_ignores_interrupts_gets_stronger_signals(monkeypatch):
    monkeypatch.setattr(turn_process, "STEP_S", 0.2)
    ignoring = "import signal; signal.signal(2, signal.SIG_IGN)\n"
    assert interrupted(ignoring + SLOW.format(number=15)).exit_code == 130
    stubborn = ignoring + "signal.signal(15, signal.SIG_IGN)\n" + SLOW.format(number=12)
    assert interrupted(stubborn).exit_code == -9


def test_the_command_line_names_job_and_overrides():
    assert command_line("retrain", Path("job.toml"), ["support.shots=4"]) == [
        *[sys.executable, "-m", "ray_jobs", "retrain", "job.toml"],
        *["--set", "support.shots=4", "--by", "schedule"],
    ]
    assert command_line("drift", "job.toml", ())[3:] == ["drift", "job.toml", "--by", "schedule"]
    assert command_line("classify", "job.toml", ()) == [sys.executable, "-m", "ray_jobs", "classify", "job.toml"]
