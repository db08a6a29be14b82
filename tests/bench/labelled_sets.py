"""Labelled photographs as features of the embedded CLIP, embedded once for a machine."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from cluster import fingerprint
from fewshot.backbones import ClipBackbone, ClipSpec, load_backbone
from fewshot.calibration.calibrate import fit_calibrated
from fewshot.calibration.calibrated_classifier import CalibratedClassifier
from fewshot.classes import LabelSpace
from fewshot.images import decode_pixels, side_before_resizing
from fewshot.methods import build_method
from fewshot.problem import Labelled, Problem
from tests.bench.job import PHOTOGRAPHS

SPLITS = ("train", "test")
WHOLE = "all"
"""The split of sets without others: what may be chosen from and what is measured on are drawn from it."""
BACKBONE = ClipSpec(precision="fp32")
CACHE = Path(tempfile.gettempdir()) / "fewshot-bench-features"
"""Removed by whoever cleans temporary folders; sets are embedded again then."""
_READ = 64

Features = NDArray[np.float32]
Classes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """A labelled set.

    Attributes:
        name: of the set.
        space: its K classes.
        text: [K, D] float32, unit rows.
        logit_scale: of the backbone.
        features: by split, [N, D] float32, unit rows; of a set that has no splits, all are in "test".
        labels: by split, [N] int64.
    """

    name: str
    space: LabelSpace
    text: torch.Tensor
    logit_scale: float
    features: Mapping[str, Features]
    labels: Mapping[str, Classes]

    def fit(self, features: Features, labels: Classes) -> CalibratedClassifier:
        """Fit GDA, the default method, to labelled images; without any, it is zero-shot."""
        support = Labelled(torch.from_numpy(features)[:, None], torch.from_numpy(labels))
        problem = Problem(self.space, self.text, support, None, self.logit_scale)
        return fit_calibrated(build_method("gda"), problem, seed=0)


def find_sets(names: Sequence[str] | None = None) -> list[PhotoSet]:
    """Return the sets that lie in the folder of photographs.

    Args:
        names: of sets; None takes all.

    Raises:
        FileNotFoundError: no folder is named, or it has none of them.
    """
    folder = os.environ.get(PHOTOGRAPHS)
    folders = sorted(path.parent for path in Path(folder).glob("*/splits.json")) if folder else []
    found = [path for path in folders if names is None or path.name in names]
    if not found:
        raise FileNotFoundError(f"{PHOTOGRAPHS} names no folder with {', '.join(names or ('<set>/splits.json',))}")
    return [_read_set(path) for path in found]


class Progress:
    """Lines on stderr: how many of all steps are done, and after how many seconds."""

    def __init__(self, steps: int) -> None:
        """Begin; `steps` is the number of all steps."""
        self._steps, self._done, self._started = steps, 0, time.monotonic()
        self._console = Console(stderr=True)

    def step(self, what: str) -> None:
        """Count a step as done."""
        self._done += 1
        seconds = time.monotonic() - self._started
        self._console.print(f"{self._done} of {self._steps} after {seconds:.0f} s: {what}", highlight=False)


def _read_set(folder: Path) -> PhotoSet:
    content = json.loads((folder / "splits.json").read_text())
    cached = CACHE / f"{folder.name}-{fingerprint([content, BACKBONE])}.npz"
    if not cached.exists():
        _write_features(cached, folder, content)
    with np.load(cached, allow_pickle=False) as arrays:
        features = {split: _unit(arrays[f"{split}_x"]) for split in SPLITS}
        labels = {split: arrays[f"{split}_y"].astype(np.int64) for split in SPLITS}
        text, scale = torch.from_numpy(arrays["text"]), float(arrays["scale"])
    return PhotoSet(folder.name, _space(content["classes"]), text, scale, features, labels)


def _write_features(cached: Path, folder: Path, content: Mapping[str, list[tuple[str, int]]]) -> None:
    """Embed a set; an interrupted process leaves no file of this name."""
    Console(stderr=True).print(f"embedding {folder.name}, once for this machine", highlight=False)
    CACHE.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=CACHE, suffix=".unfinished", delete=False) as file:
        np.savez(file, **dict(_embed(folder, content)))
    Path(file.name).replace(cached)


def _space(classes: Sequence[str]) -> LabelSpace:
    return LabelSpace(tuple(classes), tuple(name.replace("_", " ") for name in classes), ("",) * len(classes))


def _embed(folder: Path, content: Mapping[str, list[tuple[str, int]]]) -> Iterator[tuple[str, NDArray[np.generic]]]:
    clip = load_backbone(BACKBONE)
    assert isinstance(clip, ClipBackbone)
    text = clip.prototypes(_space([str(name) for name in content["classes"]])).numpy()
    for split in SPLITS:
        rows = _rows_of(content, split)
        batches = [rows[start : start + _READ] for start in range(0, len(rows), _READ)]
        none = np.zeros((0, text.shape[1]), np.float32)
        read = [_features(clip, [folder / path for path, _ in batch]) for batch in batches]
        yield f"{split}_x", np.concatenate([none, *read])
        yield f"{split}_y", np.array([label for _, label in rows], np.int64)
    yield "text", text
    yield "scale", np.array(clip.logit_scale)


def photo_paths(name: str) -> list[tuple[Path, int]]:
    """Return the images of a set with their labels, in the order of its features: train, then test."""
    folder = Path(os.environ[PHOTOGRAPHS]) / name
    content = json.loads((folder / "splits.json").read_text())
    return [(folder / path, label) for split in SPLITS for path, label in _rows_of(content, split)]


def _rows_of(content: Mapping[str, list[tuple[str, int]]], split: str) -> list[tuple[str, int]]:
    return content.get(split, content[WHOLE] if split == "test" and WHOLE in content else [])


def embed_contents(clip: ClipBackbone, contents: Iterable[bytes]) -> Features:
    """Embed image files.

    Returns:
        [N, D] float32, unit rows.
    """
    side = side_before_resizing(clip.longer_side)
    crops = [clip.crop(decode_pixels(data, min_side=side)) for data in contents]
    batches = [crops[start : start + _READ] for start in range(0, len(crops), _READ)]
    return _unit(np.concatenate([clip.embed_images(torch.stack(batch)).numpy() for batch in batches]))


def _features(clip: ClipBackbone, paths: Sequence[Path]) -> Features:
    return embed_contents(clip, (path.read_bytes() for path in paths))


def _unit(rows: Features) -> Features:
    unit: Features = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
