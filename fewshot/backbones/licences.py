"""The licence of weights, where they come with a statement of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fewshot.backbones.clip_spec import ClipSpec
from fewshot.backbones.hub_repository import HubRepository

README = "README.md"
MAX_FRONT_MATTER = 1 << 16
"""Bytes of a README that are read; a card of the hub begins with its facts."""
_FRONT_MATTER = re.compile(r"---\n(.*?)\n---", re.DOTALL)
_LICENCE = re.compile(r"""^(license_name|license):[ ]*["']?([\w.+-]{1,80})["']?[ ]*$""", re.MULTILINE)


def licence_of(spec: ClipSpec, model: Any) -> str | None:
    """Return the name of the licence: of timm's configuration, or of the card beside the weights.

    Reads files of this machine only.

    Args:
        spec: of one model; on the hub, at a commit.
        model: as it is loaded.
    """
    if spec.is_image_only:
        stated = getattr(model.visual, "pretrained_cfg", {}).get("license")
        return stated if isinstance(stated, str) and not spec.pretrained else None
    card = _card(spec)
    return None if card is None else licence_in(card)


def licence_in(card: Path) -> str | None:
    """Return the licence that the front matter of a README names; None if there is none.

    Args:
        card: path of the README.
    """
    try:
        with card.open(encoding="utf-8", errors="replace") as file:
            text = file.read(MAX_FRONT_MATTER)
    except OSError:
        return None
    found = dict(_LICENCE.findall(match[1])) if (match := _FRONT_MATTER.match(text)) else {}
    return found.get("license_name") or found.get("license")


def _card(spec: ClipSpec) -> Path | None:
    if spec.is_folder:
        return Path(spec.model) / README
    if not spec.is_on_hub:
        return None
    from huggingface_hub import try_to_load_from_cache

    repository = HubRepository.from_name(spec.model)
    found = try_to_load_from_cache(repository.repo, README, revision=repository.revision)
    return Path(found) if isinstance(found, str) else None
