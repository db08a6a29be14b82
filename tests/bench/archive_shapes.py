"""What learning from the archive gains where the archive looks unlike a benchmark: `gda_u` beside `gda`.

python -m tests.bench.archive_shapes --features FOLDER bench/signdigits bench/trashnet bench/grocery [--shares]

The test images of a labelled set stand for an archive of one of four shapes; labels only measure. Both methods learn
from the same examples of the train split and classify the same images, so differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.backbones import ClipSpec, load_clip
from fewshot.data.shot_sampling import sample_shots
from fewshot.data.splits import parse_splits
from fewshot.images import decode_pixels, side_before_resizing
from fewshot.method import Method
from fewshot.methods import build_method
from fewshot.problem import Labelled, Problem

SHAPES = ("natural", "long tail", "third", "foreign")
SHOTS = (1, 2, 4, 8, 16)
RATIO = 100
FOREIGN = 0.3


@dataclass(frozen=True)
class Features:
    """The features of a labelled set.

    Attributes:
        problem: all train images as examples.
        keys: their paths.
        test: [N, D] float32, unit rows.
        labels: [N] int64.
    """

    problem: Problem
    keys: list[str]
    test: Tensor
    labels: Tensor


def read_features(folder: Path, cache: Path) -> Features:
    """Embed a set with the embedded CLIP, unless its features are in the folder `cache`."""
    splits, clip = parse_splits((folder / "splits.json").read_bytes()), load_clip(ClipSpec())
    path = cache / f"{folder.name}.pt"
    if not path.exists():
        pairs = {"train": splits.train, "test": splits.test}
        torch.save({name: embed(clip, [folder / image for image, _ in part]) for name, part in pairs.items()}, path)
    views = torch.load(path)
    labels = {name: torch.tensor([y for _, y in part]) for name, part in (("a", splits.train), ("b", splits.test))}
    support = Labelled(views["train"][:, None], labels["a"])
    problem = Problem(splits.label_space, clip.prototypes(splits.label_space), support, None, clip.logit_scale)
    return Features(problem, [image for image, _ in splits.train], normalize(views["test"], dim=1), labels["b"])


def embed(clip, paths: Sequence[Path]) -> Tensor:
    side = side_before_resizing(clip.image_size)
    parts = [paths[start : start + 64] for start in range(0, len(paths), 64)]
    return torch.cat(
        [
            clip.embed_images(
                torch.stack([clip.crop(decode_pixels(path.read_bytes(), min_side=side)) for path in part])
            )
            for part in parts
        ]
    )


def archive_of(own: Features, others: Sequence[Features], shape: str, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return the images of an archive and their labels, -1 for images of other sets.

    "natural": all test images. "long tail": of random classes 100 times as many as of the rarest. "third": a random
    third of the classes. "foreign": 30 % of the images are of other sets.
    """
    generator = torch.Generator().manual_seed(seed)
    K, order = own.problem.num_classes, torch.randperm(len(own.labels), generator=generator)
    classes = torch.randperm(K, generator=generator)
    kept = torch.ones(len(own.labels), dtype=torch.bool)
    if shape == "long tail":
        counts = torch.bincount(own.labels, minlength=K)
        wanted = torch.empty(K)
        wanted[classes] = (counts.median() * RATIO ** -torch.linspace(0.0, 1.0, K)).ceil()
        ranks = torch.empty(len(order), dtype=torch.int64)
        for label in range(K):
            rows = order[own.labels[order] == label]
            ranks[rows] = torch.arange(len(rows))
        kept = ranks < wanted[own.labels]
    if shape == "third":
        kept = torch.isin(own.labels, classes[: max(2, math.ceil(K / 3))])
    features, labels = own.test[kept], own.labels[kept]
    if shape != "foreign":
        return features, labels
    elsewhere = torch.cat([other.test for other in others])
    count = round(len(features) * FOREIGN / (1.0 - FOREIGN))
    strange = elsewhere[torch.randperm(len(elsewhere), generator=generator)[:count]]
    return torch.cat([features, strange]), torch.cat([labels, torch.full((len(strange),), -1)])


