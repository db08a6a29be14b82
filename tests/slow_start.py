"""A busy machine starts Ray late."""

from __future__ import annotations

import time
from typing import Any

PATIENCE_S = 200.0


def wait_for_slow_nodes() -> None:
    """Let a node that this process starts take minutes; Ray itself gives it thirty seconds to register."""
    from ray._private import services

    get_node = services.get_node

    def get_node_patiently(*args: Any) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return get_node(*args)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    services.get_node = get_node_patiently
