"""Prompts that end in a learned token of the class, and their encoding with a vector in its place.

The vector of a class replaces one row of the text encoder's input, after the lookup in the table of embeddings. The
reference implementations add rows to the table and let the optimizer decay all of them; here no weight of the model
changes.
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
"""The position at which a text's feature is read: the token that ends it, as CLIP was trained; or the token of the
class, as the published code does by accident (transformers pools at the largest id, and added tokens have larger ones).
"""


@dataclass(frozen=True, slots=True)
class TokenPrompts:
    """P prompts with a place for a vector.

    Attributes:
        ids: [P, L] int64; the word that the vector starts from holds its place.
        slots: [P] int64, the position of that word; the end token follows it.
    """

    ids: Tensor
    slots: Tensor

    def __len__(self) -> int:
        """P."""
        return len(self.ids)

    @classmethod
    def from_templates(cls, backbone: DiffusionBackbone, templates: Sequence[str], word: str) -> TokenPrompts:
        """Fill in and tokenize templates.

        Args:
            backbone: the model with the tokenizer.
            templates: P templates, each with one "{}" at its end.
            word: one token.

        Raises:
            DataError: a template does not end in "{}" or is too long; or the word is not one token.
        """
        token = word_token_id(backbone, word)
        if bad := [template for template in templates if not template.endswith("{}") or template.count("{}") != 1]:
            raise DataError(f"a template for learned tokens must end in its only {{}}; got {bad}")
        ids = backbone.token_ids([template.replace("{}", word) for template in templates])
        slots = end_positions(backbone, ids) - 1
        if cut := [t for t, row, slot in zip(templates, ids, slots, strict=True) if row[slot] != token]:
            raise DataError(f"the text encoder takes at most {ids.shape[1] - 2} tokens; shorten these templates: {cut}")
        return cls(ids, slots)


def end_positions(backbone: DiffusionBackbone, ids: Tensor) -> Tensor:
    """Return the position of the first end token of ids [T, L], [T] int64; the last position if there is none."""
    is_end = ids == backbone.tokenizer.eos_token_id
    is_end[:, -1] = True
    positions: Tensor = is_end.int().argmax(dim=1)
    return positions


def word_token_id(backbone: DiffusionBackbone, word: str) -> int:
    """Return the token id of a word.

    Raises:
        DataError: the word is not exactly one token.
    """
    ids = backbone.token_ids([word])
    inner = ids[0, 1 : int(end_positions(backbone, ids)[0])].tolist()
    if len(inner) != 1:
        pieces = backbone.tokenizer.convert_ids_to_tokens(inner)
        raise DataError(
            f"a learned token starts from a word that is one token of the text encoder; {word!r} is {pieces}. "
            "Choose another coarse word for what the images show."
        )
    return int(inner[0])


def start_vector(backbone: DiffusionBackbone, word: str) -> Tensor:
    """Return the embedding of a word in the text encoder's table, [width] float32 on the CPU.

    Raises:
        DataError: the word is not exactly one token.
    """
    row: Tensor = _embedding_table(backbone).weight[word_token_id(backbone, word)]
    return row.detach().float().cpu().clone()


def encode_with_vectors(backbone: DiffusionBackbone, ids: Tensor, slots: Tensor, vectors: Tensor) -> Tensor:
    """Encode prompts with vectors in their slots, differentiable in the vectors.

    Args:
        backbone: the model.
        ids: [B, L] int64.
        slots: [B] int64, the positions of the vectors.
        vectors: [B, width] float32.

    Returns:
        [B, L, width] float32 on the backbone's device, the last hidden states.
    """
    vectors = vectors.to(backbone.device)
    where = slots.to(backbone.device)[:, None, None].expand(-1, 1, vectors.shape[1])

    def replace_embeddings(_: nn.Module, __: tuple[Tensor], embedded: Tensor) -> Tensor:
        return embedded.scatter(1, where, vectors[:, None].to(embedded.dtype))

    with _embedding_table(backbone).register_forward_hook(replace_embeddings):
        return backbone.embed_ids(ids)


def pool_texts(hidden: Tensor, slots: Tensor, *, pool: Pool) -> Tensor:
    """Return [B, width] of hidden states [B, L, width]: at the slots [B], or at the end tokens that follow them."""
    where = slots.to(hidden.device) + (pool == "eos")
    rows: Tensor = hidden[torch.arange(len(hidden), device=hidden.device), where]
    return rows


def project_texts(backbone: DiffusionBackbone, hidden: Tensor, slots: Tensor, *, pool: Pool) -> Tensor:
    """Project texts into the space of the model's CLIP, [B, D] float32, not normalised. See `pool_texts`.

    Raises:
        DataError: the backbone has no projection.
    """
    if backbone.projection is None:
        raise DataError(
            "the diffusion model has no text_projection.safetensors beside its files, so its texts cannot be compared "
            "with image features. Write that file with the key text_projection.weight [D, width] from the CLIP whose "
            "text encoder the model uses: openai/clip-vit-large-patch14 for SD 1.x."
        )
    return pool_texts(hidden, slots, pool=pool) @ backbone.projection.to(backbone.device).T


def _embedding_table(backbone: DiffusionBackbone) -> Any:
    """Return the table of embeddings, which transformers before version 5 keeps below `.text_model`."""
    return backbone.text_encoder.get_input_embeddings()
