"""Check the ledger of labels of an output. Nothing of it is removed or made anew: only people can replace labels."""

from __future__ import annotations

from cluster import Store
from cluster.errors import ClusterError
from ray_jobs.errors import JobError
from ray_jobs.labels.current_labels import current_labels
from ray_jobs.labels.kept_images import kept_path, without_copies
from ray_jobs.labels.label_event import Event, EventBatch
from ray_jobs.output.layout import EVENTS, LABELS
from ray_jobs.results.verification import DamagedObject, VerifiedLedger


def check_ledger(output: Store) -> VerifiedLedger | None:
    """Read all batches of events, and look whether there is a copy of each labelled image.

    Args:
        output: the output.

    Returns:
        None if the output has no ledger.

    Raises:
        StorageError: storage does not respond.
    """
    ledger = Store(output.url(LABELS), storage=output.storage, retry=output.retry)
    paths = [path for path in ledger.list(EVENTS) if path.endswith(".json")]
    if not paths:
        return None
    events, damaged = list[Event](), list[DamagedObject]()
    for path in paths:
        try:
            events += EventBatch.from_json(ledger.get(path), where=ledger.url(path)).events
        except (JobError, FileNotFoundError, PermissionError) as error:
            damaged.append(DamagedObject(path=ledger.url(path), problem=_problem(error)))
    labelled = [event for event in current_labels(events).answers.values() if event.answer == "label"]
    for event in sorted(without_copies(ledger, labelled), key=lambda each: each.image_id):
        problem = f"there is no copy of {event.image}, which has a label; import its label again"
        damaged.append(DamagedObject(path=ledger.url(kept_path(event)), problem=problem))
    return VerifiedLedger(batches=len(paths), labels=len(labelled), damaged=tuple(damaged))


def _problem(error: Exception) -> str:
    """Return what is wrong with a batch, without advice that is for other objects."""
    if isinstance(error, ClusterError) or not isinstance(error, JobError):
        return f"it cannot be read ({error})"
    return f"{'; '.join(error.problems).partition('. ')[0]}; restore it from a copy: it cannot be made anew"
