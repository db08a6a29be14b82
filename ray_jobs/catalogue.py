"""What there is to choose from."""

from __future__ import annotations

import dataclasses
from typing import Any


def list_methods() -> dict[str, Any]:
    """The methods with a line about each and their hyperparameters; None means chosen inside the shots."""
    from fewshot.methods import METHODS

    return {
        "methods": {
            name: {
                "summary": method.summary,
                "hyperparameters": {f.name: getattr(method(), f.name) for f in dataclasses.fields(method)},
            }
            for name, method in METHODS.items()
        }
    }