def measure(
    sets: dict[str, Features], seeds: Sequence[int], *, method: str = "gda_u", shares: bool = False
) -> list[dict[str, object]]:
    """Return a row for each set, shape, number of shots and seed."""
    return [
        {"set": name, **measure_cell(sets, name, shape, shots, seed, method=method, shares=shares)}
        for name, shape, shots, seed in product(sets, SHAPES, SHOTS, seeds)
    ]


def measure_cell(
    sets: dict[str, Features], name: str, shape: str, shots: int, seed: int, *, method: str, shares: bool
) -> dict[str, object]:
    """Return the accuracy without the archive in per cent, what it gains, and whether it is used."""
    own = sets[name]
    features, labels = archive_of(own, [other for other in sets.values() if other is not own], shape, seed=seed)
    support = own.problem.support
    drawn = sample_shots(own.keys, support.labels.tolist(), shots=shots, seed=seed)
    problem = replace(own.problem, support=support[torch.tensor(drawn)], archive=features)
    of_class = labels >= 0
    names, known = problem.label_space.names, torch.bincount(labels[of_class], minlength=problem.num_classes)
    given = {"shares": {n: int(k) / int(known.sum()) for n, k in zip(names, known, strict=True)}} if shares else {}
    shown = features[of_class], labels[of_class]
    used, helped = accuracy(build_method(method, **given), problem, *shown, seed)
    _, without = accuracy(build_method(without_archive(method)), problem, *shown, seed)
    return {"shape": shape, "shots": shots, "seed": seed, "without": without, "gain": helped - without, "used": used}


def without_archive(method: str) -> str:
    """Return the name of the same method without the archive."""
    return "gda" if method == "gda_u" else method.removeprefix("archive_")


def accuracy(method: Method, problem: Problem, features: Tensor, labels: Tensor, seed: int) -> tuple[float, float]:
    """Return whether the archive was used, and the accuracy in per cent."""
    selected = method.select(problem, seed=seed)
    logits = selected.fit(problem, seed=seed).logits(features)
    used = getattr(selected, "archive_weight", getattr(selected, "weight", 0.0))
    return used, 100.0 * float((logits.argmax(dim=1) == labels).double().mean())


def table(rows: Sequence[dict[str, object]]) -> str:
    """Return Markdown: the accuracy without the archive, and the gain with its paired standard error."""
    names = list(dict.fromkeys(row["set"] for row in rows))
    lines = ["| set | archive | " + " | ".join(f"{shots}" for shots in SHOTS) + " |", "|---|---|" + "---|" * len(SHOTS)]
    for name, shape in product([*names, "mean"], SHAPES):
        cells = []
        for shots in SHOTS:
            found = [r for r in rows if (r["shape"], r["shots"]) == (shape, shots) and name in (r["set"], "mean")]
            gains, base = [r["gain"] for r in found], mean(r["without"] for r in found)
            error = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
            cells.append(f"{base:.1f} {mean(gains):+.1f} ± {error:.1f} ({mean(r['used'] for r in found):.0%})")
        lines.append(f"| {name} | {shape} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders of labelled sets, each with a splits.json.")],
    features: Annotated[Path, typer.Option(help="Folder for the features of the sets, made once.")],
    seeds: Annotated[int, typer.Option(help="Number of draws.")] = 3,
    method: Annotated[str, typer.Option(help="Method that learns from the archive.")] = "gda_u",
    shares: Annotated[bool, typer.Option(help="Give gda_u the true shares of the classes.")] = False,
) -> None:
    """Print a table of accuracies in per cent."""
    torch.set_num_threads(1)
    features.mkdir(parents=True, exist_ok=True)
    sets = {folder.name: read_features(folder, features) for folder in folders}
    typer.echo(table(measure(sets, range(1, seeds + 1), method=method, shares=shares)))


if __name__ == "__main__":
    typer.run(main)
