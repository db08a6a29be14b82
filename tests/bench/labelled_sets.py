"""Labelled photographs as features of the embedded CLIP, embedded once for a machine."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot.backbones import ClipBackbone, ClipSpec, load_backbone
from fewshot.calibration.calibrate import fit_calibrated
from fewshot.calibration.calibrated_classifier import CalibratedClassifier
from fewshot.classes import LabelSpace
from fewshot.images import decode_pixels, side_before_resizing
from fewshot.methods import build_method
from fewshot.problem import Labelled, Problem
from tests.bench.job import PHOTOGRAPHS

SPLITS = ("train", "test")
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
        features: by split, [N, D] float32, unit rows.
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


def find_sets(names: Sequence[str]) -> list[PhotoSet]:
    """Return the sets that lie in the folder of photographs.

    Raises:
        FileNotFoundError: no folder is named, or it has none of them.
    """
    folder = os.environ.get(PHOTOGRAPHS)
    found = [] if folder is None else [name for name in names if (Path(folder) / name / "splits.json").is_file()]
    if not found or folder is None:
        raise FileNotFoundError(f"{PHOTOGRAPHS} names no folder with {', '.join(names)}")
    return [_read_set(Path(folder) / name) for name in found]


def _read_set(folder: Path) -> PhotoSet:
    content = json.loads((folder / "splits.json").read_text())
    cached = CACHE / f"{folder.name}.npz"
    if not cached.exists():
        CACHE.mkdir(exist_ok=True)
        np.savez(cached, **dict(_embed(folder, content)))
    with np.load(cached, allow_pickle=False) as arrays:
        features = {split: _unit(arrays[f"{split}_x"]) for split in SPLITS}
        labels = {split: arrays[f"{split}_y"].astype(np.int64) for split in SPLITS}
        text, scale = torch.from_numpy(arrays["text"]), float(arrays["scale"])
    return PhotoSet(folder.name, _space(content["classes"]), text, scale, features, labels)


def _space(classes: Sequence[str]) -> LabelSpace:
    return LabelSpace(tuple(classes), tuple(name.replace("_", " ") for name in classes), ("",) * len(classes))


def _embed(folder: Path, content: Mapping[str, list[tuple[str, int]]]) -> Iterator[tuple[str, NDArray[np.generic]]]:
    clip = load_backbone(ClipSpec(precision="fp32"))
    assert isinstance(clip, ClipBackbone)
    for split in SPLITS:
        rows = content[split]
        batches = [rows[start : start + _READ] for start in range(0, len(rows), _READ)]
        yield f"{split}_x", np.concatenate([_features(clip, [folder / path for path, _ in batch]) for batch in batches])
        yield f"{split}_y", np.array([label for _, label in rows])
    yield "text", clip.prototypes(_space([str(name) for name in content["classes"]])).numpy()
    yield "scale", np.array(clip.logit_scale)


def _features(clip: ClipBackbone, paths: Sequence[Path]) -> Features:
    side = side_before_resizing(clip.longer_side)
    crops = [clip.crop(decode_pixels(path.read_bytes(), min_side=side)) for path in paths]
    features: Features = clip.embed_images(torch.stack(crops)).numpy()
    return features


def _unit(rows: Features) -> Features:
    unit: Features = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
