"""Measure the label sets of full conformal adaptation on data sets, with as many examples of each class.

    python -m tools.conformal_coverage FOLDER...

Folders and features are as in `tools.unknown_images`. Printed, for each set, number of shots and maximum error, as
means over the draws: the share of test images whose set contains the true label, the mean number of labels of a set,
the share of sets of exactly one label, and the share of these whose label is wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.backbones import ClipSpec, load_clip
from fewshot.conformal import ConformalExamples, label_sets
from fewshot.data.shot_sampling import sample_shots
from fewshot.data.splits import parse_splits
from tools.unknown_images import DataSet, read_data_set, test_images

IMAGES = 400
"""Test images of a draw at most, evenly spread over all."""
MAX_ERRORS = (0.05, 0.1, 0.2)


def measure(data: DataSet, text: Tensor, *, shots: int, seed: int) -> dict[float, tuple[float, float, float, float]]:
    """Return, by maximum error, the four measures of the module for one draw of examples.

    Args:
        data: the data set.
        text: [K, D] float64, unit rows.
        shots: examples of each class.
        seed: of the draw.
    """
    drawn = torch.tensor(sample_shots(data.keys, data.train_labels.tolist(), shots=shots, seed=seed))
    images, labels = test_images(data, drawn)
    spread = torch.linspace(0, len(images) - 1, min(IMAGES, len(images))).long()
    examples = ConformalExamples(data.train[drawn], data.train_labels[drawn], text, data.logit_scale)
    ranks, labels = examples.ranks(images[spread]), labels[spread]
    found = {}
    for max_error in MAX_ERRORS:
        sets = label_sets(ranks, examples=len(examples), max_error=max_error)
        right, sizes = sets.gather(1, labels[:, None]).squeeze(1), sets.sum(dim=1)
        single = sizes == 1
        wrong = float((single & ~right).sum()) / max(1, int(single.sum()))
        found[max_error] = (_mean(right), _mean(sizes), _mean(single), wrong)
    return found


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def main() -> None:
    """Print a line for each data set, number of shots and maximum error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--features", type=Path, help="folder to keep features in")
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 2, 4, 16])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    given = parser.parse_args()
    torch.set_num_threads(1)
    clip = load_clip(ClipSpec())
    for folder in given.folders:
        data = read_data_set(folder, given.features)
        space = parse_splits((folder / "splits.json").read_bytes()).label_space
        text = normalize(clip.prototypes(space).double(), dim=1)
        most = int(data.train_labels.bincount().min())
        for shots in (number for number in given.shots if number <= most):
            draws = [measure(data, text, shots=shots, seed=seed) for seed in given.seeds]
            for max_error in MAX_ERRORS:
                means = torch.tensor([draw[max_error] for draw in draws]).double().mean(dim=0).tolist()
                contained, size, single, wrong = means
                sys.stdout.write(
                    f"{folder.name} | {shots} | {max_error} | contained {100 * contained:.1f} | labels {size:.1f}"
                    f" | single {100 * single:.1f} | wrong {100 * wrong:.1f}\n"
                )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
