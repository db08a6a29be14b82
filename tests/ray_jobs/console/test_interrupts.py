"""A signal stops a command, even if the first exception was lost."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

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
