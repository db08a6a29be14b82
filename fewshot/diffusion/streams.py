"""Random numbers that belong to a name alone, whatever was drawn before and beside it."""

from __future__ import annotations

import hashlib
import json

import torch


def stream(seed: int, *name: str | int) -> torch.Generator:
    """A CPU generator from a hash of its arguments.

    Args:
        seed: of the experiment.
        name: what is drawn, for whom, at which step; "1" and 1 are different names.
    """
    digest = hashlib.blake2b(json.dumps([seed, *name]).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
