"""A step that quotes secrets when it fails, in a module that workers can import."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from cluster import Part

SECRET = "hunter2-in-the-environment"
PASSWORD = "correct-horse-battery"


@dataclass(frozen=True)
class Indiscreet:
    """Quotes its environment and a URL with a password.

    Attributes:
        in_setup: fails before any unit.
    """

    in_setup: bool = False

    def setup(self) -> None:
        os.environ["STEP_SECRET_TOKEN"] = SECRET
        if self.in_setup:
            self._fail()

    def run(self, state: Any, payload: Any) -> Part:
        self._fail()
        raise AssertionError("unreachable")

    def _fail(self) -> None:
        raise RuntimeError(f"could not reach https://me:{PASSWORD}@host/x?signature={PASSWORD} with {dict(os.environ)}")
