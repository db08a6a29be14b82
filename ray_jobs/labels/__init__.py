"""Labels that people give to images of an archive: a ledger of events, what they come to, copies of the images."""

from __future__ import annotations

from ray_jobs.labels.current_labels import CurrentLabels, current_labels
from ray_jobs.labels.label_event import Event, ImageId, LabelEvent, Predicted, UndoEvent
from ray_jobs.labels.label_ledger import LabelLedger, ledger_of_run, new_label, open_ledger, user_name

__all__ = [
    "CurrentLabels",
    "Event",
    "ImageId",
    "LabelEvent",
    "LabelLedger",
    "Predicted",
    "UndoEvent",
    "current_labels",
    "ledger_of_run",
    "new_label",
    "open_ledger",
    "user_name",
]
