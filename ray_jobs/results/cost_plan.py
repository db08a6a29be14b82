"""What a job would do and what that costs, as `fewshot plan` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fewshot.backbones.backbone import BackboneRecord
from ray_jobs.results.error_limits import AuditedThreshold, ErrorLimitPlan
from ray_jobs.results.json_format import JsonObject, JsonValue
from ray_jobs.results.label_sets import LabelSetPlan
from ray_jobs.results.run_plan import ArchiveSummary
from ray_jobs.results.stage_load import StageLoad
from ray_jobs.results.unknown_images import UnknownTestPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage(JsonValue):
    """One stage of a job.

    Attributes:
        stage: its name.
        what: what it works on, for people.
        done: images (trainings, classes) that are done; None where only reading the archive tells.
        left: what is left of them; a number of shards as text ("3 shards") or None where only reading tells.
        at_most: of a stage of escalation, whether `left` is an upper bound; None for other stages, which are printed
            without this and the next two keys.
        forwards: forwards of the diffusion model that are left, at most; None where there are none, or unknown.
        hours: hours of a worker that these take; None likewise.
    """

    stage: str
    what: str
    done: int | None
    left: int | str | None
    at_most: bool | None = None
    forwards: float | None = None
    hours: float | None = None

    def to_json(self) -> JsonObject:
        """Return the fields that the stage has."""
        values = JsonValue.to_json(self)
        return (
            values if self.at_most is not None else {name: values[name] for name in ("stage", "what", "done", "left")}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockMemory(JsonValue):
    """The memory that training a block of classes takes on a GPU, at most, and whether it is there.

    Attributes:
        classes: of a block.
        plain_bytes: without gradient checkpointing.
        least_bytes: with gradient checkpointing.
        device_bytes: what a worker has on this machine's GPU; None without one, where nothing is limited.
        checkpointing: whether a worker needs gradient checkpointing here; None without a GPU, or if it is too small.
        problem: why the GPU is too small, and what to do; None if it is not, or there is none.
    """

    classes: int
    plain_bytes: int
    least_bytes: int
    device_bytes: int | None
    checkpointing: bool | None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationCost(JsonValue):
    """What is left of escalation, at most.

    Attributes:
        forwards: forwards of the diffusion model; None before the archive was read once.
        hours: hours of a worker; None without a probe.
        gpu_hours: hours of a GPU; 0 where the probe ran on a CPU.
        forwards_a_second: what the probe measured.
        device: of the probe, in torch's words.
        training_memory: of a block of adapters; None if none is trained, or the model was not loaded for a probe.
    """

    forwards: float | None
    hours: float | None
    gpu_hours: float | None
    forwards_a_second: float | None
    device: str | None
    training_memory: BlockMemory | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneFacts(BackboneRecord, JsonValue):
    """The record of a backbone as it is printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneProbe(JsonValue):
    """What the backbone is, how fast it is on this machine, and what that makes of the job.

    Attributes:
        images_per_second: of one worker.
        device: in torch's words.
        hours: until all is embedded, with the job's workers.
        gpu_hours: hours of a GPU; 0 on a CPU.
        backbone: what it is and can do.
    """

    images_per_second: float
    device: str
    hours: float
    gpu_hours: float
    backbone: BackboneFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPlan(JsonValue):
    """What a job would do.

    Attributes:
        stages: in their order.
        escalation: what [escalate] costs; None without it.
        archive: the archive as listed.
        examples: number of examples; None for a stored classifier that does not say.
        classes: number of classes.
        examples_of_class: number of examples that are used of each class; empty where a stored classifier needs none.
        warnings: sentences about what looks odd in the archive, the examples and their classes.
        workers: workers of the embedding stage.
        on: where they run, for people.
        run: URL of the run's folder.
        finished: whether the run is complete already.
        error_limit: whether there are enough examples for `max_error`.
        probe: how fast the backbone is; None where nothing is left, or it was not timed.
        embedding: how busy the stages of embedding were in the job's last complete run; None if there was none, or it
            embedded nothing.
        label_sets: whether there are enough examples for label sets, and what these cost; None without them.
        unknown: whether there are enough examples for the test of images of no class; None without it.
        audited: the audit that the threshold of `max_error` is from; None where it is from the examples.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"label_sets", "unknown", "audited"})
    stages: tuple[PlannedStage, ...]
    escalation: EscalationCost | None
    archive: ArchiveSummary
    examples: int | None
    classes: int
    examples_of_class: Mapping[str, int]
    warnings: tuple[str, ...]
    workers: int
    on: str
    run: str
    finished: bool
    error_limit: ErrorLimitPlan
    probe: BackboneProbe | None
    embedding: StageLoad | None = None
    label_sets: LabelSetPlan | None = None
    unknown: UnknownTestPlan | None = None
    audited: AuditedThreshold | None = None
