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


def test_ctrl_c_keeps_its_handler():
    program = (
        "import signal as s, ray_jobs.console.interrupts as i; i.install_handlers({}); print(s.getsignal(s.SIGINT))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "default_int_handler" in done.stdout


READY = "import sys, time; from ray_jobs.console import interrupts; interrupts.install_handlers({})\n"
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
with interrupts.time_to_end(30):
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


def interrupted(process):
    """Send Ctrl-C, and return exit code, messages and seconds until the process has ended."""
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        _, messages = process.communicate(timeout=MUCH)
    finally:
        process.kill()
    return process.returncode, messages, time.monotonic() - begin


@pytest.mark.parametrize("program", [SWALLOWED, IN_A_THREAD])
def test_ctrl_c_is_answered_and_ends_a_process_that_goes_on_waiting(program):
    process = start("-c", READY + program)
    assert process.stdout.readline() == "ready\n"
    code, messages, seconds = interrupted(process)
    assert code == 130
    assert messages.splitlines()[0] == "error: interrupted; finished work is kept, run again to resume"
    assert seconds < MUCH


def test_a_process_that_stops_others_has_more_time_and_a_second_ctrl_c_ends_it():
    process = start("-c", READY + PATIENT)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "stopping\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2.0)
    code, messages, seconds = interrupted(process)
    assert (code, messages) == (130, "error: interrupted; finished work is kept, run again to resume\n")
    assert seconds < MUCH


BLOCKED = "import time; open({ready!r}, 'w').close(); time.sleep(60)\n"


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("typer", "error: interrupted\n"),
        ("pyarrow", "error: interrupted; finished work is kept, run again to resume\n"),
    ],
)
def test_ctrl_c_is_answered_while_libraries_are_loaded(tmp_path, package, message):
    ready = tmp_path / "ready"
    put(tmp_path / package / "__init__.py", BLOCKED.format(ready=str(ready)).encode())
    process = start("-m", "ray_jobs", "classify", "x.toml", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert wait_until(ready.exists)
    assert ready.exists()
    code, messages, seconds = interrupted(process)
    assert code == 130
    assert messages.removeprefix("loading libraries …\n") == message
    assert seconds < MUCH


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
    assert (code, messages) == (130, "error: interrupted; finished work is kept, run again to resume\n")
    assert seconds < MUCH
