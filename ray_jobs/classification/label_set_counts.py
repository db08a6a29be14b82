"""What the label sets of an archive amount to, counted over its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fewshot.data.example import plain_path
from ray_jobs.output.predictions import LABEL_SET
from ray_jobs.results.label_sets import LabelSetSummary


class LabelSetCounts:
    """Counts over the parts of predictions: a few numbers, nothing for each image.

    Args:
        names: the K classes.
        given: image -> index of its class, -1 for another class; None if no labels were given.
        examples: number of examples that the sets were made with.
    """

    def __init__(self, names: Sequence[str], given: Mapping[str, int] | None, examples: int) -> None:
        self.names, self.given, self.examples = names, given or {}, examples
        self.images = self.labels = self.labelled = 0
        self.single = self.empty = self.full = 0
        self.known = self.containing = 0

    def add(self, part: pa.Table) -> None:
        """Count one part, with the columns image, status and label_set."""
        rows = part.filter(pc.is_valid(part[LABEL_SET.name]))
        sizes = pc.list_value_length(rows[LABEL_SET.name]).to_numpy()
        self.images += len(sizes)
        self.labels += int(sizes.sum())
        self.single += int((sizes == 1).sum())
        self.empty += int((sizes == 0).sum())
        self.full += int((sizes == len(self.names)).sum())
        self.labelled += int(np.count_nonzero(pc.equal(rows["status"], "ok").to_numpy()))
        if self.given:
            self._measure(rows)

    def _measure(self, rows: pa.Table) -> None:
        labels = [self.given.get(plain_path(image), -1) for image in rows["image"].to_pylist()]
        known = rows.filter(pa.array([label >= 0 for label in labels], pa.bool_()))
        names = [self.names[label] for label in labels if label >= 0]
        self.known += len(names)
        sets = known[LABEL_SET.name]
        self.containing += sum(name in found.as_py() for name, found in zip(names, sets, strict=True))

    def summary(self, label_set_error: float) -> LabelSetSummary:
        """Return what was counted.

        Args:
            label_set_error: probability with which a set may lack the true label, in (0, 1).
        """
        return LabelSetSummary(
            label_set_error=label_set_error,
            examples=self.examples,
            images=self.images,
            mean_size=self.labels / self.images if self.images else None,
            single=self.single,
            labelled=self.labelled,
            empty=self.empty,
            full=self.full,
            known=self.known,
            containing=self.containing / self.known if self.known else None,
        )
