from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.on_ray.signals import sigterm_kept


def start_of_ray() -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))


def terminated_at_the_start() -> None:
    with sigterm_kept():
        start_of_ray()
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def interrupting() -> Iterator[Any]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGTERM, before)


def test_the_handler_of_the_program_is_there_afterwards(interrupting: Any) -> None:
    with sigterm_kept():
        start_of_ray()
    assert signal.getsignal(signal.SIGTERM) is interrupting


def test_a_signal_while_ray_starts_reaches_the_program(interrupting: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        terminated_at_the_start()
    assert signal.getsignal(signal.SIGTERM) is interrupting


def test_a_program_without_a_handler_gets_that_of_ray(interrupting: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit):
        terminated_at_the_start()
    assert callable(signal.getsignal(signal.SIGTERM))
