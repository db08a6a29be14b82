"""What weights for a name of open_clip expect: their activation, and the normalisation and resizing of images.

open_clip keeps both with its tags, and its names have defaults of their own. Two of its habits give wrong features
without an error. It computes in the activation of the name, although 27 of its 196 pairs of name and tag were trained
with QuickGELU under a name with GELU (all of OpenAI's, MetaCLIP, DFN, ...), and only warns. And to a local checkpoint
it gives the normalisation of OpenAI's, whatever the tags of the name have. Here a tag's own word counts, and a local
checkpoint gets what all tags of its name agree on; where they do not, the default of the name is taken, and logged.

A tag that says nothing about its activation has that of its name. For one pair, `roberta-ViT-B-32` of LAION, that is
QuickGELU, where open_clip computes with GELU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import open_clip
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg

PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
ACTIVATION = "quick_gelu"


@dataclass(frozen=True, slots=True)
class Conventions:
    """What weights expect.

    Attributes:
        quick_gelu: whether the activation is QuickGELU and not GELU.
        preprocessing: values of `PREPROCESSING`, as open_clip has them.
        assumed: names of those values that were assumed, as the tags of the name differ in them; empty if none was.
    """

    quick_gelu: bool
    preprocessing: Mapping[str, Any]
    assumed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return all values in a sentence."""
        values = ", ".join(f"{name} {_printable(value)}" for name, value in self.preprocessing.items())
        return f"{'QuickGELU' if self.quick_gelu else 'GELU'}, {values}"


def conventions_of_tag(name: str, tag: str) -> Conventions:
    """Return what the weights of a tag expect.

    Args:
        name: of open_clip.
        tag: one of its tags.
    """
    stated = _defaults(name) | get_pretrained_cfg(name, tag)
    return Conventions(bool(stated[ACTIVATION]), {key: stated[key] for key in PREPROCESSING})


def conventions_of_checkpoint(name: str) -> Conventions:
    """Return what a local checkpoint probably expects: what the tags of its name agree on, else the name's default.

    Args:
        name: of open_clip.
    """
    defaults = _defaults(name)
    known = [_defaults(name) | get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    agreed = {key: value for key, value in (known or [{}])[0].items() if all(each[key] == value for each in known)}
    values = {key: agreed.get(key, value) for key, value in defaults.items()}
    assumed = tuple(key for key in defaults if key not in agreed)
    return Conventions(bool(values[ACTIVATION]), {key: values[key] for key in PREPROCESSING}, assumed)


def _defaults(name: str) -> dict[str, Any]:
    preprocessing = {key: getattr(PreprocessCfg(), key) for key in PREPROCESSING}
    return {ACTIVATION: bool((open_clip.get_model_config(name) or {}).get(ACTIVATION, False))} | preprocessing


def _printable(value: Any) -> str:
    return " ".join(f"{each:.4g}" for each in value) if isinstance(value, tuple | list) else str(value)
