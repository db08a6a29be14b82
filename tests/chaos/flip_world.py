"""An output with every kind of stored object: what bits are flipped in, and what reads each kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch

from cluster import Store
from fewshot.backbones import ClipSpec
from ray_jobs.escalation.cost_model import get_rate
from ray_jobs.escalation.score_unit import get_errors
from ray_jobs.escalation.selection import get_selection
from ray_jobs.evaluation.cascades import MeasuredCascade
from ray_jobs.output.classifiers import find_classifier
from ray_jobs.output.feature_parts import get_table, load
from ray_jobs.output.latest_runs import LatestRuns
from ray_jobs.output.training_cache import StoredTrainingCache
from ray_jobs.report.failures import read_reasons
from ray_jobs.report.report_files import stored_job
from ray_jobs.results import ClassificationMetrics, EvaluationResult, RunPlan
from ray_jobs.results.cell_result import CellResult
from ray_jobs.results.json_format import JsonDocument
from ray_jobs.results.run_work import RunWork
from ray_jobs.results.stage_load import RunLoad
from ray_jobs.steps.adapter_files import get_adapter
from ray_jobs.steps.latents import get_latents
from tests.ray_jobs.evaluation.test_evaluate import write_splits
from tests.ray_jobs.place import Place, fewshot
from tests.tiny_clip import write_tiny_clip
from tests.tiny_diffusion import write_tiny_diffusion

Reader = Callable[[Store, str], object]
"""Reads an object, by its path in the output, as a job or a command does, to a value of numbers and texts."""


class MadeAnewError(Exception):
    """A reader found damage and made the object anew, which is a repair."""


@dataclass(frozen=True)
class Kind:
    """A kind of stored object.

    Attributes:
        name: for the table.
        pattern: of the paths in the output.
        read: the reader; None for what people and other programs read, and this one only verifies.
        checked_as: path of the object that `verify` reads, of an object's path: a card for the files beside it.
    """

    name: str
    pattern: str
    read: Reader | None
    checked_as: Callable[[str], str] = str

    def paths(self, output: Path) -> list[Path]:
        """Return the objects of this kind."""
        files = (path for path in sorted(output.rglob("*")) if path.is_file())
        return [path for path in files if re.fullmatch(self.pattern, path.relative_to(output).as_posix())]


def plain(value: object) -> object:
    """Return a value with its tensors, arrays and tables as bytes and lists, so that equal ones compare equal."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.contiguous().view(torch.uint8).numpy().tobytes())
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, pa.Table):
        return (str(value.schema), repr(value.to_pydict()))
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return (type(value).__name__, {name: plain(getattr(value, name)) for name in value.__dataclass_fields__})
    return value


def _document(kind: type[JsonDocument]) -> Reader:
    return lambda store, path: kind.from_json(store.get(path), where=store.url(path))


def _run_of(path: str) -> str:
    return "/".join(path.split("/")[:2])


def _training(store: Store, path: str) -> object:
    folder, _, name = path.rpartition("/")

    def make() -> Mapping[str, torch.Tensor]:
        raise MadeAnewError(f"{name} is trained anew")

    return StoredTrainingCache(store, folder)(name.removesuffix(".safetensors"), make)


def _folder_of(path: str, depth: int) -> str:
    return "/".join(path.split("/")[:depth])


def _adapter(store: Store, path: str) -> object:
    return get_adapter(store, _folder_of(path, 3), torch.device("cpu"))


def _classifier_reader(spec: ClipSpec) -> Reader:
    def read(store: Store, path: str) -> object:
        found = find_classifier(store, _folder_of(path, 3))
        assert found is not None
        loaded = found.load(spec)
        numbers = (loaded.logit_scale, loaded.scaling, loaded.threshold, loaded.held_out)
        return found.name, found.classes, loaded.class_names, *numbers, loaded.classifier

    return read


def _card(path: str) -> str:
    return f"{_folder_of(path, 3)}/card.json"


