"""Token sequences with room for context vectors, made by the tower's own tokenizer.

Where a placeholder's token lies is not computed from what is known about tokenizers (does it put a start token first?
is punctuation stripped? is "X" one piece?) but observed: the same sentence is tokenized with two different
placeholders, and the slots are where the two differ. What does not come out as one token a placeholder is refused.
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
"""T strings to T tensors [L] int64; where they are one tensor [T, L], L is the same, else it may differ."""

Position = Literal["end", "middle", "front"]
"""Where the class name stands: after the context, inside it, before it."""

PLACEHOLDERS = ("X", "Z")


@dataclass(frozen=True, slots=True)
class Prompts:
    """K token sequences with room for context vectors.

    Attributes:
        ids: [K, L] int64, placeholders where context goes; L is the same for all and no longer than needed where
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
    """One sequence a name, at the tokenizer's full length.

    Args:
        names: K >= 1 names.
        context: M >= 0 placeholders in each.
        position: of the name among them.
        tokenize: the tower's.

    Raises:
        DataError: context and name do not fit into the tower's length.
        BackboneError: the tokenizer does not keep a placeholder as one token of its own.
    """
    first, second = ([sentence(name, [x] * context, position=position) for name in names] for x in PLACEHOLDERS)
    longer = [sentence(name, PLACEHOLDERS[:1] * (context + 1), position=position) for name in names]
    ids = token_ids(first + second + longer, tokenize)
    ends = used(ids, padding=padding_id(tokenize))
    ids, other, _ = ids.chunk(3)
    # A sequence that has no room for one more placeholder may have been cut already.
    full = (ends[-len(names) :] <= ends[: len(names)]).nonzero()
    if len(full):
        name = names[int(full[0])]
        raise DataError(f"{context} context vectors and the name {name!r} do not fit into the text tower's length")
    rows, slots = (ids != other).nonzero(as_tuple=True)
    if not torch.equal(rows, torch.arange(len(names)).repeat_interleave(context)):
        raise BackboneError(f"this tower's tokenizer does not keep {PLACEHOLDERS[0]!r} as one token of its own")
    return Prompts(ids, slots.view(len(names), context))


def sentence(name: str, words: Sequence[str], *, position: Position = "end") -> str:
    """The words and the name, ended by a full stop; of an odd number of words, more follow a name in the middle."""
    before = {"end": len(words), "middle": len(words) // 2, "front": 0}[position]
    return " ".join([*words[:before], name, *words[before:]]) + "."


def token_ids(texts: Sequence[str], tokenize: Tokenize) -> Tensor:
    """[T, L] int64 of T >= 1 texts, L that of the longest."""
    rows = tokenize(list(texts))
    if isinstance(rows, Tensor):
        return rows
    length = max(len(row) for row in rows)
    padding = padding_id(tokenize)
    return torch.stack([pad(row, (0, length - len(row)), value=padding) for row in rows])


def padding_id(tokenize: Tokenize) -> int:
    """What the tokenizer fills up with: the last token of an empty text."""
    return int(tokenize([""])[0][-1])


def used(ids: Tensor, *, padding: int) -> Tensor:
    """[T] int64: how many tokens of ids [T, L] are left when the padding at the end is cut off."""
    return ids.shape[1] - (ids != padding).flip(1).int().argmax(dim=1)
