"""A project that is retrained at night: labels arrive, a turn is taken, and what it leaves can be compared."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster import Storage, Store
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.output.latest_runs import read_latest
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.moves import JournalEntry, Move
from ray_jobs.registry.registry_state import RegistryState, state_of
from ray_jobs.results.run_plan import RunPlan
from tests.ray_jobs.place import CLASSES, Outcome, Place, fewshot, write_table

NAME = "test"
"""Of the job."""
LEASE_S = 2.0
"""Soon enough for a test to wait for."""


@dataclass(frozen=True)
class Left:
    """What a turn left, as far as it may depend on nothing but labels and moves.

    Attributes:
        moves: of the journal: who made them, why, and what was done.
        objects: digests of production's classifier, of what lies beside the journal and of production's predictions,
            by path.
        run: folder of the newest run.
        classifier: folder of the classifier that it was made with.
        complete: whether a prediction of every image of the plan is there.
    """

    moves: tuple[tuple[str, str, Move], ...]
    objects: Mapping[str, str]
    run: str
    classifier: str
    complete: bool


@dataclass(frozen=True)
class Project:
    """A job with an output of its own.

    Attributes:
        place: its archive and examples.
        url: of the output.
        storage: how the output is reached.
        sections: keys of the job file that are not the usual ones, by section.
    """

    place: Place
    url: str
    storage: Storage = DEFAULT_STORAGE
    sections: Mapping[str, dict[str, object]] = field(default_factory=dict)

    @classmethod
    def fill(cls, place: Place, *, images: int = 90, shots: int = 5, **changes: dict[str, object]) -> Project:
        """Write archive, examples and job file of a project that learns from its ledger, by GDA."""
        place.fill(images=images, shots=shots)
        return cls(place, str(place.output), sections=changes).with_job()

    def with_job(self) -> Project:
        """Write the job file."""
        reached = {"endpoint": self.storage.endpoint} if self.storage.endpoint else {}
        sections: dict[str, dict[str, object]] = {
            "job": {"output": self.url},
            "archive": {"shard_images": 46},
            "support": {"labels": True},
            "classifier": {"method": "gda"},
            "storage": {"lease_s": LEASE_S, **reached},
        }
        for name, keys in self.sections.items():
            sections[name] = sections.get(name, {}) | keys
        self.place.write_job(**sections)
        return self

    def at(self, url: str, storage: Storage = DEFAULT_STORAGE) -> Project:
        """Return the same project with another output, whose job file it writes."""
        return replace(self, url=url, storage=storage).with_job()

    @property
    def job(self) -> Path:
        """The job file."""
        return self.place.job

    @property
    def store(self) -> Store:
        """The output."""
        return Store(self.url, storage=self.storage)

    def objects(self) -> dict[str, bytes]:
        """Return all objects of the output, by path."""
        return {path: self.store.get(path) for path in self.store.list()}

    def restore(self, objects: Mapping[str, bytes]) -> None:
        """Make the objects of the output those that it had earlier."""
        for path in set(self.store.list()) - objects.keys():
            self.store.delete(path)
        for path, data in objects.items():
            self.store.put(path, data)

    def turn(self, *settings: str) -> Outcome:
        """Take a turn in this process."""
        return fewshot(*self.words(*settings))

    def words(self, *settings: str) -> tuple[str, ...]:
        """The words of the command of a turn."""
        return ("retrain", str(self.job), *itertools.chain(*(("--set", each) for each in settings)), "--by", "cron")

    def label(self, labels: Mapping[str, str], *, by: str = "ann") -> None:
        """Import labels of images of the archive, given in this order."""
        table = write_table(self.place.folder / "labels.csv", labels.items())
        outcome = fewshot("labels", "import", self.job, table, "--by", by)
        assert outcome.code == 0, outcome.messages

    def roll_back(self, *, to: int | None = None) -> Outcome:
        """Roll back, as a person does it."""
        where = () if to is None else ("--to", to)
        return fewshot("registry", "rollback", self.job, *where, "--why", "harm", "--by", "ann")

    def entries(self) -> list[JournalEntry]:
        """The journal."""
        return Journal(self.store, NAME).entries()

    def state(self) -> RegistryState:
        """What the journal comes to."""
        return state_of(self.entries())

    def kinds(self) -> list[str]:
        """The moves of the journal, without those that only note a comparison."""
        return [entry.move.kind for entry in self.entries() if entry.move.kind != "compared"]

    def predictions(self) -> dict[str, bytes]:
        """The parts of predictions of the newest run that are there, by path."""
        paths = self._plan()[1].predictions
        return {path: self.store.get(path) for path in paths if self.store.exists(path)}

    def left(self) -> Left:
        """Return what the last turn left."""
        run, plan = self._plan()
        state, predictions = self.state(), self.predictions()
        assert state.production is not None
        production = state.version(state.production).folder
        beside = [path for path in self.store.list(f"registry/{NAME}") if not _is_private(path)]
        objects = {path: self.store.get(path) for path in (*self.store.list(production), *beside)} | predictions
        assert plan.classifier is not None
        return Left(
            moves=tuple((entry.by, entry.why, entry.move) for entry in self.entries()),
            objects={path: hashlib.sha256(data).hexdigest() for path, data in objects.items()},
            run=run,
            classifier=plan.classifier.removeprefix(f"{self.store.root}/"),
            complete=len(predictions) == len(plan.predictions),
        )

    def _plan(self) -> tuple[str, RunPlan]:
        latest = read_latest(self.store)
        assert latest is not None
        run = latest.jobs[NAME]["classification"]
        return run, RunPlan.from_json(self.store.get(f"{run}/plan.json"), where=run)


def _is_private(path: str) -> bool:
    """Whether an object beside the journal has times or names of processes in it."""
    return any(folder in path for folder in ("/journal/", "/lease/", "/drift/references/"))


def truth(images: Iterable[int]) -> dict[str, str]:
    """The right labels of images of the archive, by number."""
    return {image(number): CLASSES[number % len(CLASSES)] for number in images}


def image(number: int) -> str:
    """The key of an image of the archive."""
    return f"photo_{number:03}.jpg"
