"""The step that trains the folds of a cell of an evaluation (a method, a number of shots, a draw) and measures it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from cluster import Part, Store
from fewshot.backbones import ClipSpec
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from fewshot.evaluation.protocols import ProtocolName
from fewshot.methods.table import learns_from_archive, needs_of
from ray_jobs.inputs.example_blocks import EmbeddedExamples
from ray_jobs.inputs.examples import LabelledUnits
from ray_jobs.output.layout import to_json
from ray_jobs.output.training_cache import StoredTrainingCache, trainings_folder
from ray_jobs.results.cell_result import CellResult
from ray_jobs.steps.archive_sample import lowest_rows, sample_size
from ray_jobs.steps.example_latents import get_example_latents
from ray_jobs.steps.gpu_share import keep_to_share
from ray_jobs.steps.train import parts_for, read_labelled

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.method import Method
    from fewshot.model_selection.cross_validation import Split
    from fewshot.problem import Labelled, Problem


@dataclass(frozen=True, slots=True)
class Cell:
    """A method at a number of shots, on one draw of the examples.

    Attributes:
        method: name of the method.
        hyperparameters: those given; the others are selected inside the shots.
        shots: examples a class.
        seed: of the draw and of the method.
        images: the examples.
        protocol: determines the measures.
        new: labels of the classes without examples.
        validation: the images to choose hyperparameters on; none: they are chosen inside the examples.
    """

    method: str
    hyperparameters: Mapping[str, object]
    shots: int
    seed: int
    images: tuple[str, ...]
    protocol: ProtocolName
    new: tuple[int, ...]
    validation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoldPretraining:
    """The trainings that a cell needs on one of its folds, done before it.

    Attributes:
        cell: the cell.
        fold: number of the fold, from 0.
        nested: whether to train without it and each of the later folds, for methods that are compared; without one of
            the earlier folds, its own unit trains.
    """

    cell: Cell
    fold: int
    nested: bool = False


@dataclass(slots=True)
class _Data:
    """The state of a worker.

    Attributes:
        pool: the problem with every train image that was read.
        position: image -> its row in the support set of `pool`.
        test: the test images.
        archive: [M, D] float32, unit rows: the sample of the test images that methods may learn from, unlabelled.
        validation: image -> its row in `pool.val`.
    """

    pool: Problem
    position: dict[str, int]
    test: Labelled
    archive: Tensor
    validation: dict[str, int]


@dataclass(frozen=True)
class EvaluateStep:
    """Trains and measures cells on cached features.

    Attributes:
        store: holds the features and the training cache.
        spec: the backbone, for its text encoder.
        templates: prompts; None takes the backbone's own.
        pool: the train images, embedded.
        test: the test images, embedded.
        needs: of the methods, beside features.
        diffusion: the diffusion model of methods that train with one; None without such methods.
        validation: the images to choose hyperparameters on, embedded; None: they are chosen inside the examples.
    """

    store: Store
    spec: ClipSpec
    templates: tuple[str, ...] | None
    pool: EmbeddedExamples
    test: LabelledUnits
    needs: frozenset[str] = frozenset()
    diffusion: DiffusionSpec | None = None
    validation: EmbeddedExamples | None = None

    def __hash__(self) -> int:
        """Return the hash of all that determines the state."""
        images = [part.identity for part in (self.pool, self.test, self.validation) if part is not None]
        return hash((self.store, self.spec, self.templates, *images, self.needs, self.diffusion))

    def setup(self) -> _Data:
        """Read all features and embed the prompts."""
        from fewshot.backbones import load_clip
        from fewshot.problem import Problem

        keep_to_share()
        clip = load_clip(self.spec)
        space = self.pool.labels.space
        images, pool = read_labelled(self.store, self.pool, dense="dense" in self.needs)
        if self.diffusion is not None:
            pool = replace(pool, latents=get_example_latents(self.store, self.diffusion, self.pool.examples, images))
        test_images, test = read_labelled(self.store, self.test, dense="dense" in self.needs)
        archive = test.features[lowest_rows(test_images, sample_size(len(space)))]
        chosen_on, val = self._read_validation()
        text = clip.prototypes(space, self.templates)
        parts = parts_for(clip, self.needs, self.diffusion)
        problem = Problem(space, text, pool, val, clip.logit_scale, **parts._asdict())
        return _Data(problem, _positions(images), test, archive, _positions(chosen_on))

    def _read_validation(self) -> tuple[list[str], Labelled | None]:
        if self.validation is None:
            return [], None
        return read_labelled(self.store, self.validation, dense="dense" in self.needs)

    def run(self, state: _Data, unit: Cell | FoldPretraining) -> Part:
        """Train a fold, or measure a cell."""
        return self._pretrain_fold(state, unit) if isinstance(unit, FoldPretraining) else self._measure(state, unit)

    def _pretrain_fold(self, state: _Data, unit: FoldPretraining) -> Part:
        from fewshot.method import TrainedMethod
        from fewshot.methods import build_method

        method = build_method(unit.cell.method, **unit.cell.hyperparameters)
        training_cache = self._training_cache(unit.cell)
        if isinstance(method, TrainedMethod):
            for split in _splits(method, _problem(state, unit.cell), unit):
                method.pretrain_fold(split, seed=unit.cell.seed, training_cache=training_cache)
        return Part(to_json({"trainings": sorted(training_cache.requested)}), {"trained": len(training_cache.made)})

    def _training_cache(self, cell: Cell) -> StoredTrainingCache:
        diffusion = self.diffusion if "diffusion" in needs_of(cell.method, cell.hyperparameters) else None
        return StoredTrainingCache(self.store, trainings_folder(self.spec, self.templates, diffusion))

    def _measure(self, state: _Data, cell: Cell) -> Part:
        """Train on the cell's examples, then measure the test images, once."""
        import torch

        from fewshot.calibration.calibrate import fit_calibrated
        from fewshot.evaluation.protocols import measure
        from fewshot.inference.predict import calibrated_logits
        from fewshot.method import features_for
        from fewshot.methods import build_method

        problem, training_cache = _problem(state, cell), self._training_cache(cell)
        calibrated = fit_calibrated(
            build_method(cell.method, **cell.hyperparameters), problem, seed=cell.seed, training_cache=training_cache
        )
        logits = calibrated_logits(calibrated, features_for(calibrated.classifier, state.test))
        is_new = torch.zeros(problem.num_classes, dtype=torch.bool)
        is_new[list(cell.new)] = True
        measures, per_class = measure(cell.protocol, logits, state.test.labels, is_new)
        result = CellResult(
            method=cell.method,
            shots=cell.shots,
            seed=cell.seed,
            measures={name: None if math.isnan(value) else value for name, value in measures.items()},
            **asdict(calibrated.scaling),
            decided_by=calibrated.method.name,
            hyperparameters=json.dumps(asdict(calibrated.method)),  # type: ignore[call-overload]
            held_out=json.dumps(asdict(calibrated.report)),
            labels_consumed=len(problem.support) + (0 if problem.val is None else len(problem.val)),
            test_images=len(state.test),
            per_class_accuracy=tuple(None if math.isnan(share) else round(share, 6) for share in per_class),
        )
        return Part(result.to_bytes(), {"cells": 1, "trained": len(training_cache.made)})


