"""Compare scores of images of no class, with a third of the classes left out of the examples.

    python -m tools.unknown_images FOLDER...

A folder holds a data set in the form of `fewshot evaluate`: splits.json and the images. Features are those of the
embedded CLIP, and are kept in a file with `--features`. Images of the classes left out are unknown, the other test
images known; images that are no examples are test images where a data set has no others. Printed, for each set and
number of shots and as means over the draws: the area under the ROC curve of every score; and of the decision of
`NearestExample`, the shares of known and of unknown images that it calls unknown, and the accuracy of the nearest
class mean on all known images and on those that are left. With `--max-error`: which share of the known images gets a
label, and which share of the labels is wrong, without and with the test.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.backbones import ClipSpec, load_clip
from fewshot.calibration.calibrate import fit_calibrated
from fewshot.classes import LabelSpace
from fewshot.data.shot_sampling import sample_shots
from fewshot.data.splits import parse_splits
from fewshot.images import decode_pixels, side_before_resizing
from fewshot.inference.predict import predict
from fewshot.methods.nearest_mean import NearestMean
from fewshot.problem import Labelled, Problem
from fewshot.unknown import (
    NearestExample,
    UnknownTest,
    energy,
    mahalanobis,
    nearest_row,
    residual_and_energy,
    unit_means,
)

BLOCK = 64
"""Images that are decoded and embedded together."""
LOST = 0.05
"""Share of known images that may be lost."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """Features of a data set.

    Attributes:
        train: [N, D] float64, unit rows: the images that examples are drawn from.
        train_labels: [N] int64.
        test: [M, D] float64, unit rows; M = 0 if the set has no test images.
        test_labels: [M] int64.
        keys: N keys of the images of `train`.
        logit_scale: of the backbone.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    keys: tuple[str, ...]
    logit_scale: float

    @property
    def num_classes(self) -> int:
        """K."""
        return int(self.train_labels.max()) + 1


def read_data_set(folder: Path, features: Path | None) -> DataSet:
    """Embed a data set, or read its features where they are kept.

    Args:
        folder: with splits.json.
        features: folder to keep features in; None keeps none.
    """
    splits = parse_splits((folder / "splits.json").read_bytes())
    kept = None if features is None else features / f"{folder.name}.safetensors"
    if kept is not None and kept.exists():
        rows = load_file(kept)
    else:
        rows = {"train": _embedded(folder, splits.train), "test": _embedded(folder, splits.test or ())}
        if kept is not None:
            save_file(rows, kept)
    train, test = (normalize(rows[name].double(), dim=1) for name in ("train", "test"))
    labels = (torch.tensor([label for _, label in part], dtype=torch.int64) for part in (splits.train, splits.test))
    keys = tuple(key for key, _ in splits.train)
    return DataSet(train, next(labels), test, next(labels), keys, load_clip(ClipSpec()).logit_scale)


def _embedded(folder: Path, pairs: Sequence[tuple[str, int]]) -> Tensor:
    """Return raw features, [N, D] float32."""
    clip = load_clip(ClipSpec())
    side = side_before_resizing(clip.image_size)
    blocks = [clip.embed_images(torch.zeros(0, 3, clip.image_size, clip.image_size))]
    for start in range(0, len(pairs), BLOCK):
        files = [(folder / key).read_bytes() for key, _ in pairs[start : start + BLOCK]]
        pixels = torch.stack([clip.crop(decode_pixels(data, min_side=side)) for data in files])
        blocks.append(clip.embed_images(pixels))
    return torch.cat(blocks)


@dataclass(frozen=True, slots=True)
class Draw:
    """Examples of two thirds of the classes, and the test images of all.

    Attributes:
        examples: [N, D] float64, unit rows.
        labels: [N] int64 in [0, k), of the classes that are left.
        num_classes: k.
        test: [M, D] float64, unit rows.
        test_labels: [M] int64 in [0, k); of an image of a class left out, any.
        known: [M] bool, whether an image is of a class that is left.
    """

    examples: Tensor
    labels: Tensor
    num_classes: int
    test: Tensor
    test_labels: Tensor
    known: Tensor

    @property
    def unknown_test(self) -> UnknownTest:
        """The test of unknown images by these examples."""
        return UnknownTest(NearestExample.from_images(Labelled(self.examples[:, None], self.labels)), LOST)


