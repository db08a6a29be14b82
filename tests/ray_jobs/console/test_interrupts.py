"""A signal stops a command, even if the first exception was lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.ray_jobs.place import put, wait_until
from tests.sources import ROOT

PROGRAM = """
import os, signal, sys, time
from ray_jobs.console import interrupts
interrupts.install_handlers({"RAY_JOB_STOP_SIGNAL": sys.argv[1]})
interrupts.REPEAT_S = 0.05
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # However slow this is, it comes where it is waited for.
try:
    os.kill(os.getpid(), int(sys.argv[2]))
except KeyboardInterrupt:
    pass
interrupts.REPEAT_S = 600
try:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    time.sleep(60)
except KeyboardInterrupt:
    print(*map(round, signal.getitimer(signal.ITIMER_REAL)))
    interrupts.acknowledge()
print(*signal.getitimer(signal.ITIMER_REAL))
"""


@pytest.mark.parametrize(("setting", "number"), [("SIGINT", signal.SIGINT), ("", signal.SIGTERM)])
def test_a_lost_interrupt_is_raised_again_until_acknowledged(setting, number):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, setting, str(int(number))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    again, acknowledged = done.stdout.splitlines()
    assert 0 < int(again.split()[0]) <= 600
    assert acknowledged == "0.0 0.0"


@pytest.mark.parametrize(
    ("before", "after"), [("default_int_handler", "_on_ctrl_c"), ("SIG_IGN", "SIG_IGN")], ids=["usual", "ignored"]
)
def test_ctrl_c_is_handled_unless_it_is_ignored(before, after):
    program = (
        f"import signal as s, ray_jobs.console.interrupts as i; s.signal(s.SIGINT, s.{before});"
        " i.install_handlers({}); print(repr(s.getsignal(s.SIGINT)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert after in done.stdout


READY = "import sys, time; from ray_jobs.console import interrupts as i; i.install_handlers({}); i.begin_work()\n"
LINE = "error: interrupted; finished work is kept, run again to resume\n"
STOPPING_LINE = LINE.replace("resume", "resume (stopping the workers, Ctrl-C again ends at once)")
SWALLOWED = """
try:
    print("ready", flush=True); time.sleep(60)
except BaseException:
    time.sleep(60)
"""
IN_A_THREAD = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as threads:
    threads.submit(time.sleep, 60)
    print("ready", flush=True); time.sleep(60)
"""
PATIENT = """
with i.time_to_end(30):
    while True:
        try:
            print("ready", flush=True)  # Within the block: the interrupt may come before the next line.
            time.sleep(60)
        except KeyboardInterrupt:
            print("stopping", flush=True)
"""
MUCH = 30.0
"""Seconds that are far more than an interrupt may take, however busy the machine is, and less than what it ends."""


def start(*words, **variables):
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    return subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def interrupted(process, number=signal.SIGINT):
    """Send Ctrl-C or another signal, and return exit code, messages and seconds until the process has ended."""
    begin = time.monotonic()
    process.send_signal(number)
    try:
        _, messages = process.communicate(timeout=MUCH)
    finally:
        process.kill()
    return process.returncode, messages, time.monotonic() - begin


IN_ANOTHER_THREAD = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # The kernel gives it to another thread.
try:
    print("ready", flush=True); time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_signal_that_does_not_end_the_wait_of_the_main_thread_wakes_it():
    process = start("-c", READY + IN_ANOTHER_THREAD)
    assert process.stdout.readline() == "ready\n"
    code, _, seconds = interrupted(process, signal.SIGTERM)
    assert code == 130
    assert seconds < MUCH


@pytest.mark.parametrize("program", [SWALLOWED, IN_A_THREAD])
def test_ctrl_c_is_answered_and_ends_a_process_that_goes_on_waiting(program):
    process = start("-c", READY + program)
    assert process.stdout.readline() == "ready\n"
    code, messages, seconds = interrupted(process)
    assert code == 130
    assert messages.splitlines(keepends=True)[0] == LINE
    assert seconds < MUCH


def test_a_process_that_stops_others_has_more_time_and_a_second_ctrl_c_ends_it():
    process = start("-c", READY + PATIENT)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "stopping\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2.0)
    code, messages, seconds = interrupted(process)
    assert (code, messages) == (130, STOPPING_LINE)
    assert seconds < MUCH


BLOCKED = "import time; open({ready!r}, 'w').close(); {wait}\n"
WAIT = "time.sleep(60)"
NOTED = ("loading libraries …\n", "loading open_clip …\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("wait", [WAIT, f"exec({WAIT!r})"], ids=["", "compiled from text"])
@pytest.mark.parametrize(
    ("package", "words"),
    [("typer", ["--help"]), ("pyarrow", ["classify", "x.toml"]), ("open_clip", ["models"])],
    ids=["the command line", "loading", "working"],
)
def test_an_interrupt_is_one_line_while_libraries_are_loaded(tmp_path, package, words, wait, number):
    ready = tmp_path / "ready"
    put(tmp_path / package / "__init__.py", BLOCKED.format(ready=str(ready), wait=wait).encode())
    process = start("-m", "ray_jobs", *words, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert wait_until(ready.exists)
    code, messages, seconds = interrupted(process, number)
    assert code == 130
    assert [line for line in messages.splitlines(keepends=True) if line not in NOTED] == [LINE]
    assert seconds < MUCH


def test_an_interrupt_is_one_line_before_it_is_handled(tmp_path):
    ready = tmp_path / "ready"
    put(tmp_path / "signal" / "__init__.py", BLOCKED.format(ready=str(ready), wait=WAIT).encode())
    process = start("-m", "ray_jobs", "--help", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert wait_until(ready.exists)
    assert interrupted(process)[:2] == (130, "error: interrupted\n")


ENDING = """
import atexit, sys, time
from ray_jobs import __main__
from ray_jobs.commands import app
from ray_jobs.console.waiting import finish_loading
atexit.register(lambda: print("ready", flush=True) or time.sleep(60))
def run():
    finish_loading()
    sys.exit(int(sys.argv[1]))
app.main = run
__main__.main()
"""


def test_an_interrupt_that_the_command_line_has_caught_is_reported():
    process = start("-c", ENDING, 130)
    assert process.communicate(timeout=MUCH) == ("", LINE)
    assert process.returncode == 130


def test_an_interrupt_after_the_end_of_a_command_is_one_line():
    process = start("-c", ENDING, 0)
    assert process.stdout.readline() == "ready\n"
    assert interrupted(process)[:2] == (130, LINE)


def test_a_command_says_what_it_waits_for_and_can_be_interrupted_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        job = tmp_path / "job.toml"
        job.write_text(
            f'[job]\nname = "a"\noutput = "{tmp_path / "output"}"\n'
            f'[archive]\nuri = "photos"\n[support]\nuri = "examples"\n'
            f'[storage]\nendpoint = "http://127.0.0.1:{silent.getsockname()[1]}"\n'
        )
        process = start("-m", "ray_jobs", "classify", job)
        lines = []
        while not lines or lines[-1].startswith("loading libraries"):
            lines.append(process.stderr.readline())
        assert lines[-1] == "checking the job file and the storage, models and files that it names …\n"
        code, messages, seconds = interrupted(process)
    assert (code, messages) == (130, LINE)
    assert seconds < MUCH
