"""Find the parts of a text tower in the families of models that open_clip builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from open_clip.hf_model import ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder, MeanPooler
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from fewshot.backbones.text_tower.prompt_tokens import unpadded_lengths
from fewshot.errors import BackboneError

RelevantLengths = Callable[[Tensor], Tensor]
"""Maps ids [K, L] int64 to [K] int64: the number of leading tokens of a sequence that its feature depends on."""


@dataclass(frozen=True, slots=True)
class TowerLayout:
    """The parts of a text tower that context vectors need.

    Attributes:
        embedding: token ids to token embeddings.
        relevant_lengths: None where a feature depends on the whole sequence, padding included (bidirectional towers
            that do not mask it: SigLIP, CLIPA, MobileCLIP S; CoCa, whose class token comes last), so that nothing may
            be cut.
        length_axes: by name with "model." in front, the number of leading axes of a tensor that are as long as the
            sequence.
    """

    embedding: nn.Module
    relevant_lengths: RelevantLengths | None = None
    length_axes: dict[str, int] = field(default_factory=dict)


def find_tower_layout(model: Any) -> TowerLayout:
    """Find the text tower's parts.

    Args:
        model: an open_clip `CLIP`, `CustomTextCLIP` or `CoCa`.

    Raises:
        BackboneError: the model has another layout.
    """
    text = getattr(model, "text", None)
    if isinstance(text, HFTextEncoder):
        return TowerLayout(text.transformer.get_input_embeddings(), _hugging_face_lengths(text))
    if isinstance(text, TextTransformer):
        causal = text.attn_mask is not None and text.cls_emb is None
        return _open_clip(text, "model.text.", _causal_lengths(text.pool_type, text.eos_id) if causal else None)
    if text is None and isinstance(getattr(model, "token_embedding", None), nn.Module):
        causal = model.attn_mask is not None
        return _open_clip(model, "model.", _causal_lengths(model.text_pool_type, model.text_eos_id) if causal else None)
    kind = type(model if text is None else text).__name__
    raise BackboneError(f"{kind} is not a text tower that takes context vectors; use an open_clip model")


def _open_clip(tower: Any, prefix: str, lengths: RelevantLengths | None) -> TowerLayout:
    axes = {} if lengths is None else {f"{prefix}positional_embedding": 1, f"{prefix}attn_mask": 2}
    return TowerLayout(tower.token_embedding, lengths, axes)


def _causal_lengths(pool_type: str, eos_id: int) -> RelevantLengths | None:
    """Return lengths up to the end token, where a causal tower pools: its feature depends on nothing after it."""
    if pool_type == "argmax":
        return lambda ids: ids.argmax(dim=1) + 1
    if pool_type == "eos":
        return lambda ids: (ids == eos_id).int().argmax(dim=1) + 1
    return None


def _hugging_face_lengths(text: Any) -> RelevantLengths | None:
    """Return lengths without padding, which attention masks out and these poolers do not read either."""
    if isinstance(text.pooler, MeanPooler | ClsPooler | ClsLastHiddenStatePooler):
        return partial(unpadded_lengths, padding=text.config.pad_token_id)
    return None
