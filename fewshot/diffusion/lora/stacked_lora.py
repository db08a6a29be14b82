"""The adapters of many classes as stacked tensors.

    y = W x + s · B (A x)        A [r, in] ~ N(0, 1/r²), B [out, r] = 0 at the start; s is not part of an adapter

A stack has one A [K, r, in] and one B [K, out, r] a site, so that a batch whose rows belong to different classes takes
two batched products a layer (`fewshot.diffusion.lora.injection`), and training moves all classes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fewshot.diffusion.random_draws import seeded_generator
from fewshot.errors import DataError


class LoraPair(NamedTuple):
    """The adapters of K classes at one site.

    Attributes:
        A: [K, r, in], the first factor applied.
        B: [K, out, r].
    """

    A: Tensor
    B: Tensor


Pairs = Mapping[str, LoraPair]
"""Adapters by site name, see `fewshot.diffusion.lora.sites`."""


@dataclass(frozen=True, slots=True)
class StackedLora:
    """The adapters of K classes.

    Attributes:
        unet: of the UNet, at least one site.
        text: of the text encoder, at least one site.

    Raises:
        DataError: a part has no site, its tensors do not fit together, or the parts differ in K.
    """

    unet: Pairs
    text: Pairs

    def __post_init__(self) -> None:
        counts = {count_and_rank(self.unet)[0], count_and_rank(self.text)[0]}
        if len(counts) > 1:
            raise DataError(f"adapters of UNet and text encoder need the same number of classes, got {sorted(counts)}")

    def __len__(self) -> int:
        """K."""
        return count_and_rank(self.unet)[0]

    def select(self, classes: Sequence[int]) -> StackedLora:
        """Return the adapters of some classes, in the order given; a class may come twice."""
        return self.mapped(lambda tensor: tensor[list(classes)])

    def scaled(self, *, unet: float, text: float) -> StackedLora:
        """Return a copy with s of each part multiplied into B."""
        return StackedLora(
            {site: LoraPair(pair.A, unet * pair.B) for site, pair in self.unet.items()},
            {site: LoraPair(pair.A, text * pair.B) for site, pair in self.text.items()},
        )

    def mapped(self, change: Callable[[Tensor], Tensor]) -> StackedLora:
        """Return a copy with every tensor changed, e.g. moved or in half precision."""
        return StackedLora(_mapped(self.unet, change), _mapped(self.text, change))


def _mapped(pairs: Pairs, change: Callable[[Tensor], Tensor]) -> Pairs:
    return {site: LoraPair(change(pair.A), change(pair.B)) for site, pair in pairs.items()}


def count_and_rank(pairs: Pairs) -> tuple[int, int]:
    """Return K and r, the same at all sites.

    Raises:
        DataError: they differ between sites, or there is no site.
    """
    found = {(*pair.A.shape[:2], pair.B.shape[0], pair.B.shape[2]) for pair in pairs.values()}
    if len(found) != 1:
        raise DataError(f"adapters need one number of classes and one rank over all sites, got {sorted(found)}")
    classes, rank, classes_of_b, rank_of_b = found.pop()
    if (classes, rank) != (classes_of_b, rank_of_b):
        sizes = f"A has {classes} classes and rank {rank}, B has {classes_of_b} and {rank_of_b}"
        raise DataError(f"A and B of an adapter must have the same number of classes and rank; {sizes}")
    return classes, rank


def concatenated(stacks: Sequence[StackedLora]) -> StackedLora:
    """Return one stack with the classes of all stacks, in their order.

    Args:
        stacks: at least one, all with the same sites, shapes and ranks.

    Raises:
        DataError: they differ.
    """
    unet = concatenated_pairs([stack.unet for stack in stacks])
    return StackedLora(unet, concatenated_pairs([stack.text for stack in stacks]))


def concatenated_pairs(parts: Sequence[Pairs]) -> Pairs:
    """Return the adapters of all parts at one network, in their order.

    Args:
        parts: at least one, all with the same sites, shapes and ranks.

    Raises:
        DataError: they differ.
    """
    shapes = [{site: (pair.A.shape[1:], pair.B.shape[1:]) for site, pair in pairs.items()} for pairs in parts]
    for shape in shapes[1:]:
        if odd := sorted(site for site, _ in shape.items() ^ shapes[0].items()):
            raise DataError(
                f"adapters differ in sites or ranks and cannot be stacked: {len(odd)} differences, e.g. at {odd[0]}"
            )
    return {
        site: LoraPair(torch.cat([pairs[site].A for pairs in parts]), torch.cat([pairs[site].B for pairs in parts]))
        for site in parts[0]
    }


def with_all_sites(parts: Sequence[Pairs]) -> list[Pairs]:
    """Return adapters with zeros at the sites that only others have: there they change nothing, bit for bit.

    The sites of a class depend on its number of examples (`block_filter_for`), so classes to be stacked may differ.
    """
    known = {site: pair for pairs in parts for site, pair in pairs.items()}
    return [
        {site: pairs.get(site) or _zeros(pair, len(next(iter(pairs.values())).A)) for site, pair in known.items()}
        for pairs in parts
    ]


def _zeros(like: LoraPair, count: int) -> LoraPair:
    return LoraPair(*(half.new_zeros(count, *half.shape[1:]) for half in like))


def initial_pairs(layers: Mapping[str, nn.Linear], keys: Sequence[str], *, rank: int, seed: int) -> Pairs:
    """Initialise adapters, which change nothing yet. Those of a class and site depend on no other class or site.

    Args:
        layers: by site name.
        keys: K names of classes.
        rank: r >= 1.
        seed: of A.

    Returns:
        float32 on the CPU.
    """
    return {
        site: LoraPair(
            torch.stack([_gaussian(rank, layer.in_features, seed, key, site) for key in keys]),
            torch.zeros(len(keys), layer.out_features, rank),
        )
        for site, layer in layers.items()
    }


def _gaussian(rank: int, width: int, seed: int, key: str, site: str) -> Tensor:
    """Draw A [r, in] as PEFT's `init_lora_weights="gaussian"` does."""
    return torch.randn(rank, width, generator=seeded_generator(seed, "lora", key, site)) / rank
