"""Compare two finished runs of an archive, and write what changed with the present one: a document and a page."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cluster.errors import ClusterError
from cluster.secrets import redacted
from fewshot.data import Example
from fewshot.data.example import plain_path
from fewshot.errors import FewShotError
from ray_jobs.churn.churn_counts import ChurnCounter, SampledFlip
from ray_jobs.churn.churn_page import render_churn
from ray_jobs.churn.paired_rows import PairedRuns
from ray_jobs.churn.registered_runs import NoRunError, find_version, renamed_classes, run_of_version, undo_command
from ray_jobs.errors import JobError
from ray_jobs.export.export_run import class_names
from ray_jobs.export.people_labels import read_answers
from ray_jobs.output.layout import CHURN, CHURN_PAGE, Spot, shard_of
from ray_jobs.output.runs import Run, stored_job
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.moves import Version
from ray_jobs.report.image_sample import by_shard
from ray_jobs.report.pictures import archive_pictures
from ray_jobs.results.churn_result import Churn, ComparedRun
from ray_jobs.results.json_format import FormatError, NewerFormatError

logger = logging.getLogger(__name__)
PAIRS = 2000
"""Pairs of classes that are listed, the most frequent ones."""


@dataclass(frozen=True, slots=True)
class _Compared:
    """What two runs came to.

    Attributes:
        churn: what is stored.
        sample: with positions in the present run.
        parts: of the predictions of the present run.
    """

    churn: Churn
    sample: Sequence[SampledFlip]
    parts: Sequence[str]


def write_churn(
    former: Run,
    present: Run,
    *,
    renamed: Mapping[str, str] | None = None,
    learned: Collection[str] | None = None,
    keep: bool = False,
) -> Churn:
    """Compare two runs, and write what changed beside the present one; see `ray_jobs.output.layout.CHURN`.

    The same runs, labels and registry give the same bytes, as long as pictures can be read. The document is written
    last: where there is none, run it again.

    Args:
        former: a complete run.
        present: a complete run of the same archive, which may have changed; it gets the page.
        renamed: present names of classes, by their names in the former run; None takes those that the registry tells
            of the versions that made the runs.
        learned: keys of images that one of the classifiers learned from; None takes those that the plans name.
        keep: leave a comparison of the same runs that is there as it is, and return it.

    Raises:
        JobError: a run is not complete, both are the same, they have no image in common, or a part is damaged.
        StorageError: storage does not respond. An archive that does not only costs the pictures.
    """
    _check(former, present)
    versions = _versions(former, present)
    renamed = dict(renamed_classes(present, *versions) if renamed is None else renamed)
    if keep and (stored := read_churn(present)) is not None and _is_of(stored, former, renamed):
        return stored
    compared = _compare(former, present, renamed, versions, learned)
    page = render_churn(compared.churn, _pictures(present, compared), undo=undo_command(present, *versions))
    present.store.put(f"{present.folder}/{CHURN_PAGE}", page)
    present.store.put(f"{present.folder}/{CHURN}", compared.churn.to_bytes())
    return compared.churn


def ensure_churn(journal: Journal, present: Run) -> Churn | None:
    """Compare the run of the version in production with that of the one before it, unless that was done.

    It never fails what calls it: whatever goes wrong is logged.

    Args:
        journal: of the registry of the run's job.
        present: the complete run that the version in production made.

    Returns:
        None before the second promotion, where the version before made no run that is still there, and after an error.
    """
    try:
        state = journal.state()
        if len(state.productions) < 2:
            return None
        numbers = state.productions[-2], state.productions[-1]
        stored = read_churn(present)
        if stored is not None and (stored.before.version, stored.after.version) == numbers:
            return stored
        former = run_of_version(journal, numbers[0], like=present)
        return None if former.url == present.url else write_churn(former, present)
    except NoRunError:  # What was moved on before it labelled anything has nothing to compare with.
        return None
    except Exception as error:  # the boundary between the turn and a page to look at
        reason = redacted(f"{type(error).__name__}: {error}")
        logger.warning("no churn run=%s error=%s", present.name, reason, exc_info=logger.isEnabledFor(logging.DEBUG))
        return None


def read_churn(run: Run) -> Churn | None:
    """Return what changed to a run, as `write_churn` stored it; None if it was not compared, or it cannot be read.

    Raises:
        NewerFormatError: a newer version of fewshot wrote it.
        StorageError: storage does not respond.
    """
    path = f"{run.folder}/{CHURN}"
    try:
        return Churn.from_json(run.store.get(path), where=run.store.url(path))
    except NewerFormatError:
        raise
    except (FileNotFoundError, FormatError):
        return None


def churn_page(run: Run) -> str:
    """Return the URL of the page of what changed to a run."""
    return run.store.url(f"{run.folder}/{CHURN_PAGE}")


def _check(former: Run, present: Run) -> None:
    """Raise JobError unless two runs can be compared."""
    problems = [
        f"{run.url} is not complete: run its job again, then compare it"
        for run in (former, present)
        if not run.is_complete
    ]
    problems += [f"{run.url} is an evaluation" for run in (former, present) if run.kind != "classification"]
    if former.url == present.url:
        problems.append(f"both runs are {present.url}: name two runs of the archive")
    if problems:
        raise JobError(problems)


def _is_of(churn: Churn, former: Run, renamed: Mapping[str, str]) -> bool:
    """Whether a stored comparison is with this run and these renamed classes."""
    return churn.before.run == former.name and dict(churn.renamed) == dict(renamed)


def _versions(former: Run, present: Run) -> tuple[Version | None, Version | None]:
    """Return the versions of one registry that made the runs."""
    if (former.store.root, former.job) != (present.store.root, present.job):
        return None, None
    return find_version(former), find_version(present)


def _compare(
    former: Run,
    present: Run,
    renamed: dict[str, str],
    versions: tuple[Version | None, Version | None],
    learned: Collection[str] | None,
) -> _Compared:
    paired = PairedRuns(former, present, renamed)
    known = _known_labels(present, renamed)
    if learned is None:
        learned = {plain_path(image) for run in (former, present) for image in run.plan.learned_from or ()}
    counter = ChurnCounter(known or {}, learned)
    for rows in paired:
        counter.add(rows, paired.codes.names)
    names = paired.codes.names
    outcomes = counter.outcomes(names)
    if not outcomes.images:
        raise JobError([f"{former.url} and {present.url} have no image in common: they are not of the same archive"])
    pairs = outcomes.pairs()
    sample = counter.sample(names, pairs[:PAIRS])
    before, after = ([renamed.get(name, name) for name in class_names(former)], class_names(present))
    new = tuple(name for name in after if name not in set(before))
    flipped = sum(pair.images for pair in pairs)
    of_known, of_learned = counter.known_flips()
    churn = Churn(
        job=present.job,
        before=_run(former, versions[0], outcomes.total + paired.gone),
        after=_run(present, versions[1], outcomes.total + paired.new),
        renamed=tuple(sorted(renamed.items())),
        images=outcomes.compared,
        flipped=flipped,
        share=flipped / outcomes.compared if outcomes.compared else 0.0,
        to_new_classes=sum(pair.images for pair in pairs if pair.after in set(new)),
        new_classes=new,
        removed_classes=tuple(name for name in before if name not in set(after)),
        withheld=outcomes.status_changes(),
        unreadable=outcomes.unreadable,
        new=paired.new,
        gone=paired.gone,
        pairs=tuple(pairs[:PAIRS]),
        more_pairs=len(pairs[PAIRS:]),
        classes=outcomes.classes(),
        known=None if known is None else of_known,
        learned=None if known is None else of_learned,
        sample=tuple(each.flip for each in sample),
    )
    return _Compared(churn, sample, present.prediction_parts())


def _run(run: Run, version: Version | None, images: int) -> ComparedRun:
    return ComparedRun(run=run.name, version=None if version is None else version.number, images=images)


def _known_labels(run: Run, renamed: Mapping[str, str]) -> dict[str, str | None] | None:
    """Return the labels that people gave, by key, with present names of classes; None for an image of no class.

    Returns:
        None if they cannot be read, which is logged.
    """
    try:
        answers = read_answers(run, run.store.storage)
    except NewerFormatError:
        raise
    except (ClusterError, FewShotError, JobError, OSError) as error:
        logger.warning("churn without known labels run=%s error=%s", run.name, redacted(str(error)))
        return None
    found: dict[str, str | None] = {}
    for image, event in answers.items():
        if event.label is not None:
            name = Example("", event.label).label
            found[image] = renamed.get(name, name)
        elif event.answer == "unknown":
            found[image] = None
    return found


def _pictures(run: Run, compared: _Compared) -> list[str | None]:
    """Return a picture of each image of the sample, as a data URI; None where it cannot be read again."""
    spots = [Spot(shard_of(compared.parts[each.part]), each.row) for each in compared.sample]
    archive = stored_job(run.store, run.folder).archive
    if archive is None or not spots:
        return [None] * len(spots)
    wanted = by_shard(zip(spots, (each.flip.image for each in compared.sample), strict=True))
    found = archive_pictures(archive, wanted, run.store.storage)
    return [found.get(spot) for spot in spots]
