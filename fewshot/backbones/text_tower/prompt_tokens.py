"""Token sequences with slots for context vectors, made by the tower's own tokenizer.

The position of a placeholder's token is not derived from rules of tokenizers (is there a start token? is punctuation
stripped? is "X" one piece?) but observed: the same sentence is tokenized with two different placeholders, and the slots
are the positions at which the two differ. Sentences that do not give one token a placeholder are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from fewshot.errors import BackboneError, DataError

Tokenize = Callable[[list[str]], Tensor | Sequence[Tensor]]
"""Tokenizes T strings to T tensors [L] int64; in a single tensor [T, L] all have the same L, else it may differ."""

Position = Literal["end", "middle", "front"]
"""The position of the class name: after the context, inside it, before it."""

PLACEHOLDERS = ("X", "Z")


@dataclass(frozen=True, slots=True)
class Prompts:
    """K token sequences with slots for context vectors.

    Attributes:
        ids: [K, L] int64, with placeholders in the slots; L is the same for all, and as short as possible where
            cutting is exact.
        slots: [K, M] int64, positions of the context vectors in each sequence, ascending.
    """

    ids: Tensor
    slots: Tensor

    def __len__(self) -> int:
        """K."""
        return len(self.ids)

    def __getitem__(self, index: Tensor) -> Prompts:
        """The sequences selected by an index [k] int64 or a mask [K]; a sequence may be repeated."""
        return Prompts(self.ids[index], self.slots[index])


def make_prompts(names: Sequence[str], *, context: int, position: Position, tokenize: Tokenize) -> Prompts:
    """Make one sequence a name, at the tokenizer's full length.

    Args:
        names: K >= 1 names.
        context: M >= 0 placeholders in each.
        position: of the name among them.
        tokenize: the tower's tokenizer.

    Raises:
        DataError: context and name do not fit into the tower's length.
        BackboneError: the tokenizer does not give one token for a placeholder.
    """
    first, second = ([make_sentence(name, [x] * context, position=position) for name in names] for x in PLACEHOLDERS)
    longer = [make_sentence(name, PLACEHOLDERS[:1] * (context + 1), position=position) for name in names]
    ids = token_ids(first + second + longer, tokenize)
    lengths = unpadded_lengths(ids, padding=padding_id(tokenize))
    ids, other, _ = ids.chunk(3)
    # A sequence without room for one more placeholder may have been cut already.
    full = (lengths[-len(names) :] <= lengths[: len(names)]).nonzero()
    if len(full):
        name = names[int(full[0])]
        raise DataError(
            f"{context} context vectors and the name {name!r} do not fit into the text tower's length; use fewer "
            "vectors or a shorter name"
        )
    rows, slots = (ids != other).nonzero(as_tuple=True)
    if not torch.equal(rows, torch.arange(len(names)).repeat_interleave(context)):
        raise BackboneError(f"the tower's tokenizer does not give one token for {PLACEHOLDERS[0]!r}; use another CLIP")
    return Prompts(ids, slots.view(len(names), context))


def make_sentence(name: str, words: Sequence[str], *, position: Position = "end") -> str:
    """Return the words and the name with a full stop; of an odd number of words, more follow a name in the middle."""
    before = {"end": len(words), "middle": len(words) // 2, "front": 0}[position]
    return " ".join([*words[:before], name, *words[before:]]) + "."


def token_ids(texts: Sequence[str], tokenize: Tokenize) -> Tensor:
    """Tokenize T >= 1 texts to [T, L] int64, with the L of the longest."""
    rows = tokenize(list(texts))
    if isinstance(rows, Tensor):
        return rows
    length = max(len(row) for row in rows)
    padding = padding_id(tokenize)
    return torch.stack([pad(row, (0, length - len(row)), value=padding) for row in rows])


def padding_id(tokenize: Tokenize) -> int:
    """Return the tokenizer's padding: the last token of an empty text."""
    return int(tokenize([""])[0][-1])


def unpadded_lengths(ids: Tensor, *, padding: int) -> Tensor:
    """Return the number of tokens of ids [T, L] without the padding at the end, [T] int64."""
    return ids.shape[1] - (ids != padding).flip(1).int().argmax(dim=1)
