"""A frozen text tower that takes vectors in place of some token embeddings.

The forward is open_clip's own, so that masks, pooling and projection of every family of models are right by
construction. Two things are replaced while it runs: the embedding layer's output at the slots, and, where sequences
are cut, the positional embedding and the mask, which have to be cut with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from fewshot.backbones.text_tower.prompt_tokens import (
    Position,
    Prompts,
    Tokenize,
    make_prompts,
    make_sentence,
    padding_id,
    token_ids,
    unpadded_lengths,
)
from fewshot.backbones.text_tower.tower_layout import find_tower_layout
from fewshot.errors import DataError

CHUNK = 64
"""Sequences in one forward."""
RESIDENT = 256
"""Sequences whose activations may be kept for the backward pass; with more of them, chunks are recomputed."""


class TextTower:
    """A frozen text tower, see `ClipBackbone.text_tower`. It is not thread-safe.

    Attributes:
        width: w, of token embeddings.
        dim: D, of text features.

    Raises:
        BackboneError: the model has no text tower that takes context vectors.
    """

    def __init__(self, model: Any, tokenize: Tokenize) -> None:
        """Wrap an open_clip model in evaluation mode whose parameters are frozen, and its tokenizer."""
        self._text = _TextModel(model)
        self._tokenize = tokenize
        self._layout = find_tower_layout(model)
        name_alone = self.prompts(["thing"], context=0)
        self.width = self.embed(name_alone.ids).shape[-1]
        with torch.no_grad():
            self.dim = self.encode(name_alone, torch.zeros(0, self.width)).shape[-1]

    def prompts(self, names: Sequence[str], *, context: int, position: Position = "end") -> Prompts:
        """Make sequences "[context] {name}.", one a name.

        Args:
            names: K >= 1 names as they are put into prompts.
            context: M >= 0 slots.
            position: of the name: "end" after the slots, "middle" between them, "front" before them.

        Raises:
            DataError: context and name do not fit into the tower's length.
            BackboneError: the tower's tokenizer does not give one token for a placeholder.
        """
        prompts = make_prompts(names, context=context, position=position, tokenize=self._tokenize)
        if self._layout.relevant_lengths is None:
            return prompts
        return Prompts(prompts.ids[:, : int(self._layout.relevant_lengths(prompts.ids).max())], prompts.slots)

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """Return token embeddings [..., L, w] float32 of ids [..., L]."""
        embedded: Tensor = self._layout.embedding(ids.to(self._device))
        return embedded.float()

    def embed_phrase(self, text: str) -> Tensor:
        """Return the embeddings of the M tokens of a phrase, [M, w] float32, to start a context with.

        With the embeddings of "a photo of a" in the slots of "[context] {name}.", `encode` gives the tower's feature of
        "a photo of a {name}.".
        """
        ids = token_ids([make_sentence("thing", []), make_sentence("thing", [text])], self._tokenize)
        without, with_ = unpadded_lengths(ids, padding=padding_id(self._tokenize)).tolist()
        slots = self.prompts(["thing"], context=with_ - without).slots[0]
        return self.embed(ids[1, slots])

    def encode(self, prompts: Prompts, context: Tensor, *, batch: int | None = None) -> Tensor:
        """Encode prompts with the context in their slots, differentiable in the context.

        Sequences of equal length are encoded together, at most `CHUNK` at a time. With more than `RESIDENT` of them,
        activations are not kept: the backward pass recomputes them chunk by chunk (the class-sharded two-pass gradient:
        equal, a third more time, memory for one chunk).

        Args:
            prompts: K sequences.
            context: [M, w] the same for all, or [K, M, w] one for each; float32.
            batch: sequences in a forward, always: missing ones are copies, so that the bits of a row do not depend on
                the other sequences. None adds no copies, and a row is independent up to rounding.

        Returns:
            [K, D] float32 on the tower's device, not normalised, like those of `ClipBackbone.embed_texts`.

        Raises:
            DataError: the context has another shape.
        """
        context = self._expanded(prompts, context)
        recompute = len(prompts) > RESIDENT and context.requires_grad and torch.is_grad_enabled()
        features, order = [], []
        for length, rows in self._chunks(prompts.ids, batch or CHUNK):
            filled = rows if batch is None else torch.cat([rows, rows[:1].expand(batch - len(rows))])
            part = (prompts.ids[filled, :length], prompts.slots[filled], context[filled])
            encoded = self._recomputed(*part) if recompute else self._forward(*part)
            features.append(encoded[: len(rows)])
            order.append(rows)
        return torch.cat(features)[torch.cat(order).argsort()]

    @property
    def _device(self) -> torch.device:
        return next(self._layout.embedding.parameters()).device

    def _expanded(self, prompts: Prompts, context: Tensor) -> Tensor:
        """Return the context as [K, M, w] on the tower's device."""
        K, M = prompts.slots.shape
        if context.shape not in ((M, self.width), (K, M, self.width)):
            expected = f"[{M}, {self.width}] or [{K}, {M}, {self.width}]"
            raise DataError(f"context must be {expected} for these prompts, got {list(context.shape)}")
        return context.to(self._device).expand(K, M, self.width)

    def _chunks(self, ids: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
        """Group the rows of ids [K, L] by the length to encode them at, at most `size` rows each."""
        K, L = ids.shape
        lengths = torch.full((K,), L) if self._layout.relevant_lengths is None else self._layout.relevant_lengths(ids)
        for length in sorted(set(lengths.tolist())):
            for rows in torch.split((lengths == length).nonzero().squeeze(1), size):
                yield length, rows

    def _forward(self, ids: Tensor, slots: Tensor, context: Tensor) -> Tensor:
        """Return features [b, D] float32 of ids [b, L], slots [b, M], context [b, M, w]."""
        where = slots.to(self._device)[:, :, None].expand_as(context)

        def replace_embeddings(_: nn.Module, __: tuple[Tensor], embedded: Tensor) -> Tensor:
            return embedded.scatter(1, where, context.to(embedded.dtype))

        with self._layout.embedding.register_forward_hook(replace_embeddings):
            features: Tensor = functional_call(self._text, self._cut_tensors(ids.shape[1]), ids.to(self._device))
        return features.float()

    def _recomputed(self, *part: Tensor) -> Tensor:
        """Run `_forward` without keeping activations for its backward pass."""
        features: Tensor = checkpoint(self._forward, *part, use_reentrant=False, preserve_rng_state=False)
        return features

    def _cut_tensors(self, length: int) -> dict[str, Tensor]:
        """Cut the tensors that are as long as a sequence to a length."""
        tensors = ((name, axes, attrgetter(name)(self._text)) for name, axes in self._layout.length_axes.items())
        return {name: tensor[(slice(length),) * axes] for name, axes, tensor in tensors}


class _TextModel(nn.Module):
    """A model with texts as its only input, for `functional_call`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(ids)
        return features
