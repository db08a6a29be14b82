"""Draft a job: check the arguments and what they name, and choose settings by what the examples are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fewshot.backbones.clip_spec import ClipSpec
from fewshot.calibration.abstention import fewest_images, least_error
from fewshot.methods.table import folds_of
from ray_jobs.classification.labelled_shares import held_out_examples
from ray_jobs.drafting.archive_survey import ArchiveSurvey
from ray_jobs.drafting.draft_arguments import DraftArguments
from ray_jobs.drafting.examples_survey import form_of_examples
from ray_jobs.drafting.job_text import basic_sections, job_sections
from ray_jobs.drafting.suggestions import (
    EXAMPLE_MAX_ERROR,
    Suggestions,
    suggest_clip,
    suggest_shots,
)
from ray_jobs.drafting.toml_text import Section, override_sections, render
from ray_jobs.inputs.examples import Labels, read_labels, support_labels, support_options
from ray_jobs.job_file.command_needs import NEEDS
from ray_jobs.job_file.reading import parse_job, parse_overrides, stop_if_any
from ray_jobs.job_file.sections import ArchiveSection, Job, SupportSection
from ray_jobs.preflight import check

TEXT_NAME = "the drafted job file"
"""What messages call a text that is not stored."""
Overrides = Mapping[str, Mapping[str, object]]
"""Values by section and key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A job that was drafted; nothing is written yet.

    Attributes:
        arguments: what it was drafted from.
        overrides: the values among them.
        labels: all examples.
        used: the examples that the job draws.
        suggestions: settings that were chosen.
        job: the job, as its text is read.
    """

    arguments: DraftArguments
    overrides: Overrides
    labels: Labels
    used: Labels
    suggestions: Suggestions
    job: Job

    @property
    def archive(self) -> ArchiveSection:
        """Section [archive]."""
        assert self.job.archive is not None
        return self.job.archive

    @property
    def support(self) -> SupportSection:
        """Section [support]."""
        assert self.job.support is not None
        return self.job.support

    def sections(self, archive: ArchiveSurvey | None = None) -> list[Section]:
        """Return the sections of the job file; `archive` adds what the archive is."""
        return _sections(self.arguments, self.overrides, self.suggestions, self.labels, archive)


def draft_job(arguments: DraftArguments) -> Draft:
    """Draft a job.

    Raises:
        JobError: with every problem of the arguments and of what they name.
        ClusterError: storage does not answer.
    """
    overrides, problems = parse_overrides(arguments.overrides)
    stop_if_any([*arguments.problems(), *problems, *_contradictions(arguments, overrides)])
    clip = None if "model" in overrides.get("clip", {}) else suggest_clip()
    job = _checked_job(arguments, clip)
    assert job.support is not None
    storage = job.storage.resolve()
    options = support_options(job.support)
    labels = read_labels(job.support.uri, job.support.classes, options=options, storage=storage)
    given = overrides.get("support", {})
    shots = job.support.shots if "shots" in given else suggest_shots(labels.counts.values())
    used = support_labels(replace(job.support, shots=shots), storage)
    suggestions = _suggestions(job, clip, used, shots, job.views)
    drafted, problems = parse_job(render((), _sections(arguments, overrides, suggestions, labels)), TEXT_NAME)
    stop_if_any(problems)
    return Draft(
        arguments=arguments, overrides=overrides, labels=labels, used=used, suggestions=suggestions, job=drafted
    )


def _contradictions(arguments: DraftArguments, overrides: Overrides) -> list[str]:
    given = {"archive": "ARCHIVE", "support": arguments.examples_option}
    return [
        f"--set {section}.uri: give it as {argument}"
        for section, argument in given.items()
        if "uri" in overrides.get(section, {})
    ]


def _checked_job(arguments: DraftArguments, clip: ClipSpec | None) -> Job:
    """The job before anything was chosen, with everything that it names looked at."""
    text, needs = render((), basic_sections(arguments, clip)), NEEDS["classify"]
    job, problems = parse_job(text, TEXT_NAME, arguments.overrides, needs=needs)
    stop_if_any([arguments.in_their_terms(problem) for problem in (*problems, *check(job, needs))])
    return job


def _suggestions(job: Job, clip: ClipSpec | None, used: Labels, shots: int | None, views: int) -> Suggestions:
    folds = folds_of(job.classifier.method, job.classifier.hyperparameters)
    held_out = held_out_examples(Counter(used.labels).values(), folds=folds)
    max_error = job.classifier.max_error or EXAMPLE_MAX_ERROR
    confidence = job.classifier.confidence
    return Suggestions(
        shots=shots,
        views=views,
        clip=clip,
        held_out=held_out,
        max_error=max_error,
        needed=fewest_images(max_error, confidence=confidence),
        least_error=least_error(held_out, confidence=confidence),
    )


def _sections(
    arguments: DraftArguments,
    overrides: Overrides,
    suggestions: Suggestions,
    labels: Labels,
    archive: ArchiveSurvey | None = None,
) -> list[Section]:
    counts, form = labels.counts, form_of_examples(arguments.examples, labels)
    return override_sections(job_sections(arguments, suggestions, counts, form, archive), overrides)
