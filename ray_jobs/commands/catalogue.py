"""What there is to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewshot.methods import DIFFUSION_SCORERS, METHODS, MethodInfo, hyperparameters_of


def list_methods() -> dict[str, Any]:
    """The methods, and those for [escalate], with a line about each and their hyperparameters.

    None means chosen inside the shots, or, for [escalate], by the size of the diffusion model.
    """
    return {"methods": _told(METHODS), "escalate": _told(DIFFUSION_SCORERS)}


def _told(methods: Mapping[str, MethodInfo]) -> dict[str, Any]:
    return {
        name: {
            "summary": info.summary,
            "hyperparameters": {each.name: each.default for each in hyperparameters_of(name)},
        }
        for name, info in methods.items()
    }


def list_models(containing: str = "") -> dict[str, Any]:
    """Backbones that can be named under [clip], each with its `pretrained` tags.

    Args:
        containing: only those whose name contains this, in any case.
    """
    import open_clip

    from fewshot.backbones.clip_spec import EMBEDDED

    names = [EMBEDDED, *open_clip.list_models()]
    tags = {name: open_clip.list_pretrained_tags_by_model(name) if name != EMBEDDED else [] for name in names}
    return {"models": {name: tags[name] for name in names if containing.lower() in name.lower()}}
