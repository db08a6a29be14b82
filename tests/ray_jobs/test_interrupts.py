"""A command that is told to stop does so, also where the first exception was swallowed."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, time
from ray_jobs import interrupts
interrupts.AGAIN_S = 0.05
interrupts.listen({"RAY_JOB_STOP_SIGNAL": sys.argv[1]})
try:
    os.kill(os.getpid(), int(sys.argv[2]))
except KeyboardInterrupt:
    pass
try:
    time.sleep(60)
except KeyboardInterrupt:
    interrupts.heard()
time.sleep(0.2)
print("in order")
"""


@pytest.mark.parametrize(("setting", "number"), [("SIGINT", signal.SIGINT), ("", signal.SIGTERM)])
def test_an_interrupt_that_was_swallowed_comes_again_until_it_is_heard(setting, number):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, setting, str(int(number))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "in order\n"), done.stderr


def test_the_users_own_interrupt_stays_what_it_is():
    program = "import signal as s, ray_jobs.interrupts as i; i.listen({}); print(s.getsignal(s.SIGINT))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "default_int_handler" in done.stdout