def kinds(spec: ClipSpec) -> list[Kind]:
    """Return all kinds; every file of an output belongs to one, but for the leases."""
    read_classifier, run = _classifier_reader(spec), "runs/[^/]+"
    return [
        Kind("features", "features/.*/part-.*", load),
        Kind("predictions", "predictions/.*", get_table),
        Kind("escalated predictions", f"{run}/predictions/.*", get_table),
        Kind("cheap predictions of cascades", "cascades/.*/cheap-predictions/.*", get_table),
        Kind("predictions of cascades", "cascades/.*/of-.*/predictions/.*", get_table),
        Kind("failures", f"{run}/failures.parquet", lambda store, path: read_reasons(store, _run_of(path))),
        Kind("selection", "(?:runs|cascades)/.*/escalated.parquet", get_selection),
        Kind("gaps", "(?:runs|cascades)/.*/gaps.parquet", get_table),
        Kind("noise errors", "(?:runs|cascades)/.*/(?:noise|calibration)-errors/.*", get_errors),
        Kind("probe", "(?:runs|cascades)/.*/probe.json", get_rate),
        Kind("plan", f"{run}/plan.json", _document(RunPlan)),
        Kind("load", f"{run}/load.json", _document(RunLoad)),
        Kind("work", f"{run}/work.json", _document(RunWork)),
        Kind("metrics", "runs/test-c[^/]*/metrics.json", _document(ClassificationMetrics)),
        Kind("metrics of evaluations", "runs/test-e[^/]*/metrics.json", _document(EvaluationResult)),
        Kind("job file", f"{run}/job.toml", lambda store, path: stored_job(store, _run_of(path))),
        Kind("report", f"{run}/report/(?:index|work).html", None),
        Kind("tables as Parquet", f"{run}/(?:table|cells|per_class|cascades).parquet", get_table),
        Kind("tables as text", f"{run}/.*(?:csv|md)", None),
        Kind("latest runs", "latest.json", _document(LatestRuns)),
        Kind("classifier tensors", "classifiers/.*/classifier.safetensors", read_classifier, _card),
        Kind("classifier cards", "classifiers/.*/card.json", read_classifier),
        Kind("learned tokens", "classifiers/.*/tokens/.*", None, _card),
        Kind("training cache", "trainings/.*", _training),
        Kind("latents", "latents/.*", get_latents),
        Kind("adapter weights", r"adapters/.*/adapter_model\.safetensors", _adapter, _card),
        Kind("adapter settings", r"adapters/.*/adapter_config\.json", _adapter, _card),
        Kind("contexts of classes", r"adapters/.*/context\.safetensors", _adapter, _card),
        Kind("adapter cards", "adapters/.*/card.json", _adapter),
        Kind("marks of blocks and folds", "(?:adapters/.*/blocks|fold-pretrainings)/.*", None),
        Kind("cells", "evaluations/.*", _document(CellResult)),
        Kind("cascades", "cascades/.*/cascade.json", _document(MeasuredCascade)),
    ]


@dataclass(frozen=True)
class FlipWorld:
    """An output of finished jobs.

    Attributes:
        place: archive, examples, job file and output.
        commands: the command lines that made the output, without the program's name.
    """

    place: Place
    commands: tuple[tuple[str, ...], ...]

    @property
    def spec(self) -> ClipSpec:
        """The backbone."""
        return ClipSpec(model=str(self.place.clip), precision="fp32", batch_size=4)

    def run_all(self) -> list[Any]:
        """Run all commands again; return their outcomes."""
        with patch("ray_jobs.escalation.cost_model.PROBE_S", 0.01):
            return [fewshot(*command) for command in self.commands]


def write_world(folder: Path, *, evaluates: bool = True) -> FlipWorld:
    """Run small jobs of every kind into one output.

    Args:
        folder: an empty one.
        evaluates: also evaluate, with cascades, and learn tokens of a diffusion model: most of the time that it takes.
    """
    for name in ("clip", "diffusion"):
        (folder / name).mkdir()
    clip, diffusion = write_tiny_clip(folder / "clip"), str(write_tiny_diffusion(folder / "diffusion"))
    place = Place(folder, clip).fill(images=10)
    write_splits(folder)
    escalate = {
        "model": diffusion,
        "max_fraction": 0.3,
        "steps": 4,
        "batch_size": 8,
        "budget_gpu_hours": 100.0,
        "hyperparameters": {"steps": 1, "samples": 1},
    }
    place.write_job(
        job={"name": "test-c"},
        classifier={"method": "clip_adapter"},
        escalate=escalate,
        diffusion={"model": diffusion, "batch_size": 8},
        evaluate={
            "splits": str(folder / "splits.json"),
            "images": str(folder / "images"),
            "shots": [2],
            "seeds": [1],
            "methods": ["zero_shot", "clip_adapter"],
        },
    )
    commands: list[tuple[str, ...]] = [("classify", str(place.job))]
    if evaluates:
        learned = "classifier.hyperparameters={steps = 2, images = 1, word = 'photo'}"
        tokens = _settings("classifier.method=mcti", learned, "escalate.calibrate=false", "job.name=test-ct")
        commands += [
            ("evaluate", str(place.job), *_settings("job.name=test-e")),
            ("classify", str(place.job), *tokens),
        ]
    world = FlipWorld(place, tuple(commands))
    for outcome in world.run_all():
        assert outcome.code == 0, outcome.messages
    return world


def _settings(*settings: str) -> Iterable[str]:
    return (word for setting in settings for word in ("--set", setting))
