"""The sections of a drafted job file, with a comment on every setting."""

from __future__ import annotations

from collections.abc import Mapping

from fewshot.backbones.clip_spec import EMBEDDED, ClipSpec
from ray_jobs.classification.labelled_shares import rounded_up
from ray_jobs.drafting.archive_survey import ArchiveSurvey
from ray_jobs.drafting.draft_arguments import DraftArguments
from ray_jobs.drafting.examples_survey import FORM_NAMES, ExamplesForm
from ray_jobs.drafting.suggestions import DOWNLOADED, Suggestions
from ray_jobs.drafting.toml_text import Section, Setting
from ray_jobs.job_file.sections import ClassifierSection
from ray_jobs.report.markup import skipped_entries

_OTHER_SHOTS = 16
"""Shots of the line to uncomment: the most that docs/evaluation.md measures."""


def basic_sections(arguments: DraftArguments, clip: ClipSpec | None) -> list[Section]:
    """Return the sections without which nothing runs, without comments.

    Args:
        arguments: what the job is drafted from.
        clip: the backbone; None leaves it to the overrides.
    """
    return [
        Section("job", (Setting("name", arguments.job_name), Setting("output", arguments.job_output))),
        Section("archive", (Setting("uri", arguments.archive),)),
        Section("support", (Setting("uri", arguments.examples),)),
        _clip(clip),
    ]


def job_sections(
    arguments: DraftArguments,
    suggestions: Suggestions,
    counts: Mapping[str, int],
    form: ExamplesForm,
    archive: ArchiveSurvey | None = None,
) -> list[Section]:
    """Return the sections of a job file.

    Args:
        arguments: what the job is drafted from.
        suggestions: settings that were chosen.
        counts: number of examples of each class.
        form: of the examples.
        archive: what the archive is; None leaves the comment on it out.
    """
    return [
        Section(
            "job",
            (
                Setting("name", arguments.job_name, "part of the names of results"),
                Setting("output", arguments.job_output, "a folder or URL, not inside the archive or the examples"),
            ),
        ),
        Section(
            "archive",
            (
                Setting("uri", arguments.archive, "" if archive is None else archive_summary(archive)),
                _suggested("labels", "labels.csv", "a table of image,label: accuracy is measured, nothing learned"),
            ),
        ),
        Section(
            "support",
            (
                Setting("uri", arguments.examples, examples_summary(counts, form)),
                _suggested("labels", True, "learns from labels of the archive, too: `fewshot review` gives them"),
                _shots(suggestions.shots, max(counts.values(), default=0)),
                Setting(
                    "views",
                    suggestions.views,
                    "augmented views of each example; methods that train gain from 10",
                ),
            ),
        ),
        _clip(suggestions.clip),
        Section(
            "classifier",
            (
                Setting("method", ClassifierSection().method, "`fewshot methods` lists the others"),
                _suggested("max_error", suggestions.max_error, max_error_comment(suggestions)),
            ),
        ),
        Section(
            "cluster",
            (
                _suggested("address", "auto", 'a running Ray cluster, on one of its nodes; or "host:6379"'),
                _suggested("clip_workers", 4, "at most; one for each GPU if left out"),
            ),
            "without this section, the job runs on this machine",
        ),
    ]


def archive_summary(archive: ArchiveSurvey) -> str:
    """Describe an archive in a phrase: its form, its images, what is skipped."""
    images = "number of images known after reading" if archive.images is None else f"{archive.images:,} images"
    skipped = f"; {skipped_entries(archive.skipped)}" if archive.skipped else ""
    return f"{archive.kind}, {images}{skipped}"


def examples_summary(counts: Mapping[str, int], form: ExamplesForm) -> str:
    """Describe examples in a phrase: their form, how many of how many classes."""
    return f"{FORM_NAMES[form]}, {sum(counts.values()):,} examples of {len(counts):,} classes"


def max_error_comment(suggestions: Suggestions) -> str:
    """Describe what `max_error` does, and whether there are enough examples for it."""
    comment = f"abstain rather than be wrong more often; takes {suggestions.needed:,} held-out examples"
    if suggestions.is_reachable:
        return f"{comment}, there are {suggestions.held_out:,}"
    reachable = rounded_up(suggestions.least_error)
    return f"{comment}, the {suggestions.held_out:,} here {f'allow {reachable}' if reachable else 'are too few'}"


def _suggested(key: str, value: object, comment: str) -> Setting:
    return Setting(key, value, comment, is_active=False)


def _shots(shots: int | None, largest: int) -> Setting:
    if shots is None:
        now = f" (now up to {largest:,})" if largest else ""
        return _suggested("shots", _OTHER_SHOTS, f"examples of a class to use at most; all if left out{now}")
    return Setting("shots", shots, f"examples of a class to use at most; the largest class has {largest:,}")


def _clip(clip: ClipSpec | None) -> Section:
    """The backbone, with lines to uncomment for another one."""
    if clip is None:
        return Section("clip", ())
    if clip.model == EMBEDDED:
        return Section(
            "clip",
            (
                Setting("model", EMBEDDED, "needs no download; a real CLIP is better for your own work, such as"),
                _suggested("model", DOWNLOADED.model, "in place of the line above"),
                _suggested("pretrained", DOWNLOADED.pretrained, "downloaded once, about 600 MB"),
            ),
        )
    return Section(
        "clip",
        (
            Setting("model", clip.model, "`fewshot models` lists others"),
            Setting("pretrained", clip.pretrained, "downloaded once, about 600 MB"),
            _suggested("model", EMBEDDED, "needs no download, but pip install 'fewshot[embedded]'"),
        ),
    )
