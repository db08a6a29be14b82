"""The jobs of the chaos tests, and the results that must be identical."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomlkit
from PIL import Image

from cluster import Store
from tests.ray_jobs.evaluation.test_evaluate import write_splits
from tests.ray_jobs.place import Place, put
from tests.strange_files import encode
from tests.tiny_clip import write_tiny_clip
from tests.tiny_diffusion import write_tiny_diffusion

IMAGES = 120


@dataclass(frozen=True)
class Scenario:
    """One job.

    Attributes:
        name: of the job, for reports.
        command: of `fewshot`.
        job: its job file; the output is set at each start.
        results: predicate of the paths in an output whose objects must equal those of a run without faults.
    """

    name: str
    command: str
    job: Path
    results: Callable[[str], bool]

    def hashes(self, store: Store) -> dict[str, str]:
        """Return the SHA-256 of each result, by its path."""
        found = (path for path in store.list() if self.results(path))
        return {path: hashlib.sha256(store.get(path)).hexdigest() for path in found}

    def is_complete(self, store: Store) -> bool:
        """Return whether the metrics of every run say that it is complete."""
        metrics = [path for path in store.list("runs") if path.endswith("metrics.json")]
        return bool(metrics) and all(json.loads(store.get(path))["complete"] for path in metrics)


def scenarios(folder: Path, *, images: int = IMAGES, draws: Sequence[int] = (1, 2)) -> list[Scenario]:
    """Write the data and the job files of all scenarios, and return the scenarios.

    Args:
        folder: an empty folder that every node of the cluster can read.
        images: number of images in the archive.
        draws: numbers of shots, and seeds, of the evaluation.
    """
    place = Place(folder / "place", folder / "clip")
    for part in (place.folder, place.clip):
        part.mkdir(parents=True)
    write_tiny_clip(place.clip)
    diffusion = write_tiny_diffusion(folder / "diffusion")
    place.fill(images=images, shots=3)
    put(place.archive / "white.png", encode(Image.new("RGB", (48, 40), "white"), "PNG"))
    promises = {"unknown": True, "unknown_rate": 0.1, "guarantee": "conformal", "label_set_error": 0.3}
    escalation = {"model": str(diffusion), "max_fraction": 0.2, "steps": 20, "batch_size": 8}
    write_splits(place.folder)
    cells = {
        "splits": str(place.folder / "splits.json"),
        "images": str(place.folder / "images"),
        "methods": ["clip_adapter", "tip_adapter_f", "coop"],
        "shots": list(draws),
        "seeds": list(draws),
    }
    return [
        Scenario("classify", "classify", _written(place, "classify"), _predictions),
        Scenario(
            "classify with unknown images and label sets",
            "classify",
            _written(place, "promises", classifier=promises),
            _predictions_and_classifiers,
        ),
        Scenario(
            "classify with escalation",
            "classify",
            _written(place, "escalate", escalate=escalation | {"hyperparameters": {"steps": 2, "samples": 1}}),
            _escalation_results,
        ),
        Scenario("train and evaluate", "evaluate", _written(place, "train", evaluate=cells), _trainings),
    ]


def _written(place: Place, name: str, **sections: Mapping[str, object]) -> Path:
    place.write_job(**{section: dict(keys) for section, keys in sections.items()})
    document = tomlkit.parse(place.job.read_text(encoding="utf-8"))
    del document["cluster"]
    for section in document.keys() & {"clip", "escalate"}:
        document[section]["precision"] = "fp32"  # The nodes have GPUs in name only.
    job = place.folder / f"{name}.toml"
    job.write_text(tomlkit.dumps(document), encoding="utf-8")
    return job


def _predictions(path: str) -> bool:
    return "predictions" in path.split("/") or path.endswith("failures.parquet")


def _predictions_and_classifiers(path: str) -> bool:
    """The examples that images are compared with lie beside their classifier."""
    return _predictions(path) or path.startswith("classifiers/")


def _escalation_results(path: str) -> bool:
    """Adapters of classes count; marks of blocks are named after the classes that were left to train, and do not."""
    is_adapter = path.startswith("adapters/") and "/blocks/" not in path
    return _predictions(path) or is_adapter or path.endswith("gaps.parquet")


def _trainings(path: str) -> bool:
    return path.startswith(("trainings/", "evaluations/"))
