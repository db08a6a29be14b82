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


def list_models(containing: str = "") -> dict[str, Any]:
    """Backbones that can be named under [clip], each with its `pretrained` tags.

    Args:
        containing: only those whose name contains this, in any case.
    """
    import open_clip

    from fewshot.backbones.spec import EMBEDDED

    names = [EMBEDDED, *open_clip.list_models()]
    tags = {name: open_clip.list_pretrained_tags_by_model(name) if name != EMBEDDED else [] for name in names}
    return {"models": {name: tags[name] for name in names if containing.lower() in name.lower()}}
