"""The features of examples, found by content: only an example whose content was never embedded before is embedded.

Features of an example depend on its content and on nothing else (its views are drawn from the content, too), so a row
is named after that content, and serves every job, class and file name. Rows lie in blocks. No block is ever changed:
examples that are in none of them become another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cluster import Ledger, Store, Unit, fingerprint
from cluster.records import Selected, Shard
from cluster.records.chunking import chunk
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import Labels, labels_identity
from ray_jobs.output.feature_parts import FeatureRows, concatenate, find_images, read_parts
from ray_jobs.output.layout import dense_folder, feature_part
from ray_jobs.output.stored_objects import is_shared
from ray_jobs.steps.embed import EmbedUnit

BLOCK_ROWS = 256
"""Rows of features of a block, about: as many as a shard of an archive has, views count."""


@dataclass(frozen=True)
class Examples:
    """The labelled examples of a job, identified by their contents.

    Attributes:
        labels: the examples with their classes.
        digests: image -> digest of its content; "" where it cannot be read.
        reasons: image -> why it cannot be read.
        recipe: fingerprint of how features are made.
        folder: of the blocks.
        views: augmented views of an example.
        dense: keep the dense tokens, too.
        groups: images that are encoded together for methods with a diffusion model.
    """

    labels: Labels
    digests: Mapping[str, str]
    reasons: Mapping[str, str]
    recipe: str
    folder: str
    views: int
    dense: bool
    groups: tuple[tuple[str, ...], ...]

    @classmethod
    def from_contents(
        cls,
        contents: ExampleContents,
        labels: Labels,
        groups: Sequence[Sequence[str]],
        *,
        features: str,
        views: int,
        dense: bool = False,
    ) -> Examples:
        """Return examples whose contents were read.

        Args:
            contents: of these examples, and perhaps of others.
            labels: the examples.
            groups: see the attributes.
            features: folder of features without dense tokens.
            views: augmented views of an example.
            dense: keep the dense tokens, too; the blocks then lie in a folder of their own.
        """
        digests = {image: contents.digests[image] for image in labels.images}
        reasons = {image: contents.reasons[image] for image, digest in digests.items() if not digest}
        folder = dense_folder(features) if dense else features
        recipe, named = fingerprint([features, views]), tuple(map(tuple, groups))
        return cls(labels, digests, reasons, recipe, folder, views, dense, named)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """M references, by class and name."""
        pairs = set(zip(self.labels.labels, self.labels.images, strict=True))
        return tuple(image for _, image in sorted(pairs))

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """The digests of all contents, each once, in ascending order."""
        return tuple(sorted(set(self.digests.values()) - {""}))

    @cached_property
    def identity(self) -> str:
        """Fingerprint of classes, images and their contents; it does not depend on the blocks that they are in."""
        return self.identity_of(self.labels)

    def identity_of(self, drawn: Labels) -> str:
        """Return the identity of some of the examples."""
        return labels_identity(drawn, self.recipe, self.digests)

    @property
    def shards(self) -> list[Shard]:
        """A shard for each of `groups`, whose records have the images as keys."""
        selection = self.labels.selection
        return [
            selection.shard([Selected.by_content(image, self.digests[image]) for image in group])
            for group in self.groups
        ]

    def find(self, store: Store) -> EmbeddedExamples:
        """Find the blocks in which the examples are, and cut those that are in none of them into new ones.

        Nothing is read where all blocks are those that these examples alone would be cut into.

        Raises:
            StorageError: storage does not respond.
        """
        cut = dict(self._blocks(self.contents))
        present = {path for path in Ledger(store).done(self.folder) if is_shared(path)}
        found = {digest: path for path, block in cut.items() if path in present for digest in block}
        if len(found) < len(self.contents):
            found |= find_images(store, sorted(present - cut.keys()), frozenset(self.contents) - found.keys())
        missing = [digest for digest in self.contents if digest not in found]
        return EmbeddedExamples(self, tuple(sorted(set(found.values()))), tuple(self._units(missing)))

    def _blocks(self, digests: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        """Cut contents into blocks, with their paths: another content changes its own block and hardly any other."""
        target = max(1, BLOCK_ROWS // (1 + self.views))
        for block in chunk(digests, key=str, target=target):
            yield feature_part(self.folder, fingerprint(["block", block])), block

    def _units(self, digests: Sequence[str]) -> Iterator[Unit]:
        reference = {digest: image for image, digest in sorted(self.digests.items(), reverse=True)}
        selection = self.labels.selection
        for path, block in self._blocks(digests):
            shard = selection.shard([Selected.by_content(reference[digest], digest, key=digest) for digest in block])
            yield Unit(path, EmbedUnit(shard, self.views, self.dense), weight=len(block) * (1 + self.views))


@dataclass(frozen=True)
class EmbeddedExamples:
    """Examples with the blocks that hold their features.

    Attributes:
        examples: the examples.
        found: paths of blocks that were there.
        units: units that embed the others.
    """

    examples: Examples
    found: tuple[str, ...]
    units: tuple[Unit, ...]

    @property
    def labels(self) -> Labels:
        """The examples with their classes."""
        return self.examples.labels

    @property
    def identity(self) -> str:
        """See `Examples.identity`."""
        return self.examples.identity

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of all blocks with examples, once all units are done."""
        return (*self.found, *(unit.path for unit in self.units))

    @property
    def weight(self) -> int:
        """Rows of features of all examples, views count."""
        return len(self.examples.contents) * (1 + self.examples.views)

    @property
    def weight_left(self) -> int:
        """Rows of features that are in no block yet."""
        return sum(unit.weight for unit in self.units)

    def read(self, store: Store, *, dense: bool = False) -> FeatureRows:
        """Read the features of the examples, in the order of `images`; those that cannot be read have their reasons.

        Raises:
            DamagedError: a block is damaged, and was removed.
            FileNotFoundError: a block is missing.
        """
        digests, images = self.examples.digests, self.examples.images
        rows = read_parts(store, self.paths, dense=dense, images=frozenset(self.examples.contents))
        position = {digest: row for row, digest in enumerate(rows.images)}
        read = [image for image in images if digests[image]]
        found = rows.take([position[digests[image]] for image in read], images=read)
        lost = [image for image in images if not digests[image]]
        return concatenate([found, _unreadable(lost, self.examples.reasons, found)], dense=dense)


def _unreadable(images: Sequence[str], reasons: Mapping[str, str], like: FeatureRows) -> FeatureRows:
    errors: list[str | None] = [reasons[image] for image in images]
    views = np.zeros((len(images), *like.views.shape[1:]), np.float32)
    return FeatureRows(list(images), [""] * len(images), errors, views)
