"""Commands that do a job's work, here or on a cluster, and what they look at in its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

JobCommand = Literal["classify", "evaluate"]
NEEDS: Mapping[JobCommand, tuple[str, ...]] = {"classify": ("archive", "support"), "evaluate": ("evaluate",)}
"""Sections without which a command cannot run."""
OTHERS: Mapping[JobCommand, tuple[str, ...]] = {"classify": ("evaluate",), "evaluate": ("archive", "support")}
"""Sections whose places a command does not look at."""
