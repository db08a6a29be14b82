"""An evaluation as its job file describes it: its splits, draws, cells and their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product

from cluster import Ledger, Store, Unit, fingerprint
from cluster.on_ray.capacity import cluster_nodes
from fewshot.data import Splits
from fewshot.methods.declarations import hyperparameters_of
from fewshot.methods.table import needs_of, views_of
from ray_jobs.errors import JobError
from ray_jobs.escalation import escalation_identity
from ray_jobs.evaluation.cell_step import Cell, EvaluateStep, FoldPretraining
from ray_jobs.inputs.example_blocks import EmbeddedExamples, Examples
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import (
    LabelledUnits,
    Labels,
    by_class,
    by_draw,
    in_blocks,
    labelled_units,
    read_splits,
    space_with_prompts,
)
from ray_jobs.inputs.validation_examples import read_validation
from ray_jobs.job_file.sections import EvaluateSection, Job
from ray_jobs.output.classifiers import TrainingIdentity
from ray_jobs.output.layout import examples_folder, features_folder, run_folder
from ray_jobs.output.predictions import prediction_format
from ray_jobs.output.work_share import evaluation_work
from ray_jobs.results.cell_result import CellResult
from ray_jobs.results.run_plan import RunPlan
from ray_jobs.steps.placement import ListNodes
from ray_jobs.steps.precision import pin_revision, settle_precision

TEST_BLOCK = 256
VALIDATION = "[evaluate] validation"
"""The key of images that are chosen on, in errors."""
VALIDATION_SHOTS = 4
"""Images of a class that few-shot validation uses, at most; fewer where there are fewer examples."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation whose splits were read, and that was not run.

    Attributes:
        job: the job file.
        section: its [evaluate].
        store: the output.
        splits: train and test images with their labels.
        folder: folder that their paths start in.
        nodes: lists the nodes of the job's cluster, as they were when they were first asked for.
    """

    job: Job
    section: EvaluateSection
    store: Store
    splits: Splits
    folder: str
    nodes: ListNodes = cluster_nodes

    @classmethod
    def from_job(cls, job: Job) -> Evaluation:
        """Read the splits, and settle precision and revision of the models.

        Raises:
            JobError: [evaluate] is missing, the splits hold no images in train, in test or, where it is used, in val,
                or the cluster does not respond.
            DataError: the splits are malformed, or their images lie in another folder.
        """
        if job.evaluate is None:
            raise JobError(["evaluate needs the section [evaluate]"])
        storage = job.storage.resolve()
        splits, folder = read_splits(job.evaluate.splits, job.evaluate.images, storage)
        if not splits.train or not splits.test:
            raise JobError([f"{job.evaluate.splits}: an evaluation needs images in train and in test"])
        if job.evaluate.validation != "none" and not splits.val:
            has_none = f'{job.evaluate.splits} has no images in val; remove validation = "{job.evaluate.validation}"'
            raise JobError([f"{VALIDATION}: {has_none}"])
        if job.support is not None:
            space = space_with_prompts(splits.label_space, job.support.prompts, storage)
            splits = replace(splits, label_space=space)
        nodes = cache(cluster_nodes)
        settled = settle_precision(pin_revision(job), nodes=nodes)
        return cls(settled, job.evaluate, Store(job.job.output, storage=storage), splits, folder, nodes)

    @property
    def ledger(self) -> Ledger:
        """The committed parts of the output."""
        return Ledger(self.store)

    @property
    def views(self) -> int:
        """Augmented views of each example: those that the job names, else as many as any of the methods gains from."""
        if self.job.support is not None and self.job.support.views is not None:
            return self.job.support.views
        return max(views_of(name, self._hyperparameters(name)) for name in self.section.methods)

    @cached_property
    def dense(self) -> bool:
        """Whether a method needs dense tokens."""
        cheap = [self.job.classifier.method] if self.has_cascades else []
        return any("dense" in needs_of(name, self._hyperparameters(name)) for name in [*self.section.methods, *cheap])

    @property
    def has_cascades(self) -> bool:
        """Whether cascades are measured: with [escalate], where every class has examples."""
        return self.job.escalate is not None and self.section.protocol == "few-shot"

    @cached_property
    def new(self) -> tuple[int, ...]:
        """Classes without examples.

        Raises:
            JobError: `new_classes` has an unknown class, or all of them.
        """
        names = self.splits.label_space.names
        if self.section.protocol == "few-shot":
            return ()
        if self.section.new_classes is None:
            return tuple(range((len(names) + 1) // 2, len(names)))
        if unknown := sorted(set(self.section.new_classes) - set(names)):
            raise JobError([f"[evaluate] new_classes: {self.section.splits} has no class {', '.join(unknown)}"])
        new = tuple(label for label, name in enumerate(names) if name in set(self.section.new_classes))
        if len(new) == len(names):
            raise JobError(["[evaluate] new_classes names every class; none is left to train on"])
        return new

    @property
    def skip_unreadable(self) -> bool:
        """Whether train images that cannot be read are left out, see `SupportSection`."""
        return self.job.support is not None and self.job.support.skip_unreadable

    @cached_property
    def train(self) -> Examples:
        """The train images of all draws, identified by their contents."""
        return self._examples(self.contents.labels, self._groups)

    @cached_property
    def pool(self) -> EmbeddedExamples:
        """The same with their blocks of features, those that are there and others."""
        return self.train.find(self.store)

    @cached_property
    def contents(self) -> ExampleContents:
        """The contents of the train images of all draws."""
        drawn = {image for group in self._groups for image in group}
        return ExampleContents.read(self._labels([pair for pair in self.splits.train if pair[0] in drawn]))

    @cached_property
    def validation(self) -> EmbeddedExamples | None:
        """The images to choose on, of all draws, with their blocks of features; None without a validation set."""
        return None if self._validation is None else self._validation.find(self.store)

    def validation_of(self, shots: int, seed: int) -> Examples | None:
        """Return the images to choose on of a draw; None without a validation set."""
        if self._validation is None or (labels := self.validation_draws[shots, seed]) is None:
            return None
        return replace(self._validation, labels=labels)

    @cached_property
    def _validation(self) -> Examples | None:
        draws = [draw for draw in self.validation_draws.values() if draw is not None]
        if not draws:
            return None
        images = {image for draw in draws for image in draw.images}
        labels = self._labels([pair for pair in self.splits.val if pair[0] in images])
        return read_validation(labels, key=VALIDATION, spec=self.job.clip.spec, dense=self.dense)

    @cached_property
    def validation_draws(self) -> dict[tuple[int, int], Labels | None]:
        """By shots and seed, the images to choose on, those of new classes left out; None without a validation set.

        Raises:
            JobError: there are none but those.
        """
        wanted, new = product(self.section.shots, self.section.seeds), set(self.new)
        if self.section.validation == "none":
            return dict.fromkeys(wanted)
        known = [pair for pair in self.splits.val if pair[1] not in new]
        if not known:
            raise JobError([f"{VALIDATION}: in val, {self.section.splits} has images of new classes alone"])
        val = self._labels(known)
        few = self.section.validation == "few-shot"
        return {(shots, seed): val.drawn(min(shots, VALIDATION_SHOTS) if few else None, seed) for shots, seed in wanted}

    @cached_property
    def _groups(self) -> list[list[str]]:
        """The train images, a group for each draw and class."""
        return by_draw(self.draws[max(self.section.shots), seed] for seed in dict.fromkeys(self.section.seeds))

    @cached_property
    def test(self) -> LabelledUnits:
        """The test images, which may be many: they are identified by sizes and times (or ETags), not by contents."""
        labels = self._labels(self.splits.test)
        folder = features_folder(self.job.clip.spec, fingerprint(["test", self.folder]))
        return labelled_units(labels, in_blocks(labels, TEST_BLOCK), features=folder, views=0, dense=self.dense)

    @cached_property
    def draws(self) -> dict[tuple[int, int], Labels]:
        """By shots and seed, the examples: drawn from all classes, then those of new classes removed.

        Raises:
            JobError: there are none but those.
        """
        train, new = self._labels(self.splits.train), set(self.new)
        if new.issuperset(train.labels):
            raise JobError([f"[evaluate] protocol: in train, {self.section.splits} has images of new classes alone"])
        limits = [0 if label in new else None for label in range(len(self.splits.label_space))]
        wanted = product(self.section.shots, self.section.seeds)
        return {(shots, seed): train.drawn(shots, seed).limited(limits) for shots, seed in wanted}

    def shortages(self) -> list[str]:
        """Return a sentence for each number of shots that is more than the train split has for every class."""
        counts = Counter(label for _, label in self.splits.train)
        have = {label: counts[label] for label in range(len(self.splits.label_space)) if label not in self.new}
        lacking = {shots: sum(count < shots for count in have.values()) for shots in sorted(set(self.section.shots))}
        return [
            f"{shots} shots: {classes} of {len(have)} classes have fewer examples in train (the smallest"
            f" {min(have.values())}), and use all of them"
            for shots, classes in lacking.items()
            if classes
        ]

    def examples(self, shots: int, seed: int) -> Examples:
        """Return the examples of a draw, a group for each class."""
        drawn = self.draws[shots, seed]
        return self._examples(drawn, by_class(drawn))

    def _examples(self, labels: Labels, groups: Sequence[Sequence[str]]) -> Examples:
        folder = examples_folder(self.job.clip.spec, self.views)
        return Examples.from_contents(
            self.contents, labels, groups, features=folder, views=self.views, dense=self.dense
        )

    @cached_property
    def ground_truth(self) -> dict[str, str]:
        """The label of each test image."""
        names = self.splits.label_space.names
        return {image: names[label] for image, label in self.splits.test}

    def step(self, needs: frozenset[str]) -> EvaluateStep:
        """Return the step that measures cells of methods with these needs."""
        diffusion = self.job.diffusion.spec if "diffusion" in needs else None
        clip = self.job.clip
        return EvaluateStep(
            self.store, clip.spec, clip.templates, self.pool, self.test, needs, diffusion, self.validation
        )

    @cached_property
    def cells(self) -> list[Unit]:
        """One unit for each method, number of shots and seed; duplicates in the job file are measured once."""
        cells = product(self.section.methods, self.section.shots, self.section.seeds)
        return [self._cell(*cell) for cell in dict.fromkeys(cells)]

    def fold_pretrainings(self, cell: Cell) -> Iterator[Unit]:
        """Yield the trainings that a cell needs: a unit for each fold of each method that it consists of.

        Methods that are compared are also trained on folds of each fold (`fewshot.model_selection.nested`).
        """
        from fewshot.method import TrainedMethod
        from fewshot.methods.building import build_method, changed_hyperparameters

        method = build_method(cell.method, **cell.hyperparameters)
        members = getattr(method, "members", [])
        compared = min((part.folds for part in members), default=0)
        for part in members or [method]:
            if isinstance(part, TrainedMethod):
                changed = changed_hyperparameters(part)
                own = cell if part is method else replace(cell, method=part.name, hyperparameters=changed)
                trained_from = fingerprint(self._trained_from(own).to_json())
                own_folds = 1 if cell.validation else part.folds
                folds = [(fold, False) for fold in range(own_folds)] + [(fold, True) for fold in range(compared)]
                for fold, nested in folds:
                    of = "folds-of-fold" if nested else "fold"
                    path = f"fold-pretrainings/{self._name(own)}-{of}-{fold}-{trained_from}.json"
                    yield Unit(path, FoldPretraining(own, fold, nested=nested))

    @cached_property
    def run(self) -> str:
        """Folder of the run."""
        identity: list[object] = [unit.path for unit in self.cells]
        if self.job.escalate is not None and self.has_cascades:
            cheap = self.job.classifier
            escalation = escalation_identity(self.job.escalate)
            identity.append([prediction_format(), escalation, cheap.method, cheap.hyperparameters])
        return run_folder(self.job.job.name, identity)

    @cached_property
    def plan(self) -> RunPlan:
        """The plan of the run."""
        return RunPlan(
            kind="evaluation",
            job=self.job.job.name,
            classes=len(self.splits.label_space),
            features=(*self.pool.paths, *(() if self.validation is None else self.validation.paths), *self.test.paths),
            protocol=self.section.protocol,
            cells=tuple(unit.path for unit in self.cells),
            work=evaluation_work(images=self._images),
        )

    @property
    def _images(self) -> int:
        """Images and views whose features are used."""
        chosen_on = 0 if self.validation is None else self.validation.weight
        return self.pool.weight + chosen_on + sum(unit.weight for unit in self.test.units)

    def _cell(self, method: str, shots: int, seed: int) -> Unit:
        images, hyperparameters = self.draws[shots, seed].images, self._hyperparameters(method)
        chosen_on = self.validation_draws[shots, seed]
        validation = () if chosen_on is None else chosen_on.images
        cell = Cell(method, hyperparameters, shots, seed, images, self.section.protocol, self.new, validation)
        identity = [
            CellResult.format_version,
            self._trained_from(cell).to_json(),
            self.test.identity,
            cell.protocol,
            cell.new,
        ]
        return Unit(f"evaluations/{cell.protocol}/{self._name(cell)}-{fingerprint(identity)}.json", cell)

    def _hyperparameters(self, method: str) -> Mapping[str, object]:
        """Return those of [classifier] for its method, and for others what follows from the recipe."""
        if method == self.job.classifier.method and self.job.classifier.hyperparameters:
            return self.job.classifier.hyperparameters
        if self.section.recipe == "default":
            return {}
        known = {each.name for each in hyperparameters_of(method)}
        wanted = {"recipe": self.section.recipe, "data_set": self.section.data_set}
        return {name: value for name, value in wanted.items() if name in known and value is not None}

    @staticmethod
    def _name(cell: Cell) -> str:
        return f"{cell.method}/{cell.shots}-shots-seed-{cell.seed}"

    def _trained_from(self, cell: Cell) -> TrainingIdentity:
        """Return all that determines what a cell trains."""
        trains_with_diffusion = "diffusion" in needs_of(cell.method, cell.hyperparameters)
        return TrainingIdentity(
            clip=self._clip,
            templates=self.job.clip.templates,
            method=cell.method,
            hyperparameters=cell.hyperparameters,
            seed=cell.seed,
            support=self._supports[cell.shots, cell.seed],
            diffusion=self.job.diffusion.spec.identity() if trains_with_diffusion else None,
            validation=self._validations[cell.shots, cell.seed],
        )

    @cached_property
    def _clip(self) -> dict[str, object]:
        return self.job.clip.spec.identity()

    @cached_property
    def _supports(self) -> dict[tuple[int, int], str]:
        """By shots and seed, the identity of the examples."""
        return {which: self.train.identity_of(drawn) for which, drawn in self.draws.items()}

    @cached_property
    def _validations(self) -> dict[tuple[int, int], str | None]:
        """By shots and seed, the identity of the images to choose on; None without a validation set."""
        draws = {which: self.validation_of(*which) for which in self.draws}
        return {which: None if images is None else images.identity for which, images in draws.items()}

    def _labels(self, pairs: Sequence[tuple[str, int]]) -> Labels:
        images, labels = zip(*pairs, strict=True)
        return Labels(self.splits.label_space, self.folder, images, labels, self.store.storage)
