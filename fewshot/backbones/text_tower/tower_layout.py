"""Where the parts of a text tower lie in the families of models that open_clip builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from open_clip.hf_model import ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder, MeanPooler
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from fewshot.backbones.text_tower.prompt_tokens import used
from fewshot.errors import BackboneError

Ends = Callable[[Tensor], Tensor]
"""Ids [K, L] int64 to [K] int64: how many leading tokens of a sequence its feature depends on."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of a model that context vectors meet.

    Attributes:
        embedding: token ids to token embeddings.
        ends: None where a feature depends on the whole sequence, padding included (bidirectional towers that do not
            mask it: SigLIP, CLIPA, MobileCLIP S; CoCa, whose class token comes last), so that nothing may be cut.
        cut_with_length: tensors by name, "model." in front, and how many axes of each are as long as the sequence.
    """

    embedding: nn.Module
    ends: Ends | None = None
    cut_with_length: dict[str, int] = field(default_factory=dict)


def layout_of(model: Any) -> Layout:
    """Find the text tower's parts.

    Args:
        model: an open_clip `CLIP`, `CustomTextCLIP` or `CoCa`.

    Raises:
        BackboneError: the model has another layout.
    """
    text = getattr(model, "text", None)
    if isinstance(text, HFTextEncoder):
        return Layout(text.transformer.get_input_embeddings(), _hugging_face_ends(text))
    if isinstance(text, TextTransformer):
        causal = text.attn_mask is not None and text.cls_emb is None
        return _open_clip(text, "model.text.", _causal_ends(text.pool_type, text.eos_id) if causal else None)
    if text is None and isinstance(getattr(model, "token_embedding", None), nn.Module):
        causal = model.attn_mask is not None
        return _open_clip(model, "model.", _causal_ends(model.text_pool_type, model.text_eos_id) if causal else None)
    kind = type(model if text is None else text).__name__
    raise BackboneError(f"{kind} is not a text tower that context vectors can be put into; take an open_clip model")


def _open_clip(tower: Any, prefix: str, ends: Ends | None) -> Layout:
    cut = {} if ends is None else {f"{prefix}positional_embedding": 1, f"{prefix}attn_mask": 2}
    return Layout(tower.token_embedding, ends, cut)


def _causal_ends(pool_type: str, eos_id: int) -> Ends | None:
    """A causal tower that pools at the end token sees nothing of what follows it."""
    if pool_type == "argmax":
        return lambda ids: ids.argmax(dim=1) + 1
    if pool_type == "eos":
        return lambda ids: (ids == eos_id).int().argmax(dim=1) + 1
    return None


def _hugging_face_ends(text: Any) -> Ends | None:
    """Padding is masked out of attention; these poolers do not look at it either."""
    if isinstance(text.pooler, MeanPooler | ClsPooler | ClsLastHiddenStatePooler):
        return partial(used, padding=text.config.pad_token_id)
    return None