def draw_examples(data: DataSet, *, shots: int, seed: int) -> Draw:
    """Draw the classes to leave out, and the examples of the others."""
    K = data.num_classes
    present = torch.ones(K, dtype=torch.bool)
    left_out = torch.randperm(K, generator=torch.Generator().manual_seed(seed))[: max(1, round(K / 3))]
    present[left_out] = False
    drawn = torch.tensor(sample_shots(data.keys, data.train_labels.tolist(), shots=shots, seed=seed))
    test, test_labels = test_images(data, drawn)
    drawn = drawn[present[data.train_labels[drawn]]]
    numbers = present.cumsum(0) - 1
    rows, labels = data.train[drawn], numbers[data.train_labels[drawn]]
    return Draw(rows, labels, int(present.sum()), test, numbers[test_labels], present[test_labels])


def measure(data: DataSet, *, shots: int, seed: int) -> dict[str, float]:
    """Return the measures of one draw of examples and of classes left out, by name, all in [0, 1]."""
    draw = draw_examples(data, shots=shots, seed=seed)
    rows, labels, k, test, known = draw.examples, draw.labels, draw.num_classes, draw.test, draw.known
    means = unit_means(rows, labels, num_classes=k)
    scores = {
        "max logit": nearest_row(test, means),
        "energy": energy(test, means, logit_scale=data.logit_scale),
        "nearest": nearest_row(test, rows),
        "gda": mahalanobis(test, rows, labels, num_classes=k),
        "vim": residual_and_energy(test, rows, means, logit_scale=data.logit_scale),
    }
    unknown = draw.unknown_test(test).unknown
    right = (test @ means.T).argmax(dim=1)[known] == draw.test_labels[known]
    return {name: auroc(score[known], score[~known]) for name, score in scores.items()} | {
        "lost": _share(unknown[known]),
        "found": _share(unknown[~known]),
        "accuracy": _share(right),
        "of the rest": _share(right[~unknown[known]]),
    }


def measure_labels(data: DataSet, *, max_error: float, shots: int, seed: int) -> dict[str, float]:
    """Return which share of images the nearest class mean labels at a maximum error rate, and which of it is wrong.

    With and without the test, which comes first: of images of the classes, then of all images, where a label of an
    image of a class left out is wrong. All in [0, 1]; NaN without any label.
    """
    draw = draw_examples(data, shots=shots, seed=seed)
    images = Labelled(draw.examples.float()[:, None], draw.labels)
    names = tuple(map(str, range(draw.num_classes)))
    no_text = torch.eye(draw.num_classes, images.views.shape[2])
    space = LabelSpace(names, names, ("",) * len(names))
    problem = Problem(space, no_text, images, None, data.logit_scale)
    calibrated = fit_calibrated(NearestMean(text_weight=0.0), problem, seed=seed, max_error=max_error)
    predicted = predict(calibrated, draw.test.float())
    wrong = (predicted.label != draw.test_labels) | ~draw.known
    is_unknown = draw.unknown_test(draw.test).unknown
    given = {"alone": ~predicted.abstained, "with the test": ~predicted.abstained & ~is_unknown}
    return {
        f"{what} {name}": value
        for name, labelled in given.items()
        for what, value in (
            ("labelled", _share(labelled[draw.known])),
            ("wrong", _share(wrong[labelled & draw.known])),
            ("wrong of all", _share(wrong[labelled])),
        )
    }


def auroc(known: Tensor, unknown: Tensor) -> float:
    """Return the probability that an unknown image has the higher score, half of that of equal scores included."""
    ordered = known.sort().values
    below, not_above = (torch.searchsorted(ordered, unknown, right=right) for right in (False, True))
    return float((below + not_above).double().mean()) / (2 * len(known)) if len(known) and len(unknown) else math.nan


def test_images(data: DataSet, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features and labels of the test images, or of all images that are not among those drawn."""
    if len(data.test):
        return data.test, data.test_labels
    rest = torch.ones(len(data.train), dtype=torch.bool)
    rest[drawn] = False
    return data.train[rest], data.train_labels[rest]


def _share(values: Tensor) -> float:
    return float(values.double().mean())


def main() -> None:
    """Print a line for each data set and number of shots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--features", type=Path, help="folder to keep features in")
    parser.add_argument("--max-error", type=float, help="measure what is labelled at this maximum error rate instead")
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for folder in given.folders:
        data = read_data_set(folder, given.features)
        most = int(data.train_labels.bincount().min())
        for shots in (number for number in given.shots if number <= most):
            found = [
                measure(data, shots=shots, seed=seed)
                if given.max_error is None
                else measure_labels(data, max_error=given.max_error, shots=shots, seed=seed)
                for seed in given.seeds
            ]
            values = {name: torch.tensor([row[name] for row in found], dtype=torch.float64) for name in found[0]}
            means = {name: 100.0 * float(value.nanmean()) for name, value in values.items()}
            cells = (folder.name, str(shots), *(f"{name} {value:.1f}" for name, value in means.items()))
            sys.stdout.write(" | ".join(cells) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