def _splits(method: Method, problem: Problem, unit: FoldPretraining) -> list[Split]:
    """Return what to train on: without the fold, or without it and each of the later folds."""
    from fewshot.calibration.calibrate import calibration_splits
    from fewshot.model_selection.cross_validation import held_out_splits, nested_splits

    seed, one = unit.cell.seed, slice(unit.fold, unit.fold + 1)
    if not unit.nested:
        return calibration_splits(method, problem, seed=seed)[1][one]
    left = [split.problem for split in nested_splits(problem, seed=seed)[one]]
    return [pair for part in left for pair in held_out_splits(part, seed=seed)[unit.fold : method.folds]]


def _problem(state: _Data, cell: Cell) -> Problem:
    """Return the problem of a cell: its examples, its images to choose on, and the archive that it may learn from."""
    pool, val = state.pool, state.pool.val
    val = None if val is None else val[_rows(cell.validation, state.validation)]
    archive = state.archive if learns_from_archive(cell.method, cell.hyperparameters) else None
    return replace(pool, support=pool.support[_rows(cell.images, state.position)], val=val, archive=archive)


def _positions(images: list[str]) -> dict[str, int]:
    return {image: i for i, image in enumerate(images)}


def _rows(images: tuple[str, ...], positions: Mapping[str, int]) -> Tensor:
    """Return the positions of those images that were read, [n] int64."""
    import torch

    return torch.tensor([positions[image] for image in images if image in positions], dtype=torch.int64)
