"""A frozen text tower that takes vectors in place of some token embeddings.

The forward is open_clip's own, so that masks, pooling and projection of every family of models are right by
construction. Two things are exchanged while it runs: the embedding layer's output at the slots, and, where sequences
are cut, the positional embedding and the mask that have to be cut with them.
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
    padding_id,
    sentence,
    token_ids,
    used,
)
from fewshot.backbones.text_tower.tower_layout import layout_of
from fewshot.errors import DataError

CHUNK = 64
"""Sequences in one forward."""
RESIDENT = 256
"""Sequences whose activations may be kept for the backward pass; with more of them, chunks are computed again."""


class TextTower:
    """Frozen; made by `ClipBackbone.text_tower`. Not for several threads at a time.

    Attributes:
        width: w, of token embeddings.
        dim: D, of text features.

    Raises:
        BackboneError: the model is none that context vectors can be put into.
    """

    def __init__(self, model: Any, tokenize: Tokenize) -> None:
        """Wrap an open_clip model in evaluation mode whose parameters are frozen, and its tokenizer."""
        self._text = _TextOf(model)
        self._tokenize = tokenize
        self._layout = layout_of(model)
        nothing = self.prompts(["thing"], context=0)
        self.width = self.embed(nothing.ids).shape[-1]
        with torch.no_grad():
            self.dim = self.encode(nothing, torch.zeros(0, self.width)).shape[-1]

    def prompts(self, names: Sequence[str], *, context: int, position: Position = "end") -> Prompts:
        """Sequences "[context] {name}.", one a name.

        Args:
            names: K >= 1 names as people say them.
            context: M >= 0 slots.
            position: of the name: behind the slots, or (not with "end") in their middle or before them.

        Raises:
            DataError: context and name do not fit into the tower's length.
            BackboneError: the tower's tokenizer has no token that could hold a place.
        """
        prompts = make_prompts(names, context=context, position=position, tokenize=self._tokenize)
        if self._layout.ends is None:
            return prompts
        return Prompts(prompts.ids[:, : int(self._layout.ends(prompts.ids).max())], prompts.slots)

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings [..., L, w] float32 of ids [..., L]."""
        embedded: Tensor = self._layout.embedding(ids.to(self._device))
        return embedded.float()

    def words(self, text: str) -> Tensor:
        """[M, w] float32: embeddings of the M tokens of a phrase, to start a context with, e.g. "a photo of a".

        `encode` with them in the slots of "[context] {name}." is what the tower says to "{text} {name}.".
        """
        ids = token_ids([sentence("thing", []), sentence("thing", [text])], self._tokenize)
        without, with_ = used(ids, padding=padding_id(self._tokenize)).tolist()
        slots = self.prompts(["thing"], context=with_ - without).slots[0]
        return self.embed(ids[1, slots])

    def encode(self, prompts: Prompts, context: Tensor, *, batch: int | None = None) -> Tensor:
        """Text features with the context in place, differentiable in it.

        Sequences of equal length are encoded together, at most `CHUNK` at a time. With more than `RESIDENT` of them,
        activations are not kept: chunk by chunk they are computed again in the backward pass (the class-sharded
        two-pass gradient: equal, a third more time, memory for one chunk).

        Args:
            prompts: K sequences.
            context: [M, w] the same for all, or [K, M, w] one for each; float32.
            batch: sequences in a forward, always: missing ones are copies, so that the bits of a row do not depend on
                the other sequences. None leaves copies out, and a row is independent up to rounding.

        Returns:
            [K, D] float32, as `ClipBackbone.embed_texts` gives them (not normalised); on the tower's device.

        Raises:
            DataError: the context has another shape.
        """
        context = self._one_each(prompts, context)
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

    def _one_each(self, prompts: Prompts, context: Tensor) -> Tensor:
        """The context as [K, M, w] on the tower's device."""
        K, M = prompts.slots.shape
        if context.shape not in ((M, self.width), (K, M, self.width)):
            expected = f"[{M}, {self.width}] or [{K}, {M}, {self.width}]"
            raise DataError(f"context must be {expected} for these prompts, got {list(context.shape)}")
        return context.to(self._device).expand(K, M, self.width)

    def _chunks(self, ids: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
        """Lengths, and the rows of ids [K, L] to encode at each, at most `size`; every row once."""
        K, L = ids.shape
        ends = torch.full((K,), L) if self._layout.ends is None else self._layout.ends(ids)
        for length in sorted(set(ends.tolist())):
            for rows in torch.split((ends == length).nonzero().squeeze(1), size):
                yield length, rows

    def _forward(self, ids: Tensor, slots: Tensor, context: Tensor) -> Tensor:
        """[b, D] float32 of ids [b, L], slots [b, M], context [b, M, w]."""
        where = slots.to(self._device)[:, :, None].expand_as(context)

        def put(_: nn.Module, __: tuple[Tensor], embedded: Tensor) -> Tensor:
            return embedded.scatter(1, where, context.to(embedded.dtype))

        with self._layout.embedding.register_forward_hook(put):
            features: Tensor = functional_call(self._text, self._cut(ids.shape[1]), ids.to(self._device))
        return features.float()

    def _recomputed(self, *part: Tensor) -> Tensor:
        """`_forward`, without keeping what its backward pass needs."""
        features: Tensor = checkpoint(self._forward, *part, use_reentrant=False, preserve_rng_state=False)
        return features

    def _cut(self, length: int) -> dict[str, Tensor]:
        """The tensors that are as long as a sequence, cut to a length."""
        long = ((name, axes, attrgetter(name)(self._text)) for name, axes in self._layout.cut_with_length.items())
        return {name: tensor[(slice(length),) * axes] for name, axes, tensor in long}


class _TextOf(nn.Module):
    """A model with texts as its only input, as `functional_call` wants it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(ids)
        return features
