"""What deserves attention in the inputs of a drafted job, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.records.names import printable
from ray_jobs.classification.labelled_shares import shortage
from ray_jobs.drafting.duplicates import MAX_CANDIDATES, Duplicates
from ray_jobs.drafting.examples_survey import ExamplesSurvey
from ray_jobs.drafting.suggestions import Suggestions
from ray_jobs.drafting.survey import Survey
from ray_jobs.inputs.class_warnings import warnings_about_classes
from ray_jobs.report.markup import plural


def warnings_about(survey: Survey, suggestions: Suggestions, *, max_error: float | None) -> list[str]:
    """Return a sentence for everything that a user should look at before the job runs.

    Args:
        survey: of the inputs.
        suggestions: of the job.
        max_error: the error rate that the job is to keep; None if it keeps none.
    """
    found = [*_about_places(survey), *_about_duplicates(survey.duplicates), *_about_examples(survey.examples)]
    if max_error is not None and not suggestions.is_reachable:
        found.append(shortage(suggestions.max_error, suggestions.needed, suggestions.held_out, suggestions.least_error))
    return found


def notes_on(survey: Survey) -> list[str]:
    """Return a sentence for everything that was not looked at."""
    notes = []
    examples, duplicates = survey.examples, survey.duplicates
    if examples.inspected < examples.used:
        notes.append(f"Only the first {examples.inspected:,} of the {examples.used:,} examples to use were read.")
    if not duplicates.compared:
        notes.append(
            f"The examples were not looked for in the archive: listing a {survey.archive.kind} archive does not give "
            "the sizes of its images."
        )
    elif not duplicates.all_compared:
        notes.append(
            f"Only the first {MAX_CANDIDATES:,} archive images (or 4 GiB) of the same size as an example were compared "
            "with the examples."
        )
    return notes


def _about_places(survey: Survey) -> Iterator[str]:
    yield from filter(None, (survey.archive.mask_notice, survey.archive.repeat_notice))
    if survey.archive_inside_examples:
        yield (
            "The archive lies inside the folder of the examples, so its images count as examples. Move it out of "
            f"{survey.examples.uri}."
        )
    if inside := survey.duplicates.examples_inside_archive:
        yield (
            f"{plural(inside, 'example lies', 'examples lie')} inside the archive and will be classified, too. Move "
            "them out, or leave them out when you measure accuracy."
        )


def _about_duplicates(duplicates: Duplicates) -> Iterator[str]:
    if duplicates.copies:
        copy = duplicates.copies[0]
        yield (
            f"{plural(duplicates.archive_copies, 'archive image is a copy', 'archive images are copies')} of examples, "
            f"such as {copy.archive_image} of {printable(copy.example)}. Leave them out when you measure accuracy."
        )
    if duplicates.contradictions:
        pair = duplicates.contradictions[0]
        yield (
            f"{plural(duplicates.contradicting, 'example has', 'examples have')} the same content as an example of "
            f"another class, such as {printable(pair.other_image)} ({pair.other_label}) and {printable(pair.image)} "
            f"({pair.label}). Keep each image in one class."
        )
    if duplicates.same_class:
        yield (
            f"{plural(duplicates.same_class, 'example repeats', 'examples repeat')} another one of the same class. "
            "Remove repeated images: they make accuracy on held-out examples look better than it is."
        )


def _about_examples(examples: ExamplesSurvey) -> Iterator[str]:
    if examples.unreadable_examples:
        first = examples.unreadable_examples[0]
        yield (
            f"{plural(examples.unreadable, 'example', 'examples')} cannot be read, such as {first.image}: "
            f"{first.reason}. They stop the job: repair or remove them, or set support.skip_unreadable = true."
        )
    yield from examples.notices
    yield from warnings_about_classes(examples.counts)
