"""Prompts that end in a token of its own for each class, and what they say with a vector in its place.

Only one vector a class is ever put into the text encoder, after its table of embeddings was looked up. The reference
implementations add rows to the table and let the optimizer decay all of them; here no weight of the model moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from fewshot.errors import DataError

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone

Pool = Literal["eos", "placeholder"]
"""Where a text's feature is read: at the token that ends it, as CLIP was trained; or at the token of the class, as the
published code does by accident (transformers pools at the largest id, and added tokens have larger ones)."""


@dataclass(frozen=True, slots=True)
class TokenPrompts:
    """P prompts with a place for a vector.

    Attributes:
        ids: [P, L] int64; in the place of the vector stands the word that it starts from.
        slots: [P] int64, that place; the end token follows it.
    """

    ids: Tensor
    slots: Tensor

    def __len__(self) -> int:
        """P."""
        return len(self.ids)

    @classmethod
    def from_templates(cls, backbone: DiffusionBackbone, templates: Sequence[str], word: str) -> TokenPrompts:
        """Fill in templates.

        Args:
            backbone: whose tokenizer.
            templates: P, each with one "{}" at its end.
            word: one token.

        Raises:
            DataError: a template does not end in "{}" or is too long; or the word is not one token.
        """
        token = word_id(backbone, word)
        if bad := [template for template in templates if not template.endswith("{}") or template.count("{}") != 1]:
            raise DataError(f"a template for learned tokens ends in its only {{}}; got {bad}")
        ids = backbone.token_ids([template.replace("{}", word) for template in templates])
        slots = ends(backbone, ids) - 1
        if cut := [t for t, row, slot in zip(templates, ids, slots, strict=True) if row[slot] != token]:
            raise DataError(f"templates of more than {ids.shape[1] - 2} tokens, all that the text encoder takes: {cut}")
        return cls(ids, slots)


def ends(backbone: DiffusionBackbone, ids: Tensor) -> Tensor:
    """[T] int64: where the first end token of ids [T, L] stands; the last place if there is none."""
    is_end = ids == backbone.tokenizer.eos_token_id
    is_end[:, -1] = True
    places: Tensor = is_end.int().argmax(dim=1)
    return places


def word_id(backbone: DiffusionBackbone, word: str) -> int:
    """The token of a word.

    Raises:
        DataError: it is not exactly one.
    """
    ids = backbone.token_ids([word])
    inner = ids[0, 1 : int(ends(backbone, ids)[0])].tolist()
    if len(inner) != 1:
        pieces = backbone.tokenizer.convert_ids_to_tokens(inner)
        raise DataError(
            f"a learned token starts from a word that the text encoder knows as one token; {word!r} is {pieces}. "
            "Name another coarse word for what the images show."
        )
    return int(inner[0])


def start_vector(backbone: DiffusionBackbone, word: str) -> Tensor:
    """[width] float32 on the CPU: what the text encoder takes a word for.

    Raises:
        DataError: it is not exactly one token.
    """
    row: Tensor = _table(backbone).weight[word_id(backbone, word)]
    return row.detach().float().cpu().clone()


def encode(backbone: DiffusionBackbone, ids: Tensor, slots: Tensor, vectors: Tensor) -> Tensor:
    """Last hidden states with vectors put in, differentiable in the vectors.

    Args:
        backbone: the model.
        ids: [B, L] int64.
        slots: [B] int64, where to.
        vectors: [B, width] float32.

    Returns:
        [B, L, width] float32 on the backbone's device.
    """
    vectors = vectors.to(backbone.device)
    where = slots.to(backbone.device)[:, None, None].expand(-1, 1, vectors.shape[1])

    def put(_: nn.Module, __: tuple[Tensor], embedded: Tensor) -> Tensor:
        return embedded.scatter(1, where, vectors[:, None].to(embedded.dtype))

    with _table(backbone).register_forward_hook(put):
        return backbone.embed_ids(ids)


def pooled(hidden: Tensor, slots: Tensor, *, pool: Pool) -> Tensor:
    """[B, width] of hidden states [B, L, width] and slots [B]: at the slot, or at the end token that follows it."""
    where = slots.to(hidden.device) + (pool == "eos")
    rows: Tensor = hidden[torch.arange(len(hidden), device=hidden.device), where]
    return rows


def joint(backbone: DiffusionBackbone, hidden: Tensor, slots: Tensor, *, pool: Pool) -> Tensor:
    """[B, D] float32, not normalised: texts in the space of the model's CLIP. See `pooled`.

    Raises:
        DataError: the backbone has no projection.
    """
    if backbone.projection is None:
        raise DataError(
            "the diffusion model has no text_projection.safetensors beside its files, so that its texts cannot be "
            "compared with image features. Write it with the key text_projection.weight [D, width] from the CLIP whose "
            "text encoder the model uses: openai/clip-vit-large-patch14 for SD 1.x."
        )
    return pooled(hidden, slots, pool=pool) @ backbone.projection.to(backbone.device).T


def _table(backbone: DiffusionBackbone) -> Any:
    """The table of embeddings, below `.text_model` in transformers before version 5 and not there since."""
    return backbone.text_encoder.get_input_embeddings()
