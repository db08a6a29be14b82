"""Look at the inputs of a drafted job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ray_jobs.drafting.archive_survey import ArchiveSurvey, survey_archive
from ray_jobs.drafting.draft import Draft
from ray_jobs.drafting.duplicates import MAX_SHOWN, Duplicates, images_inside, repeated_examples
from ray_jobs.drafting.examples_survey import ExamplesSurvey, survey_examples
from ray_jobs.inputs.archive import open_archive
from ray_jobs.output.new_files import lies_inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the inputs of a drafted job are.

    Attributes:
        archive: the archive.
        examples: the examples.
        duplicates: what is there twice.
        archive_inside_examples: the archive lies inside the folder of the examples, so its images are examples.
    """

    archive: ArchiveSurvey
    examples: ExamplesSurvey
    duplicates: Duplicates
    archive_inside_examples: bool


def survey_inputs(draft: Draft, say: Callable[[str], None]) -> Survey:
    """Look at the archive and the examples of a drafted job.

    Args:
        draft: the job.
        say: takes a line for each step, as a large archive takes long to list.

    Raises:
        ClusterError: storage does not answer, or the archive cannot be read.
    """
    storage, uri = draft.job.storage.resolve(), draft.arguments.archive
    inside = images_inside(draft.used, uri)
    say(f"reading the examples: {draft.arguments.examples}")
    examples, contents = survey_examples(draft.support.uri, draft.labels, draft.used, storage)
    same_class, contradictions = repeated_examples(contents)
    say(f"listing the archive: {uri}")
    source = open_archive(draft.archive, storage)
    archive, finder = survey_archive(source, [content for content in contents if content.image not in inside])
    if draft.archive.component is not None:
        archive = replace(archive, mask_notice=None)
    return Survey(
        archive=archive,
        examples=examples,
        duplicates=Duplicates(
            examples_inside_archive=len(inside),
            same_class=same_class,
            contradictions=tuple(contradictions[:MAX_SHOWN]),
            contradicting=len(contradictions),
            compared=finder.compared,
            all_compared=finder.all_compared,
            archive_copies=finder.count,
            copies=tuple(finder.shown),
        ),
        archive_inside_examples=examples.form == "folder" and lies_inside(uri, draft.arguments.examples),
    )
