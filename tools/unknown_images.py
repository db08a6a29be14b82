"""Compare scores of images of no class, with a third of the classes left out of the examples.

    python -m tools.unknown_images FOLDER...

A folder holds a data set in the form of `fewshot evaluate`: splits.json and the images. Features are those of the
embedded CLIP, and are kept in a file with `--features`. Images of the classes left out are unknown, the other test
images known; images that are no examples are test images where a data set has no others. Printed, for each set and
number of shots and as means over the draws: the area under the ROC curve of every score; and of the decision of
`NearestExample`, the shares of known and of unknown images that it calls unknown, and the accuracy of the nearest
class mean on all known images and on those that are left.
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
from fewshot.data.shot_sampling import sample_shots
from fewshot.data.splits import parse_splits
from fewshot.images import decode_pixels, side_before_resizing
from fewshot.problem import Labelled
from fewshot.unknown import (
    NearestExample,
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


def measure(data: DataSet, *, shots: int, seed: int) -> dict[str, float]:
    """Return the measures of one draw of examples and of classes left out, by name, all in [0, 1]."""
    K = data.num_classes
    present = torch.ones(K, dtype=torch.bool)
    left_out = torch.randperm(K, generator=torch.Generator().manual_seed(seed))[: max(1, round(K / 3))]
    present[left_out] = False
    drawn = torch.tensor(sample_shots(data.keys, data.train_labels.tolist(), shots=shots, seed=seed))
    test, test_labels = test_images(data, drawn)
    drawn = drawn[present[data.train_labels[drawn]]]
    numbers = present.cumsum(0) - 1
    rows, labels, k = data.train[drawn], numbers[data.train_labels[drawn]], int(present.sum())
    means, known = unit_means(rows, labels, num_classes=k), present[test_labels]
    scores = {
        "max logit": nearest_row(test, means),
        "energy": energy(test, means, logit_scale=data.logit_scale),
        "nearest": nearest_row(test, rows),
        "gda": mahalanobis(test, rows, labels, num_classes=k),
        "vim": residual_and_energy(test, rows, means, logit_scale=data.logit_scale),
    }
    examples = NearestExample.from_images(Labelled(rows[:, None], labels))
    unknown = examples.unknown(test, lost=LOST)
    right = (test @ means.T).argmax(dim=1)[known] == numbers[test_labels[known]]
    return {name: auroc(score[known], score[~known]) for name, score in scores.items()} | {
        "lost": _share(unknown[known]),
        "found": _share(unknown[~known]),
        "accuracy": _share(right),
        "of the rest": _share(right[~unknown[known]]),
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
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for folder in given.folders:
        data = read_data_set(folder, given.features)
        most = int(data.train_labels.bincount().min())
        for shots in (number for number in given.shots if number <= most):
            found = [measure(data, shots=shots, seed=seed) for seed in given.seeds]
            means = {name: 100.0 * sum(row[name] for row in found) / len(found) for name in found[0]}
            cells = (folder.name, str(shots), *(f"{name} {value:.1f}" for name, value in means.items()))
            sys.stdout.write(" | ".join(cells) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
