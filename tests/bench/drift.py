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
from fewshot.drift import Sample
from fewshot.inference.predict import calibrated_logits
from fewshot.unknown import NearestExample, UnknownTest
from tests.bench.labelled_sets import BACKBONE, Features, PhotoSet, Progress, embed_contents, find_sets, photo_paths
from tests.bench.result import Gate, Result
from tests.fewshot.drift.nights import Draw, Night, simulate

SETS = ("grocery", "signdigits", "trashnet")
SHOTS, UNKNOWN_RATE = 8, 0.05
UNKNOWN_SHARE = 0.2
REFERENCE, NIGHTLY, BEFORE, AFTER = 700, 50, 6, 10
"""Images of the reference and of a night; nights before a change, and those in which it is looked for."""
CHANGED = 150
"""Photographs that are changed, and embedded again."""
CLEAN_NIGHTLY = {True: 4, False: 300}
"""Images of a night without a change, of an archive that grows by them and of one that is replaced by them."""
GROWS = {True: "grows", False: "is replaced"}


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

    def draw(self, change: str | None) -> Draw:
        """Return how nights are drawn: the reference first, then images after one another.

        Where they are used up, or replaced every night, those that came after the reference are drawn anew.
        """
        taken = {"known": 0}

        def known(rng: np.random.Generator, count: int) -> Sample:
            start = taken["known"]
            taken["known"] += count
            if taken["known"] <= len(self.known):
                return rows_of(self.known, np.arange(start, start + count))
            return rows_of(self.known, rng.choice(np.arange(REFERENCE, len(self.known)), count, replace=False))

        def drawn(rng: np.random.Generator, count: int, night: int) -> Sample:
            if change is None or night <= BEFORE:
                return known(rng, count)
            if change in self.changed:
                changed = self.changed[change]
                return rows_of(changed, rng.choice(len(changed), min(count, len(changed)), replace=False))
            pool = self.other if change == "unknown classes" else self.strange
            unknown = round(UNKNOWN_SHARE * count)
            return join(known(rng, count - unknown), rows_of(pool, rng.choice(len(pool), unknown, replace=False)))

        return drawn


def run(*, images: int, repeat: int, sets: Sequence[str] | None = None) -> Result:
    """Simulate nights without a change, and nights with one.

    Args:
        images: nights without a change, one a day.
        repeat: draws of classes and images.
        sets: names of sets; None takes all.
    """
    known = find_sets(SETS)
    found = [photos for photos in known if sets is None or photos.name in sets]
    changes = [*CHANGES, "unknown classes", "another set"]
    rows: list[dict[str, str | float]] = []
    progress = Progress(len(found) * repeat)
    false, nights, late = 0, 0, dict.fromkeys(changes, 0.0)
    for photos in found:
        stranger = known[([each.name for each in known].index(photos.name) + 1) % len(known)]
        archives = []
        for seed in range(repeat):
            archives.append(make_archive(photos, stranger, seed))
            progress.step(f"{photos.name}, draw {seed + 1} of {repeat}")
        for grows in (True, False):
            clean = [
                night
                for seed, archive in enumerate(archives)
                for night in simulate(
                    archive.draw(None),
                    nights=images,
                    images=CLEAN_NIGHTLY[grows],
                    reference=REFERENCE,
                    grows=grows,
                    seed=seed,
                )
            ]
            alarmed = sum(bool(night.alarms) for night in clean)
            false, nights = false + alarmed, nights + images * repeat
            row: dict[str, str | float] = {
                "set": photos.name,
                "archive": GROWS[grows],
                "false alarms": alarmed,
                "largest AUC": max(night.findings[0].value for night in clean),
            }
            for change in changes:
                alarms = [_changed(archive, change, grows, seed) for seed, archive in enumerate(archives)]
                delay = [AFTER + 1 if last is None else last.number - BEFORE for last in alarms]
                late[change] = max(late[change], float(np.median(delay)))
                row[f"{change}: night"] = "/".join("–" if each > AFTER else str(each) for each in delay)
                row[f"{change}: by"] = _told(alarms)
            rows.append(row)
    expected = nights / 365.0
    gates = [Gate.at_most(f"nights with a false alarm, of {nights}, 1 in 365 expected at most", false, expected)]
    gates += [Gate.at_most(f"median night that finds: {change}", late[change], AFTER) for change in changes]
    return Result("drift", f"{images} nights without a change; the night after a change that finds it", rows, gates)


def _changed(archive: Archive, change: str, grows: bool, seed: int) -> Night | None:
    """Return the first alarm after a change; None if there is none."""
    nights = simulate(
        archive.draw(change),
        nights=BEFORE + AFTER,
        images=NIGHTLY if grows else 2 * NIGHTLY,
        reference=REFERENCE,
        grows=grows,
        seed=seed,
    )
    return next((night for night in nights if night.alarms and night.number > BEFORE), None)


def _told(alarms: Sequence[Night | None]) -> str:
    """Return the statistics of the first alarm that there is, with the AUC."""
    night = next((each for each in alarms if each is not None), None)
    if night is None:
        return ""
    names = dict.fromkeys(finding.statistic for finding in night.alarms)
    return f"{', '.join(names)}; AUC {night.findings[0].value:.2f}"


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
    count = min(CHANGED, len(rest) - REFERENCE)
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
