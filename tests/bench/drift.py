"""Nights of photographs: how seldom an archive that does not change alarms, and how soon one that does."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from fewshot.backbones import ClipBackbone, load_backbone
from fewshot.classes import LabelSpace
from fewshot.drift import Sample, Statistic
from fewshot.inference.predict import calibrated_logits
from fewshot.unknown import NearestExample, UnknownTest
from tests.bench.labelled_sets import BACKBONE, Features, PhotoSet, Progress, embed_contents, find_sets, photo_paths
from tests.bench.result import Gate, Result
from tests.fewshot.drift.nights import Draw, Night, simulate

LEAST_IMAGES = 900
"""Of a set: smaller ones leave too few nights."""
SHOTS, UNKNOWN_RATE = 8, 0.05
UNKNOWN_SHARE = 0.2
REFERENCE = 700
"""Images of the reference, at most half of those of the known classes."""
NIGHTLY, BEFORE, AFTER = {True: 50, False: 100}, 6, 10
"""Images of a night, at most; nights before a change, and those in which it is looked for."""
CHANGED = 100
"""Photographs that are changed, and embedded again."""
CLEAN_NIGHTLY = {True: 4, False: 300}
"""Images of a night without a change, of an archive that grows by them and of one that is replaced by them."""
GROWS = {True: "grows", False: "is replaced"}
GATED = ("colour cast", "blur", "another set")
"""Changes that must be found; unknown classes of the same kind are reported."""


def colour_cast(picture: Image.Image) -> Image.Image:
    """Return a picture under warmer light: a quarter more red, a quarter less blue."""
    bands = [
        band.point(lambda value, by=by: min(255, value * by))
        for band, by in zip(picture.split(), (1.25, 1.0, 0.75), strict=True)
    ]
    return Image.merge("RGB", bands)


def blur(picture: Image.Image) -> Image.Image:
    """Return a picture that is out of focus: a blur of a hundredth of its longer side."""
    return picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 100))


CHANGES: Mapping[str, Callable[[Image.Image], Image.Image]] = {"colour cast": colour_cast, "blur": blur}


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """Photographs of a set, with the predictions of a classifier that knows two thirds of the classes.

    Attributes:
        known: images of these classes, in random order, without those that were learned from.
        other: images of the other classes, in random order.
        strange: images of another set.
        changed: by change, the last images of `known`, changed.
    """

    known: Sample
    other: Sample
    strange: Sample
    changed: Mapping[str, Sample]

    @property
    def reference(self) -> int:
        """Images of the reference."""
        return min(REFERENCE, len(self.known) // 2)

    @property
    def left(self) -> int:
        """Images of the known classes that come after the reference."""
        return len(self.known) - self.reference

    def shuffled(self, seed: int) -> Archive:
        """Return the same images with another reference."""
        return replace(self, known=rows_of(self.known, np.random.default_rng(seed).permutation(len(self.known))))

    def draw(self, change: str | None, *, grows: bool) -> Draw:
        """Return how nights are drawn: the reference first, then images that came later.

        An archive that grows gets each image once, and no more than there are: copies on both sides of a fold would be
        told apart from anything. One that is replaced gets images that are drawn anew every night.
        """
        taken: dict[str, int] = {"known": self.reference}

        def later(rng: np.random.Generator, name: str, pool: Sample, count: int) -> Sample:
            first = self.reference if name == "known" else 0
            if not grows:
                return rows_of(pool, rng.choice(np.arange(first, len(pool)), count, replace=False))
            start = taken.get(name, 0)
            taken[name] = start + count
            return rows_of(pool, np.arange(start, min(start + count, len(pool))))

        def drawn(rng: np.random.Generator, count: int, night: int) -> Sample:
            if night == 0:
                return rows_of(self.known, np.arange(count))
            if change is None or night <= BEFORE:
                return later(rng, "known", self.known, count)
            if change in self.changed:
                return later(rng, change, self.changed[change], count)
            pool = self.other if change == "unknown classes" else self.strange
            unknown = round(UNKNOWN_SHARE * count)
            return join(later(rng, "known", self.known, count - unknown), later(rng, change, pool, unknown))

        return drawn


def run(*, images: int, repeat: int, sets: Sequence[str] | None = None) -> Result:
    """Simulate nights without a change, and nights with one.

    Args:
        images: nights without a change that are compared, one a day, for each set and kind of archive.
        repeat: draws of classes and images.
        sets: names of sets; None takes all that are large enough.
    """
    known = [photos for photos in find_sets() if len(_everything(photos)[0]) >= LEAST_IMAGES]
    found = [photos for photos in known if sets is None or photos.name in sets]
    changes = [*CHANGES, "unknown classes", "another set"]
    rows: list[dict[str, str | float]] = []
    progress = Progress(len(found) * len(GROWS) * (1 + len(changes)))

    def tell(photos: PhotoSet, grows: bool, change: str, found: str, by: str) -> None:
        rows.append({"set": photos.name, "archive": GROWS[grows], "change": change, "found": found, "by": by})
        progress.step(", ".join(map(str, rows[-1].values())))

    false, nights, late = 0, 0, dict.fromkeys(changes, 0.0)
    for photos in found:
        stranger = known[([each.name for each in known].index(photos.name) + 1) % len(known)]
        archives = [make_archive(photos, stranger, seed) for seed in range(repeat)]
        for grows in (True, False):
            clean = [night for archive in archives for night in clean_nights(archive, grows, images)]
            alarmed = sum(bool(night.alarms) for night in clean)
            false, nights = false + alarmed, nights + len(clean)
            told = f"{alarmed} false alarms in {len(clean)} nights", f"largest AUC {_largest(clean):.2f}"
            tell(photos, grows, "none", *told)
            for change in changes:
                last = [_changed(archive, change, grows, seed) for seed, archive in enumerate(archives)]
                delay = [night.number - BEFORE if night.alarms else AFTER + 1 for night in last]
                late[change] = max(late[change], float(np.median(delay)))
                told = " / ".join(map(_when, last)), " / ".join(map(_by, last))
                tell(photos, grows, change, *told)
    expected = nights / 365.0
    gates = [Gate.at_most(f"nights with a false alarm, of {nights}, 1 in 365 expected at most", false, expected)]
    gates += [Gate.at_most(f"median night that finds: {change}", late[change], AFTER) for change in GATED]
    return Result("drift", f"{images} nights without a change; the night after a change that finds it", rows, gates)


def clean_nights(archive: Archive, grows: bool, count: int) -> list[Night]:
    """Return so many compared nights without a change; where images are used up, it begins with another reference."""
    compared: list[Night] = []
    nightly = min(CLEAN_NIGHTLY[grows], archive.left)
    for seed in range(count):
        if len(compared) >= count:
            break
        begun = archive.shuffled(seed)
        compared += simulate(
            begun.draw(None, grows=grows),
            nights=archive.left // nightly if grows else count,
            images=nightly,
            reference=archive.reference,
            grows=grows,
            seed=seed,
        )
    return compared[:count]


def _changed(archive: Archive, change: str, grows: bool, seed: int) -> Night:
    """Return the first night after a change that alarms; the last one if there is none."""
    nightly = min(NIGHTLY[grows], archive.left // (BEFORE + AFTER) if grows else archive.left)
    lasts = len(archive.changed[change]) // nightly if grows and change in archive.changed else AFTER
    return simulate(
        archive.draw(change, grows=grows),
        nights=BEFORE + min(AFTER, lasts),
        images=nightly,
        reference=archive.reference,
        grows=grows,
        seed=seed,
        compared_from=BEFORE + 1,
        until_alarm=True,
    )[-1]


def _largest(nights: Sequence[Night]) -> float:
    return max(finding.value for night in nights for finding in night.findings if finding.statistic == "features")


def _when(night: Night) -> str:
    return f"{'night' if night.alarms else 'not found by night'} {night.number - BEFORE}"


def _by(night: Night) -> str:
    """Return the statistics that alarm, and the AUC and novel images of the window in which they are largest."""
    values = {name: max(each.value for each in night.findings if each.statistic == name) for name in SHOWN}
    names = ", ".join(dict.fromkeys(finding.statistic for finding in night.alarms))
    told = f"AUC {values['features']:.2f}, novel {values['novel']:.0%}"
    return f"{names}; {told}" if names else told


SHOWN: tuple[Statistic, ...] = ("features", "novel")


def make_archive(photos: PhotoSet, stranger: PhotoSet, seed: int) -> Archive:
    """Draw the known classes, learn from a few images of each, and predict the others.

    Args:
        photos: of which most are drawn.
        stranger: a set whose images are of no class of `photos`.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    features, labels = _everything(photos)
    K = len(photos.space)
    classes = np.sort(rng.permutation(K)[: K - K // 3])
    known = rng.permutation(np.flatnonzero(np.isin(labels, classes)))
    support = np.concatenate([known[labels[known] == label][:SHOTS] for label in classes])
    rest = known[~np.isin(known, support)]
    predict = _predictor(photos, classes, features[support], np.searchsorted(classes, labels[support]))
    count = min(CHANGED, len(rest) // 4)
    paths = [path for path, _ in photo_paths(photos.name)]
    changed = {name: predict(_embed_changed([paths[row] for row in rest[-count:]], name)) for name in CHANGES}
    other = rng.permutation(np.flatnonzero(~np.isin(labels, classes)))
    strange = _everything(stranger)[0]
    return Archive(predict(features[rest]), predict(features[other]), predict(rng.permutation(strange)), changed)


def _predictor(
    photos: PhotoSet, classes: NDArray[np.int64], features: Features, labels: NDArray[np.int64]
) -> Callable[[Features], Sample]:
    import torch

    names = tuple(photos.space.names[label] for label in classes)
    space = LabelSpace(names, tuple(photos.space.prompt_names[label] for label in classes), ("",) * len(names))
    classifier = replace(photos, space=space, text=photos.text[torch.from_numpy(classes)]).fit(features, labels)
    test = UnknownTest(NearestExample.from_rows(torch.from_numpy(features)), UNKNOWN_RATE)

    def predict(rows: Features) -> Sample:
        images = torch.from_numpy(rows)
        guesses = calibrated_logits(classifier, images).argmax(dim=1).numpy()
        return Sample(rows, guesses, test(images).unknown.numpy())

    return predict


def _everything(photos: PhotoSet) -> tuple[Features, NDArray[np.int64]]:
    splits = [split for split in photos.features if len(photos.features[split])]
    return (
        np.concatenate([photos.features[split] for split in splits]),
        np.concatenate([photos.labels[split] for split in splits]),
    )


def _embed_changed(paths: Sequence[Path], change: str) -> Features:
    """Embed photographs after a change; they are read where they are."""
    clip = load_backbone(BACKBONE)
    assert isinstance(clip, ClipBackbone)
    return embed_contents(clip, (_changed_photo(path, CHANGES[change]) for path in paths))


def _changed_photo(path: Path, change: Callable[[Image.Image], Image.Image]) -> bytes:
    with Image.open(path) as opened:
        opened.thumbnail((512, 512))
        picture = opened.convert("RGB")
    file = io.BytesIO()
    change(picture).save(file, "JPEG", quality=92)
    return file.getvalue()


def rows_of(sample: Sample, rows: NDArray[np.int64]) -> Sample:
    """Return some images of a sample."""
    return Sample(sample.features[rows], sample.classes[rows], sample.withheld[rows])


def join(one: Sample, other: Sample) -> Sample:
    """Return the images of two samples."""
    return Sample(
        np.concatenate([one.features, other.features]),
        np.concatenate([one.classes, other.classes]),
        np.concatenate([one.withheld, other.withheld]),
    )
